"""Samples of flat cards before a camera, with every label that writers know, computed ray by ray: no Blender is needed."""

from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import geometry
from blendtorch.core.labels import Floats
from blendtorch.core.sampler import Sample
from blendtorch.core.solids import box_corners

CATEGORIES = {1: "card", 2: "stamp"}
_SIZES = {1: (0.8, 0.5), 2: (0.5, 0.4)}  # scene units
_CATEGORY_IDS = np.array([1, 2, 1, 2, 1], np.int64)
_BEHIND, _INEXACT = 3, 4  # rows
_SIGNS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2  # of the corners, which are the keypoints
_LEGEND = '{"categories":{"1":"card","2":"stamp"},"keypoints":{"names":["a","b","c","d"]}}'


def labelled_sample(index: int, seed: int = 0, shape: tuple[int, int] = (48, 64), frames_per_episode: int = 1) -> Sample:
    """Make a sample: five cards, turned anyhow, of which one is behind the camera and one is flagged as not exact.

    Others may be hidden, or cut by the border; that depends on the seed and the index.

    Parameters
    ----------
    index : int
    seed : int
    shape : tuple of int
        Height and width of the picture in pixels.
    frames_per_episode : int

    Returns
    -------
    dict
        `image`, `camera`, `instance_ids`, `depth`, `boxes2d_tight`, `boxes2d_amodal`, `boxes2d_loose`, `masks_amodal`,
        `visibility`, `boxes3d`, `poses`, `keypoints`, `objects` and `meta`, as a run of plug-ins makes them.

    Examples
    --------
    >>> sample = labelled_sample(3)
    >>> sample["boxes2d_tight"]["valid"].tolist(), sample["keypoints"]["xy"].shape
    ([True, True, True, False, True], (5, 4, 2))
    """
    rng, (height, width), count = np.random.default_rng([seed, index]), shape, len(_CATEGORY_IDS)
    K = np.array([[width * 0.9, 0, width * 0.52], [0, width * 0.9, height * 0.47], [0, 0, 1]])
    sizes = np.array([_SIZES[each] for each in _CATEGORY_IDS.tolist()])
    poses = np.array([_pose(rng, behind=row == _BEHIND) for row in range(count)])

    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(shape)], axis=-1)
    depths = np.array([_depth(rays, pose, size) for pose, size in zip(poses, sizes, strict=True)])
    amodal = np.isfinite(depths)
    ids = np.where(amodal.any(axis=0), depths.argmin(axis=0) + 1, 0).astype(np.int32)
    masks = ids == np.arange(1, count + 1)[:, None, None]
    visible, wanted = masks.sum(axis=(1, 2)), amodal.sum(axis=(1, 2))

    flat = np.concatenate([_SIGNS, np.zeros((4, 1))], axis=1)
    corners = flat * np.concatenate([sizes, np.zeros((count, 1))], axis=1)[:, None]
    xyz = np.array([geometry.transform(pose, each) for pose, each in zip(poses, corners, strict=True)])
    xy, depth = (each.reshape(count, 4, -1) for each in geometry.project(xyz.reshape(-1, 3), K))
    depth = depth[..., 0]
    unclipped = np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1)
    clipped = np.clip(unclipped, 0, [width, height, width, height])
    loose = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    truncated = (clipped != unclipped).any(axis=1)
    clipped[~loose] = unclipped[~loose] = np.nan
    exact = np.arange(count) != _INEXACT
    half = np.concatenate([sizes, np.zeros((count, 1))], axis=1)
    with np.errstate(invalid="ignore"):
        fraction = np.where(wanted > 0, visible / np.maximum(wanted, 1), np.nan)
    colors = rng.integers(40, 256, (count + 1, 3))
    return {
        "image": (colors[ids] + rng.integers(-30, 0, (*shape, 1))).clip(0, 255).astype(np.uint8),
        "camera": {
            "K": K,
            "K_opencv": geometry.K_opencv(K),
            "distortion": np.zeros(5),
            "camera_from_world": np.eye(4),
            "resolution": np.array([width, height], np.int64),
        },
        "instance_ids": {"instance_ids": ids, "exact": exact, "valid": visible > 0},
        "depth": {"depth": depths.min(axis=0).astype(np.float32)},
        "boxes2d_tight": {"xyxy": _boxes(masks), "exact": exact, "valid": visible > 0},
        "boxes2d_amodal": {
            "xyxy": _boxes(amodal),
            "truncated": truncated & (wanted > 0),
            "exact": exact,
            "valid": wanted > 0,
        },
        "boxes2d_loose": {"clipped": clipped, "unclipped": unclipped, "truncated": truncated & loose, "valid": loose},
        "masks_amodal": {"masks": amodal, "exact": exact, "valid": wanted > 0},
        "visibility": {
            "fraction": fraction,
            "visible": visible.astype(np.int64),
            "amodal": wanted.astype(np.int64),
            "truncated": truncated & (wanted > 0),
            "exact": exact,
            "valid": wanted > 0,
        },
        "boxes3d": {
            "center": poses[:, :3, 3].copy(),
            "size": half,
            "rotation": poses[:, :3, :3].copy(),
            "corners": np.array(
                [geometry.transform(pose, box_corners(-each / 2, each / 2)) for pose, each in zip(poses, half, strict=True)]
            ),
            "valid": np.ones(count, bool),
        },
        "poses": {"camera_from_object": poses, "scale": np.ones((count, 3)), "size": half, "valid": np.ones(count, bool)},
        "keypoints": {
            "xy": xy,
            "depth": depth,
            "xyz": xyz,
            "state": _states(xy, depth, depths, shape),
            "valid": np.ones(count, bool),
        },
        "objects": {"instance_id": np.arange(1, count + 1), "category_id": _CATEGORY_IDS.copy()},
        "meta": {
            "seed": seed,
            "episode": index // frames_per_episode,
            "frame": index % frames_per_episode,
            "index": index,
            "drawn": "{}",
            "versions": '{"blendtorch":"none"}',
            "legend": _LEGEND,
            "btid": 0,
        },
    }


