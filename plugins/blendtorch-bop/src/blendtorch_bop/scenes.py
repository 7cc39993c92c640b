"""The JSON files of scenes and of the whole, made of the documents of the samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.core.atomic import write_atomically

from blendtorch_bop import layout
from blendtorch_bop.documents import Document, Model, Shot


def write(folder: Path, scene: int, documents: Mapping[int, Document], categories: Mapping[int, str]) -> None:
    """Write the files of one scene, in each split that has pictures of it, for each camera.

    Parameters
    ----------
    folder : Path
        Of the data set.
    scene : int
    documents : mapping of int to Document
        All of the scene, by the indexes of the samples, in order.
    categories : mapping of int to str

    Raises
    ------
    ConfigurationError
        If cameras of different samples would write the same files.
    """
    for split in dict.fromkeys(each.split for each in documents.values()):
        target = layout.scene_folder(folder, split, scene)
        shots: dict[str, dict[int, Shot]] = {}
        for index, document in documents.items():
            if document.split == split:
                for camera, shot in document.shots.items():
                    shots.setdefault(camera, {})[layout.place_of(index)[1]] = shot
        layout.refuse_alike(shots)
        for camera, own in shots.items():
            contents = {
                "scene_camera": to_json_lines({str(image): shot.camera for image, shot in own.items()}),
                "scene_gt": to_json_lines({str(image): shot.gt for image, shot in own.items()}),
                "scene_gt_info": to_json_lines({str(image): shot.info for image, shot in own.items()}),
                "scene_gt_coco": to_json(_coco(own, camera, split, categories)),
            }
            for kind in layout.SCENE_FILES:
                write_atomically(target / layout.scene_file(kind, camera), contents[kind])
        layout.tidy(target)  # other programs list these folders


def _coco(shots: Mapping[int, Shot], camera: str, split: str, categories: Mapping[int, str]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image, shot in shots.items():
        annotations += [
            {"id": number, "image_id": image, **each} for number, each in enumerate(shot.annotations, len(annotations) + 1)
        ]
    return {
        "info": {"description": split},
        "licenses": [],
        "categories": [{"id": number, "name": categories[number], "supercategory": "object"} for number in sorted(categories)],
        "images": [
            {
                "id": image,
                "file_name": layout.picture("rgb", camera, image),
                "width": shot.size[0],
                "height": shot.size[1],
            }
            for image, shot in shots.items()
        ],
        "annotations": annotations,
    }


def models_info(models: Mapping[int, Model], unit_mm: float) -> dict[str, Any]:
    """Write the content of `models_info.json`, in mm."""
    entries = {}
    for category in sorted(models):
        each = models[category]
        lows = {f"min_{axis}": low * unit_mm for axis, low in zip("xyz", each.low, strict=True)}
        sizes = {f"size_{axis}": size * unit_mm for axis, size in zip("xyz", each.size, strict=True)}
        entries[str(category)] = {"diameter": each.diameter * unit_mm, **lows, **sizes}
    return entries


def to_json(content: Any) -> bytes:
    """Encode, on one line."""
    return msgspec.json.encode(content) + b"\n"


def to_json_lines(entries: Mapping[str, Any]) -> bytes:
    """Encode a mapping with an entry on each line, as BOP's files have it.

    Examples
    --------
    >>> print(to_json_lines({"0": [1], "1": []}).decode(), end="")
    {
    "0":[1],
    "1":[]
    }
    """
    encode = msgspec.json.encode
    return b"{\n" + b",\n".join(encode(key) + b":" + encode(each) for key, each in entries.items()) + b"\n}\n"
