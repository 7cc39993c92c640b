"""Objects that fall, and lie as physics lets them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from blendtorch.core import Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers import rotations, targets
from blendtorch_standard.randomizers.arrangement import arrange, radius
from blendtorch_standard.randomizers.values import check_box

_SMALL_M, _MOST_SUBSTEPS = 0.025, 100
_MARGIN = 0.01  # at which bodies meet, in radii of what falls: Bullet needs some, and pictures show what is more


class PhysicsDropOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `physics_drop`.

    Attributes
    ----------
    every : {'episode'}
        It sets the start of a simulation.
    low, high : tuple of float
        The box in the world in which the origins of the objects start, in scene units; over the ground. They start at rest, in
        any rotation, without overlap.
    ground : str
        Names of the meshes that they fall on, with the wildcards `*`, `?` and `[]`. Default: the passive rigid bodies that the
        scene has.
    objects : str
        Names of the meshes that fall. Default: the objects of interest.
    preroll : int
        Frames of simulation before the first sample of each episode. The scene's frame rate says how long a frame is.
    tries : int
        How many places are drawn for the start of an object before the run ends with an error.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    every: Literal["episode"] = "episode"
    ground: str = ""
    objects: str = ""
    preroll: int = 48
    tries: int = 1000

    def __post_init__(self) -> None:
        """Check the box and the numbers."""
        check_box(self.low, self.high)
        if self.preroll < 0 or self.tries < 1:
            raise ValueError(f"preroll is {self.preroll} and tries {self.tries}: expected 0 or more, and 1 or more")


class PhysicsDrop(Randomizer):
    """Lets objects fall: it draws where a simulation of rigid bodies starts, and Blender does the rest.

    Objects that are no rigid bodies become active ones, with their convex hull as shape; a ground that is none becomes a
    passive one, with its mesh as shape. Bodies that the scene has keep their shape, mass and friction.
    """

    name = "physics_drop"
    interface = 1
    Options = PhysicsDropOptions
    changes = frozenset({GEOMETRY})

    @property
    def preroll(self) -> int:  # type: ignore[override]
        """As the options have it."""
        return int(self.options.preroll)

    def setup(self, context: SetupContext) -> None:
        """Make the rigid bodies, and see whether they can be placed."""
        from blendtorch.btb import blender

        families = targets.families(context, self.options.objects)
        self._objects = [obj for obj, _ in families]
        for obj in self._objects:
            if obj.parent is not None:
                raise SceneError(f"object {obj.name!r} hangs on {obj.parent.name!r}, and could not fall: clear its parent")
        self._radii = {obj.name: radius(obj, parts) for obj, parts in families}
        grounds = self._grounds(context)
        for obj in self._objects:
            blender.rigid_body(context.scene, obj, "ACTIVE", _MARGIN * self._radii[obj.name])
        for obj in grounds:
            blender.rigid_body(context.scene, obj, "PASSIVE", _MARGIN * min(self._radii.values()))
        world = blender.rigid_body_world(context.scene)
        # In Blender's 1/240 s what is smaller than this falls a good part of itself, and into the ground.
        finer = math.ceil(min(_MOST_SUBSTEPS, 10 * _SMALL_M / max(min(self._radii.values()), 1e-6)))
        world.substeps_per_frame = max(world.substeps_per_frame, finer)
        cache = world.point_cache
        cache.frame_start, cache.frame_end = context.frame_range
        self._places(context.rng(self.name))

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Location and rotation: the start of the simulation."""
        from blendtorch.btb import blender

        return [(obj, path) for obj in self._objects for path in ("location", blender.rotation_path(obj))]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Place the bodies; the record has where each starts, with its rotation as a quaternion w, x, y, z."""
        from blendtorch.btb import blender

        drawn: dict[str, Any] = {name: {"location": place} for name, place in self._places(rng).items()}
        for obj in (obj for obj in self._objects if obj.name in drawn):
            quaternion = drawn[obj.name]["quaternion"] = rotations.any_quaternion(rng)
            obj.location = drawn[obj.name]["location"]
            blender.set_rotation(obj, rotations.from_quaternion(quaternion))
        return drawn

    def _places(self, rng: np.random.Generator) -> dict[str, Any]:
        radii = {obj.name: self._radii[obj.name] for obj in self._objects if not targets.is_parked(obj)}
        return arrange(radii, self.options.low, self.options.high, 0.0, self.options.tries, rng)

    def _grounds(self, context: SetupContext) -> list[Any]:
        from blendtorch.btb import blender

        falling = {obj.name for obj in self._objects}
        if not self.options.ground:
            bodies = [obj for obj in context.scene.objects if obj.rigid_body and obj.rigid_body.type == "PASSIVE"]
            if not any(obj.name not in falling for obj in bodies):
                raise SceneError("the scene has no passive rigid body to fall on: name a mesh, as ground='Table'")
            return []
        grounds = blender.objects_matching(context.scene, self.options.ground)
        if both := next((obj.name for obj in grounds if obj.name in falling), None):
            raise SceneError(f"{both!r} is to fall and to be the ground: tell them apart with `objects` and `ground`")
        return grounds
