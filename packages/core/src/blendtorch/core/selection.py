"""Which objects of a sample a data set lists, which of them are to be ignored, and why the others are left out."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Options
from blendtorch.core.labels import LabelledObject, LabelledPicture

# Why an object is ignored or left out; said to the user, and kept in what writers store.
UNSEEN = "not seen in the picture"
HIDDEN = "less visible than min_visibility"
SMALL = "fewer pixels than min_pixels"
INEXACT = "flagged by its annotator: the renderer shows it otherwise"
_SHOWN = ("poses", "boxes3d", "keypoints")  # whose `valid` says whether the scene shows an object, in the picture or not

_PART = re.compile(r"[_-]*[A-Za-z0-9][A-Za-z0-9_-]*")  # names of parts, which name files and folders
BOXES = frozenset({"boxes2d_tight", "boxes2d_loose"})  # annotators, of which one is needed to list objects


class LabelOptions(Options, frozen=True, kw_only=True):
    """What the options of writers of labels have in common.

    Attributes
    ----------
    split : dict of str to float
        The parts of the data set, by name, and how many of the episodes go to each: `{"train": 0.9, "val": 0.1}`. All samples
        of an episode are in one part.
    min_visibility : float
        Objects of which less is visible, 0 to 1, are ignored, or left out where the format cannot say so.
    min_pixels : int
        The same, for objects that fewer pixels show.
    inexact : {'ignore', 'refuse'}
        What becomes of objects whose labels their annotator flags as not exact: they are transparent, have hair, ...
    loose : bool
        Take the boxes of `boxes2d_loose` where there are no tight ones, and do without masks.
    """

    split: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=lambda: {"train": 1.0})
    min_visibility: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    min_pixels: Annotated[int, msgspec.Meta(ge=0)] = 1
    inexact: Literal["ignore", "refuse"] = "ignore"
    loose: bool = False

    def __post_init__(self) -> None:
        """Refuse a split into nothing."""
        if not sum(self.split.values()) > 0:
            raise ValueError("split has no part that is larger than 0: write train=0.9,val=0.1")
        for name in self.split:
            check_part(name)


def check_part(name: str) -> str:
    """Return the name of a part of a data set, if it can be that of a file.

    What is read may say anything: writers call it on names of their documents, too.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_part("train_pbr")
    'train_pbr'
    >>> check_part("../train")
    Traceback (most recent call last):
        ...
    ValueError: split: '../train' names files: use letters, digits, _ and -
    """
    if not _PART.fullmatch(name):
        raise ValueError(f"split: {name[:80]!r} names files: use letters, digits, _ and -")
    return name


def split_of(meta: Mapping[str, Any], split: Mapping[str, float]) -> str:
    """Choose the part of a data set that a sample belongs to, by a hash of its seed and its episode.

    Parameters
    ----------
    meta : mapping
        Of the sample.
    split : mapping of str to float
        The parts and their sizes, in any unit.

    Returns
    -------
    str
        The same for all samples of an episode, whatever else is made, and in whatever order.

    Examples
    --------
    >>> parts = [split_of({"seed": 0, "episode": number}, {"train": 0.9, "val": 0.1}) for number in range(1000)]
    >>> parts.count("val")
    116
    """
    digest = hashlib.sha256(f"{meta['seed']}/{meta['episode']}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64 * sum(split.values())
    names = [name for name, size in split.items() if size > 0]
    for name in names:
        place -= split[name]
        if place < 0:
            return name
    return names[-1]  # rounding


def require_labels(names: Collection[str], options: LabelOptions, masks: bool, others: Iterable[str] = ()) -> None:
    """Refuse samples that lack what a format needs: for a writer's `check`.

    Parameters
    ----------
    names : collection of str
        Of the arrays of a sample: `image`, `boxes2d_tight.xyxy`.
    options : LabelOptions
    masks : bool
        Whether the format has masks.
    others : iterable of str
        More annotators that it cannot do without.

    Raises
    ------
    ConfigurationError
        Says which annotators are missing.
    """
    there = {name.partition(".")[0] for name in names}
    if "image" not in there:
        raise ConfigurationError("the samples have no image: choose a renderer that makes pictures")
    needed = ["boxes2d_tight", *(["instance_ids"] if masks else []), *(["visibility"] if options.min_visibility else [])]
    missing = [name for name in needed if name not in there]
    if options.loose:
        missing = [] if there & {"boxes2d_tight", "boxes2d_loose"} else ["boxes2d_loose"]
    missing += [name for name in others if name not in there]
    if missing:
        way_out = (
            ""
            if options.loose
            else (
                "; or take boxes around projected geometry, without masks, with --loose"
                if "boxes2d_loose" in there
                else "; or add boxes2d_loose, and say --loose: boxes around projected geometry, without masks"
            )
        )
        raise ConfigurationError(
            f"the samples have no {', '.join(missing)}, which it needs: add {'it' if len(missing) == 1 else 'them'} to the "
            f"annotators of the configuration (blendtorch-gbuffer has boxes2d_tight, instance_ids, visibility){way_out}"
        )


def labelled_pictures(sample: Mapping[str, Any], options: LabelOptions) -> list[LabelledPicture]:
    """List the objects of each picture of a sample.

    Parameters
    ----------
    sample : mapping
        As a dataset yields it; arrays of numpy, or what `numpy.asarray` takes.
    options : LabelOptions

    Returns
    -------
    list of LabelledPicture
        One for each camera. Boxes are those of the masks where there are masks; objects that no pixel shows are left out.

    Raises
    ------
    ConfigurationError
        If there are no boxes, or labels are flagged as not exact and `inexact` is 'refuse'.
    """
    return [_picture(camera, view, sample["objects"], options) for camera, view in views(sample).items()]


def pictures_of(sample: Mapping[str, Any], options: LabelOptions) -> list[LabelledPicture]:
    """List the objects of each picture of a sample, as `labelled_pictures` does; pictures of cameras without boxes have none.

    Parameters
    ----------
    sample : mapping
    options : LabelOptions

    Returns
    -------
    list of LabelledPicture
        One for each camera that has a picture.

    Raises
    ------
    ConfigurationError
        If labels are flagged as not exact and `inexact` is 'refuse'; or there are loose boxes only, and `loose` is not said.
    """
    listed = []
    for camera, view in views(sample).items():
        if BOXES & set(view):
            listed.append(_picture(camera, view, sample["objects"], options))
        elif getattr(view.get("image"), "ndim", 0) >= 2:
            listed.append(LabelledPicture(camera=camera, image=np.asarray(view["image"]), K=_matrix(view)))
    return listed


def views(sample: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Take a sample apart by cameras, by their names; the first has an empty one.

    Examples
    --------
    >>> left = {"image": 1, "camera": {"K": 2}}
    >>> list(views({"image": 3, "left": left, "cycles": {"image": 4}, "camera": {"K": 5}}))
    ['', 'left']
    """
    others = {
        name: value
        for name, value in sample.items()
        # A second renderer has a picture too, and no labels.
        if isinstance(value, Mapping) and "image" in value and any(isinstance(each, Mapping) for each in value.values())
    }
    return {"": sample, **others}


