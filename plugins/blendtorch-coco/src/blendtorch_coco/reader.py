"""Samples out of a folder of the writer `coco`, from the files that other programs read."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from blendtorch.core.errors import DecodeError
from blendtorch.core.labels import LabelledPicture

from blendtorch_coco import layout, pictures
from blendtorch_coco.annotations import object_of
from blendtorch_coco.documents import Annotation, Image


class _Instances(msgspec.Struct):
    images: list[Image]
    annotations: list[msgspec.Raw]


class _Key(msgspec.Struct):
    image_id: int


class Reader:
    """The labels of a folder, as they are now.

    Annotations are left as text until they are asked for, which takes a tenth of the memory.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DecodeError
        If a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[int, list[tuple[Image, str]]] = {}  # with the part of the data set that has it
        self._annotations: dict[int, list[msgspec.Raw]] = {}
        for path in layout.all_instances(folder):
            try:
                found = msgspec.json.decode(path.read_bytes(), type=_Instances)
                for image in found.images:
                    self._images.setdefault(image.sample, []).append((image, layout.part_of(path)))
                for text in found.annotations:
                    self._annotations.setdefault(msgspec.json.decode(text, type=_Key).image_id, []).append(text)
            except msgspec.DecodeError as error:
                raise DecodeError(f"{path} cannot be read: {error}") from None

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read a sample; see `Writer.read`."""
        if index not in self._images:
            raise FileNotFoundError(f"no file in {self._folder / layout.ANNOTATIONS} has sample {index}: has the run finished?")
        return [self._picture(image, part) for image, part in self._images[index]]

    def _picture(self, image: Image, part: str) -> LabelledPicture:
        pixels = pictures.read(self._folder / layout.IMAGES / image.file_name, image.width, image.height)
        try:
            found = [msgspec.json.decode(text, type=Annotation) for text in self._annotations.get(image.id, ())]
        except msgspec.DecodeError as error:
            raise DecodeError(f"an annotation of {image.file_name} cannot be read: {error}") from None
        objects = tuple(object_of(each, image.height, image.width) for each in found)
        return LabelledPicture(camera=image.camera, image=pixels, objects=objects, split=part)
