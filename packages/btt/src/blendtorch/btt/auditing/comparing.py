"""Labels beside labels of the same picture: which objects are the same, and what they differ in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blendtorch.btt.auditing.facts import name_of
from blendtorch.core.labels import LabelledObject, LabelledPicture

_SAME = 0.1  # IoU from which on two may be one object, where no id says so
_ROUNDING = 1e-6  # of IoUs
_KEYPOINT_PX, _POSE, _VISIBILITY = 0.05, 1e-3, 0.01  # a runtime repeats labels bit for bit, two of them nearly
_LEVELS = 1  # renderers repeat pictures within one
_OTHER_LEVELS, _FAR, _OTHER_PART = 8.0, 16, 0.05  # noise and denoisers of another device stay far below both together
_ENOUGH = 100  # pixels; in fewer, the edge of an object may be all there is

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectComparison:
    """One object, as it is stored and as it was rendered again.

    Attributes
    ----------
    name : str
        For people.
    stored, again : LabelledObject or None
        None where it is missing.
    box_iou, mask_iou : float
        NaN where the format has none; 0 where one is missing.
    box_px : float
        The farthest that an edge of the box is off.
    keypoints_px : float
        The farthest that a keypoint is off; NaN without.
    pose : float
        The largest difference of an element of the pose, in scene units or of a rotation matrix; NaN without.
    wrong : tuple of str
        In what they do not agree, in words.
    """

    name: str
    stored: LabelledObject | None
    again: LabelledObject | None
    box_iou: float = np.nan
    mask_iou: float = np.nan
    box_px: float = np.nan
    keypoints_px: float = np.nan
    pose: float = np.nan
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureComparison:
    """One picture, as it is stored and as it was rendered again.

    Attributes
    ----------
    index : int
        Of its sample.
    name : str
        For people.
    stored, again : LabelledPicture or None
        None where it is missing.
    objects : tuple of ObjectComparison
    differing : float
        The part of its pixels that differ by more than one level; NaN where they cannot be compared.
    other : str
        By how much it is another picture than was rendered again, in words; empty where it is the same, for all that renderers
        differ in.
    wrong : tuple of str
        What is wrong with the picture itself, in words.
    """

    index: int
    name: str
    stored: LabelledPicture | None
    again: LabelledPicture | None
    objects: tuple[ObjectComparison, ...] = ()
    differing: float = np.nan
    other: str = ""
    wrong: tuple[str, ...] = ()

    @property
    def box_iou(self) -> float:
        """The worst of its objects; NaN for none."""
        return worst(each.box_iou for each in self.objects)

    @property
    def mask_iou(self) -> float:
        """The worst of its objects; NaN for none."""
        return worst(each.mask_iou for each in self.objects)

    @property
    def problems(self) -> list[str]:
        """All that is wrong, in words."""
        return [*self.wrong, *(f"{each.name}: {text}" for each in self.objects for text in each.wrong)]


def worst(values: Iterable[float]) -> float:
    """Find the least of what is known; NaN for nothing."""
    known = [value for value in values if np.isfinite(value)]
    return min(known, default=np.nan)


def compare_pictures(
    index: int,
    stored: Sequence[LabelledPicture],
    again: Sequence[LabelledPicture],
    categories: Mapping[int, str],
    min_iou: float,
    same_pixels: bool = True,
) -> list[PictureComparison]:
    """Compare the pictures of a sample, camera by camera.

    Parameters
    ----------
    index : int
        Of the sample.
    stored, again : sequence of LabelledPicture
    categories : mapping of int to str
        Their names.
    min_iou : float
        Of boxes and masks that agree, 0 to 1.
    same_pixels : bool
        Whether another picture is wrong: the same versions have rendered the same files.
    """
    first, second = ({each.camera: each for each in pictures} for pictures in (stored, again))
    found = []
    for camera in dict.fromkeys([*first, *second]):
        name = f"sample {index}, {camera}" if camera else f"sample {index}"
        here, there = first.get(camera), second.get(camera)
        if here is None or there is None:
            wrong = "there is no picture of it" if here is None else "it was not rendered again"
            found.append(PictureComparison(index=index, name=name, stored=here, again=there, wrong=(wrong,)))
        else:
            found.append(_compare(index, name, here, there, categories, min_iou, same_pixels))
    return found


def another_picture(stored: LabelledPicture, again: LabelledPicture) -> str:
    """Say by how much two pictures of the same shape differ, if they are not the same picture.

    They are not where pixels, in all of it or within the boxes, are more than 8 levels apart in the mean (each in the colour
    that differs most), and more than 5 % of them by more than 16. The boxes are looked at by themselves, as objects may be
    small before a plain background.

    Returns
    -------
    str
        Empty where they are the same, but for what renderers differ in.
    """
    off = (np.maximum(stored.image, again.image) - np.minimum(stored.image, again.image)).max(axis=-1)
    within = np.zeros(off.shape, np.bool_)
    for each in [*stored.objects, *again.objects]:
        if np.isfinite(each.xyxy).all():
            x0, y0, x1, y1 = (max(0, round(float(value))) for value in each.xyxy)
            within[y0:y1, x0:x1] = True
    for pixels, where in ((off.ravel(), "its pixels"), (off[within], "its pixels within boxes")):
        if pixels.size >= _ENOUGH and pixels.mean() > _OTHER_LEVELS and (far := float((pixels > _FAR).mean())) > _OTHER_PART:
            return f"{where} are {pixels.mean():.0f} levels off in the mean, {far:.0%} of them by more than {_FAR}"
    return ""


def iou_of_boxes(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> float:
    """Divide the intersection of two boxes by their union; NaN where neither is known, 0 where one is not.

    Examples
    --------
    >>> iou_of_boxes(np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 15, 10]))
    0.3333333333333333
    """
    known = np.isfinite(one).all(), np.isfinite(two).all()
    if not all(known):
        return 0.0 if any(known) else np.nan
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2])) - shared
    return shared / union if union > 0 else float(np.array_equal(one, two))


def iou_of_masks(one: Mask | None, two: Mask | None) -> float:
    """Divide the intersection of two masks by their union; NaN where neither is known, 0 where one is not."""
    if one is None or two is None:
        return np.nan if one is two else 0.0
    if one.shape != two.shape:
        return 0.0
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 1.0


def written_iou(value: float | None) -> str:
    """Write an IoU for people; never 1 where it is less.

    Examples
    --------
    >>> written_iou(1.0), written_iou(0.99999), written_iou(None)
    ('1', '0.9999', '-')
    """
    return "-" if value is None else "1" if value == 1 else f"{int(value * 10_000) / 10_000:.4f}"


def match(stored: Sequence[LabelledObject], again: Sequence[LabelledObject]) -> list[tuple[int | None, int | None]]:
    """Find which are the same object: by instance id where both have it, else by what overlaps most, best within a class.

    Returns
    -------
    list of tuple
        Places in both lists; None for what has no partner.
    """
    ids = {each.instance_id: place for place, each in enumerate(again) if each.instance_id}
    pairs: list[tuple[int | None, int | None]] = [
        (place, ids[each.instance_id]) for place, each in enumerate(stored) if each.instance_id and each.instance_id in ids
    ]
    left = [place for place in range(len(stored)) if place not in {first for first, _ in pairs}]
    right = [place for place in range(len(again)) if place not in {second for _, second in pairs}]
    overlaps = [
        (stored[first].category_id == again[second].category_id, iou, first, second)
        for first in left
        for second in right
        if not (stored[first].instance_id and again[second].instance_id)
        and (iou := _overlap(stored[first], again[second])) >= _SAME
    ]
    for _, _, first, second in sorted(overlaps, reverse=True):
        if first in left and second in right:
            left.remove(first)
            right.remove(second)
            pairs.append((first, second))
    return [*pairs, *((first, None) for first in left), *((None, second) for second in right)]


def _overlap(one: LabelledObject, two: LabelledObject) -> float:
    boxes = iou_of_boxes(one.xyxy, two.xyxy)
    return boxes if np.isfinite(boxes) else iou_of_masks(one.mask, two.mask)


def _compare(
    index: int,
    name: str,
    stored: LabelledPicture,
    again: LabelledPicture,
    categories: Mapping[int, str],
    min_iou: float,
    same_pixels: bool,
) -> PictureComparison:
    wrong, other, differing = [], "", np.nan
    if stored.image.shape != again.image.shape:
        wrong.append(f"its picture is {stored.image.shape}, and {again.image.shape} rendered again")
    else:
        off = np.maximum(stored.image, again.image) - np.minimum(stored.image, again.image) > _LEVELS
        differing = float(off.any(axis=-1).mean())
        other = another_picture(stored, again)
        if other and same_pixels:
            wrong.append(f"it is another picture than was rendered: {other}")
    if stored.split != again.split:
        wrong.append(f"it is in {stored.split!r}, and belongs into {again.split!r}")
    objects = []
    for first, second in match(stored.objects, again.objects):
        here = None if first is None else stored.objects[first]
        there = None if second is None else again.objects[second]
        objects.append(_compare_objects(here, there, categories, min_iou))
    return PictureComparison(
        index=index,
        name=name,
        stored=stored,
        again=again,
        objects=tuple(objects),
        differing=differing,
        other=other,
        wrong=tuple(wrong),
    )


def _compare_objects(
    stored: LabelledObject | None, again: LabelledObject | None, categories: Mapping[int, str], min_iou: float
) -> ObjectComparison:
    one = stored or again
    if one is None:
        raise ValueError("one of both has to be there")
    name = f"{name_of(one)} ({categories.get(one.category_id, f'category {one.category_id}')})"
    if stored is None or again is None:
        has_box, has_mask = bool(np.isfinite(one.xyxy).all()), one.mask is not None
        return ObjectComparison(
            name=name,
            stored=stored,
            again=again,
            box_iou=0.0 if has_box else np.nan,
            mask_iou=0.0 if has_mask else np.nan,
            wrong=("it was rendered, and has no label" if stored is None else "it has a label, and was not rendered",),
        )
    boxes, masks = iou_of_boxes(stored.xyxy, again.xyxy), iou_of_masks(stored.mask, again.mask)
    box_px = _farthest(stored.xyxy, again.xyxy)
    keypoints_px, pose = np.nan, np.nan
    wrong = []
    if stored.category_id != again.category_id:
        there = categories.get(again.category_id, again.category_id)
        wrong.append(f"its class is {categories.get(stored.category_id, stored.category_id)}, and it was rendered as {there}")
    if boxes < min_iou - _ROUNDING:
        wrong.append(f"box IoU {written_iou(boxes)}, an edge is {box_px:.3g} px off")
    if masks < min_iou - _ROUNDING:
        wrong.append(f"mask IoU {written_iou(masks)}")
    if bool(stored.ignored) != bool(again.ignored):
        wrong.append(f"it is {'ignored' if stored.ignored else 'not ignored'}, and was {again.ignored or 'not'} rendered again")
    if np.isfinite([stored.visibility, again.visibility]).all() and abs(stored.visibility - again.visibility) > _VISIBILITY:
        wrong.append(f"its visibility is {stored.visibility:.3g}, and {again.visibility:.3g} rendered again")
    if stored.keypoints is not None and again.keypoints is not None:
        keypoints_px = _farthest(stored.keypoints, again.keypoints)
        if not keypoints_px <= _KEYPOINT_PX:
            wrong.append(f"a keypoint is {keypoints_px:.3g} px off")
    if stored.states is not None and again.states is not None and not np.array_equal(stored.states, again.states):
        wrong.append(f"its keypoints have v {stored.states.tolist()}, and {again.states.tolist()} rendered again")
    if stored.camera_from_object is not None and again.camera_from_object is not None:
        pose = _farthest(stored.camera_from_object, again.camera_from_object)
        if not pose <= _POSE * max(1.0, float(np.abs(again.camera_from_object[:3, 3]).max())):
            wrong.append(f"its pose is {pose:.3g} off")
    return ObjectComparison(
        name=name,
        stored=stored,
        again=again,
        box_iou=boxes,
        mask_iou=masks,
        box_px=box_px,
        keypoints_px=keypoints_px,
        pose=pose,
        wrong=tuple(wrong),
    )


def _farthest(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> float:
    """Find the largest difference; inf where one is known and the other is not, NaN where nothing is known."""
    if one.shape != two.shape or (np.isfinite(one) != np.isfinite(two)).any():
        return np.inf
    both = np.isfinite(one)
    return float(np.abs(one[both] - two[both]).max()) if both.any() else 0.0
