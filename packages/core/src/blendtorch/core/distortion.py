"""Lens distortion: OpenCV's model of radial and tangential distortion, both ways.

It maps *normalised* coordinates, places in the plane at depth 1 of the camera frame x right, y down, z forward: `x / z` and
`y / z`. So it makes no difference whether pixels are counted from corners, as here, or from centres, as in OpenCV: coefficients
of `cv2.calibrateCamera` are used as they are.

The model is a polynomial, and turns back on itself where it is asked too far out. It is the gradient of the function
`r^2 / 2 + k1 r^4 / 4 + k2 r^6 / 6 + k3 r^8 / 8 + (p2 x + p1 y) r^2`, so it is one-to-one on each disc on which that is convex.
`reach` is the radius of the largest; beyond it the plane is only moved outwards, and nothing from there comes back into the
picture.
"""

import functools
import math

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import CameraError

Array = npt.NDArray[np.float64]

_MARGIN = 0.999  # of the radius at which the model turns back, where it has no inverse
_DIRECTIONS = 91  # in which that radius is looked for
_TOLERANCE = 1e-13  # of what is distorted, relative to 1 and to how far out it is
_FLAT = 1e-6  # a model that turns back a million depths away does not
_BLOCK = 8192  # points at a time: what they need stays in the caches
_STEPS = 60  # of Newton's method; real lenses take 4 to 6


class Distortion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The coefficients of a lens, as OpenCV has them.

    Attributes
    ----------
    k1, k2, k3 : float
        Radial, for the square, the fourth and the sixth power of the radius. A negative `k1` is a barrel.
    p1, p2 : float
        Tangential.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        for name, value in zip(self.__struct_fields__, self.coefficients, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}: expected a finite number")

    @property
    def coefficients(self) -> tuple[float, float, float, float, float]:
        """In OpenCV's order: k1, k2, p1, p2, k3."""
        return self.k1, self.k2, self.p1, self.p2, self.k3

    @property
    def distorts(self) -> bool:
        """Whether any of them is not 0."""
        return any(self.coefficients)


def distort(xy: npt.ArrayLike, distortion: Distortion) -> Array:
    """Move points from where a pinhole camera has them to where the lens has them.

    Parameters
    ----------
    xy : array_like, shape (..., 2)
        Normalised coordinates, `x / z` and `y / z`.
    distortion : Distortion

    Returns
    -------
    ndarray, shape (..., 2), float64
        Normalised coordinates. Beyond `reach` a point is moved as that on the circle in its direction is.

    References
    ----------
    OpenCV, Camera Calibration and 3D Reconstruction, "detailed description".

    Examples
    --------
    >>> distort([[0.5, 0.0]], Distortion(k1=-0.2)).tolist()
    [[0.475, 0.0]]
    """
    points = np.asarray(xy, np.float64)
    apart = np.moveaxis(points, -1, 0)
    inside = _into_disc(apart, reach(distortion))
    return np.moveaxis(_model(inside, distortion) + (apart - inside), 0, -1)


def undistort(xy: npt.ArrayLike, distortion: Distortion) -> Array:
    """Move points from where the lens has them to where a pinhole camera has them: the inverse of `distort`.

    By Newton's method, with shorter steps where those do not get nearer.

    Parameters
    ----------
    xy : array_like, shape (..., 2)
        Normalised coordinates.
    distortion : Distortion

    Returns
    -------
    ndarray, shape (..., 2), float64
        Normalised coordinates, to within 1e-9. NaN where no point within `reach` is seen there.

    Examples
    --------
    >>> undistort([[0.475, 0.0], [3.0, 0.0]], Distortion(k1=-0.2)).round(9).tolist()
    [[0.5, 0.0], [nan, nan]]
    """
    given = np.asarray(xy, np.float64)
    apart = np.ascontiguousarray(given.reshape(-1, 2).T)  # numpy is fastest with x and y apart
    blocks = range(0, apart.shape[1], _BLOCK)
    found = [_undistorted(apart[:, first : first + _BLOCK], distortion) for first in blocks]
    return np.asarray(np.concatenate([apart[:, :0], *found], axis=1).T.reshape(given.shape), np.float64)