def _pose(rng: np.random.Generator, *, behind: bool) -> Floats:
    """Turn a card anyhow, but not edge on."""
    pose = np.eye(4)
    pose[:3, 3] = rng.uniform([-1, -0.7, 1.6], [1, 0.7, 3])
    if behind:
        pose[2, 3] *= -1
    for first, second, limit in ((0, 1, np.pi), (1, 2, 1.0), (2, 0, 1.0)):
        angle, turn = rng.uniform(-limit, limit), np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        pose[:3, :3] = turn[:3, :3] @ pose[:3, :3]
    return pose


def _depth(rays: Floats, pose: Floats, size: npt.NDArray[Any]) -> Floats:
    """Cut rays with a card: planar z, inf where they miss it."""
    rotation, center = pose[:3, :3], pose[:3, 3]
    depth = (rotation[:, 2] @ center) / (rays @ rotation[:, 2])
    own = (depth[..., None] * rays - center) @ rotation
    hit = (depth > 0) & (np.abs(own[..., 0]) < size[0] / 2) & (np.abs(own[..., 1]) < size[1] / 2)
    return np.where(hit, depth, np.inf)


def _boxes(masks: npt.NDArray[np.bool_]) -> Floats:
    boxes = np.full((len(masks), 4), np.nan)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


def _states(xy: Floats, depth: Floats, depths: Floats, shape: tuple[int, int]) -> npt.NDArray[np.int8]:
    """COCO's v: a corner is hidden where another card is nearer in its pixel."""
    height, width = shape
    states = np.zeros(depth.shape, np.int8)
    for row, column in np.ndindex(depth.shape):
        x, y = xy[row, column]
        if depth[row, column] > 0 and 0 <= x < width and 0 <= y < height:
            others = np.delete(depths[:, int(y), int(x)], row)
            states[row, column] = 1 if others.min() < depth[row, column] else 2
    return states
