"""Folders of images."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from blendtorch.core.errors import SceneError

SUFFIXES = (".bmp", ".exr", ".hdr", ".jp2", ".jpeg", ".jpg", ".png", ".tga", ".tif", ".tiff", ".webp")


def list_images(folder: str) -> list[Path]:
    """List the image files of a folder, in the order of their names: the same on every machine.

    Files that are not called like images do not count, nor do folders in it.

    Raises
    ------
    SceneError
        If there is no such folder, or no image in it.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise SceneError(f"folder {folder!r}: there is no such folder (looked for in {path.absolute().parent})")
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
    if not found:
        raise SceneError(f"folder {folder!r} has no image: expected files that end with {', '.join(SUFFIXES)}")
    return found


class ImageFolder:
    """The images of a folder, for nodes; each is decoded once, and stays decoded up to a limit.

    Parameters
    ----------
    folder : str
    keep : int
        How many stay decoded. Beyond, the one that was not drawn for the longest time is freed, and decoded again where needed.

    Raises
    ------
    SceneError
        If the folder has no image, or one that cannot be decoded.
    """

    def __init__(self, folder: str, keep: int) -> None:
        from blendtorch.btb import blender

        self._paths = list_images(folder)
        self._keep = keep
        self._images: dict[Path, Any] = {}
        self._decoded: OrderedDict[Path, None] = OrderedDict()
        for path in self._paths:
            self._images[path] = blender.load_image(path)
            self._remember(path)

    def draw(self, rng: np.random.Generator) -> tuple[str, Any]:
        """Draw an image; each is as likely as any other.

        Returns
        -------
        name : str
            Of the file.
        image : bpy.types.Image
        """
        path = self._paths[int(rng.integers(len(self._paths)))]
        self._remember(path)
        return path.name, self._images[path]

    def close(self) -> None:
        """Remove the images."""
        import bpy

        for image in self._images.values():
            bpy.data.images.remove(image)
        self._images = {}

    def _remember(self, path: Path) -> None:
        from blendtorch.btb import blender

        self._decoded[path] = None
        self._decoded.move_to_end(path)
        if len(self._decoded) > self._keep:
            oldest, _ = self._decoded.popitem(last=False)
            blender.free_image(self._images[oldest])
