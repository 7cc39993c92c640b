"""Cameras on a sphere around what they look at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext, Uniform
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers.rig import Rig, Target, looking_inwards
from blendtorch_standard.randomizers.values import check, number


class CameraShellOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `camera_shell`.

    Attributes
    ----------
    distance : distribution of one number
        From the target, in scene units.
    elevation_deg : distribution of one number
        Degrees over the plane through the target: 0 level with it, 90 straight above.
    azimuth_deg : distribution of one number
        Degrees about z, counter-clockwise from above: 0 towards x, 90 towards y.
    roll_deg : distribution of one number
        Degrees about the line of sight, counter-clockwise seen from behind the camera.
    target : str, three numbers, or None
        What the camera looks at: an object by name (the mean of the origins of several), or a point of the world. Default: the
        objects of interest.
    cameras : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: those of the run. Each draws for itself.
    """

    distance: Distribution
    elevation_deg: Distribution = Uniform(low=10.0, high=80.0)
    azimuth_deg: Distribution = Uniform(low=0.0, high=360.0)
    roll_deg: Distribution = 0.0
    target: Target = None
    cameras: str = ""

    def __post_init__(self) -> None:
        """Check the distributions."""
        check(self, distance=1, elevation_deg=1, azimuth_deg=1, roll_deg=1)


class CameraShell(Randomizer):
    """Puts cameras around a target, looking at it.

    The camera keeps its place relative to the target while that moves in an episode, by animation or physics.
    """

    name = "camera_shell"
    interface = 1
    Options = CameraShellOptions
    changes = frozenset({GEOMETRY})
    _rig: Rig | None = None

    def setup(self, context: SetupContext) -> None:
        """Parent the cameras to an empty at the target."""
        self._rig = Rig(context, self.options.cameras, self.options.target)
        for camera in self._rig.cameras:
            self._rig.mount(camera, self._rig.target)

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Location and rotation of the cameras."""
        from blendtorch.btb import blender

        cameras = self._rig.cameras if self._rig else []
        return [(camera, path) for camera in cameras for path in ("location", blender.rotation_path(camera))]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Place each camera; the record has its distance and angles."""
        if self._rig is None:
            return {}
        self._rig.follow()
        return {camera.name: self._place(camera, rng) for camera in self._rig.cameras}

    def close(self) -> None:
        """Take the empties away."""
        if self._rig is not None:
            self._rig.close()

    def _place(self, camera: Any, rng: np.random.Generator) -> dict[str, float]:
        from blendtorch.btb import blender

        names = ("distance", "elevation_deg", "azimuth_deg", "roll_deg")
        drawn = {name: number(getattr(self.options, name), rng) for name in names}
        distance, *angles = drawn.values()
        place, rotation = looking_inwards(*np.radians(angles))
        camera.location = place * distance
        blender.set_rotation(camera, rotation)
        return drawn
