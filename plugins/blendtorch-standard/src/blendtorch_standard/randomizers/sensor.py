"""What a camera does to a picture."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, Distribution, LogUniform, Moment, Randomizer, RandomizerOptions, SetupContext, Uniform
from blendtorch.core.distributions import Integer
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import IMAGE
from blendtorch.core.inventory import interpreter

from blendtorch_standard.randomizers import imaging
from blendtorch_standard.randomizers.values import check_range, number

_LIGHT = ("blur", "vignetting", "exposure", "shot_noise", "read_noise")


class SensorOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `sensor`. The defaults are those of a good camera in fair light; 0 switches each off.

    Attributes
    ----------
    blur : distribution of one number
        Standard deviation of a Gaussian, in pixels, 0 to 50.
    vignetting : distribution of one number
        Which share of the light is missing in the corners, 0 to 0.99; by the law of cos^4, around the middle of the picture.
    exposure : distribution of one number
        In stops, -20 to 20: one more doubles the light. What the renderer has clipped stays clipped.
    shot_noise : distribution of one number
        Variance of the light where it is white, 0 to 1; it goes with the light. 1 / n where n electrons fill a pixel: of small
        sensors and high ISO they are few.
    read_noise : distribution of one number
        Standard deviation of the light where it is black, 0 to 1.
    jpeg_quality : distribution of one number, or None
        1 to 100, rounded. None for no JPEG.
    jpeg_probability : float
        From 0 to 1: that there is JPEG at all.
    """

    blur: Distribution = Uniform(low=0.0, high=0.7)
    vignetting: Distribution = Uniform(low=0.0, high=0.3)
    exposure: Distribution = Uniform(low=-0.3, high=0.3)
    shot_noise: Distribution = LogUniform(low=2e-5, high=5e-4)
    read_noise: Distribution = LogUniform(low=1e-4, high=1e-3)
    jpeg_quality: Distribution | None = Integer(low=75, high=98)
    jpeg_probability: float = 0.5

    def __post_init__(self) -> None:
        """Check that what may be drawn is possible."""
        check_range(self, 0, 50, "blur")
        check_range(self, 0, 0.99, "vignetting")
        check_range(self, -20, 20, "exposure")
        check_range(self, 0, 1, "shot_noise", "read_noise")
        check_range(self, 1, 100, "jpeg_quality")
        if not 0 <= self.jpeg_probability <= 1:
            raise ValueError(f"jpeg_probability is {self.jpeg_probability}: expected a number from 0 to 1")


class Sensor(Randomizer):
    """Blurs, darkens corners, exposes, adds noise and compresses, in the order in which a camera does.

    The first four in linear light, where white is 1. All cameras and renderers of a sample have the same values; the noise is
    another for each frame and each camera. It comes after what puts a picture behind the objects, wherever it stands.
    """

    name = "sensor"
    interface = 1
    Options = SensorOptions
    changes = frozenset({IMAGE})

    def setup(self, context: SetupContext) -> None:  # noqa: ARG002
        """Look for Pillow, where it is needed."""
        if self.options.jpeg_quality is not None and self.options.jpeg_probability and find_spec("PIL") is None:
            raise ConfigurationError(
                f"jpeg_quality needs Pillow, which this Blender's Python lacks: run {interpreter()} -m pip install pillow, "
                "or make it null"
            )

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Draw the values; the record has them, and null for no JPEG."""
        options = self.options
        self._light = {name: number(getattr(options, name), rng) for name in _LIGHT}
        self._quality: int | None = None
        if options.jpeg_quality is not None and rng.random() < options.jpeg_probability:
            self._quality = round(number(options.jpeg_quality, rng))
        return {**self._light, "jpeg_quality": self._quality}

    def retouch(
        self,
        moment: Moment,  # noqa: ARG002
        camera: CameraView,  # noqa: ARG002
        image: npt.NDArray[Any],
        rng: np.random.Generator,
    ) -> npt.NDArray[Any]:
        """Take the picture, with the values drawn."""
        if any(self._light.values()):
            image = imaging.expose(image, rng, **self._light)
        return image if self._quality is None else imaging.compress(image, self._quality)
