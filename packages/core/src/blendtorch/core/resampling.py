"""From the picture of a pinhole camera to that of a lens that distorts.

Engines draw straight lines straight. So what they draw is a wider picture, that of a pinhole camera which sees all that the
lens sees, and each pixel of the lens looks up its ray in it.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import geometry
from blendtorch.core.distortion import jacobian, undistort
from blendtorch.core.errors import CameraError
from blendtorch.core.geometry import Lens

_BORDER = 2  # pixels more on each side: the four around each ray, and their neighbours
_MOST_TIMES = 16  # as many pixels as the picture has: what is more, is a lens that nearly folds
_MOST_PIXELS = 16384  # in a row: the largest texture of most graphics cards


@dataclass(frozen=True, eq=False)
class Resampling:
    """Where the rays of a lens are in the picture of a pinhole camera.

    That one has at least as many pixels for each direction as the lens: rays of different pixels meet different pixels there.

    Attributes
    ----------
    lens, pinhole : Lens
        Of the picture, and of what is drawn for it.
    rays : ndarray, shape (height, width, 2), float32
        x and y of the ray of each pixel at depth 1, in the camera frame.
    nearest : ndarray, shape (height, width), intp
        The pixel of the pinhole camera that the ray lies in: row times width plus column.
    places : ndarray, shape (height, width, 2), float64
        Where the rays are in the picture of the pinhole camera, x and y in pixels from its corner.
    """

    lens: Lens
    pinhole: Lens
    rays: npt.NDArray[np.float32]
    nearest: npt.NDArray[np.intp]
    places: npt.NDArray[np.float64]

    def sharp(self, array: npt.NDArray[Any], axis: int = 0) -> npt.NDArray[Any]:
        """Give each pixel the value of the one that its ray lies in.

        Parameters
        ----------
        array : ndarray, shape (..., pinhole.height, pinhole.width, ...)
        axis : int
            Which of its axes are the rows.

        Returns
        -------
        ndarray, shape (..., height, width, ...)
        """
        before, after = array.shape[:axis], array.shape[axis + 2 :]
        flat = array.reshape(*before, self.pinhole.height * self.pinhole.width, *after)
        return flat.take(self.nearest, axis=axis)

    def smooth(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Interpolate a picture bilinearly, in the colours that it has.

        Parameters
        ----------
        picture : ndarray, shape (pinhole.height, pinhole.width) or (pinhole.height, pinhole.width, channels)
            Four channels of integers are colours and straight alpha: colours count as far as they cover.

        Returns
        -------
        ndarray, shape (height, width) or (height, width, channels), of the same type
        """
        if picture.ndim == 2:
            return self.smooth(picture[..., None])[..., 0]
        first, weights = self._corners
        corners = [first, first + 1, first + self.pinhole.width, first + self.pinhole.width + 1]
        is_whole = picture.dtype.kind in "ui"
        channels = picture.shape[2]
        result = np.empty((*self.nearest.shape, channels), picture.dtype)
        # Channel by channel: numpy is slow with a last axis of three.
        planes = [np.ascontiguousarray(picture[..., channel]).ravel() for channel in range(channels)]
        cover: npt.NDArray[np.float32] | None = None
        if is_whole and channels == 4:
            weights = [weight * planes[3].take(corner) for corner, weight in zip(corners, weights, strict=True)]
            cover = np.asarray(sum(weights), np.float32)
            result[..., 3] = cover + np.float32(0.5)
        for channel, plane in enumerate(planes if cover is None else planes[:3]):
            total = plane.take(corners[0]) * weights[0]
            for corner, weight in zip(corners[1:], weights[1:], strict=True):
                total += plane.take(corner) * weight
            if cover is not None:
                np.divide(total, cover, out=total, where=cover > 0)
            if is_whole:
                total += np.float32(0.5)
            result[..., channel] = total
        return result

    @functools.cached_property
    def offsets(self) -> npt.NDArray[np.float32]:
        """How far from the centre of each pixel of the pinhole camera the ray is that lies in it; 0 where there is none.

        Shape (pinhole.height, pinhole.width, 2), x and y in pixels.
        """
        offsets = np.zeros((self.pinhole.height * self.pinhole.width, 2), np.float32)
        offsets[self.nearest] = self.places - np.floor(self.places) - 0.5
        return offsets.reshape(self.pinhole.height, self.pinhole.width, 2)

    @functools.cached_property
    def _corners(self) -> tuple[npt.NDArray[np.intp], list[npt.NDArray[np.float32]]]:
        """The first of the four pixels whose centres surround each ray, and the weights of all."""
        shifted = self.places - 0.5
        low = np.floor(shifted)
        x, y = np.moveaxis((shifted - low).astype(np.float32), -1, 0)
        column, row = np.moveaxis(low.astype(np.intp), -1, 0)
        return row * self.pinhole.width + column, [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]