@functools.lru_cache(maxsize=64)
def reach(distortion: Distortion) -> float:
    """Compute how far from the axis the model is one-to-one.

    Parameters
    ----------
    distortion : Distortion

    Returns
    -------
    float
        A radius in normalised coordinates, before distortion: 0.1 % less than where the Jacobian has a determinant of 0 in some
        direction. `inf` where it has none.

    Examples
    --------
    >>> round(reach(Distortion(k1=-0.2)), 3), reach(Distortion(k1=0.2))
    (1.29, inf)
    """
    k1, k2, p1, p2, k3 = distortion.coefficients
    tangential = math.hypot(p1, p2)
    angles = np.linspace(0, math.pi, _DIRECTIONS) if tangential else np.zeros(1)
    # Polynomials in 1 / r, whatever the coefficients: they begin with 1.
    matrices = np.zeros((len(angles), 12, 12))
    matrices[:, range(1, 12), range(11)] = 1
    for matrix, angle in zip(matrices, angles, strict=True):
        part, rest = tangential * math.cos(angle), tangential * math.sin(angle)
        # In the directions along the ray and across it the Jacobian is [[along, 2 r rest], [2 r rest, across]].
        along, across = [1, 6 * part, 3 * k1, 0, 5 * k2, 0, 7 * k3], [1, 2 * part, k1, 0, k2, 0, k3]
        determinant = np.convolve(along, across)
        determinant[2] -= 4 * rest * rest
        matrix[0] = -determinant[1:]
    roots = np.linalg.eigvals(matrices)
    steepest = float(roots.real[np.abs(roots.imag) <= 1e-6 * np.abs(roots)].max(initial=0.0))
    return _MARGIN / steepest if steepest > _FLAT else math.inf


def jacobian(xy: Array, distortion: Distortion) -> tuple[Array, Array, Array]:
    """Compute the derivatives of the model within its reach.

    Parameters
    ----------
    xy : ndarray, shape (2, ...), float64
        Normalised coordinates: x, then y.
    distortion : Distortion

    Returns
    -------
    xx, xy, yy : ndarray, shape (...), float64
        Of a symmetric matrix.
    """
    k1, k2, p1, p2, k3 = distortion.coefficients
    x, y = xy
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * k1 + r2 * (4 * k2 + r2 * 6 * k3)  # twice that by the square of the radius
    return (
        radial + x * x * slope + 2 * p1 * y + 6 * p2 * x,
        x * y * slope + 2 * p1 * x + 2 * p2 * y,
        radial + y * y * slope + 6 * p1 * y + 2 * p2 * x,
    )


def check_perspective(distortion: Distortion | None, orthographic: bool, name: str) -> None:
    """Refuse a distorted orthographic camera.

    Raises
    ------
    CameraError
    """
    if distortion is not None and orthographic:
        raise CameraError(
            f"camera {name!r} is orthographic, and `distortion` is that of a perspective lens: remove it, or make the camera "
            "perspective"
        )


def _model(xy: Array, distortion: Distortion) -> Array:
    """Apply the polynomial: shape (2, ...)."""
    k1, k2, p1, p2, k3 = distortion.coefficients
    x, y = xy
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if p1 == p2 == 0:
        return np.stack([x * radial, y * radial])
    return np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y])


def _into_disc(xy: Array, radius: float) -> Array:
    """Draw what is outside of a disc to its border: shape (2, ...)."""
    if math.isinf(radius):
        return xy
    length = np.hypot(*xy)
    if not (length > radius).any():
        return xy
    factor = np.ones_like(length)
    np.divide(radius, length, out=factor, where=length > radius)
    return np.asarray(xy * factor)


def _solved(xy: Array, miss: Array, distortion: Distortion) -> Array:
    """Divide by the Jacobian: shape (2, N)."""
    first, mixed, second = jacobian(xy, distortion)
    x, y = miss / (first * second - mixed * mixed)
    return np.stack([second * x - mixed * y, first * y - mixed * x])


def _undistorted(wanted: Array, distortion: Distortion) -> Array:
    """Solve for points, shape (2, N)."""
    limit = reach(distortion)
    found = np.full(wanted.shape, np.nan)
    left = np.flatnonzero(np.isfinite(wanted).all(axis=0))  # the points that are not there yet
    target = wanted[:, left]
    at = _into_disc(target, limit)
    miss = _model(at, distortion) - target
    size = np.abs(miss).max(axis=0, initial=0)
    pace = np.ones(len(left))
    for _ in range(_STEPS):
        done = size <= _TOLERANCE * (1 + np.abs(target).max(axis=0, initial=0))
        if done.any():
            found[:, left[done]] = at[:, done]
        # Where no step gets nearer, the end of the disc is reached.
        keep = ~done & (pace > 1e-6)
        if not keep.any():
            break
        if not keep.all():
            left, size, pace = left[keep], size[keep], pace[keep]
            at, target, miss = at[:, keep], target[:, keep], miss[:, keep]
        trial = _into_disc(at - pace * _solved(at, miss, distortion), limit)
        trial_miss = _model(trial, distortion) - target
        trial_size = np.abs(trial_miss).max(axis=0, initial=0)
        nearer = trial_size < size
        if nearer.all():
            at, miss, size = trial, trial_miss, trial_size
        else:
            at, miss, size = np.where(nearer, trial, at), np.where(nearer, trial_miss, miss), np.where(nearer, trial_size, size)
        pace = np.where(nearer, np.minimum(1.0, 2 * pace), pace / 2)
    return found
