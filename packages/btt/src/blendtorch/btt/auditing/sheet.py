"""A report as a picture: what was rendered again, the worst first, and how objects are spread. Drawn by matplotlib."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from blendtorch.btt.auditing.audit import Audit
from blendtorch.btt.auditing.comparing import ObjectComparison, PictureComparison, written_iou
from blendtorch.btt.auditing.table import verdict
from blendtorch.core.labels import LabelledObject, LabelledPicture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STORED, _AGAIN, _OFF = "#ff8c1a", "#19d3e6", "#e6194b"  # orange below, cyan above it, red where masks differ
_INK, _QUIET, _BARS, _GOOD, _BAD = "#202428", "#6b7480", "#9db4cf", "#1a7f37", "#c62828"
_COLUMNS = 4
_PANEL, _GAP = 3.4, 0.15  # inches: the width of a picture, what is between two
_HEAD, _HISTOGRAMS, _CAPTION = 0.8, 2.35, 0.55  # inches: heights
_MOST_CLASSES, _MOST_TEXT = 10, 62
_ZOOM = 0.42  # of the width of a picture


def draw_sheet(audited: Audit) -> "Figure":
    """Draw a sheet of an audit.

    Stored labels are orange and wide, those that were rendered again cyan and thin on top of them: where both agree, an orange
    line has a cyan core. Pixels that only one of two masks has are red.

    Parameters
    ----------
    audited : Audit

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    pictures = [(each, each.stored) for each in audited.worst if each.stored is not None]
    columns = min(_COLUMNS, max(len(pictures), 3))
    panel = _PANEL * max((stored.image.shape[0] / stored.image.shape[1] for _, stored in pictures), default=0.0)
    width = columns * (_PANEL + _GAP) + _GAP
    height = _HEAD + _HISTOGRAMS + -(-len(pictures) // columns) * (panel + _CAPTION) - _GAP
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")

    def axes_at(left: float, top: float, wide: float, high: float) -> "Axes":
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    _draw_head(figure, audited, width, height)
    space = (width - _GAP) / 3
    for place, draw in enumerate((_draw_classes, _draw_sizes, _draw_visibility)):
        draw(_plain(axes_at(_GAP + place * space + 0.3, _HEAD + 0.25, space - 0.6, _HISTOGRAMS - 1.0)), audited)
    for place, (each, stored) in enumerate(pictures):
        row, column = divmod(place, columns)
        top = _HEAD + _HISTOGRAMS + row * (panel + _CAPTION)
        _draw_panel(axes_at(_GAP + column * (_PANEL + _GAP), top, _PANEL, panel), each, stored)
    return figure


def _draw_head(figure: "Figure", audited: Audit, width: float, height: float) -> None:
    report, left = audited.report, _GAP / width
    color = _GOOD if report.exit_code == 0 else _BAD
    first, *others = verdict(report)
    text = f"{report.statistics.samples} samples, {report.statistics.objects} objects, written as {report.writer}"
    figure.text(left, 1 - 0.28 / height, first, color=color, fontsize=13, weight="bold", va="center")
    figure.text(left, 1 - 0.56 / height, "  ".join([*others, text]), color=_QUIET, fontsize=10, va="center")
    legend = (("stored", _STORED), ("rendered again", _AGAIN), ("pixels of one mask only", _OFF))
    for place, (name, color) in enumerate(legend if audited.worst else ()):
        y = 1 - (0.2 + 0.2 * place) / height
        figure.text(1 - left, y, f"\u25a0 {name}", color=color, fontsize=9, ha="right", va="center")


def _plain(axes: "Axes") -> "Axes":
    axes.tick_params(labelsize=8, colors=_QUIET, length=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_QUIET)
    return axes


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, fontsize=10, color=_INK, loc="left")


def _draw_classes(axes: "Axes", audited: Audit) -> None:
    counts = sorted(audited.report.statistics.classes.items(), key=lambda item: -item[1])
    shown = counts[:_MOST_CLASSES]
    _title(axes, "objects of each class" + (f": the first {len(shown)} of {len(counts)}" if len(shown) < len(counts) else ""))
    axes.barh(range(len(shown)), [count for _, count in shown], color=_BARS, height=0.75)
    axes.set_yticks([])
    axes.set_ylim(max(len(shown), 4) - 0.5, -0.5)
    for place, (name, count) in enumerate(shown):  # over the bar: names may be long
        axes.text(0, place, f" {_short(name, 24)}  {count}", va="center", fontsize=8, color=_INK)


def _draw_sizes(axes: "Axes", audited: Audit) -> None:
    _title(axes, "size of objects: square root of their pixels")
    sizes = np.sqrt([each.area for each in audited.objects if each.area > 0])
    if len(sizes):
        axes.hist(sizes, bins=np.linspace(0, float(sizes.max()) * 1.02, 25).tolist(), color=_BARS)
    else:
        _say_nothing(axes)


def _draw_visibility(axes: "Axes", audited: Audit) -> None:
    _title(axes, "how much of an object is seen")
    seen = np.array([each.visibility for each in audited.objects if np.isfinite(each.visibility)])
    if len(seen):
        axes.hist(seen, bins=np.linspace(0, 1, 21).tolist(), color=_BARS)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    else:
        _say_nothing(axes)


