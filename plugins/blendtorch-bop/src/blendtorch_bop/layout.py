"""Where in a folder the files of a BOP data set are.

    camera.json  models/models_info.json
    train_pbr/000000/rgb/000007.png  depth/  mask/000007_000000.png  mask_visib/
    train_pbr/000000/scene_camera.json  scene_gt.json  scene_gt_info.json  scene_gt_coco.json
    .bop/000007.json

Sample 1007 is picture 7 of scene 1. Files of further cameras have the camera's name behind: `rgb_left`, `scene_gt_left.json`.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from blendtorch.core.atomic import remove_drafts
from blendtorch.core.errors import ConfigurationError

from blendtorch_bop.documents import PICTURES_PER_SCENE

STAGE = ".bop"
PICTURES = ("rgb", "depth", "mask", "mask_visib")
SCENE_FILES = ("scene_camera", "scene_gt", "scene_gt_info", "scene_gt_coco")
_SCENE = re.compile(r"\d{6,}")
_FOLDER = re.compile(r"(rgb|depth|mask|mask_visib)(_[A-Za-z0-9-]+)*")
_PICTURE = re.compile(r"\d{6}(_\d{6})?\.png")
_SCENE_FILE = re.compile(r"scene_(camera|gt|gt_info|gt_coco)(_[A-Za-z0-9-]+)*\.json")


def suffix_of(camera: str) -> str:
    """Return what the files of a camera have behind their names.

    Examples
    --------
    >>> suffix_of(""), suffix_of("Cam.001")
    ('', '_Cam-001')
    """
    return "_" + re.sub(r"[^A-Za-z0-9]", "-", camera) if camera else ""


def place_of(index: int) -> tuple[int, int]:
    """Return the scene of a sample, and its number in it."""
    return divmod(index, PICTURES_PER_SCENE)


def scene_folder(folder: Path, split: str, scene: int) -> Path:
    """Return the folder of a scene."""
    return folder / split / f"{scene:06}"


def picture(kind: str, camera: str, image: int) -> str:
    """Name a picture in its scene: `rgb/000007.png`."""
    return f"{kind}{suffix_of(camera)}/{image:06}.png"


def mask(kind: str, camera: str, image: int, number: int) -> str:
    """Name a mask in its scene: `mask/000007_000000.png`."""
    return f"{kind}{suffix_of(camera)}/{image:06}_{number:06}.png"


def scene_file(kind: str, camera: str) -> str:
    """Name one of `SCENE_FILES`: `scene_gt.json`."""
    return f"{kind}{suffix_of(camera)}.json"


def refuse_alike(cameras: Iterable[str]) -> None:
    """Refuse cameras that would write the same files.

    Raises
    ------
    ConfigurationError

    Examples
    --------
    >>> refuse_alike(["", "left"])
    >>> refuse_alike(["", "info"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    blendtorch.core.errors.ConfigurationError: two cameras would write scene_gt_info.json: give them other names, ...
    """
    taken = set[str]()
    for camera in cameras:
        names = {f"{kind}{suffix_of(camera)}" for kind in PICTURES} | {scene_file(kind, camera) for kind in SCENE_FILES}
        if both := taken & names:
            raise ConfigurationError(
                f"two cameras would write {min(both)}: give them other names, which differ in letters or digits, and are not "
                "what files of the first camera end in: info, coco, visib"
            )
        taken |= names


def scenes(split: Path) -> Iterator[Path]:
    """List the folders of the scenes of a split."""
    if split.is_dir():
        yield from sorted(path for path in split.iterdir() if _SCENE.fullmatch(path.name) and path.is_dir())


def files_of_scene(scene: Path) -> Iterator[Path]:
    """List the files of a scene; others that lie beside them are left out."""
    for path in sorted(scene.iterdir()):
        if _SCENE_FILE.fullmatch(path.name):
            yield path
    for path in _picture_folders(scene):
        yield from (each for each in sorted(path.iterdir()) if _PICTURE.fullmatch(each.name))


def tidy(scene: Path, *, all_of_it: bool = False) -> None:
    """Remove from a scene what killed processes left half-written; all of it, if nobody is writing."""
    remove_drafts(scene, _SCENE_FILE, all_of_them=all_of_it)
    for path in _picture_folders(scene):
        remove_drafts(path, _PICTURE, all_of_them=all_of_it)


def _picture_folders(scene: Path) -> list[Path]:
    return [path for path in sorted(scene.iterdir()) if _FOLDER.fullmatch(path.name) and path.is_dir()]
