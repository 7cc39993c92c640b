"""What is kept of each sample beside its files, and `data.yaml`, which is made of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import ConfigurationError, DecodeError
from blendtorch.core.selection import check_part, tell
from blendtorch.core.staging import Stage

from blendtorch_yolo import layout
from blendtorch_yolo.rows import MOST_CLASSES

_HEAD = "# Written by blendtorch. Where the folder is moved, mend `path`, or remove it: the place of this file counts then.\n"


class Document(msgspec.Struct, kw_only=True):
    """What is kept of a sample.

    Attributes
    ----------
    part : str
        Of the data set: `train`.
    cameras : list of str
        Their names; the first is empty.
    categories : list of int
        Of the objects that its labels list.
    dropped, left_out : dict of str to int
        How many objects, by the reason.
    keypoints : list of str
        Their names; None where the task needs none.
    flip : list of int
        In a mirrored picture, keypoint k is what was `flip[k]`; None where nobody said so.
    """

    part: str
    cameras: list[str]
    categories: list[int]
    dropped: dict[str, int]
    left_out: dict[str, int]
    keypoints: list[str] | None = None
    flip: list[int] | None = None

    def __post_init__(self) -> None:
        """Refuse a part that is elsewhere."""
        check_part(self.part)


def read_document(content: bytes, index: int) -> Document:
    """Read what is kept of a sample.

    Raises
    ------
    DecodeError
    """
    try:
        return msgspec.json.decode(content, type=Document)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the document of sample {index} cannot be read: {error}") from None


def gather(stage: Stage, folder: Path, parts: Iterable[str], names: Mapping[int, str]) -> list[str]:
    """Write `data.yaml`; returns what the user should know.

    Parameters
    ----------
    stage : Stage
        The documents.
    folder : Path
        Of the data set.
    parts : iterable of str
    names : mapping of int to str
        Of the categories, by their ids.

    Raises
    ------
    ConfigurationError
        If samples have different keypoints, or there are too many classes.
    """
    dropped, left_out, pictures, seen = Counter[str](), Counter[str](), Counter[str](), set[int]()
    keypoints: tuple[list[str] | None, list[int] | None] | None = None
    for index in stage:
        document = read_document(stage.get(index), index)
        own = (document.keypoints, document.flip)
        if (keypoints := keypoints or own) != own:
            raise ConfigurationError(
                f"sample {index} has the keypoints {own[0]}, and those before it {keypoints[0]}: YOLO has one list for all. "
                "Write samples with others into another folder"
            )
        pictures[document.part] += len(document.cameras)
        dropped.update(document.dropped)
        left_out.update(document.left_out)
        seen.update(document.categories)
    notes = [
        f"{part} has no pictures: all episodes went to other parts. Make more of them, or choose another --split"
        for part in parts
        if pictures and not pictures[part]
    ]
    places = {part: f"{layout.IMAGES}/{part}" for part in dict.fromkeys([*parts, *pictures])}
    for part in ("train", "val"):
        if part not in places:
            instead = next(iter(places))
            notes.append(f"there is no part {part}, which readers want: {layout.DATA} names {instead} for it")
            places[part] = places[instead]
    classes = _classes(names, seen, notes)
    points = _keypoints(classes, *(keypoints or (None, None)), notes)
    described = _yaml({"path": str(folder.resolve()), **places, "names": classes, **points})
    write_atomically(folder / layout.DATA, (_HEAD + described).encode())
    return [
        *notes,
        *([tell(dropped, "objects are dropped, and are in the pictures")] if dropped else []),
        *([tell(left_out, "objects are left out")] if left_out else []),
    ]


def _classes(names: Mapping[int, str], seen: set[int], notes: list[str]) -> dict[int, str]:
    """Name the classes, from 0 on: those of categories, and of numbers between them that are none."""
    highest = max([0, *names, *seen])
    if highest > MOST_CLASSES:
        raise ConfigurationError(f"there is a category {highest}, and so many classes: use category ids up to {MOST_CLASSES}")
    if unnamed := [number - 1 for number in range(1, highest + 1) if number not in names]:
        listed = ", ".join(map(str, unnamed[:10])) + (" ..." if len(unnamed) > 10 else "")
        notes.append(f"no category has the ids of the classes {listed} (less 1): they are there, and stay empty")
    return {number - 1: names.get(number, f"category_{number}") for number in range(1, highest + 1)}


def _keypoints(classes: Mapping[int, str], names: list[str] | None, flip: list[int] | None, notes: list[str]) -> dict[str, Any]:
    if names is None:
        return {}
    if flip is None:
        notes.append(
            "data.yaml has no flip_idx, so ultralytics mirrors no pictures: give keypoints the option flip_pairs, if it may"
        )
    flips = {} if flip is None else {"flip_idx": flip}
    return {"kpt_shape": [len(names), 3], **flips, "kpt_names": {each: list(names) for each in classes}}


def _yaml(content: Any) -> str:
    import yaml  # here: a Blender that is lent the plug-ins has none

    text: str = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120)
    return text