def _say_nothing(axes: "Axes") -> None:
    axes.text(0.5, 0.5, "not known", ha="center", va="center", color=_QUIET, fontsize=9, transform=axes.transAxes)
    axes.set_axis_off()


def _draw_panel(axes: "Axes", each: PictureComparison, stored: LabelledPicture) -> None:
    color = _BAD if each.problems else _GOOD
    _draw_picture(axes, each, stored, color)
    split = f" ({stored.split})" if stored.split else ""
    values = {"box": each.box_iou, "mask": each.mask_iou}
    numbers = [f"{name} IoU {written_iou(value)}" for name, value in values.items() if np.isfinite(value)]
    axes.set_title(", ".join([f"{each.name}{split}", *numbers]), fontsize=9, color=color, loc="left", pad=4)
    if each.problems:
        more = f" (+{len(each.problems) - 1})" if len(each.problems) > 1 else ""
        text = _short(each.problems[0], _MOST_TEXT - len(more)) + more
        axes.text(0, -0.02, text, transform=axes.transAxes, fontsize=7.5, color=_BAD, va="top")
    bad = [pair for pair in each.objects if pair.wrong]
    if bad:
        _draw_enlarged(axes, each, stored, min(bad, key=lambda pair: np.nan_to_num([pair.box_iou, pair.mask_iou], nan=1).min()))


def _draw_enlarged(axes: "Axes", each: PictureComparison, stored: LabelledPicture, worst: ObjectComparison) -> None:
    """Show the worst object larger, in the corner that is farthest from it: errors of a pixel are not seen otherwise."""
    boxes = [pair.xyxy for pair in (worst.stored, worst.again) if pair is not None and np.isfinite(pair.xyxy).all()]
    if not boxes:
        return
    height, width = stored.image.shape[:2]
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    half = max(*(high - low) * 0.65, 6.0)
    if half > _ZOOM * min(width, height) / 2:  # it is large already
        return
    center = np.clip((low + high) / 2, half, np.array([width, height]) - half)
    wide, high_part = _ZOOM, _ZOOM * width / height
    corner = (0.0 if center[0] > width / 2 else 1 - wide, 0.0 if center[1] < height / 2 else 1 - high_part)
    inset = axes.inset_axes((*corner, wide, high_part))
    _draw_picture(inset, each, stored, _BAD, line=1.6)
    inset.set_facecolor("#e8eaed")  # beyond the picture
    inset.set_xlim(center[0] - half, center[0] + half)
    inset.set_ylim(center[1] + half, center[1] - half)
    axes.indicate_inset_zoom(inset, edgecolor=_BAD, alpha=0.6)


def _draw_picture(axes: "Axes", each: PictureComparison, stored: LabelledPicture, color: str, line: float = 2.6) -> None:
    height, width = stored.image.shape[:2]
    extent = (0, width, height, 0)  # pixel coordinates count from the corner
    axes.imshow(stored.image[..., :3], extent=extent, interpolation="nearest")
    off = np.zeros((height, width, 4))
    for pair in each.objects:
        off[_differing(pair.stored, pair.again, (height, width))] = (*_rgb(_OFF), 0.6)
    axes.imshow(off, extent=extent, interpolation="nearest")
    for pair in each.objects:
        for labelled, own, wide in ((pair.stored, _STORED, line), (pair.again, _AGAIN, line / 3)):
            if labelled is not None:
                _draw_labels(axes, labelled, own, wide)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor(color)
        spine.set_linewidth(1.6)


def _draw_labels(axes: "Axes", labelled: LabelledObject, color: str, line: float) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    alpha = 0.45 if labelled.ignored else 1.0
    if np.isfinite(labelled.xyxy).all():
        x0, y0, x1, y1 = labelled.xyxy
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=line, alpha=alpha))
    if labelled.mask is not None:
        axes.add_collection(LineCollection(list(_outline(labelled.mask)), colors=color, linewidths=line * 0.6, alpha=alpha))
    if labelled.keypoints is not None:
        shown = np.isfinite(labelled.keypoints).all(axis=-1)
        if labelled.states is not None:
            shown &= labelled.states > 0
        x, y = labelled.keypoints[shown].T
        axes.scatter(x, y, s=(line * 1.6) ** 2, color=color, linewidths=0, alpha=alpha, zorder=3)


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """List the edges between pixels where a mask ends, shape (N, 2, 2): they are where its pixels end, and not rounded."""
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = np.stack([np.stack([x, y], axis=-1), np.stack([x, y + 1], axis=-1)], axis=1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = np.stack([np.stack([x, y], axis=-1), np.stack([x + 1, y], axis=-1)], axis=1)
    edges: npt.NDArray[np.float64] = np.concatenate([upright, level]).astype(np.float64)
    return edges


def _differing(one: LabelledObject | None, two: LabelledObject | None, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    masks = [each.mask for each in (one, two) if each is not None and each.mask is not None and each.mask.shape == shape]
    if not masks:
        return np.zeros(shape, bool)
    difference: npt.NDArray[np.bool_] = masks[0] ^ masks[1] if len(masks) == 2 else masks[0]
    return difference


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
