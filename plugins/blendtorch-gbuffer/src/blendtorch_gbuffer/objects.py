"""Annotators of a value per object, counted in pixels: tight boxes, amodal boxes and masks, visibility."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from blendtorch.core import ArraySpec, CameraView, Moment, Options
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Arrays

from blendtorch_gbuffer.alone import widened
from blendtorch_gbuffer.maps import Sharing

Bools = npt.NDArray[np.bool_]


class Boxes2DTight(Sharing):
    """Boxes around the pixels that show an object.

    xyxy : ndarray, shape (N, 4), float64, px
        x_min, y_min, x_max, y_max from the corner of the image: a single pixel has a box of 1 by 1.
    exact : ndarray, shape (N,), bool
        False for an object that not every renderer shows as it is drawn here: it is transparent, has hair, ...
    valid : ndarray, shape (N,), bool
        At least one pixel shows it. Else the box is NaN.
    """

    name = "boxes2d_tight"
    outputs = ("instance_ids",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "xyxy": ArraySpec("float64", ("objects", 4), unit="px"),
            "exact": ArraySpec("bool", ("objects",)),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Look where each id is."""
        ids = self.gbuffer.instance_ids(moment, camera)
        silhouettes = self.gbuffer.silhouettes(moment, camera)
        boxes = np.full((len(moment.objects), 4), np.nan)
        for row, each in enumerate(silhouettes):
            boxes[row] = box_of(ids[each.window] == row + 1, each.x, each.y)
        return {"xyxy": boxes, "exact": self.gbuffer.exact.copy(), "valid": np.isfinite(boxes[:, 0])}


class Boxes2DAmodal(Sharing):
    """Boxes around the pixels that would show an object if nothing stood in front of it.

    xyxy : ndarray, shape (N, 4), float64, px
        x_min, y_min, x_max, y_max from the corner of the image.
    truncated : ndarray, shape (N,), bool
        The border of the image, or the near or the far plane cuts the object.
    exact : ndarray, shape (N,), bool
        False for an object that not every renderer shows as it is drawn here: it is transparent, has hair, ...
    valid : ndarray, shape (N,), bool
        At least one pixel would. Else the box is NaN.
    """

    name = "boxes2d_amodal"
    outputs = ("instance_ids",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "xyxy": ArraySpec("float64", ("objects", 4), unit="px"),
            "truncated": ArraySpec("bool", ("objects",)),
            "exact": ArraySpec("bool", ("objects",)),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Look where each silhouette is."""
        silhouettes = self.gbuffer.silhouettes(moment, camera)
        boxes = np.array([box_of(each.mask, each.x, each.y) for each in silhouettes]).reshape(-1, 4)
        valid = np.isfinite(boxes[:, 0])
        truncated = np.array([each.truncated for each in silhouettes], bool) & valid
        return {"xyxy": boxes, "truncated": truncated, "exact": self.gbuffer.exact.copy(), "valid": valid}


class VisibilityOptions(Options, frozen=True, kw_only=True):
    """Options of `visibility`.

    Attributes
    ----------
    beyond : bool
        Count pixels beyond the border of the image, too. Not for lenses that distort.
    """

    beyond: bool = False


class Visibility(Sharing):
    """How much of an object the picture shows.

    fraction : ndarray, shape (N,), float64
        `visible / amodal`.
    visible : ndarray, shape (N,), int64, px
        Pixels that show it.
    amodal : ndarray, shape (N,), int64, px
        Pixels that would show it if nothing stood in front of it.
    truncated : ndarray, shape (N,), bool
        The border of the image, or the near or the far plane cuts the object: `amodal` counts what is in the picture.
    beyond : ndarray, shape (N,), int64, px
        With the option: pixels beyond the border that would show it, as if the image went on by its own size on each side.
    exact : ndarray, shape (N,), bool
        False for an object that not every renderer shows as it is drawn here: it is transparent, has hair, ...
    valid : ndarray, shape (N,), bool
        `amodal` is not 0. Else the fraction is NaN.
    """

    name = "visibility"
    outputs = ("instance_ids",)
    Options = VisibilityOptions

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "fraction": ArraySpec("float64", ("objects",)),
            "visible": ArraySpec("int64", ("objects",), unit="px"),
            "amodal": ArraySpec("int64", ("objects",), unit="px"),
            **({"beyond": ArraySpec("int64", ("objects",), unit="px")} if self.options.beyond else {}),
            "truncated": ArraySpec("bool", ("objects",)),
            "exact": ArraySpec("bool", ("objects",)),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Count pixels."""
        silhouettes = self.gbuffer.silhouettes(moment, camera)
        visible = self.gbuffer.visible_pixels(moment, camera)
        amodal = np.array([np.count_nonzero(each.mask) for each in silhouettes], np.int64)
        valid = amodal > 0
        fraction = np.full(len(amodal), np.nan)
        np.divide(visible, amodal, out=fraction, where=valid)
        truncated = np.array([each.truncated for each in silhouettes], bool) & valid
        return {
            "fraction": fraction,
            "visible": visible,
            "amodal": amodal,
            **({"beyond": self._beyond(moment, camera, truncated)} if self.options.beyond else {}),
            "truncated": truncated,
            "exact": self.gbuffer.exact.copy(),
            "valid": valid,
        }

    def _beyond(self, moment: Moment, camera: CameraView, truncated: Bools) -> npt.NDArray[np.int64]:
        if camera.lens.distortion is not None:
            raise ConfigurationError("`beyond` asks what lies beyond the border, and no lens that distorts goes on there")
        if not truncated.any():
            return np.zeros(len(truncated), np.int64)
        height, width = camera.shape
        counts = []
        for each in self.gbuffer.silhouettes(moment, widened(camera)):
            top, left = max(0, height - each.y), max(0, width - each.x)
            inside = each.mask[top : max(0, 2 * height - each.y), left : max(0, 2 * width - each.x)]
            counts.append(np.count_nonzero(each.mask) - np.count_nonzero(inside))
        return np.where(truncated, counts, 0)


class MasksAmodal(Sharing):
    """The pixels that would show an object if nothing stood in front of it.

    masks : ndarray, shape (N, height, width), bool
    exact : ndarray, shape (N,), bool
        False for an object that not every renderer shows as it is drawn here: it is transparent, has hair, ...
    valid : ndarray, shape (N,), bool
        At least one pixel would.
    """

    name = "masks_amodal"
    outputs = ("instance_ids",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "masks": ArraySpec("bool", ("objects", "height", "width")),
            "exact": ArraySpec("bool", ("objects",)),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Put the silhouettes into their places."""
        silhouettes = self.gbuffer.silhouettes(moment, camera)
        masks = np.zeros((len(silhouettes), *camera.shape), bool)
        for mask, each in zip(masks, silhouettes, strict=True):
            mask[each.window] = each.mask
        valid = np.array([each.mask.any() for each in silhouettes], bool)
        return {"masks": masks, "exact": self.gbuffer.exact.copy(), "valid": valid}


def box_of(mask: Bools, x: int = 0, y: int = 0) -> npt.NDArray[np.float64]:
    """Return the box around the pixels of a mask, in px from the corner of the image; NaN where there are none.

    >>> box_of(np.array([[False, True], [False, False]]), x=10, y=20).tolist()
    [11.0, 20.0, 12.0, 21.0]
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return np.full(4, np.nan)
    return np.array([x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1], np.float64)