def array_names(sample: Mapping[str, Any]) -> list[str]:
    """Name the arrays of a sample, for a writer's `check`.

    Examples
    --------
    >>> array_names({"image": np.zeros(3), "depth": {"depth": np.ones(2)}, "meta": {"index": 3}})
    ['image', 'depth.depth']
    """
    return [
        name if isinstance(value, np.ndarray) or hasattr(value, "__array__") else f"{name}.{field}"
        for name, value in sample.items()
        if name not in ("objects", "meta")
        for field in (array_names(value) if isinstance(value, Mapping) else [""])
    ]


def tell(counts: Mapping[str, int], what: str) -> str:
    """Write a sentence of counts by reason.

    Examples
    --------
    >>> tell({HIDDEN: 2, SMALL: 1}, "objects are ignored")
    '3 objects are ignored: 2 less visible than min_visibility, 1 fewer pixels than min_pixels'
    """
    return f"{sum(counts.values())} {what}: " + ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _picture(camera: str, view: Mapping[str, Any], rows: Mapping[str, Any], options: LabelOptions) -> LabelledPicture:
    boxes, valid = _boxes(view, options)
    ids = np.asarray(view["instance_ids"]["instance_ids"]) if "instance_ids" in view else None
    fields = view.get("visibility", {})
    flagging = ("boxes2d_tight", "instance_ids", "visibility")
    exact = next((np.asarray(view[name]["exact"]) for name in flagging if name in view), None)
    truncated = next(
        (np.asarray(view[name]["truncated"]) for name in ("visibility", "boxes2d_amodal", "boxes2d_loose") if name in view),
        np.zeros(len(boxes), bool),
    )
    # Copies of a model that this sample does not have are neither listed nor counted, where a label tells.
    shown = next((np.asarray(view[name]["valid"]) for name in _SHOWN if name in view), np.ones(len(boxes), bool))
    listed, left_out = [], Counter[str]()
    for row, (instance, category) in enumerate(
        zip(np.asarray(rows["instance_id"]).tolist(), np.asarray(rows["category_id"]).tolist(), strict=True)
    ):
        mask = _mask(ids, instance, boxes[row]) if ids is not None and valid[row] else None
        if not valid[row] or (mask is not None and not mask.any()):
            left_out[UNSEEN] += bool(shown[row])
            continue
        visibility = float(np.asarray(fields["fraction"])[row]) if fields else np.nan
        ignored = ""
        if exact is not None and not exact[row]:
            if options.inexact == "refuse":
                raise ConfigurationError(f"object {instance} is {INEXACT}. Set inexact to ignore to list it as ignored")
            ignored = INEXACT
        elif visibility < options.min_visibility:
            ignored = HIDDEN
        elif (_area(boxes[row]) if mask is None else np.count_nonzero(mask)) < options.min_pixels:
            ignored = SMALL
        listed.append(
            LabelledObject(
                category_id=category,
                instance_id=instance,
                xyxy=boxes[row].copy(),
                mask=mask,
                visibility=visibility,
                truncated=bool(truncated[row]),
                ignored=ignored,
                keypoints=_row(view, "keypoints", "xy", row),
                states=_row(view, "keypoints", "state", row),
                camera_from_object=_row(view, "poses", "camera_from_object", row),
            )
        )
    return LabelledPicture(
        camera=camera, image=np.asarray(view["image"]), objects=tuple(listed), left_out=dict(+left_out), K=_matrix(view)
    )


