"""Samples of a data set, also of one that is still being written."""

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.looking import format_of
from blendtorch.btt.generation.writing import named
from blendtorch.btt.viewing.source import Source, Status
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.labels import LabelledPicture

_LOOK_S = 2.0  # between two listings of a folder that may have a million files
_GROWS_S = 10.0


class FolderSource(Source):
    """What `blendtorch generate` has written, as its writer reads it; for formats that keep less than a sample, what they keep.

    Parameters
    ----------
    folder : path
    plugins : sequence of path
        Python files with plug-ins: the writer may be in one.

    Raises
    ------
    ConfigurationError
        If it does not say what wrote it.
    PluginError
        If the writer is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], plugins: Iterable[str] = ()) -> None:
        self.title = os.fspath(folder)
        self._folder = DataFolder(folder)
        versions = self._folder.read_versions()
        if not versions:
            raise ConfigurationError(f"{self._folder.versions} does not say what wrote the samples")
        self._categories = {number: name for each in versions for number, name in each.categories.items()}
        self._opened = format_of(self._folder, plugins).into(self._folder.path)
        self._writer = self._opened.open()
        self._lock = threading.Lock()
        self._indexes: list[int] = []
        self._looked = self._grown = 0.0
        self._list()
        self._grown = 0.0  # what was there is no growth

    @property
    def categories(self) -> dict[int, str]:
        """As the run has noted them."""
        return self._categories

    def status(self) -> Status:
        """Look for what was written since."""
        with self._lock:
            if time.monotonic() > self._looked + _LOOK_S:
                self._list()
            end = len(self._indexes)
            grows = bool(self._grown) and time.monotonic() < self._grown + _GROWS_S
        return Status(state="live" if grows else "recorded" if end else "waiting", first=0, end=end, total=end, per_s=0.0)

    def sample(self, number: int) -> dict[str, Any]:
        """Read one."""
        with self._lock:
            if not 0 <= number < len(self._indexes):
                raise LookupError(f"there is no sample {number}: the folder has {len(self._indexes)}")
            index = self._indexes[number]
            with named(self._writer, f"read sample {index}"):
                try:
                    return dict(self._writer.read_sample(index))
                except ConfigurationError:
                    return _as_sample(index, self._writer.read(index))

    def close(self) -> None:
        """Close the writer."""
        with self._lock:
            self._opened.close()

    def _list(self) -> None:
        """Number what is new behind what has a number."""
        self._looked = time.monotonic()
        with named(self._writer, "list what is there"):
            came = sorted(self._writer.written().difference(self._indexes))
        if came:
            self._indexes += came
            self._grown = time.monotonic()


def _as_sample(index: int, pictures: Sequence[LabelledPicture]) -> dict[str, Any]:
    """Lay out what a format keeps as samples are."""
    views = [_as_view(each) for each in pictures]
    first = next((view for each, view in zip(pictures, views, strict=True) if not each.camera), {})
    others = {each.camera: view for each, view in zip(pictures, views, strict=True) if each.camera}
    return {**first, **others, "meta": {"index": index}}


def _as_view(picture: LabelledPicture) -> dict[str, Any]:
    objects = picture.objects
    view: dict[str, Any] = {
        "image": picture.image,
        "boxes2d_tight": {"xyxy": np.array([each.xyxy for each in objects]).reshape(-1, 4)},
        "visibility": {"fraction": np.array([each.visibility for each in objects], np.float64)},
        "objects": {
            "instance_id": np.array([each.instance_id or row for row, each in enumerate(objects, 1)], np.int64),
            "category_id": np.array([each.category_id for each in objects], np.int64),
        },
        "ignored": [each.ignored for each in objects],
        "left_out": dict(picture.left_out),
    }
    if any(each.mask is not None for each in objects):
        ids = np.zeros(picture.image.shape[:2], np.int32)
        for row, each in enumerate(objects, 1):
            if each.mask is not None:
                ids[each.mask] = row
        view["instance_ids"] = {"instance_ids": ids}
    if any(each.keypoints is not None for each in objects):
        view["keypoints"] = _keypoints(picture)
    if any(each.camera_from_object is not None for each in objects):
        nothing = np.full((4, 4), np.nan)
        poses = [nothing if each.camera_from_object is None else each.camera_from_object for each in objects]
        view["poses"] = {"camera_from_object": np.array(poses)}
    if picture.K is not None:
        view["camera"] = {"K": picture.K}
    return view


def _keypoints(picture: LabelledPicture) -> Mapping[str, Any]:
    count = max(len(each.keypoints) for each in picture.objects if each.keypoints is not None)
    xy, state = np.full((len(picture.objects), count, 2), np.nan), np.zeros((len(picture.objects), count), np.int8)
    for row, each in enumerate(picture.objects):
        if each.keypoints is not None:
            xy[row, : len(each.keypoints)] = each.keypoints
            state[row, : len(each.keypoints)] = 2 if each.states is None else each.states
    return {"xy": xy, "state": state}


def is_data_folder(place: Path) -> bool:
    """Whether `blendtorch generate` has written into it."""
    return DataFolder(place).versions.is_file()
