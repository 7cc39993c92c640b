"""From the labels of one camera of a sample to what BOP says of its picture."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.selection import HIDDEN

from blendtorch_bop.documents import Model, Shot, several_models
from blendtorch_bop.options import BopOptions
from blendtorch_bop.pixels import NOTHING, Mask, depth_scale_for, last_pixel_box, run_lengths, to_steps

NO_CATEGORY, NO_POSE = "without a category_id", "without a valid pose"
_TOLERANCE = 1e-4  # of a diameter: how far the size of an object may be from that of its model


class Labelling:
    """The labels of one camera.

    Attributes
    ----------
    shot : Shot
    masks : list of tuple
        For each object in the order of `scene_gt.json`: its whole silhouette, and what is seen of it.
    steps : ndarray, shape (height, width), uint16
        The depth map.

    Raises
    ------
    ConfigurationError
        If BOP cannot say it: the lens distorts, projects in parallel, or an object is not the model of its category.
    """

    def __init__(
        self,
        view: Mapping[str, Any],
        objects: Mapping[str, Any],
        picture: LabelledPicture,
        legend: Mapping[str, Any],
        models: Mapping[int, Model],
        options: BopOptions,
    ) -> None:
        self._view, self._options = view, options
        height, width = picture.image.shape[:2]
        self._size = width, height
        refuse_lens(view["camera"], legend, picture.camera)
        # A renderer's depth is an array, that of an annotator lies in its fields.
        found = view["depth"]["depth"] if isinstance(view["depth"], Mapping) else view["depth"]
        depth_mm = np.asarray(found, np.float64) * options.unit_mm
        scale = options.depth_scale or depth_scale_for(depth_mm)
        self.steps, too_far = to_steps(depth_mm, scale)
        self.masks: list[tuple[Mask, Mask]] = []
        self.shot = Shot(
            size=self._size,
            camera=self._camera(scale),
            gt=[],
            info=[],
            annotations=[],
            ignored={},
            unlabelled={},
            too_far=too_far,
            cut=0 if "beyond" in view["visibility"] else int(np.count_nonzero(view["visibility"]["truncated"])),
        )
        ignored, unlabelled = Counter[str](), Counter[str](picture.left_out)
        seen = {each.instance_id: each for each in picture.objects}
        categories = np.asarray(objects["category_id"]).tolist()
        valid = np.asarray(view["poses"]["valid"])
        refuse_changed_sizes(view["poses"], categories, models)
        for row, (instance, category) in enumerate(zip(np.asarray(objects["instance_id"]).tolist(), categories, strict=True)):
            if category < 1 or not valid[row]:
                if instance in seen:
                    unlabelled[NO_CATEGORY if category < 1 else NO_POSE] += 1
                continue
            whole = np.asarray(view["masks_amodal"]["masks"][row], bool)
            each = seen.get(instance)
            visible = np.zeros_like(whole) if each is None or each.mask is None else each.mask
            self.masks.append((whole, visible))
            self.shot.gt.append(self._pose(row, category))
            self.shot.info.append(self._info(row, whole, visible))
            if each is not None:
                # Beyond the border BOP hides objects, too.
                why = each.ignored or HIDDEN * (self.shot.info[-1]["visib_fract"] < options.min_visibility)
                ignored[why] += 1
                self.shot.annotations.append(self._annotation(category, whole, visible, bool(why)))
        ignored.pop("", None)
        self.shot.ignored.update(ignored)
        self.shot.unlabelled.update(unlabelled)

    def _camera(self, depth_scale: float) -> dict[str, Any]:
        camera = self._view["camera"]
        pose = np.asarray(camera["camera_from_world"], np.float64)
        return {
            "cam_K": np.asarray(camera["K_opencv"], np.float64).ravel().tolist(),
            "depth_scale": depth_scale,
            "cam_R_w2c": pose[:3, :3].ravel().tolist(),
            "cam_t_w2c": (pose[:3, 3] * self._options.unit_mm).tolist(),
        }

    def _pose(self, row: int, category: int) -> dict[str, Any]:
        pose = np.asarray(self._view["poses"]["camera_from_object"][row], np.float64)
        return {
            "cam_R_m2c": pose[:3, :3].ravel().tolist(),
            "cam_t_m2c": (pose[:3, 3] * self._options.unit_mm).tolist(),
            "obj_id": category,
        }

    def _info(self, row: int, whole: Mask, visible: Mask) -> dict[str, Any]:
        all_pixels, seen_pixels = int(np.count_nonzero(whole)), int(np.count_nonzero(visible))
        all_pixels += int(np.asarray(self._view["visibility"].get("beyond", np.zeros(row + 1)))[row])
        return {
            "px_count_all": all_pixels,
            "px_count_valid": int(np.count_nonzero(whole & (self.steps > 0))),
            "px_count_visib": seen_pixels,
            "visib_fract": seen_pixels / all_pixels if all_pixels else 0.0,
            "bbox_obj": self._whole_box(row, whole) if seen_pixels else NOTHING,
            "bbox_visib": last_pixel_box(visible),
        }

    def _whole_box(self, row: int, whole: Mask) -> list[int]:
        """Go on where the border cuts the object, with its projected geometry; for a picture's size, as the toolkit does."""
        width, height = self._size
        x, y, across, down = last_pixel_box(whole)
        box = np.asarray(self._view["boxes2d_loose"]["unclipped"][row], np.float64)
        if np.isfinite(box).all():
            # Columns and rows whose centres lie within.
            left, top = (math.ceil(max(low, -side) - 0.5) for low, side in zip(box[:2], self._size, strict=True))
            right, bottom = (math.ceil(min(high, 2 * side) - 0.5) - 1 for high, side in zip(box[2:], self._size, strict=True))
            if left < 0 or top < 0 or right >= width or bottom >= height:
                left, top, right, bottom = min(left, x), min(top, y), max(right, x + across), max(bottom, y + down)
                return [left, top, right - left, bottom - top]
        return [x, y, across, down]

    def _annotation(self, category: int, whole: Mask, visible: Mask, ignored: bool) -> dict[str, Any]:
        width, height = self._size
        x, y, across, down = last_pixel_box(whole)
        return {
            "category_id": category,
            "iscrowd": 0,
            "ignore": ignored,
            "area": int(np.count_nonzero(visible)),
            "bbox": [x, y, across + 1, down + 1],
            "segmentation": {"counts": run_lengths(visible), "size": [height, width]},
            "width": width,
            "height": height,
        }


