"""The writer `coco`."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import PluginError
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture, legend_of
from blendtorch.core.selection import LabelOptions, labelled_pictures, require_labels, split_of
from blendtorch.core.staging import Stage, picture_stems

from blendtorch_coco import layout, pictures
from blendtorch_coco.annotations import NO_CATEGORY, annotation_of
from blendtorch_coco.documents import Document, Image, Picture
from blendtorch_coco.gathering import gather
from blendtorch_coco.reader import Reader


class CocoOptions(LabelOptions, frozen=True, kw_only=True):
    """Options of `coco`, beside those of all writers of labels.

    Attributes
    ----------
    split : dict of str to float
        The parts, each with a file `instances_NAME.json`.
    png_level : int
        How hard PNG files are compressed, from 0 to 9.
    """

    split: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=lambda: {"train": 0.9, "val": 0.1})
    png_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1


class Coco(Writer):
    """COCO: PNG pictures, and JSON with boxes, masks (RLE) and keypoints, which pycocotools and detectors read."""

    name = "coco"
    interface = 1
    Options = CocoOptions

    def check(self, names: Collection[str]) -> None:
        """Ask for boxes, masks and visibility, or for loose boxes where the options say so."""
        require_labels(names, self.options, masks=True)

    def open(self, folder: Path) -> None:
        """Make the folders, if they are not there."""
        self._folder = folder
        self._reader: Reader | None = None
        for name in (layout.IMAGES, layout.ANNOTATIONS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._stage = Stage(folder / layout.SAMPLES, ".json")

    def written(self) -> frozenset[int]:
        """List the samples that have their document."""
        return self._stage.indexes()

    def write(self, sample: Mapping[str, Any]) -> None:
        """Write the pictures of a sample, then the document with its labels.

        Raises
        ------
        PluginError
            If the index is none.
        ConfigurationError
            If there are no boxes, or labels that are not exact are to be refused.
        """
        if (index := int(sample["meta"]["index"])) < 0:
            raise PluginError(f"meta.index is {index}, expected 0 or more")
        labelled = labelled_pictures(sample, self.options)
        stems = picture_stems(index, [each.camera for each in labelled])
        names = {camera: f"{stem}.png" for camera, stem in stems.items()}
        for each in labelled:
            content = pictures.encode(each.image, self.options.png_level)
            write_atomically(self._folder / layout.IMAGES / names[each.camera], content)
        document = Document(
            part=split_of(sample["meta"], self.options.split),
            pictures=[_picture(each, names[each.camera], index) for each in labelled],
        )
        if "keypoints" in sample:
            document.keypoints, document.skeleton = _bones(sample)
        self._stage.put(index, msgspec.json.encode(document))

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Write `annotations/instances_NAME.json` for each part, and tell which objects are ignored or left out."""
        parts = [part for part, size in self.options.split.items() if size > 0]
        with self._stage.locked():
            layout.tidy(self._folder)
            self._reader = None
            return gather(self._stage, self._folder, parts, categories)

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read a sample from `annotations` and `images`.

        Raises
        ------
        FileNotFoundError
            If no file has it.
        DecodeError
            If a file is damaged.
        """
        self._reader = self._reader or Reader(self._folder)
        return self._reader.read(index)

    def clear(self) -> None:
        """Remove pictures, labels and documents."""
        layout.tidy(self._folder, all_of_it=True)
        for path in [*layout.all_instances(self._folder), *layout.pictures(self._folder, self.written())]:
            path.unlink(missing_ok=True)
        self._stage.clear()
        self.open(self._folder)

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate: half of pictures, and 1000 bytes for each object of each camera, for it is written twice."""
        images = sum(prod(shape) // 2 for name, (shape, _) in arrays.items() if name.rpartition(".")[2] == "image")
        objects = sum(shape[0] for name, (shape, _) in arrays.items() if name.endswith(("tight.xyxy", "loose.clipped")))
        return images + 1000 * objects + 500


def _picture(labelled: LabelledPicture, file_name: str, index: int) -> Picture:
    height, width = labelled.image.shape[:2]
    left_out = Counter(labelled.left_out)
    left_out[NO_CATEGORY] += sum(each.category_id == 0 for each in labelled.objects)
    return Picture(
        Image(0, file_name, width, height, labelled.camera, index),
        [annotation_of(each) for each in labelled.objects if each.category_id > 0],
        dict(+left_out),
    )


def _bones(sample: Mapping[str, Any]) -> tuple[list[str], list[tuple[int, int]]]:
    """Name the keypoints, and number those that a bone joins from 1."""
    fields = sample["keypoints"]
    named = legend_of(sample).get("keypoints", {}).get("names")
    skeleton = (np.asarray(fields["skeleton"]) + 1).tolist() if "skeleton" in fields else []
    return named or [str(each) for each in range(np.shape(fields["xy"])[1])], [(one, other) for one, other in skeleton]
