"""Camera geometry in numpy: intrinsics, extrinsics, projection, un-projection, boxes of points.

Conventions: pixel coordinates `(x, y)`, x right, y down, `(0, 0)` the top-left *corner* of the image, so the centre of
the first pixel is `(0.5, 0.5)`. The camera frame is OpenCV's: x right, y down, z forward. Matrices act on columns and
are named by their ends, `camera_from_world`. Depth is planar z, in scene units.
"""

import math
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.distortion import Distortion, distort, undistort
from blendtorch.core.errors import CameraError

Array = npt.NDArray[np.float64]

# Blender's camera looks along -z with y up; ours along +z with y down.
CAMERA_FROM_BLENDER_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])


class Lens(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a Blender camera and its render that shape the projection.

    Attributes
    ----------
    width, height : int
        Of the picture, in pixels, after the resolution percentage.
    projection : {'perspective', 'orthographic'}
    focal_length_mm : float
    sensor_width_mm, sensor_height_mm : float
    sensor_fit : {'AUTO', 'HORIZONTAL', 'VERTICAL'}
        Which side of the picture the sensor size belongs to; AUTO: the longer one, with the sensor's *width*.
    orthographic_scale : float
        Length of that side in scene units, for an orthographic camera.
    shift_x, shift_y : float
        Lens shift, in lengths of that side; the frame moves right and up.
    pixel_aspect_x, pixel_aspect_y : float
        Sides of a pixel, relative to each other.
    distortion : Distortion or None
        What Blender's camera does not have: see `blendtorch.core.distortion`. Perspective lenses only.
    """

    width: int
    height: int
    projection: Literal["perspective", "orthographic"] = "perspective"
    focal_length_mm: float = 50.0
    sensor_width_mm: float = 36.0
    sensor_height_mm: float = 24.0
    sensor_fit: Literal["AUTO", "HORIZONTAL", "VERTICAL"] = "AUTO"
    orthographic_scale: float = 6.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    pixel_aspect_x: float = 1.0
    pixel_aspect_y: float = 1.0
    distortion: Distortion | None = None


def intrinsics(lens: Lens) -> Array:
    """Compute the matrix from the camera frame to pixels.

    Parameters
    ----------
    lens : Lens

    Returns
    -------
    ndarray, shape (3, 3), float64
        K. Perspective: `(u, v, w) = K (x, y, z)`, pixel `(u/w, v/w)`, focal lengths in pixels.
        Orthographic: pixel `(u, v)` of `K (x, y, 1)`, pixels per scene unit.

    Notes
    -----
    The view plane is that of Blender's `BKE_camera_params_compute_viewplane`: the fitted side of the picture spans the
    sensor, pixels are `1 : pixel_aspect_y / pixel_aspect_x`, the shift counts in lengths of the fitted side.

    Examples
    --------
    >>> intrinsics(Lens(width=640, height=480, focal_length_mm=50, sensor_width_mm=36)).round(2).tolist()
    [[888.89, 0.0, 320.0], [0.0, 888.89, 240.0], [0.0, 0.0, 1.0]]
    """
    pixel_height = lens.pixel_aspect_y / lens.pixel_aspect_x  # in pixel widths
    fit = lens.sensor_fit
    if fit == "AUTO":
        wide = lens.width * lens.pixel_aspect_x >= lens.height * lens.pixel_aspect_y
        fit = "HORIZONTAL" if wide else "VERTICAL"
    side_px = lens.width if fit == "HORIZONTAL" else lens.height * pixel_height
    if lens.projection == "perspective":
        sensor_mm = lens.sensor_height_mm if lens.sensor_fit == "VERTICAL" else lens.sensor_width_mm
        scale = lens.focal_length_mm * side_px / sensor_mm
    else:
        scale = side_px / lens.orthographic_scale
    center_x = lens.width / 2 - lens.shift_x * side_px
    center_y = lens.height / 2 + lens.shift_y * side_px / pixel_height
    return np.array([[scale, 0, center_x], [0, scale / pixel_height, center_y], [0, 0, 1]], np.float64)


def K_opencv(camera_matrix: npt.ArrayLike) -> Array:
    """Turn K into that of OpenCV, BOP and COCO tools, which count from pixel *centres*: all pixels half a pixel less.

    Parameters
    ----------
    camera_matrix : array_like, shape (3, 3)
        From `intrinsics`.

    Returns
    -------
    ndarray, shape (3, 3), float64

    Examples
    --------
    >>> K_opencv(intrinsics(Lens(width=640, height=480)))[:2, 2].tolist()
    [319.5, 239.5]
    """
    return _shifted(camera_matrix, -0.5)


def from_K(camera_matrix: npt.ArrayLike, convention: Literal["corner", "opencv"]) -> Array:
    """Read a K of another tool.

    Parameters
    ----------
    camera_matrix : array_like, shape (3, 3)
    convention : {'corner', 'opencv'}
        What `(0, 0)` is there: the corner of the image, as here, or the centre of its first pixel (OpenCV, BOP, COCO).

    Returns
    -------
    ndarray, shape (3, 3), float64
        Counting from the corner.

    Raises
    ------
    CameraError
        If the convention is unknown.
    """
    if convention not in ("corner", "opencv"):
        raise CameraError(f"convention {convention!r}: expected 'corner' or 'opencv'")
    return _shifted(camera_matrix, 0.5 if convention == "opencv" else 0.0)


def lens_from_K(camera_matrix: npt.ArrayLike, width: int, height: int, sensor_width_mm: float = 36.0) -> Lens:
    """Find the settings of a perspective Blender camera that has this K: the inverse of `intrinsics`.

    Parameters
    ----------
    camera_matrix : array_like, shape (3, 3)
        Counting from the corner, see `from_K`.
    width, height : int
        Of the picture in pixels.
    sensor_width_mm : float
        Any: it scales the focal length alone.

    Returns
    -------
    Lens
        With horizontal sensor fit.

    Raises
    ------
    CameraError
        If K has skew, or a focal length that is not positive.

    Examples
    --------
    >>> lens = lens_from_K([[900, 0, 300], [0, 900, 250], [0, 0, 1]], 640, 480)
    >>> intrinsics(lens).round(9).tolist()
    [[900.0, 0.0, 300.0], [0.0, 900.0, 250.0], [0.0, 0.0, 1.0]]
    """
    matrix = np.asarray(camera_matrix, np.float64)
    (fx, skew, cx), (_, fy, cy) = matrix[:2]
    if not (fx > 0 and fy > 0) or abs(skew) > 1e-9 * fx:
        raise CameraError(f"no Blender camera has this K: expected positive focal lengths and no skew, got {matrix.tolist()}")
    pixel_height = fx / fy
    return Lens(
        width=width,
        height=height,
        focal_length_mm=fx * sensor_width_mm / width,
        sensor_width_mm=sensor_width_mm,
        sensor_fit="HORIZONTAL",
        shift_x=(width / 2 - cx) / width,
        shift_y=(cy - height / 2) * pixel_height / width,
        # Blender's aspects are 1 or more.
        pixel_aspect_x=max(1.0, 1 / pixel_height),
        pixel_aspect_y=max(1.0, pixel_height),
    )


def _shifted(camera_matrix: npt.ArrayLike, pixels: float) -> Array:
    matrix = np.array(camera_matrix, np.float64)
    matrix[:2, 2] += pixels
    return matrix


def camera_from_world(world_from_blender_camera: npt.ArrayLike) -> Array:
    """Compute the extrinsics from the world matrix of a Blender camera.

    Parameters
    ----------
    world_from_blender_camera : array_like, shape (4, 4)
        `matrix_world` of the evaluated camera object. Its scale is ignored, as Blender's renderers do: each axis is
        normalised by itself, so the skew that a parent's uneven scale brings stays.

    Returns
    -------
    ndarray, shape (4, 4), float64

    Raises
    ------
    CameraError
        If the matrix has a zero scale.
    """
    (a, b, c, x), (d, e, f, y), (g, h, i, z), _ = _rows(world_from_blender_camera)
    k, m, n = lengths = math.hypot(a, d, g), math.hypot(b, e, h), math.hypot(c, f, i)
    if not all(lengths):
        raise CameraError(f"the camera has a scale of zero: {list(lengths)}")
    right, up, back = (a / k, b / m, c / n, x), (d / k, e / m, f / n, y), (g / k, h / m, i / n, z)
    return np.array(_inverse((right, up, back), (1.0, -1.0, -1.0)))  # CAMERA_FROM_BLENDER_CAMERA


def inverse_affine(matrix: npt.ArrayLike) -> Array:
    """Invert a 4x4 affine matrix, by cofactors.

    Parameters
    ----------
    matrix : array_like, shape (4, 4)

    Returns
    -------
    ndarray, shape (4, 4), float64

    Raises
    ------
    CameraError
        If it has no inverse.

    Notes
    -----
    LAPACK's threads make `numpy.linalg.inv` of so small a matrix wait: 0.4 ms each beside a renderer that keeps the
    CPUs busy, 3 us this way.
    """
    return np.array(_inverse(_rows(matrix)[:3]))


def _inverse(rows: Any, signs: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> list[tuple[float, float, float, float]]:
    """Invert an affine matrix, and multiply the rows of the result."""
    (a, b, c, x), (d, e, f, y), (g, h, i, z) = rows
    ca, cb, cc = e * i - f * h, f * g - d * i, d * h - e * g
    determinant = a * ca + b * cb + c * cc
    if determinant == 0:
        raise CameraError("the matrix flattens space, and has no inverse")
    j, k, m = (sign / determinant for sign in signs)
    p, q, r = ca * j, (c * h - b * i) * j, (b * f - c * e) * j
    s, t, u = cb * k, (a * i - c * g) * k, (c * d - a * f) * k
    v, w, o = cc * m, (b * g - a * h) * m, (a * e - b * d) * m
    return [
        (p, q, r, -(p * x + q * y + r * z)),
        (s, t, u, -(s * x + t * y + u * z)),
        (v, w, o, -(v * x + w * y + o * z)),
        (0.0, 0.0, 0.0, 1.0),
    ]


def _rows(matrix: Any) -> list[list[float]]:
    # numpy takes 0.1 ms to read a Blender matrix beside a software renderer, which leaves the caches cold.
    return [[float(value) for value in row] for row in matrix]


def transform(matrix: npt.ArrayLike, points: npt.ArrayLike) -> Array:
    """Apply a 4x4 affine matrix to points.

    Parameters
    ----------
    matrix : array_like, shape (4, 4)
    points : array_like, shape (N, 3)

    Returns
    -------
    ndarray, shape (N, 3), float64
    """
    affine, columns = np.asarray(matrix, np.float64), as_points(points, 3)
    return np.asarray(columns @ affine[:3, :3].T + affine[:3, 3], np.float64)


def project(
    points_camera: npt.ArrayLike,
    camera_matrix: npt.ArrayLike,
    orthographic: bool = False,
    distortion: Distortion | None = None,
) -> tuple[Array, Array]:
    """Project points of the camera frame.

    Parameters
    ----------
    points_camera : array_like, shape (N, 3)
        In scene units.
    camera_matrix : array_like, shape (3, 3)
        From `intrinsics`.
    orthographic : bool
    distortion : Distortion, optional
        Of a perspective camera.

    Returns
    -------
    xy : ndarray, shape (N, 2), float64
        In pixels. NaN for points that a perspective camera has at or behind its centre: they have no image.
        What is farther out than the model of the distortion reaches, is outside of the picture.
    depth : ndarray, shape (N,), float64
        Planar z in scene units, negative behind the camera.

    References
    ----------
    Hartley and Zisserman, Multiple View Geometry, 2nd ed., equations 6.1 and 6.22.

    Examples
    --------
    >>> K = intrinsics(Lens(width=640, height=480))
    >>> xy, depth = project([[0, 0, 2], [0.72, 0, 2], [0, 0, -1]], K)
    >>> xy.tolist(), depth.tolist()
    ([[320.0, 240.0], [640.0, 240.0], [nan, nan]], [2.0, 2.0, -1.0])
    """
    points, matrix = as_points(points_camera, 3), np.asarray(camera_matrix, np.float64)
    depth = points[:, 2].copy()
    plane = points[:, :2]
    if not orthographic:
        plane = plane / np.where(depth > 0, depth, np.nan)[:, None]
        if distortion is not None:
            plane = distort(plane, distortion)
    return plane @ matrix[:2, :2].T + matrix[:2, 2], depth


def unproject(
    xy: npt.ArrayLike,
    depth: npt.ArrayLike,
    camera_matrix: npt.ArrayLike,
    orthographic: bool = False,
    distortion: Distortion | None = None,
) -> Array:
    """Find the points of the camera frame with these images: the inverse of `project`.

    Parameters
    ----------
    xy : array_like, shape (N, 2)
        In pixels.
    depth : array_like, shape (N,)
        Planar z in scene units.
    camera_matrix : array_like, shape (3, 3)
    orthographic : bool
    distortion : Distortion, optional
        Of a perspective camera.

    Returns
    -------
    ndarray, shape (N, 3), float64
        NaN for pixels that the model of the distortion gives no ray.
    """
    pixels, matrix = as_points(xy, 2), np.asarray(camera_matrix, np.float64)
    z = np.asarray(depth, np.float64).reshape(-1, 1)
    plane = np.linalg.solve(matrix[:2, :2], (pixels - matrix[:2, 2]).T).T
    if distortion is not None and not orthographic:
        plane = undistort(plane, distortion)
    return np.hstack([plane if orthographic else plane * z, z])


def look_at(eye: npt.ArrayLike, target: npt.ArrayLike, up: npt.ArrayLike = (0.0, 0.0, 1.0)) -> Array:
    """Compute the pose of a Blender camera that stands at `eye` and looks at `target`.

    Parameters
    ----------
    eye, target, up : array_like, shape (3,)
        In the world frame, scene units. Where the view direction is along `up`, the world's y is up in the picture.

    Returns
    -------
    ndarray, shape (4, 4), float64
        `world_from_blender_camera`, a rigid motion.

    Raises
    ------
    CameraError
        If eye and target coincide.
    """
    position, up_axis = np.asarray(eye, np.float64), np.asarray(up, np.float64)
    backward = position - np.asarray(target, np.float64)
    if not np.linalg.norm(backward) > 0:
        raise CameraError(f"the camera stands at {position.tolist()} and cannot look at the same point")
    backward /= np.linalg.norm(backward)
    right = np.cross(up_axis, backward)
    if np.linalg.norm(right) < 1e-6 * np.linalg.norm(up_axis):
        right = np.cross([0.0, 1.0, 0.0] if abs(backward[1]) < 0.9 else [0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(backward, right), backward])
    pose[:3, 3] = position
    return pose


def bounding_box(points: npt.ArrayLike) -> Array:
    """Compute the axis-aligned box of points, in any number of dimensions.

    Parameters
    ----------
    points : array_like, shape (N, D)
        Points with a NaN have no place and are left out.

    Returns
    -------
    ndarray, shape (2 D,), float64
        All minima, then all maxima: `(x_min, y_min, x_max, y_max)` for pixels. NaN where no point is left.
    """
    array = np.atleast_2d(np.asarray(points, np.float64))
    array = array[~np.isnan(array).any(axis=1)]
    if not len(array):
        return np.full(2 * array.shape[1], np.nan)
    return np.concatenate([array.min(axis=0), array.max(axis=0)])


def as_points(points: npt.ArrayLike, dimensions: int) -> Array:
    """Read points as rows; one point may come without its row axis.

    Raises
    ------
    CameraError
        If the last axis has another length.
    """
    array: npt.NDArray[Any] = np.atleast_2d(np.asarray(points, np.float64))
    if array.ndim != 2 or array.shape[1] != dimensions:
        raise CameraError(f"expected points of shape (N, {dimensions}), got {np.shape(points)}")
    return array
