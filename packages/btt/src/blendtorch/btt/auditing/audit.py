"""The audit: all samples are looked at, some rendered again, and a report is made of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from blendtorch.btt.auditing.comparing import ObjectComparison, PictureComparison, compare_pictures, worst
from blendtorch.btt.auditing.data import DataSet
from blendtorch.btt.auditing.facts import ObjectFacts
from blendtorch.btt.auditing.rendering import Renderer, as_rendered, as_stored, choose
from blendtorch.btt.auditing.statistics import Statistics, statistics

SHOWN = 12  # pictures on the sheet
_FORMAT_PX = 0.25  # a format that moves boxes farther loses more than digits


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one picture that was rendered again.

    Attributes
    ----------
    picture : str
        For people: `sample 12`, and the camera where there are several.
    index : int
    objects : int
    box_iou, mask_iou : float or None
        The worst; None where there is none.
    differing : float or None
        The part of its pixels that differ by more than one level.
    other : str
        By how much it is another picture, in words; a problem only where the same versions have rendered the same files.
    problems : list of str
        In what it and its labels do not agree, in words.
    """

    picture: str
    index: int
    objects: int
    box_iou: float | None
    mask_iou: float | None
    differing: float | None
    other: str
    problems: list[str]

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Sort the worst first."""
        known = [each for each in (self.box_iou, self.mask_iou) if each is not None]
        return not self.problems, min(known, default=1.0), self.index


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints.

    Attributes
    ----------
    folder, writer : str
    statistics : Statistics
    changed : list of str
        Files and versions that are not those that made the samples.
    chosen : list of int
        Samples that were rendered again.
    compared : list of Compared
        Their pictures, the worst first.
    box_iou, mask_iou : float or None
        The worst of all.
    format_box_iou, format_mask_iou : float or None
        The worst that the format itself makes of labels that were rendered.
    format_box_px : float or None
        The farthest that it moves the edge of a box.
    agree : bool
        What was rendered again has the labels that are stored, and shows the same.
    exit_code : int
        1 where they do not, or something else cannot be right.
    """

    folder: str
    writer: str
    statistics: Statistics
    changed: list[str]
    chosen: list[int]
    compared: list[Compared]
    box_iou: float | None
    mask_iou: float | None
    format_box_iou: float | None
    format_mask_iou: float | None
    format_box_px: float | None
    agree: bool
    exit_code: int

    @property
    def moves_boxes(self) -> bool:
        """Whether the format has other boxes than those that were rendered, by more than its digits."""
        return self.format_box_px is not None and self.format_box_px > _FORMAT_PX


class Audit:
    """What is known in the end: the report, and what its pictures are drawn of.

    Attributes
    ----------
    report : Report
    worst : list of PictureComparison
        `SHOWN` of them at most, the worst first.
    objects : list of ObjectFacts
        All of the data set.
    """

    def __init__(self, report: Report, worst_pictures: list[PictureComparison], objects: list[ObjectFacts]) -> None:
        self.report, self.worst, self.objects = report, worst_pictures, objects


