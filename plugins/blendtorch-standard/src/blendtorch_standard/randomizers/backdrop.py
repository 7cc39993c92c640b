"""Pictures behind the objects."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.interfaces import IMAGE

from blendtorch_standard.randomizers.folder import list_images


class BackdropOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `backdrop`.

    Attributes
    ----------
    folder : str
        Of image files. Each is scaled until it covers the picture, and cut to its middle. All are decoded before the first
        frame: what cannot be is an error.
    keep : int
        How many stay decoded in memory, at the size of the picture.
    """

    folder: str
    keep: int = 64

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.keep < 1:
            raise ValueError(f"keep is {self.keep}: expected 1 or more")


class Backdrop(Randomizer):
    """Puts a picture behind the objects, instead of the world; that shines, and is not seen.

    All cameras and renderers of a sample have the same.
    """

    name = "backdrop"
    interface = 1
    Options = BackdropOptions
    changes = frozenset({IMAGE})
    needs_transparent = True

    def setup(self, context: SetupContext) -> None:
        """Decode all pictures once."""
        from blendtorch.btb import blender

        self._paths = list_images(self.options.folder)
        self._read = lru_cache(self.options.keep)(lambda path: blender.read_picture(path, context.shape))
        for path in self._paths:
            self._read(path)

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Draw a picture; the record has the name of its file."""
        self._drawn = self._paths[int(rng.integers(len(self._paths)))]
        return {"file": self._drawn.name}

    def retouch(
        self,
        moment: Moment,  # noqa: ARG002
        camera: CameraView,  # noqa: ARG002
        image: npt.NDArray[Any],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> npt.NDArray[Any]:
        """Put the picture behind, by the alpha."""
        if image.shape[2] == 3:  # another one has done so
            return image
        return composite(image, self._read(self._drawn))


def composite(image: npt.NDArray[np.uint8], behind: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put one picture before another.

    Parameters
    ----------
    image : ndarray, shape (height, width, 4), uint8
        With straight alpha.
    behind : ndarray, shape (height, width, 3), uint8

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
        Where the alpha is a, a share of a of the one and the rest of the other, as image editors mix encoded colours.
    """
    alpha = image[..., 3:].astype(np.uint16)
    mixed = image[..., :3] * alpha + behind * (255 - alpha)  # at most 255 * 255
    return np.asarray((mixed + np.uint16(127)) // np.uint16(255)).astype(np.uint8)
