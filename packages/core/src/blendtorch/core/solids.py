"""Solids in numpy: rigid motions and scales, wireframes cut by depth, corners of boxes.

Frames, pixels and depth are those of `blendtorch.core.geometry`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import SceneError
from blendtorch.core.geometry import Array, as_points

_MOST_PIECES = 4096  # of an edge that a lens bends
_STRAIGHT_PX = 2.0  # edges no longer than this do not bend: by 0.01 px where a line is a circle with a radius of 50 px


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


def cut_edges(points_camera: npt.ArrayLike, edges: npt.ArrayLike, near: float, far: float = np.inf) -> tuple[Array, Array]:
    """Cut a wireframe between two planes of constant depth, as `clip_depth` does, and keep its edges.

    Parameters
    ----------
    points_camera, edges, near, far
        See `clip_depth`.

    Returns
    -------
    points : ndarray, shape (M, 3), float64
        As `clip_depth` gives them.
    segments : ndarray, shape (S, 2, 3), float64
        What is left of the edges, and on each plane the outline of the hull of where they cross it: the faces end within that.
    """
    points = as_points(points_camera, 3)
    ends = points[np.asarray(edges, np.int64).reshape(-1, 2)]
    outlines = [_hull_edges(_crossings(ends, depth)) for depth in (near, far)]
    depths = ends[:, :, 2]
    ends = ends[~((depths < near).all(axis=1) | (depths > far).all(axis=1))]
    first, last = ends[:, :1], ends[:, 1:]
    depths = ends[:, :, 2:]
    kept = np.clip(depths, near, far)
    slope = last[..., 2:] - first[..., 2:]
    # Where an end stays, it stays to the bit; an edge along a plane has both.
    along = np.divide(kept - first[..., 2:], slope, out=np.zeros_like(kept), where=slope != 0)
    cut = np.where(kept == depths, ends, first + along * (last - first))
    cut[:, :, 2:] = kept
    return clip_depth(points, edges, near, far), np.concatenate([cut, *outlines])


def curved_outline(
    points: Array, segments: Array, project: Callable[[Array], tuple[Array, Array]], tolerance: float = 0.01
) -> Array:
    """Project a wireframe whose edges become curves, with so many points on each that the chords between them lie on it.

    Parameters
    ----------
    points : ndarray, shape (M, 3), float64
        In the camera frame.
    segments : ndarray, shape (S, 2, 3), float64
    project : callable
        Gives pixels, shape (N, 2), and depths of points of the camera frame.
    tolerance : float
        In pixels: how far a curve may be from the chords between its points, as its bend at three places says.

    Returns
    -------
    ndarray, shape (N, 2), float64
        In pixels.
    """
    ends = project(segments.reshape(-1, 3))[0].reshape(-1, 2, 2)
    long = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) > _STRAIGHT_PX
    segments = segments[long]
    xy = project(_on_segments(segments, np.linspace(0, 1, 5)).reshape(-1, 3))[0].reshape(-1, 5, 2)
    chords = xy[:, :1] + (xy[:, -1:] - xy[:, :1]) * np.linspace(0, 1, 5)[None, :, None]
    bend = np.nan_to_num(np.linalg.norm(xy - chords, axis=2).max(axis=1, initial=0))
    # n pieces of a parabola bend n^2 times less; twice as many, for a lens bends otherwise. Powers of two: edges in few groups.
    wanted = np.clip(2 * np.sqrt(bend / tolerance), 4, _MOST_PIECES)
    pieces = 2 ** np.ceil(np.log2(wanted)).astype(np.int64)
    more = [
        project(_on_segments(segments[pieces == count], np.linspace(0, 1, count + 1)).reshape(-1, 3))[0]
        for count in np.unique(pieces[pieces > 4])
    ]
    return np.concatenate([project(points)[0], ends.reshape(-1, 2), xy.reshape(-1, 2), *more])


def _on_segments(segments: Array, places: Array) -> Array:
    """Divide segments, shape (S, 2, 3), as they appear in a picture of a pinhole camera; gives shape (S, len(places), 3)."""
    # A place in the picture is linear in x / z, so points in space are weighted with the depth of the other end.
    first, last = segments[:, 0, None], segments[:, 1, None]
    weight = places[None, :, None]
    one, two = (1 - weight) * last[..., 2:], weight * first[..., 2:]
    return np.asarray((first * one + last * two) / (one + two))


def _hull_edges(points: Array) -> Array:
    """List the edges of the convex hull of points of one depth, shape (M, 3); gives shape (E, 2, 3)."""
    if len(points) < 2:
        return np.zeros((0, 2, 3))
    order = points[np.lexsort((points[:, 1], points[:, 0]))]

    def half(rows: Array) -> list[Array]:
        chain: list[Array] = []
        for row in rows:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], row) <= 0:
                chain.pop()
            chain.append(row)
        return chain

    hull = np.array(half(order)[:-1] + half(order[::-1])[:-1])
    return np.stack([hull, np.roll(hull, -1, axis=0)], axis=1)


def _turn(first: Array, second: Array, third: Array) -> float:
    return float((second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0]))


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
