"""The names of files in a folder of the writer `yolo`."""

import re
from collections.abc import Iterator
from pathlib import Path

from blendtorch.core.atomic import remove_drafts

IMAGES, LABELS, SAMPLES, DATA = "images", "labels", ".samples", "data.yaml"
_FILE = re.compile(r"([0-9]{6,})(_[A-Za-z0-9._-]+)?\.(png|txt)")
_OURS = re.compile(r"[0-9]{6,}(_[A-Za-z0-9._-]+)?\.(png|txt|json)|data\.yaml")
_NEAR = 1000  # workers are so far ahead of each other at most


def image(folder: Path, part: str, stem: str) -> Path:
    """Name a picture."""
    return folder / IMAGES / part / f"{stem}.png"


def label(folder: Path, part: str, stem: str) -> Path:
    """Name the file with its labels; readers find it by the picture's name."""
    return folder / LABELS / part / f"{stem}.txt"


def tidy(folder: Path, *, all_of_it: bool = False) -> None:
    """Remove what killed processes left half-written; all of it, if nobody is writing."""
    for place in (folder, folder / SAMPLES, *_parts(folder)):
        remove_drafts(place, _OURS, all_of_them=all_of_it)


def files(folder: Path, indexes: frozenset[int]) -> Iterator[Path]:
    """List pictures and labels of samples, and those of a killed process that did not finish its sample.

    Other people's files may be called alike, by a date for example: one without its sample is ours where its number is hardly
    above those of samples.
    """
    most = max(indexes, default=-_NEAR) + _NEAR
    for place in _parts(folder):
        for path in place.iterdir():
            match = _FILE.fullmatch(path.name)
            if match and match[1] == f"{(number := int(match[1])):06}" and (number in indexes or number < most):
                yield path


def _parts(folder: Path) -> list[Path]:
    return [path for name in (IMAGES, LABELS) for path in sorted((folder / name).iterdir()) if path.is_dir()]
