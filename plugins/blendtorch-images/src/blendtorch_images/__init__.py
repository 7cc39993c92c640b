"""Samples as files that other programs open: pictures as PNG, maps of floats as EXR, labels as JSON; and back, bit for bit.

>>> import tempfile
>>> import numpy as np
>>> from pathlib import Path
>>> folder = Path(tempfile.mkdtemp())
>>> writer = Images(ImagesOptions())
>>> writer.open(folder)
>>> depth = np.full((48, 64), np.inf, np.float32)
>>> writer.write({"image": np.zeros((48, 64, 3), np.uint8), "depth": {"depth": depth}, "meta": {"index": 7}})
>>> sorted(path.name for path in folder.iterdir())
['000007.depth.exr', '000007.json', '000007.png']
>>> bool((read(folder, 7)["depth"]["depth"] == depth).all())
True
"""

from blendtorch.core.hooks import hookimpl

from blendtorch_images.layout import indexes
from blendtorch_images.reader import read, read_categories
from blendtorch_images.writer import Images, ImagesOptions

__all__ = ["Images", "ImagesOptions", "indexes", "read", "read_categories"]


@hookimpl
def blendtorch_register_writers() -> type[Images]:
    """Return the writer."""
    return Images
