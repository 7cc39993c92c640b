"""A report as a picture: what was rendered again, the worst first, and how objects are spread. Drawn by matplotlib."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from blendtorch.btt.auditing.audit import Audit
from blendtorch.btt.auditing.comparing import PictureComparison
from blendtorch.btt.auditing.table import iou, verdict
from blendtorch.core.labels import LabelledObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STORED, _AGAIN, _OFF = "#ff8c1a", "#19d3e6", "#e6194b"  # orange below, cyan above it, red where masks differ
_INK, _QUIET, _GOOD, _BAD = "#202428", "#6b7480", "#1a7f37", "#c62828"
_COLUMNS = 4
_PANEL_INCHES = 3.4  # the width of a picture
_HEAD_INCHES, _HISTOGRAM_INCHES, _CAPTION_INCHES = 0.75, 2.0, 0.55
_MOST_CLASSES = 12


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

    pictures = [each for each in audited.worst if each.stored is not None]
    columns = min(_COLUMNS, max(len(pictures), 3))
    rows = -(-len(pictures) // columns)
    heights = [each.stored.image.shape[0] / each.stored.image.shape[1] for each in pictures if each.stored is not None]
    panel = _PANEL_INCHES * max(heights, default=0.0)
    width = columns * (_PANEL_INCHES + 0.15) + 0.15
    height = _HEAD_INCHES + _HISTOGRAM_INCHES + 0.75 + rows * (panel + _CAPTION_INCHES)
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    _draw_head(figure, audited, 0.15 / width, height)
    _draw_histograms(figure, audited, width, height)
    for place, each in enumerate(pictures):
        row, column = divmod(place, columns)
        left = 0.15 + column * (_PANEL_INCHES + 0.15)
        bottom = height - _HEAD_INCHES - _HISTOGRAM_INCHES - 0.75 - row * (panel + _CAPTION_INCHES) - panel
        axes = figure.add_axes((left / width, bottom / height, _PANEL_INCHES / width, panel / height))
        _draw_picture(axes, each)
    return figure


def _draw_head(figure: "Figure", audited: Audit, left: float, height: float) -> None:
    report = audited.report
    color = _GOOD if report.exit_code == 0 else _BAD
    text = f"{report.statistics.samples} samples, {report.statistics.objects} objects, written as {report.writer}"
    figure.text(left, 1 - 0.3 / height, verdict(report), color=color, fontsize=13, weight="bold", va="center")
    figure.text(left, 1 - 0.58 / height, text, color=_QUIET, fontsize=10, va="center")
    if audited.worst:
        legend = (("stored", _STORED), ("rendered again", _AGAIN), ("pixels of one mask only", _OFF))
        for place, (name, color) in enumerate(legend):
            y = 1 - (0.18 + 0.2 * place) / height
            figure.text(1 - left, y, f"\u25a0 {name}", color=color, fontsize=9, ha="right", va="center")


def _draw_histograms(figure: "Figure", audited: Audit, width: float, height: float) -> None:
    counts = sorted(audited.report.statistics.classes.items(), key=lambda item: -item[1])
    shown = counts[:_MOST_CLASSES]
    title = "objects of each class" + (f" (the first {len(shown)} of {len(counts)})" if len(shown) < len(counts) else "")
    sizes = np.sqrt([each.area for each in audited.objects if each.area > 0])
    seen = np.array([each.visibility for each in audited.objects if np.isfinite(each.visibility)])
    panels: list[tuple[str, str]] = [(title, "objects"), ("size", "square root of pixels"), ("visible part", "")]
    space = (width - 0.15) / len(panels)
    for place, (name, unit) in enumerate(panels):
        left = 0.15 + place * space + 0.45
        bottom = height - _HEAD_INCHES - _HISTOGRAM_INCHES + 0.1
        axes = figure.add_axes((left / width, bottom / height, (space - 0.75) / width, (_HISTOGRAM_INCHES - 0.35) / height))
        axes.set_title(name, fontsize=10, color=_INK, loc="left")
        axes.set_xlabel(unit, fontsize=8, color=_QUIET)
        axes.tick_params(labelsize=8, colors=_QUIET, length=2)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if place == 0:
            _draw_classes(axes, [key for key, _ in shown], [count for _, count in shown])
        elif place == 1 and len(sizes):
            axes.hist(sizes, bins=_bins(sizes), color="#5b7fa6")
        elif place == 2 and len(seen):
            axes.hist(seen, bins=np.linspace(0, 1, 21), color="#5b7fa6")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        else:
            axes.text(0.5, 0.5, "the format does not keep it", ha="center", va="center", color=_QUIET, fontsize=9)
            axes.set_axis_off()


def _draw_classes(axes: "Axes", names: Sequence[str], counts: Sequence[int]) -> None:
    places = np.arange(len(names))
    axes.barh(places, counts, color="#5b7fa6", height=0.7)
    axes.set_yticks(places, [])
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)
    axes.set_xlabel("")
    for place, name, count in zip(places, names, counts, strict=True):
        # Over the bar, not beside the axis: names may be long.
        axes.text(0, place, f" {_short(name)}  {count}", va="center", fontsize=8, color=_INK, clip_on=True)
        axes.patches[place].set_alpha(0.55)


def _draw_picture(axes: "Axes", each: PictureComparison) -> None:
    if each.stored is None:
        return
    image = each.stored.image
    height, width = image.shape[:2]
    extent = (0, width, height, 0)  # pixel coordinates count from the corner
    axes.imshow(image[..., :3], extent=extent, interpolation="nearest")
    off = np.zeros((height, width, 4))
    for pair in each.objects:
        off[_differing(pair.stored, pair.again, (height, width))] = (*_rgb(_OFF), 0.85)
    axes.imshow(off, extent=extent, interpolation="nearest")
    for pair in each.objects:
        for labelled, color, line in ((pair.stored, _STORED, 3.0), (pair.again, _AGAIN, 1.0)):
            if labelled is not None:
                _draw_labels(axes, labelled, color, line)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    color = _BAD if each.problems else _GOOD
    for spine in axes.spines.values():
        spine.set_edgecolor(color)
        spine.set_linewidth(2.0)
    split = f" ({each.stored.split})" if each.stored.split else ""
    values = {"box": each.box_iou, "mask": each.mask_iou}
    numbers = [f"{name} IoU {iou(value)}" for name, value in values.items() if np.isfinite(value)]
    axes.set_title(", ".join([f"{each.name}{split}", *numbers]), fontsize=9, color=color, loc="left", pad=4)
    if each.problems:
        more = f" (+{len(each.problems) - 1})" if len(each.problems) > 1 else ""
        text = _short(each.problems[0], 58) + more
        axes.text(0, -0.02, text, transform=axes.transAxes, fontsize=7.5, color=_BAD, va="top", clip_on=False)


def _draw_labels(axes: "Axes", labelled: LabelledObject, color: str, line: float) -> None:
    from matplotlib.patches import Rectangle

    alpha = 0.45 if labelled.ignored else 1.0
    if np.isfinite(labelled.xyxy).all():
        x0, y0, x1, y1 = labelled.xyxy
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=line, alpha=alpha))
    if labelled.mask is not None and labelled.mask.any():
        height, width = labelled.mask.shape
        x, y = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5  # a border, so that outlines close at the edges
        padded = np.pad(labelled.mask, 1).astype(float)
        axes.contour(x, y, padded, levels=[0.5], colors=[color], linewidths=line * 0.6, alpha=alpha)
    if labelled.keypoints is not None:
        shown = np.isfinite(labelled.keypoints).all(axis=-1)
        if labelled.states is not None:
            shown &= labelled.states > 0
        x, y = labelled.keypoints[shown].T
        axes.scatter(x, y, s=(line * 2.5) ** 2, color=color, linewidths=0)


def _differing(one: LabelledObject | None, two: LabelledObject | None, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    masks = [each.mask for each in (one, two) if each is not None and each.mask is not None and each.mask.shape == shape]
    if not masks:
        return np.zeros(shape, bool)
    difference: npt.NDArray[np.bool_] = masks[0] ^ masks[1] if len(masks) == 2 else masks[0]
    return difference


def _bins(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.linspace(0, float(sizes.max()) * 1.02, 25)


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
