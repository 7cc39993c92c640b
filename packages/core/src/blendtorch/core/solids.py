"""Solids in numpy: rigid motions and scales, wireframes cut by depth, corners of boxes.

Frames, pixels and depth are those of `blendtorch.core.geometry`.
"""

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import SceneError
from blendtorch.core.geometry import Array, as_points


def decompose(matrix: npt.ArrayLike, tolerance: float = 1e-4) -> tuple[Array, Array]:
    """Split an affine matrix into a rigid motion and scales along its own axes: `matrix = rigid @ diag(scale, 1)`.

    Parameters
    ----------
    matrix : array_like, shape (4, 4)
    tolerance : float
        How far from right angles the axes may be: the largest cosine between two. Blender computes in float32, which
        leaves 1e-7, and more under parents of very uneven scale.

    Returns
    -------
    rigid : ndarray, shape (4, 4), float64
        Orthonormal, determinant +1: the rotation that is nearest to the normalised axes (their polar factor).
    scale : ndarray, shape (3,), float64
        All positive; all negative for a matrix that mirrors, as Blender decomposes it.

    Raises
    ------
    SceneError
        If the matrix is sheared, or a scale is zero.

    References
    ----------
    Higham, Computing the polar decomposition, SIAM J. Sci. Stat. Comput. 7 (1986).

    Examples
    --------
    >>> rigid, scale = decompose(np.diag([2.0, 3.0, -4.0, 1.0]))
    >>> np.diag(rigid).tolist(), scale.tolist()
    ([-1.0, -1.0, 1.0, 1.0], [-2.0, -3.0, -4.0])
    """
    affine = np.asarray(matrix, np.float64)
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    if not scale.min() > 1e-6 * scale.max():
        raise SceneError(f"it has a scale of zero: {scale.tolist()}")
    axes = affine[:3, :3] / scale
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > tolerance:
        raise SceneError(f"it is sheared: the largest cosine between two of its axes is {cosine:.2g}, expected 0")
    left, _, right = np.linalg.svd(axes)
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = left @ right, affine[:3, 3]
    if np.linalg.det(rigid[:3, :3]) < 0:
        rigid[:3, :3] *= -1
        scale = -scale
    return rigid, scale


def clip_depth(points_camera: npt.ArrayLike, edges: npt.ArrayLike, near: float, far: float = np.inf) -> Array:
    """Cut a wireframe between two planes of constant depth.

    The box of what is returned is that of the cut wireframe, and of its faces.

    Parameters
    ----------
    points_camera : array_like, shape (N, 3)
        In the camera frame, scene units.
    edges : array_like, shape (E, 2), int
        Numbers of points.
    near, far : float
        Depths in scene units, near < far.

    Returns
    -------
    ndarray, shape (M, 3), float64
        The points between the planes, then those where edges cross the near plane, then the far one.

    Examples
    --------
    >>> clip_depth([[0, 0, 3], [4, 0, -1]], [[0, 1]], near=1).tolist()
    [[0.0, 0.0, 3.0], [2.0, 0.0, 1.0]]
    """
    points = as_points(points_camera, 3)
    ends = points[np.asarray(edges, np.int64).reshape(-1, 2)]
    inside = (points[:, 2] >= near) & (points[:, 2] <= far)
    return np.concatenate([points[inside], _crossings(ends, near), _crossings(ends, far)])


def box_corners(low: npt.ArrayLike, high: npt.ArrayLike) -> Array:
    """List the corners of a box along the axes.

    Returns
    -------
    ndarray, shape (8, 3), float64
        Corner `i` is at the high end of x where `i & 1`, of y where `i & 2`, of z where `i & 4`.

    Examples
    --------
    >>> box_corners((0, 0, 0), (1, 2, 3))[:5].tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]
    """
    is_high = np.arange(8)[:, None] >> np.arange(3) & 1
    return np.where(is_high == 1, np.asarray(high, np.float64), np.asarray(low, np.float64))


def _crossings(ends: Array, depth: float) -> Array:
    """Find where segments, shape (E, 2, 3), cross a plane of constant depth."""
    above = ends[:, :, 2] > depth
    first, last = np.swapaxes(ends[above[:, 0] != above[:, 1]], 0, 1)
    t = (depth - first[:, 2:]) / (last[:, 2:] - first[:, 2:])
    crossings = first + t * (last - first)
    crossings[:, 2] = depth
    return np.asarray(crossings)
