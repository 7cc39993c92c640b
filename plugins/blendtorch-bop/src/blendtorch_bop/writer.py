"""The writer `bop`."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture, legend_of
from blendtorch.core.selection import labelled_pictures, split_of, views
from blendtorch.core.staging import Stage

from blendtorch_bop import layout, scenes
from blendtorch_bop.documents import Document, Model, Shot, read_document, read_models
from blendtorch_bop.labelling import Labelling
from blendtorch_bop.options import NEEDED, BopOptions, require
from blendtorch_bop.pixels import encode_png
from blendtorch_bop.reader import Reader
from blendtorch_bop.tally import Tally

_MODELS = "models.json"  # in the folder of the stage: what the samples say of the models
_MARK = ".made"  # beside it: which of the files of the whole are ours


class Bop(Writer):
    """Data sets in BOP's scenewise format: see the README of blendtorch-bop."""

    name = "bop"
    interface = 1
    Options = BopOptions
    annotators = NEEDED
    options: BopOptions

    def check(self, names: Collection[str]) -> None:
        """Refuse samples without masks, poses or depth."""
        require(names)

    def open(self, folder: Path) -> None:
        """Make the folder of what is kept for each sample.

        Raises
        ------
        ConfigurationError
            If there are scenes that another program made.
        """
        self._folder = folder
        foreign = [
            str(scene.relative_to(folder))
            for split in self.options.split
            for scene in layout.scenes(folder / split)
            if not (folder / layout.STAGE).is_dir() and any(layout.files_of_scene(scene))
        ]
        if foreign:
            raise ConfigurationError(
                f"{folder} has scenes that blendtorch did not write: {', '.join(foreign[:3])}. Choose another folder, or "
                "another name in `split`"
            )
        self._stage = Stage(folder / layout.STAGE, ".json")
        self._models: dict[int, Model] | None = None
        self._reader = Reader(folder, self.options.unit_mm)

    def written(self) -> frozenset[int]:
        """List the samples that have their document."""
        return self._stage.indexes()

    def write(self, sample: Mapping[str, Any]) -> None:
        """Write the pictures and masks of a sample, then its document.

        Raises
        ------
        ConfigurationError
            If BOP cannot say what the sample is: see `Labelling`.
        """
        if (index := int(sample["meta"]["index"])) < 0:
            raise PluginError(f"/meta/index: {index} is no index of a sample: expected 0 or more")
        legend = legend_of(sample)
        models = self._know(legend)
        split = split_of(sample["meta"], self.options.split)
        scene, image = layout.place_of(index)
        shots: dict[str, Shot] = {}
        files: dict[str, npt.NDArray[Any]] = {}
        by_camera = views(sample)
        pictures = labelled_pictures(sample, self.options)
        layout.refuse_alike(each.camera for each in pictures)
        for picture in pictures:
            name = picture.camera
            made = Labelling(by_camera[name], sample["objects"], picture, legend, models, self.options)
            shots[name] = made.shot
            pixels: dict[str, npt.NDArray[Any]] = {
                layout.picture("rgb", name, image): picture.image[..., :3],
                layout.picture("depth", name, image): made.steps,
            }
            for number, masks in enumerate(made.masks):
                for kind, mask in zip(("mask", "mask_visib"), masks, strict=True):
                    pixels[layout.mask(kind, name, image, number)] = mask.astype(np.uint8) * np.uint8(255)
            files.update(pixels)
        target = layout.scene_folder(self._folder, split, scene)
        self._stage.path(index).unlink(missing_ok=True)  # what is replaced is not whole meanwhile
        for parent in {(target / each).parent for each in files}:
            parent.mkdir(parents=True, exist_ok=True)
        for each, pixel in files.items():
            write_atomically(target / each, encode_png(pixel, self.options.png_level))
        document = Document(split=split, shots=shots)
        self._stage.put(index, msgspec.json.encode(document) + b"\n")

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Make the JSON files of all scenes, `camera.json` and `models/models_info.json`."""
        with self._stage.locked():
            return self._gather(categories)

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read the pictures of a sample from the files of the data set."""
        document = read_document(self._stage.get(index))
        return self._reader.read(index, document.split, document.shots)

    def clear(self) -> None:
        """Remove all scenes, the files of the whole, and what was kept for each sample."""
        splits = {*self.options.split, *(read_document(self._stage.get(index)).split for index in self._stage)}
        self._stage.clear()  # first: what is half removed is no sample
        for split in splits:
            for scene in layout.scenes(self._folder / split):
                layout.tidy(scene, all_of_it=True)
                for path in layout.files_of_scene(scene):
                    path.unlink(missing_ok=True)
                _remove_empty(*scene.iterdir(), scene)
            _remove_empty(self._folder / split)
        for mark in list(self._stage.folder.glob(f"*{_MARK}")) if self._stage.folder.is_dir() else []:
            name = mark.name.removesuffix(_MARK)
            (self._folder / ("models" if name.startswith("models") else "") / name).unlink(missing_ok=True)
            mark.unlink()
        (self._stage.folder / _MODELS).unlink(missing_ok=True)
        _remove_empty(self._folder / "models", self._stage.folder)
        self.open(self._folder)

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate: half of pictures, half of depths, 1/100 of each mask and 1000 bytes more."""
        total = 1_000
        for name, (shape, dtype) in arrays.items():
            field = name.rpartition(".")[2]
            if field in ("image", "depth"):
                total += prod(shape) * np.dtype(dtype).itemsize // 2
            elif field == "masks" and shape:
                total += 2 * prod(shape) // 100 + 3_000 * shape[0]
        return total

    def _gather(self, categories: Mapping[int, str]) -> list[str]:
        tally = Tally()
        for scene, indexes in groupby(self._stage, key=lambda index: layout.place_of(index)[0]):
            documents = {}
            for index in indexes:
                with suppress(FileNotFoundError):  # another process replaces it, and gathers when it has
                    documents[index] = read_document(self._stage.get(index))
            scenes.write(self._folder, scene, documents, categories)
            for document in documents.values():
                tally.add(document)
        sentences = tally.sentences()
        cameras = tally.cameras()
        for name, entry in cameras.items():
            sentences += self._put_common(f"camera{layout.suffix_of(name)}.json", scenes.to_json(entry))
        models = self._stored_models()
        if models and cameras:
            entries = scenes.models_info(models, self.options.unit_mm)
            sentences += self._put_common("models/models_info.json", scenes.to_json_lines(entries))
        if missing := sorted(tally.models - models.keys()):
            sentences.append(
                f"models/models_info.json has no entry for obj_id {', '.join(map(str, missing))}: the samples do not say how "
                "large the models are, as `poses` of blendtorch-standard does"
            )
        return sentences

    def _know(self, legend: dict[str, Any]) -> dict[int, Model]:
        """Read what a sample says of the models; the same as all others, of runs before too."""
        if self._models is None:
            models = read_models(legend)
            path = self._stage.folder / _MODELS
            if not models:
                return models
            stored = self._stored_models()
            if stored and not _alike(stored, models):
                raise ConfigurationError(
                    f"the models are not those of the samples that are there ({path}): choose another folder, or overwrite"
                )
            if not stored:
                write_atomically(path, msgspec.json.encode({str(key): each for key, each in models.items()}) + b"\n")
            self._models = models
        return self._models

    def _stored_models(self) -> dict[int, Model]:
        try:
            content = (self._stage.folder / _MODELS).read_bytes()
        except FileNotFoundError:
            return {}
        return msgspec.json.decode(content, type=dict[int, Model], strict=False)

    def _put_common(self, name: str, content: bytes) -> list[str]:
        """Write a file of the whole, unless somebody else's is there: models of other programs come with it."""
        path = self._folder / name
        mark = self._stage.folder / (path.name + _MARK)
        if path.exists() and not mark.exists():
            return [f"{name} was there, and is left as it is"]
        path.parent.mkdir(exist_ok=True)
        mark.touch()
        write_atomically(path, content)
        return []


def _alike(some: Mapping[int, Model], others: Mapping[int, Model]) -> bool:
    return some.keys() == others.keys() and all(some[category].is_like(others[category]) for category in some)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):  # it is not there, not empty, or a file
            folder.rmdir()
