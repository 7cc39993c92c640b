"""What is counted over all samples: for the files of the whole, and for people."""

from collections import Counter
from typing import Any

from blendtorch.core.selection import tell

from blendtorch_bop.documents import Document, Shot


class Tally:
    """Goes through the samples.

    Attributes
    ----------
    models : set of int
        Every `obj_id` that is used.
    """

    def __init__(self) -> None:
        self.models: set[int] = set()
        self._first: dict[str, Shot] = {}
        self._scales: set[float] = set()
        self._unlabelled, self._ignored = Counter[str](), Counter[str]()
        self._too_far = self._cut = 0

    def add(self, document: Document) -> None:
        """Count a sample."""
        for name, shot in document.shots.items():
            self._first.setdefault(name, shot)
            self._scales.add(shot.camera["depth_scale"])
            self.models.update(entry["obj_id"] for entry in shot.gt)
            self._unlabelled.update(shot.unlabelled)
            self._ignored.update(shot.ignored)
            self._too_far += shot.too_far
            self._cut += shot.cut

    def cameras(self) -> dict[str, dict[str, Any]]:
        """Write the content of `camera.json` for each camera: what who renders more pictures should take."""
        return {name: self._camera(shot) for name, shot in self._first.items()}

    def sentences(self) -> list[str]:
        """Say what the user should know."""
        told = []
        if self._unlabelled:
            told.append(tell(self._unlabelled, "objects have no annotation in scene_gt_coco.json"))
        if self._ignored:
            told.append(tell(self._ignored, "objects are ignored in scene_gt_coco.json"))
        if self._cut:
            told.append(
                f"{self._cut} objects are cut by the border, and px_count_all and visib_fract know what of them is within; "
                "give the annotator visibility the option beyond: true to count all, as bop_toolkit does"
            )
        if self._too_far:
            told.append(
                f"{self._too_far} pixels have no depth, for they are farther than 65535 steps of {max(self._scales)} mm: "
                "raise depth_scale"
            )
        if len(self._scales) > 1:
            told.append(
                f"depth_scale differs between pictures, from {min(self._scales)} to {max(self._scales)} mm: programs have to "
                "read it from scene_camera.json; set depth_scale for the same in all"
            )
        return told

    def _camera(self, shot: Shot) -> dict[str, Any]:
        fx, _, cx, _, fy, cy, *_ = shot.camera["cam_K"]
        width, height = shot.size
        return {"cx": cx, "cy": cy, "depth_scale": max(self._scales), "fx": fx, "fy": fy, "height": height, "width": width}
