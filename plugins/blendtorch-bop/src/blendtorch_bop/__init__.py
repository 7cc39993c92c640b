"""Data sets in the BOP format (scenewise), which the tools of 6D pose estimation read.

>>> import tempfile
>>> from pathlib import Path
>>> from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
>>> folder = Path(tempfile.mkdtemp())
>>> writer = Bop(BopOptions())
>>> writer.open(folder)
>>> writer.write(labelled_sample(7))
>>> for sentence in writer.finish(CATEGORIES)[:1]:
...     print(sentence)
1 objects have no annotation in scene_gt_coco.json: 1 not seen in the picture
>>> sorted(path.name for path in (folder / "train_pbr" / "000000").iterdir() if path.suffix)
['scene_camera.json', 'scene_gt.json', 'scene_gt_coco.json', 'scene_gt_info.json']
>>> sorted(path.name for path in (folder / "train_pbr" / "000000" / "mask_visib").iterdir())[:2]
['000007_000000.png', '000007_000001.png']
"""

from blendtorch.core.hooks import hookimpl

from blendtorch_bop.options import BopOptions
from blendtorch_bop.writer import Bop

__all__ = ["Bop", "BopOptions"]


@hookimpl
def blendtorch_register_writers() -> type[Bop]:
    """Return the writer."""
    return Bop