def audit(
    data: DataSet,
    render: Renderer,
    samples: int = 8,
    seed: int = 0,
    min_iou: float = 1.0,
    workers: int = 0,
    watch: Callable[[Iterable[Any], str, int], Iterator[Any]] = lambda each, what, total: iter(each),  # noqa: ARG005
) -> Audit:
    """Look at a data set.

    Parameters
    ----------
    data : DataSet
    render : callable
        Gives the samples of indexes anew: `RenderAgain`.
    samples : int
        How many are rendered again.
    seed : int
        Which ones.
    min_iou : float
        Of boxes and masks that agree, 0 to 1.
    workers : int
        Processes that read.
    watch : callable
        Given what is gone through, what it is, and how many there are of it; to show how far it is.

    Raises
    ------
    BlendtorchError
        If the samples cannot be rendered again.
    """
    indexes = data.indexes
    looked = list(watch(data.look_at_all(indexes, workers), "reading", len(indexes)))
    readable = [each.index for each in looked if not each.error]
    chosen = choose(readable, samples, seed)
    comparison = _Comparison(data, min_iou)
    if chosen:
        for sample in watch(render(data, chosen), "rendering again", len(chosen)):
            comparison.add(sample, same_pixels=not data.changed_files and not getattr(render, "differing", ()))
        comparison.add_missing(chosen)
    counted = statistics(looked, data.categories, data.frames_per_episode)
    agree = not any(each.problems for each in comparison.compared)
    report = Report(
        folder=str(data.folder.path),
        writer=str(data.versions[-1].writer["name"]),
        statistics=counted,
        changed=[*data.changed_files, *getattr(render, "differing", ())],
        chosen=chosen,
        compared=comparison.compared,
        box_iou=min((each.box_iou for each in comparison.compared if each.box_iou is not None), default=None),
        mask_iou=min((each.mask_iou for each in comparison.compared if each.mask_iou is not None), default=None),
        format_box_iou=known(worst(iou for iou, _, _ in comparison.of_format)),
        format_mask_iou=known(worst(iou for _, iou, _ in comparison.of_format)),
        format_box_px=max((px for _, _, px in comparison.of_format if np.isfinite(px)), default=None),
        agree=agree,
        exit_code=0 if agree and not any(each.wrong for each in counted.findings) else 1,
    )
    objects = [each for sample in looked for picture in sample.pictures for each in picture.objects]
    return Audit(report, comparison.shown, objects)


class _Comparison:
    """Collects what samples that come again differ in; keeps the pictures of the worst only."""

    def __init__(self, data: DataSet, min_iou: float) -> None:
        self._data, self._min_iou = data, min_iou
        self.compared: list[Compared] = []
        self.shown: list[PictureComparison] = []
        self.of_format: list[tuple[float, float, float]] = []  # IoUs of a box and its mask, and how far the box is off

    def add(self, sample: Any, same_pixels: bool) -> None:
        index = int(sample["meta"]["index"])
        stored, categories = self._data.read(index), self._data.categories
        again = as_stored(self._data, sample)
        self._note(compare_pictures(index, stored, again, categories, self._min_iou, same_pixels))
        for each in compare_pictures(index, again, as_rendered(self._data, sample), categories, self._min_iou):
            self.of_format += [_loss(pair) for pair in each.objects if pair.stored is not None and pair.again is not None]

    def add_missing(self, chosen: Sequence[int]) -> None:
        """Count what did not come as wrong."""
        for index in set(chosen) - {each.index for each in self.compared}:
            self._note(compare_pictures(index, self._data.read(index), (), self._data.categories, self._min_iou))

    def _note(self, found: Sequence[PictureComparison]) -> None:
        self.compared = sorted([*self.compared, *map(_compared, found)], key=lambda each: each.rank)
        self.shown = sorted([*self.shown, *found], key=lambda each: _compared(each).rank)[:SHOWN]


def _loss(pair: ObjectComparison) -> tuple[float, float, float]:
    """Say what a format has made of an object; NaN for what it does not keep at all."""
    kept = pair.stored
    if kept is None:
        return np.nan, np.nan, np.nan
    boxes = (pair.box_iou, pair.box_px) if np.isfinite(kept.xyxy).all() else (np.nan, np.nan)
    return boxes[0], pair.mask_iou if kept.mask is not None else np.nan, boxes[1]


def _compared(each: PictureComparison) -> Compared:
    return Compared(
        picture=each.name,
        index=each.index,
        objects=len(each.objects),
        box_iou=known(each.box_iou),
        mask_iou=known(each.mask_iou),
        differing=known(each.differing),
        other=each.other,
        problems=each.problems,
    )


def known(value: float) -> float | None:
    """Write what nobody knows as None, as JSON does."""
    return float(value) if np.isfinite(value) else None
