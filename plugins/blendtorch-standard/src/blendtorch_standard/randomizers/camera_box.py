"""Cameras in a box, looking at something."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers.rig import Rig, Target, rolled
from blendtorch_standard.randomizers.values import check, check_box, number


class CameraBoxOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `camera_box`.

    Attributes
    ----------
    low, high : tuple of float
        The box, in scene units, in the world; each place in it is as likely as any other.
    roll_deg : distribution of one number
        Degrees about the line of sight, counter-clockwise seen from behind the camera; at 0 it stands upright.
    target : str, three numbers, or None
        What the camera looks at: an object by name (the mean of the origins of several), or a point of the world. Default: the
        objects of interest.
    cameras : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: those of the run. Each draws for itself.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    roll_deg: Distribution = 0.0
    target: Target = None
    cameras: str = ""

    def __post_init__(self) -> None:
        """Check the box and the roll."""
        check_box(self.low, self.high)
        check(self, roll_deg=1)


class CameraBox(Randomizer):
    """Puts cameras into a box, and lets them look at a target, also while that moves."""

    name = "camera_box"
    interface = 1
    Options = CameraBoxOptions
    changes = frozenset({GEOMETRY})
    _rig: Rig | None = None

    def setup(self, context: SetupContext) -> None:
        """Parent each camera to an empty of its own, which turns towards the target."""
        self._rig = Rig(context, self.options.cameras, self.options.target)
        self._mounts = {}
        for camera in self._rig.cameras:
            mount = self._mounts[camera.name] = self._rig.empty()
            constraint = mount.constraints.new("TRACK_TO")
            constraint.target = self._rig.target
            constraint.track_axis, constraint.up_axis = "TRACK_NEGATIVE_Z", "UP_Y"
            self._rig.mount(camera, mount)

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Location and rotation of the cameras."""
        from blendtorch.btb import blender

        cameras = self._rig.cameras if self._rig else []
        return [(camera, path) for camera in cameras for path in ("location", blender.rotation_path(camera))]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Place each camera; the record has its location and roll."""
        if self._rig is None:
            return {}
        self._rig.follow()
        return {camera.name: self._place(camera, rng) for camera in self._rig.cameras}

    def close(self) -> None:
        """Take the empties away."""
        if self._rig is not None:
            self._rig.close()

    def _place(self, camera: Any, rng: np.random.Generator) -> dict[str, Any]:
        from blendtorch.btb import blender

        place = rng.uniform(self.options.low, self.options.high)
        roll = number(self.options.roll_deg, rng)
        self._mounts[camera.name].location = place
        camera.location = (0, 0, 0)
        blender.set_rotation(camera, rolled(np.radians(roll)))
        return {"location": place, "roll_deg": roll}