def _matrix(view: Mapping[str, Any]) -> npt.NDArray[np.float64] | None:
    return np.asarray(view["camera"]["K"]) if "camera" in view else None


def _boxes(view: Mapping[str, Any], options: LabelOptions) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    if "boxes2d_tight" in view:
        fields, name = view["boxes2d_tight"], "xyxy"
    elif options.loose and "boxes2d_loose" in view:
        fields, name = view["boxes2d_loose"], "clipped"
    else:
        raise ConfigurationError(f"the sample has no boxes2d_{'loose' if options.loose else 'tight'}; it has {', '.join(view)}")
    return np.asarray(fields[name]), np.asarray(fields["valid"])


def _mask(ids: npt.NDArray[Any], instance: int, box: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Look for the pixels of an object within its box only: comparing whole pictures for each object is slow."""
    mask = np.zeros(ids.shape, bool)
    left, top = np.maximum(np.floor(box[:2]), 0).astype(int)
    right, bottom = np.ceil(box[2:]).astype(int)
    mask[top:bottom, left:right] = ids[top:bottom, left:right] == instance
    return mask


def _area(box: npt.NDArray[np.float64]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _row(view: Mapping[str, Any], annotator: str, field: str, row: int) -> Any:
    fields = view.get(annotator)
    return None if fields is None else np.array(np.asarray(fields[field])[row])
