"""Samples as pictures for people: labels over the image, maps in colors. Drawn by matplotlib, into no window."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from blendtorch.core.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sample = Mapping[str, Any]
Colors = npt.NDArray[np.float64]

_BOXES = {"boxes2d_tight": "-", "boxes2d_amodal": "--", "boxes2d_loose": ":"}
_USUAL = ("instance_ids", *_BOXES, "keypoints")
_OVERLAYS = (*_USUAL, "masks_amodal", "visibility")
_TOGETHER = ((*_BOXES, "visibility"), ("keypoints",), ("instance_ids",), ("masks_amodal",))  # what leaves the rest to be seen
IDS = ("instance_ids", "category_ids", "material_ids")
MAPS = ("depth", "distance", "normals", "position", "uv", "object_coordinates", *IDS, "flow")
_WIDTH_INCHES = 3.2  # of a panel of a contact sheet
_MASK_ALPHA = 0.45
_OCCLUDED, _VISIBLE = 1, 2


def draw(sample: Sample, labels: Sequence[str] | None = None, axes: "Axes | None" = None) -> "Axes":
    """Draw the labels of a sample over its image.

    Boxes are solid lines where they are tight, dashed where they are amodal, dotted where they are loose. Keypoints are filled
    where they can be seen, and hollow where something is in front of them. Pixels of an object have its color, and amodal masks
    are outlines in it. Visibility is written in percent at the middle of what is seen, where `instance_ids` is there to tell. A
    map (`depth`, `normals`, `flow` ...) takes the place of the image.

    Parameters
    ----------
    sample : mapping
        One sample of `btt.stream`, or of a batch: see `unbatch`. Arrays or tensors.
    labels : sequence of str, optional
        Which labels, at most one of them a map. Default: boxes, keypoints and instance ids, as far as it has them.
    axes : matplotlib.axes.Axes, optional
        Where to. Default: those of a new figure, as large as the image.

    Returns
    -------
    matplotlib.axes.Axes
        Its `figure` has `savefig`. Coordinates count from the corner of the image.

    Raises
    ------
    ConfigurationError
        If the sample has not what is to be drawn, or matplotlib is not installed.

    Examples
    --------
    >>> sample = {"image": np.zeros((48, 64, 3), np.uint8), "depth": {"depth": np.ones((48, 64), np.float32)}}
    >>> draw(sample, ["depth"]).get_xlim()
    (0.0, 64.0)
    """
    if labels is None:
        labels = [name for name in _USUAL if name in sample]
    picture = _background(sample, labels)
    height, width = picture.shape[:2]
    if axes is None:
        axes = _figure(width / 100, height / 100, dpi=100).add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    # Pixel coordinates count from the corner of the image: its edges are 0 and width.
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
    for name in labels:
        if name == "instance_ids":
            ids = _array(sample["instance_ids"]["instance_ids"])
            veil = np.concatenate([id_colors(ids), np.where(ids > 0, _MASK_ALPHA, 0)[..., None]], axis=-1)
            axes.imshow(veil, extent=(0, width, height, 0), interpolation="nearest")
        elif name in _BOXES:
            _draw_boxes(axes, sample[name], _BOXES[name])
        elif name == "keypoints":
            _draw_keypoints(axes, sample["keypoints"])
        elif name == "masks_amodal":
            _draw_outlines(axes, sample["masks_amodal"])
        elif name == "visibility" and "instance_ids" in sample:
            _write_visibility(axes, sample["visibility"], _array(sample["instance_ids"]["instance_ids"]))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return axes


def contact_sheet(
    samples: Iterable[Sample], labels: Sequence[str] | None = None, columns: int | None = None, apart: bool = False
) -> "Figure":
    """Draw samples side by side: each its image with what goes over it, then its maps.

    Parameters
    ----------
    samples : iterable of mapping
        See `draw`; for a batch of a DataLoader: `unbatch(batch)`.
    labels : sequence of str, optional
        Which labels. Default: all that can be drawn.
    columns : int, optional
        Panels in a row. Default: those of one sample; 4 where there are no maps.
    apart : bool
        Draw boxes, keypoints and masks on an image each, and the image by itself: where many lie on each other.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> image = np.zeros((48, 64, 3), np.uint8)
    >>> samples = [{"image": image, "depth": {"depth": np.full((48, 64), float(number))}} for number in (1, 2)]
    >>> [axes.get_title() for axes in contact_sheet(samples).axes]
    ['image', 'depth', '', '']
    """
    panels: list[tuple[Sample, str, list[str]]] = []
    each = 0
    for number, sample in enumerate(samples):
        usual = (*(_OVERLAYS if apart else _USUAL), *MAPS)
        wanted = [name for name in usual if name in sample] if labels is None else list(labels)
        over, maps = [name for name in wanted if name in _OVERLAYS], [name for name in wanted if name not in _OVERLAYS]
        own = [("image", [] if apart else over), *((name, [name]) for name in maps)]
        if apart:
            groups = [[name for name in group if name in over] for group in _TOGETHER]
            own[1:1] = [(", ".join(group), group) for group in groups if group]
        if number == 0 and len(own) == 1:
            own[0] = ("", over)
        panels += [(sample, title if number == 0 else "", drawn) for title, drawn in own]
        each = max(each, len(own))
    if not panels:
        raise ConfigurationError("there is no sample to draw")
    columns = columns or (each if each > 1 else min(4, len(panels)))
    rows = -(-len(panels) // columns)
    height, width = _shape(panels[0][0])
    figure = _figure(columns * _WIDTH_INCHES, rows * _WIDTH_INCHES * height / width, dpi=100)
    for place, (sample, title, drawn) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        draw(sample, drawn, axes)
        axes.set_title(title, fontsize=8, y=1, pad=-10, color="white")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    return figure


def unbatch(batch: Any) -> list[Any]:
    """Take a batch of a DataLoader apart.

    Parameters
    ----------
    batch : mapping
        From `default_collate` or `btt.collate`.

    Returns
    -------
    list of dict
        The samples, their arrays views of the batch.

    Examples
    --------
    >>> unbatch({"image": torch.zeros(2, 4, 6, 3), "meta": {"index": torch.tensor([7, 8])}})[1]["meta"]["index"].item()
    8
    """
    if isinstance(batch, Mapping):
        parts = {name: unbatch(value) for name, value in batch.items()}
        return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
    return list(batch)


def colored(sample: Sample, name: str) -> Colors:
    """Turn a map into colors.

    Depths get darker with the distance; normals have red to the right, green up and blue towards the camera; the hue of flow is
    its direction, and its saturation its length; ids have a color each.

    Parameters
    ----------
    sample : mapping
    name : str
        'depth', 'distance', 'normals', 'position', 'uv', 'object_coordinates', 'instance_ids', 'category_ids', 'material_ids'
        or 'flow', of which the field `backward` is drawn.

    Returns
    -------
    ndarray, shape (height, width, 3), float64
        From 0 to 1; background black.
    """
    values = _array(sample[name]["backward" if name == "flow" else name])
    if name in IDS:
        return id_colors(values)
    if name == "flow":
        return _flow_colors(values)
    if name == "normals":
        known = np.any(values != 0, axis=-1, keepdims=True)
        return np.where(known, np.clip(values * (0.5, -0.5, -0.5) + 0.5, 0, 1), 0.0)
    if name in {"depth", "distance"}:
        return _shades(values)
    if name == "position":
        return np.stack([_stretched(values[..., axis]) for axis in range(3)], axis=-1)
    if name == "uv":
        values = np.concatenate([values % 1, np.zeros_like(values[..., :1])], axis=-1)
    return np.nan_to_num(np.clip(values.astype(np.float64), 0, 1))


def id_colors(ids: npt.NDArray[Any]) -> Colors:
    """Give each id a color of its own, as far as twenty go, and 0 black.

    Parameters
    ----------
    ids : ndarray of int, shape (...)

    Returns
    -------
    ndarray, shape (..., 3), float64
        From 0 to 1.
    """
    from matplotlib import colormaps

    table = np.array(colormaps["tab20"].colors)  # type: ignore[attr-defined]
    return np.where((ids > 0)[..., None], table[(ids * 2 - 2 + (ids - 1) // 10) % 20], 0.0)


def _background(sample: Sample, labels: Sequence[str]) -> npt.NDArray[Any]:
    """Return what is drawn over: the map among the labels, else the image; refuses labels that cannot be drawn."""
    can = [name for name in sample if name in (*_OVERLAYS, *MAPS)]
    for name in labels:
        if name not in can:
            has = ", ".join(can) or "nothing that can be drawn"
            raise ConfigurationError(f"labels: {name!r} cannot be drawn: the sample has {has}")
    maps = [name for name in labels if name not in _OVERLAYS]
    if len(maps) > 1:
        raise ConfigurationError(f"labels: {maps[0]!r} and {maps[1]!r} would lie on each other: draw them one by one")
    if maps:
        return colored(sample, maps[0])
    if "image" not in sample:
        raise ConfigurationError("the sample has no image to draw over: name a map in `labels`")
    return _array(sample["image"])


def _draw_boxes(axes: "Axes", boxes: Mapping[str, Any], line: str) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    xyxy, valid = _array(boxes["xyxy" if "xyxy" in boxes else "clipped"]), _array(boxes["valid"]).astype(bool)
    rows = np.flatnonzero(valid)
    patches = [Rectangle((x0, y0), x1 - x0, y1 - y0) for x0, y0, x1, y1 in xyxy[rows]]
    edges = id_colors(rows + 1) if len(rows) else "none"
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=edges, linestyle=line, linewidth=1.2))


def _draw_keypoints(axes: "Axes", keypoints: Mapping[str, Any]) -> None:
    from matplotlib.collections import LineCollection

    xy = _array(keypoints["xy"])
    state = _array(keypoints["state"]) if "state" in keypoints else np.full(xy.shape[:-1], _VISIBLE)
    state = np.where(np.isfinite(xy).all(axis=-1), state, 0)
    if "skeleton" in keypoints:
        pairs = _array(keypoints["skeleton"])
        bones = [row[pair] for row, shown in zip(xy, state > 0, strict=True) for pair in pairs if shown[pair].all()]
        axes.add_collection(LineCollection(bones, colors="white", linewidths=0.8))
    for value, face in ((_OCCLUDED, "none"), (_VISIBLE, "yellow")):
        points = xy[state == value]
        edge = "black" if value == _VISIBLE else "yellow"
        axes.scatter(points[:, 0], points[:, 1], s=10, facecolors=face, edgecolors=edge, linewidths=0.6)


def _draw_outlines(axes: "Axes", masks: Mapping[str, Any]) -> None:
    shapes, valid = _array(masks["masks"]).astype(bool), _array(masks["valid"]).astype(bool)
    rows = np.flatnonzero(valid)
    height, width = shapes.shape[1:]
    for row, color in zip(rows, id_colors(rows + 1), strict=True):
        x, y = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5  # a border, so that outlines close at the edges
        axes.contour(x, y, np.pad(shapes[row], 1), levels=[0.5], colors=[color], linewidths=0.8)


def _write_visibility(axes: "Axes", visibility: Mapping[str, Any], ids: npt.NDArray[Any]) -> None:
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=1.5, foreground="black")]  # to be read on light objects too
    fractions = _array(visibility["fraction"])
    for number in np.unique(ids[ids > 0]):
        y, x = np.nonzero(ids == number)
        place = float(np.median(x)) + 0.5, float(np.median(y)) + 0.5
        axes.text(
            *place, f"{fractions[number - 1]:.0%}", color="white", fontsize=6, ha="center", va="center", path_effects=outline
        )


def _flow_colors(flow: npt.NDArray[Any]) -> Colors:
    from matplotlib.colors import hsv_to_rgb

    known = np.isfinite(flow).all(axis=-1)
    x, y = np.nan_to_num(flow[..., 0]), np.nan_to_num(flow[..., 1])
    length = np.hypot(x, y)
    hsv = np.stack([np.arctan2(y, x) / (2 * np.pi) % 1, length / max(float(length.max()), 1e-6), known], axis=-1)
    return np.asarray(hsv_to_rgb(hsv))


def _shades(values: npt.NDArray[Any]) -> Colors:
    from matplotlib import colormaps

    shades: Colors = np.asarray(colormaps["viridis_r"](_stretched(values)))[..., :3]
    return np.where(np.isfinite(values)[..., None], shades, 0.0)


def _stretched(values: npt.NDArray[Any]) -> Colors:
    """Map what is finite to 0 to 1."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape)
    low, high = float(values[known].min()), float(values[known].max())
    return np.where(known, (np.where(known, values, low) - low) / max(high - low, 1e-12), 0.0)


def _figure(width: float, height: float, dpi: int) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi)


def _shape(sample: Sample) -> tuple[int, int]:
    picture = _array(sample["image"]) if "image" in sample else colored(sample, next(name for name in MAPS if name in sample))
    return picture.shape[0], picture.shape[1]


def _array(value: Any) -> npt.NDArray[Any]:
    return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