@functools.lru_cache(maxsize=8)
def resampling(lens: Lens) -> Resampling:
    """Compute what a lens looks up; kept for the last eight lenses.

    Parameters
    ----------
    lens : Lens
        Perspective, with a distortion.

    Raises
    ------
    CameraError
        If the model gives some pixel no ray, or the picture of the pinhole camera would be too large.

    Notes
    -----
    The Jacobian of the model is symmetric. Where its eigenvalues are at most `s`, neighbouring rays are at least `1 / s` pixels
    apart, along x or along y. So `s` times the focal length gives each ray a pixel of its own: that is 1 for a barrel.
    """
    if lens.distortion is None:
        raise CameraError("this lens does not distort: it needs no resampling")
    K = geometry.intrinsics(lens)
    focal, center = K[[0, 1], [0, 1]], K[:2, 2]
    rows, columns = np.mgrid[: lens.height, : lens.width]
    seen = (np.stack([columns, rows], axis=-1) + 0.5 - center) / focal
    # The border of the picture, too, so that all points that are in it have a ray.
    border = (np.array([[0, 0], [lens.width, 0], [0, lens.height], [lens.width, lens.height]]) - center) / focal
    rays = undistort(seen, lens.distortion)
    missing = np.isnan(rays).any(axis=-1)
    if missing.any() or np.isnan(undistort(border, lens.distortion)).any():
        raise CameraError(_no_ray(lens, missing))
    xx, xy, yy = jacobian(np.moveaxis(rays, -1, 0), lens.distortion)
    largest = (xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)
    density = max(1.0, float(largest.max()))
    while True:
        pinhole, places = _covering(lens, rays, focal * density, center)
        nearest = np.floor(places[..., 1]).astype(np.intp) * pinhole.width + np.floor(places[..., 0]).astype(np.intp)
        if np.bincount(nearest.ravel()).max() == 1:
            return Resampling(lens, pinhole, rays.astype(np.float32), nearest, places)
        density *= 1.05  # pixels that are not square


def _covering(
    lens: Lens, rays: npt.NDArray[np.float64], focal: npt.NDArray[np.float64], center: npt.NDArray[np.float64]
) -> tuple[Lens, npt.NDArray[np.float64]]:
    """Find the smallest pinhole camera of these focal lengths that sees all rays; gives their places in its picture, too."""
    places = rays * focal + center  # the pixels of both pictures lie on each other where the lens does not distort
    corner = np.floor(places.min(axis=(0, 1))) - _BORDER
    width, height = (np.ceil(places.max(axis=(0, 1))) + _BORDER - corner).astype(int).tolist()
    if width * height > _MOST_TIMES * lens.width * lens.height + 1_000_000 or max(width, height) > _MOST_PIXELS:
        raise CameraError(
            f"distortion {lens.distortion}: its picture of {lens.width}x{lens.height} needs one of {width}x{height} from a "
            "pinhole camera: take a longer focal length, or a weaker distortion"
        )
    K = np.array([[focal[0], 0, center[0] - corner[0]], [0, focal[1], center[1] - corner[1]], [0, 0, 1]])
    # The focal length stays, which an aperture goes by; the sensor grows.
    pinhole = geometry.lens_from_K(K, width, height, sensor_width_mm=lens.focal_length_mm * width / focal[0])
    return pinhole, places - corner


def _no_ray(lens: Lens, missing: npt.NDArray[np.bool_]) -> str:
    which = lens.distortion
    where = f"{missing.sum()} of {missing.size} pixels" if missing.any() else "a corner of the picture"
    return (
        f"distortion {which}: the model gives {where} no ray, for its curve turns back within the picture of "
        f"{lens.width}x{lens.height}: take a longer focal length, or coefficients that were calibrated up to the corners "
        "(k2 and k3 are often left out)"
    )
