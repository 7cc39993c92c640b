"""The names of files in a folder of the writer `coco`."""

import re
from collections.abc import Iterator
from pathlib import Path

from blendtorch.core.atomic import remove_drafts

IMAGES, ANNOTATIONS, SAMPLES = "images", "annotations", ".samples"
_PICTURE = re.compile(r"([0-9]{6,})(_[A-Za-z0-9._-]+)?\.png")
_PARTS = re.compile(r"instances_[A-Za-z0-9_-]+\.json")
_DRAFTS = {  # of which files, by their folders
    IMAGES: _PICTURE,
    ANNOTATIONS: re.compile(rf"{_PARTS.pattern}(\.images)?"),
    SAMPLES: re.compile(r"[0-9]{6,}\.json"),
}
_NEAR = 1000  # workers are so far ahead of each other at most


def instances(folder: Path, part: str) -> Path:
    """Name the file with the labels of a part of the data set."""
    return folder / ANNOTATIONS / f"instances_{part}.json"


def part_of(path: Path) -> str:
    """Read which part of the data set a file has the labels of."""
    return path.stem.removeprefix("instances_")


def all_instances(folder: Path) -> list[Path]:
    """List the files with labels."""
    return [path for path in sorted((folder / ANNOTATIONS).iterdir()) if _PARTS.fullmatch(path.name)]


def tidy(folder: Path, *, all_of_it: bool = False) -> None:
    """Remove what killed processes left half-written; all of it, if nobody is writing."""
    for name, kind in _DRAFTS.items():
        remove_drafts(folder / name, kind, all_of_them=all_of_it)


def pictures(folder: Path, indexes: frozenset[int]) -> Iterator[Path]:
    """List the pictures of samples, and those of a killed process that did not finish its sample.

    Other people's pictures may be called alike, by a date for example: one without its sample is ours where its number is
    hardly above those of samples.
    """
    most = max(indexes, default=-_NEAR) + _NEAR
    for path in (folder / IMAGES).iterdir():
        match = _PICTURE.fullmatch(path.name)
        if match and match[1] == f"{(number := int(match[1])):06}" and (number in indexes or number < most):
            yield path
