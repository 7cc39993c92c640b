"""The writer `yolo`."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture, legend_of
from blendtorch.core.selection import LabelOptions, labelled_pictures, require_labels, split_of
from blendtorch.core.staging import Stage, picture_stems

from blendtorch_yolo import layout, pictures
from blendtorch_yolo.gathering import Document, gather, read_document
from blendtorch_yolo.rows import Task, objects_of, row_of

NO_CATEGORY = "no category: its category_id is 0"
_BYTES = {"detect": 50, "segment": 3000, "pose": 300}  # of a line


class YoloOptions(LabelOptions, frozen=True, kw_only=True):
    """Options of `yolo`, beside those of all writers of labels.

    Attributes
    ----------
    task : {'detect', 'segment', 'pose'}
        What a line says of an object: its box, a polygon around its mask, or its box and its keypoints.
    split : dict of str to float
        The parts, each with a folder below `images` and `labels`.
    png_level : int
        How hard PNG files are compressed, from 0 to 9.
    """

    task: Task = "detect"
    split: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=lambda: {"train": 0.9, "val": 0.1})
    png_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1


class Yolo(Writer):
    """YOLO: PNG pictures, a text file of boxes, polygons or keypoints for each, and the `data.yaml` that ultralytics takes."""

    name = "yolo"
    interface = 1
    Options = YoloOptions

    def check(self, names: Collection[str]) -> None:
        """Ask for what the task needs, or for loose boxes where the options say so."""
        segment, pose = (self.options.task == each for each in ("segment", "pose"))
        if segment and self.options.loose:
            raise ConfigurationError("task segment needs masks, and loose does without: choose the task detect or pose")
        require_labels(names, self.options, masks=segment, others=["keypoints"] if pose else [])

    def open(self, folder: Path) -> None:
        """Make the folders, if they are not there."""
        self._folder = folder
        self._parts = [part for part, size in self.options.split.items() if size > 0]
        for part in self._parts:
            for name in (layout.IMAGES, layout.LABELS):
                (folder / name / part).mkdir(parents=True, exist_ok=True)
        self._stage = Stage(folder / layout.SAMPLES, ".json")

    def written(self) -> frozenset[int]:
        """List the samples that have their document."""
        return self._stage.indexes()

    def write(self, sample: Mapping[str, Any]) -> None:
        """Write pictures and labels of a sample, then the document by which it counts.

        Raises
        ------
        PluginError
            If the index is none.
        ConfigurationError
            If labels are missing, or such as are not exact are to be refused; or a category is too large a number.
        """
        if (index := int(sample["meta"]["index"])) < 0:
            raise PluginError(f"meta.index is {index}, expected 0 or more")
        labelled = labelled_pictures(sample, self.options)
        part = split_of(sample["meta"], self.options.split)
        stems = picture_stems(index, [each.camera for each in labelled])
        document = Document(part=part, cameras=list(stems), categories=[], dropped={}, left_out={})
        if self.options.task == "pose":
            document.keypoints, document.flip = _points(sample)
        for each in labelled:
            rows = self._rows(each, document)
            content = pictures.encode(each.image, self.options.png_level)
            write_atomically(layout.image(self._folder, part, stems[each.camera]), content)
            write_atomically(layout.label(self._folder, part, stems[each.camera]), "".join(rows).encode())
        self._stage.put(index, msgspec.json.encode(document, order="deterministic"))

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Write `data.yaml`, and tell which objects are dropped or left out."""
        named = {key: name for key, name in categories.items() if key > 0}
        with self._stage.locked():
            layout.tidy(self._folder)
            return gather(self._stage, self._folder, self._parts, named)

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read a sample from `images` and `labels`.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        DecodeError
            If a file is damaged.
        """
        document = read_document(self._stage.get(index), index)
        found = []
        for camera, stem in picture_stems(index, document.cameras).items():
            image = pictures.read(layout.image(self._folder, document.part, stem))
            path = layout.label(self._folder, document.part, stem)
            height, width = image.shape[:2]
            objects = objects_of(path.read_text().splitlines(), self.options.task, (height, width), path)
            found.append(LabelledPicture(camera=camera, image=image, objects=tuple(objects), split=document.part))
        return found

    def clear(self) -> None:
        """Remove pictures, labels, `data.yaml` and documents."""
        layout.tidy(self._folder, all_of_it=True)
        for path in [*layout.files(self._folder, self.written()), self._folder / layout.DATA]:
            path.unlink(missing_ok=True)
        self._stage.clear()
        self.open(self._folder)

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate: half of pictures; of an object 50 bytes for its box, 300 with keypoints, or 3000 for its polygon."""
        images = sum(prod(shape) // 2 for name, (shape, _) in arrays.items() if name.rpartition(".")[2] == "image")
        objects = sum(shape[0] for name, (shape, _) in arrays.items() if name.endswith(("tight.xyxy", "loose.clipped")))
        return images + _BYTES[self.options.task] * objects + 500

    def _rows(self, labelled: LabelledPicture, document: Document) -> list[str]:
        """Write the lines of a picture, and count what it does not list."""
        rows, left_out, dropped = [], Counter(labelled.left_out), Counter[str]()
        height, width = labelled.image.shape[:2]
        for each in labelled.objects:
            if each.category_id <= 0:
                left_out[NO_CATEGORY] += 1
            elif each.ignored:
                dropped[each.ignored] += 1
            else:
                rows.append(row_of(each, self.options.task, (height, width)) + "\n")
                document.categories = sorted({*document.categories, each.category_id})
        document.left_out = dict(Counter(document.left_out) + left_out)
        document.dropped = dict(Counter(document.dropped) + dropped)
        return rows


def _points(sample: Mapping[str, Any]) -> tuple[list[str], list[int] | None]:
    """Name the keypoints, and say which change places in a mirrored picture."""
    if "keypoints" not in sample:
        raise ConfigurationError("task pose needs the annotator keypoints: add it to the configuration")
    fields = sample["keypoints"]
    named = legend_of(sample).get("keypoints", {}).get("names")
    flip = np.asarray(fields["flip"]).tolist() if "flip" in fields else None
    return named or [str(each) for each in range(np.shape(fields["xy"])[1])], flip