def refuse_lens(camera: Mapping[str, Any], legend: Mapping[str, Any], name: str) -> None:
    """Refuse what a camera matrix alone does not describe."""
    which = f"camera {name!r}" if name else "the first camera"
    if np.any(np.asarray(camera["distortion"])):
        raise ConfigurationError(
            f"the lens of {which} distorts, and BOP's cam_K is a pinhole camera: leave `distortion` out of the configuration"
        )
    if parallel := legend.get("camera", {}).get("orthographic", ()):
        raise ConfigurationError(
            f"cameras project orthographically: {', '.join(parallel)}; BOP's cam_K is a pinhole camera: make them perspective"
        )


def refuse_changed_sizes(poses: Mapping[str, Any], categories: list[int], models: Mapping[int, Model]) -> None:
    """Refuse objects that are not the model of their category: a pose of BOP is rigid, and an obj_id is one model."""
    sizes, scales, valid = (np.asarray(poses[field]) for field in ("size", "scale", "valid"))
    first: dict[int, tuple[Any, bool]] = {category: (each.size, each.mirrored) for category, each in models.items()}
    for row in np.flatnonzero(valid).tolist():
        category, mirrored = categories[row], bool(scales[row][0] < 0)
        if category < 1:
            continue
        size, like = first.setdefault(category, (sizes[row], mirrored))
        if mirrored != like or np.abs(sizes[row] - size).max() > _TOLERANCE * np.linalg.norm(size):
            told, other = (" x ".join(f"{side:.6g}" for side in each) for each in (sizes[row], size))
            raise several_models(
                f"object {row + 1} of category {category} is {told}{' mirrored' * mirrored}, where others are "
                f"{other}{' mirrored' * like}"
            )
