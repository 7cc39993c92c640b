"""The largest distance between two of many points, exactly, without comparing each with each."""

import math

import numpy as np
from blendtorch.core.geometry import Array

_PAIRS = 60_000  # so many are compared at once: it takes as long as to look at a cell
_SPLIT = 6  # cells along each edge of a cube's face, to begin with
_SMALLEST = 1e-8  # half the edge of a cell: what lies in it differs in length by 1e-16
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def diameter(points: Array) -> float:
    """Return the largest distance between two points.

    Parameters
    ----------
    points : ndarray, shape (N, 3), float64

    Returns
    -------
    float
        To rounding; 0 for no points.

    Notes
    -----
    Branch and bound over the directions of the longest pair, which are cells of a hemisphere. If the longest pair is at least
    L, and its direction lies within an angle t of u, then along u its ends are L cos(t) apart at least: so one is among the
    points that are so far from the lowest, the other among those so far from the highest. These are few, even of a ball, when
    the cell is small: 100 000 points take 0.2 s.

    Examples
    --------
    >>> diameter(np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0], [1, 1, 0]], float))
    5.0
    """
    if len(points) < 2:
        return 0.0
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    half = 1 / _SPLIT
    places = np.linspace(-1 + half, 1 - half, _SPLIT).tolist()
    stack = [((axis, a, b, half), points, points) for axis in range(3) for a in places for b in places]
    longest = max(_extent(points, points, _middle(cell)[0])[0] for cell, _, _ in stack[::4])
    while stack:
        cell, lows, highs = stack.pop()
        direction, cosine = _middle(cell)
        length, low, high = _extent(lows, highs, direction)
        longest = max(longest, length)
        reach = longest * (cosine - 1e-14)
        if high.max() - low.min() <= reach:
            continue
        lows, highs = lows[low <= high.max() - reach], highs[high >= low.min() + reach]
        if len(lows) * len(highs) <= _PAIRS:
            longest = max(longest, _longest_pair(lows, highs))
        elif cell[3] > _SMALLEST:
            axis, a, b, half = cell
            quarter = half / 2
            stack += [((axis, a + i * quarter, b + j * quarter, quarter), lows, highs) for i, j in _CORNERS]
    return longest


def _extent(lows: Array, highs: Array, direction: Array) -> tuple[float, Array, Array]:
    """Return how far the lowest and the highest point along a direction are apart, and how far along it all are."""
    low = lows @ direction
    high = low if highs is lows else highs @ direction
    return math.dist(highs[high.argmax()].tolist(), lows[low.argmin()].tolist()), low, high


def _longest_pair(lows: Array, highs: Array) -> float:
    squares = (highs**2).sum(axis=1)[:, None] + (lows**2).sum(axis=1) - 2 * highs @ lows.T
    high, low = divmod(int(squares.argmax()), len(lows))
    return math.dist(highs[high].tolist(), lows[low].tolist())


def _middle(cell: tuple[int, float, float, float]) -> tuple[Array, float]:
    """Return the middle of a cell on a face of a cube, as a direction, and the cosine of its angle to the farthest corner."""
    axis, a, b, half = cell
    ray = [a, b]
    ray.insert(axis, 1.0)
    length = math.hypot(1, a, b)
    corners = [(a + i * half, b + j * half) for i, j in _CORNERS]
    cosine = min((1 + a * c + b * d) / (length * math.hypot(1, c, d)) for c, d in corners)
    return np.array(ray) / length, cosine
