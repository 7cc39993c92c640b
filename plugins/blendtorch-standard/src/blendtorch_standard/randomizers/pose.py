"""Poses: location, rotation and scale of objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers import rotations, targets
from blendtorch_standard.randomizers.values import check, check_one_of, vector


class PoseOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `pose`.

    Attributes
    ----------
    objects : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: the objects of interest. Each draws for itself.
    location : distribution of three numbers, or None
        In scene units, in the frame of the parent, as Blender's field of this name. None leaves it as it is.
    rotation_deg : distribution of three numbers, or None
        Degrees about x, then y, then z of the frame of the parent, whatever the object's rotation mode is.
    uniform_rotation : bool
        Any rotation, each as likely as any other, instead of `rotation_deg`: angles drawn by themselves favour the poles.
    scale : distribution of three numbers, or None
        One number scales all axes alike.
    relative : bool
        Start from the pose that the object has when the run begins: add the location, rotate further, multiply the scale.
    """

    objects: str = ""
    location: Distribution | None = None
    rotation_deg: Distribution | None = None
    uniform_rotation: bool = False
    scale: Distribution | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that it fits."""
        check_one_of(self, "location", "rotation_deg", "uniform_rotation", "scale")
        check(self, location=3, rotation_deg=3, scale=3)
        if self.uniform_rotation and self.rotation_deg is not None:
            raise ValueError("rotation_deg and uniform_rotation are both given: choose one")


class Pose(Randomizer):
    """Moves, rotates and scales objects."""

    name = "pose"
    interface = 1
    Options = PoseOptions
    changes = frozenset({GEOMETRY})

    def setup(self, context: SetupContext) -> None:
        """Find the objects, and keep the poses that they start from."""
        from blendtorch.btb import blender

        self._objects = targets.objects(context, self.options.objects)
        self._start = {obj.name: (np.array(obj.location), blender.rotation(obj), np.array(obj.scale)) for obj in self._objects}

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Location, rotation and scale, as the options have them."""
        from blendtorch.btb import blender

        options = self.options
        rotates = options.uniform_rotation or options.rotation_deg is not None
        return [
            (obj, path)
            for obj in self._objects
            for path, written in (
                ("location", options.location is not None),
                (blender.rotation_path(obj), rotates),
                ("scale", options.scale is not None),
            )
            if written
        ]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Pose each object; the record has what was drawn for it, with a rotation as degrees or as a quaternion w, x, y, z."""
        return {obj.name: self._pose(obj, rng) for obj in self._objects if not targets.is_parked(obj)}

    def _pose(self, obj: Any, rng: np.random.Generator) -> dict[str, Any]:
        from blendtorch.btb import blender

        options, drawn = self.options, {}
        location, rotation, scale = self._start[obj.name]
        if options.location is not None:
            drawn["location"] = vector(options.location, rng)
            obj.location = drawn["location"] + (targets.place(obj, location) if options.relative else 0)
        if options.uniform_rotation:
            drawn["quaternion"] = rotations.any_quaternion(rng)
            turn = rotations.from_quaternion(drawn["quaternion"])
            blender.set_rotation(obj, turn @ rotation if options.relative else turn)
        elif options.rotation_deg is not None:
            drawn["rotation_deg"] = vector(options.rotation_deg, rng)
            turn = rotations.from_degrees(drawn["rotation_deg"])
            blender.set_rotation(obj, turn @ rotation if options.relative else turn)
        if options.scale is not None:
            drawn["scale"] = vector(options.scale, rng)
            obj.scale = drawn["scale"] * (scale if options.relative else 1)
        return drawn
