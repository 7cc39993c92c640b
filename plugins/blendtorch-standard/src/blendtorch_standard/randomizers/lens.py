"""The optics of cameras."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers import targets
from blendtorch_standard.randomizers.values import check, check_one_of, number

_PROPERTIES = {"focal_length_mm": "lens", "shift_x": "shift_x", "shift_y": "shift_y"}


class LensOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `lens`.

    Attributes
    ----------
    focal_length_mm : distribution of one number, or None
        In millimetres, for the sensor that the camera has. None leaves it as it is.
    shift_x, shift_y : distribution of one number, or None
        As a fraction of the larger side of the picture, as Blender counts: the principal point moves the other way.
    cameras : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: those of the run. Cameras that share their data share the
        lens.
    """

    focal_length_mm: Distribution | None = None
    shift_x: Distribution | None = None
    shift_y: Distribution | None = None
    cameras: str = ""

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that it fits."""
        check_one_of(self, *_PROPERTIES)
        check(self, focal_length_mm=1, shift_x=1, shift_y=1)


class Lens(Randomizer):
    """Changes focal length and shift."""

    name = "lens"
    interface = 1
    Options = LensOptions
    changes = frozenset({GEOMETRY})

    def setup(self, context: SetupContext) -> None:
        """Find the cameras."""
        self._data = {camera.data.name: camera.data for camera in targets.cameras(context, self.options.cameras)}
        for data in self._data.values():
            if data.type == "ORTHO" and self.options.focal_length_mm is not None:
                raise SceneError(f"camera {data.name!r} is orthographic: focal_length_mm changes nothing there, leave it out")

    def writes(self) -> Sequence[tuple[Any, str]]:
        """What the options name."""
        return [(data, path) for data in self._data.values() for _, path in self._drawn_properties()]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Set each lens; the record has what was drawn for it."""
        drawn = {}
        for name, data in self._data.items():
            drawn[name] = {option: number(getattr(self.options, option), rng) for option, _ in self._drawn_properties()}
            for option, path in self._drawn_properties():
                setattr(data, path, drawn[name][option])
        return drawn

    def _drawn_properties(self) -> list[tuple[str, str]]:
        return [(option, path) for option, path in _PROPERTIES.items() if getattr(self.options, option) is not None]
