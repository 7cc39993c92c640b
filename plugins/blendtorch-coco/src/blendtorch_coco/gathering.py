"""The documents of all samples in one file for each part of the data set, piece by piece: there may be millions of objects."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.selection import tell
from blendtorch.core.staging import Stage
from msgspec import UNSET

from blendtorch_coco import layout
from blendtorch_coco.documents import Category, read_document

_INFO = {"description": "Synthetic pictures, rendered by Blender and labelled by blendtorch", "version": "1.0"}


def gather(stage: Stage, folder: Path, parts: Iterable[str], names: Mapping[int, str]) -> list[str]:
    """Write the labels of every part.

    Numbers are given in the order of samples, over all parts: the same samples make the same bytes, whoever wrote them, and
    parts can be put together.

    Parameters
    ----------
    stage : Stage
        The documents.
    folder : Path
        Of the data set.
    parts : iterable of str
        Those that are written also without a picture.
    names : mapping of int to str
        Of the categories, by their ids.

    Returns
    -------
    list of str
        What the user should know.

    Raises
    ------
    ConfigurationError
        If samples have different keypoints.
    DecodeError
        If a document is damaged.
    """
    ignored, left_out, seen = Counter[str](), Counter[str](), set[int]()
    keypoints: tuple[list[str] | None, list[tuple[int, int]]] | None = None
    images = annotations = 0
    with ExitStack() as stack:
        files = {part: stack.enter_context(_Part(layout.instances(folder, part))) for part in parts}
        for index in stage:
            document = read_document(stage.get(index), index)
            own = (document.keypoints, document.skeleton)
            if (keypoints := keypoints or own) != own:
                raise ConfigurationError(
                    f"sample {index} has the keypoints {own[0]}, and those before it {keypoints[0]}: COCO has one list for a "
                    "category. Write samples with others into another folder"
                )
            if document.part not in files:
                files[document.part] = stack.enter_context(_Part(layout.instances(folder, document.part)))
            file = files[document.part]
            for picture in document.pictures:
                images += 1
                picture.image.id = images
                file.add_image(picture.image)
                left_out.update(picture.left_out)
                for each in picture.annotations:
                    annotations += 1
                    each.id, each.image_id = annotations, images
                    file.add_annotation(each)
                    seen.add(each.category_id)
                    ignored.update([each.ignored] if each.ignored else [])
        categories = _categories({**{each: f"category_{each}" for each in seen}, **names}, *(keypoints or (None, [])))
        for file in files.values():
            file.finish(categories)
    notes = [
        f"{part} has no pictures: all episodes went to other parts. Make more of them, or choose another --split"
        for part, file in files.items()
        if images and not file.images
    ]
    return [
        *notes,
        *([tell(ignored, "objects are ignored (iscrowd)")] if ignored else []),
        *([tell(left_out, "objects are left out")] if left_out else []),
    ]


def _categories(names: Mapping[int, str], keypoints: list[str] | None, skeleton: list[tuple[int, int]]) -> list[Category]:
    made = [Category(number, names[number]) for number in sorted(names) if number > 0]
    for each in made if keypoints else ():
        each.keypoints, each.skeleton = keypoints or UNSET, skeleton
    return made


class _Part:
    """One file on its way: pictures go to a draft of their own, for annotations come while there are more of them."""

    def __init__(self, path: Path) -> None:
        self.images = self._annotations = 0
        self._path = path
        self._drafts = [path.with_name(f"{path.name}{each}.{os.getpid()}.part") for each in ("", ".images")]
        self._main, self._pictures = (draft.open("wb") for draft in self._drafts)
        self._main.write(b'{"info": %b,\n"licenses": [],\n"annotations": [' % msgspec.json.encode(_INFO))

    def add_image(self, image: object) -> None:
        self._pictures.write((b",\n" if self.images else b"\n") + msgspec.json.encode(image))
        self.images += 1

    def add_annotation(self, annotation: object) -> None:
        self._main.write((b",\n" if self._annotations else b"\n") + msgspec.json.encode(annotation))
        self._annotations += 1

    def finish(self, categories: list[Category]) -> None:
        self._pictures.close()
        self._main.write(b'],\n"categories": %b,\n"images": [' % msgspec.json.encode(categories))
        with self._drafts[1].open("rb") as pictures:
            shutil.copyfileobj(pictures, self._main)
        self._main.write(b"]}\n")
        self._main.close()
        self._drafts[0].replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file, draft in zip((self._main, self._pictures), self._drafts, strict=True):
            file.close()
            draft.unlink(missing_ok=True)
