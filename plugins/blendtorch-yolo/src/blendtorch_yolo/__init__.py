"""Pictures with YOLO's labels: boxes, polygons or keypoints, in files that ultralytics reads.

>>> import tempfile
>>> from pathlib import Path
>>> from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
>>> folder = Path(tempfile.mkdtemp())
>>> writer = Yolo(YoloOptions(split={"train": 1}))
>>> writer.open(folder)
>>> writer.write(labelled_sample(7))
>>> for sentence in writer.finish(CATEGORIES):
...     print(sentence)
there is no part val, which readers want: data.yaml names train for it
1 objects are dropped, and are in the pictures: 1 flagged by its annotator: the renderer shows it otherwise
1 objects are left out: 1 not seen in the picture
>>> print((folder / "labels" / "train" / "000007.txt").read_text().splitlines()[0])
0 0.203125 0.61458333 0.0625 0.0625
"""

from blendtorch.core.hooks import hookimpl

from blendtorch_yolo.polygons import filled, polygon_of
from blendtorch_yolo.writer import Yolo, YoloOptions

__all__ = ["Yolo", "YoloOptions", "filled", "polygon_of"]


@hookimpl
def blendtorch_register_writers() -> type[Yolo]:
    """Return the writer."""
    return Yolo
