"""Pictures and labels, read back from the files that other programs read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from blendtorch.core import geometry
from blendtorch.core.errors import DecodeError
from blendtorch.core.labels import LabelledObject, LabelledPicture
from blendtorch.core.selection import UNSEEN

from blendtorch_bop import layout
from blendtorch_bop.pixels import decode_png

IGNORED = "ignored in scene_gt_coco.json"


class Reader:
    """Reads samples of a folder.

    Parameters
    ----------
    folder : Path
    unit_mm : float
        Of a scene unit.
    """

    def __init__(self, folder: Path, unit_mm: float) -> None:
        self._folder, self._unit_mm = folder, unit_mm
        self._parsed: dict[Path, tuple[int, Any]] = {}  # the files of a scene are large, and several samples are read

    def read(self, index: int, split: str, cameras: Iterable[str]) -> list[LabelledPicture]:
        """Read a sample.

        Raises
        ------
        FileNotFoundError
            If it is not there, or `finish` was not called since it was written.
        DecodeError
            If a file is not what BOP says.
        """
        scene, image = layout.place_of(index)
        folder = layout.scene_folder(self._folder, split, scene)
        try:
            return [self._picture(folder, image, camera, split) for camera in cameras]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            if isinstance(error, DecodeError):
                raise
            raise DecodeError(f"picture {image} of {folder} cannot be read: {type(error).__name__}: {error}") from None

    def _picture(self, folder: Path, image: int, camera: str, split: str) -> LabelledPicture:
        about, gt, info, coco = (self._json(folder / layout.scene_file(kind, camera)) for kind in layout.SCENE_FILES)
        if str(image) not in gt:
            raise FileNotFoundError(f"{folder / 'scene_gt.json'} has no picture {image}: the data set was not finished since")
        pixels = decode_png((folder / layout.picture("rgb", camera, image)).read_bytes(), "RGB")
        height, width = pixels.shape[:2]
        annotations = iter([each for each in coco["annotations"] if each["image_id"] == image])
        objects, unseen = [], 0
        for number, (pose, facts) in enumerate(zip(gt[str(image)], info[str(image)], strict=True)):
            if facts["px_count_visib"] == 0:
                unseen += 1
                continue
            content = (folder / layout.mask("mask_visib", camera, image, number)).read_bytes()
            objects.append(
                self._object(pose, facts, decode_png(content, "L", (width, height)) > 0, next(annotations)["ignore"])
            )
        K = np.array(about[str(image)]["cam_K"], np.float64).reshape(3, 3)
        return LabelledPicture(
            camera=camera,
            image=pixels,
            objects=tuple(objects),
            left_out={UNSEEN: unseen} if unseen else {},
            K=geometry.from_K(K, "opencv"),
            split=split,
        )

    def _object(self, pose: dict[str, Any], facts: dict[str, Any], mask: Any, ignore: bool) -> LabelledObject:
        x, y, across, down = facts["bbox_visib"]
        left, top, wide, high = facts["bbox_obj"]
        height, width = mask.shape
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(pose["cam_R_m2c"], np.float64).reshape(3, 3)
        matrix[:3, 3] = np.array(pose["cam_t_m2c"], np.float64) / self._unit_mm
        return LabelledObject(
            category_id=pose["obj_id"],
            xyxy=np.array([x, y, x + across + 1, y + down + 1], np.float64),
            mask=mask,
            visibility=facts["visib_fract"],
            truncated=left < 0 or top < 0 or left + wide >= width or top + high >= height,
            ignored=IGNORED if ignore else "",
            camera_from_object=matrix,
        )

    def _json(self, path: Path) -> Any:
        time = path.stat().st_mtime_ns
        known, content = self._parsed.get(path, (0, None))
        if known != time:
            try:
                content = msgspec.json.decode(path.read_bytes())
            except msgspec.MsgspecError as error:
                raise DecodeError(f"{path} cannot be read: {error}") from None
            self._parsed[path] = time, content
        return content
