"""Pictures with COCO's labels: boxes, masks and keypoints, in files that pycocotools reads.

>>> import json, tempfile
>>> from pathlib import Path
>>> from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
>>> folder = Path(tempfile.mkdtemp())
>>> writer = Coco(CocoOptions(split={"train": 1}))
>>> writer.open(folder)
>>> writer.write(labelled_sample(7))
>>> for sentence in writer.finish(CATEGORIES):
...     print(sentence)
1 objects are ignored (iscrowd): 1 flagged by its annotator: the renderer shows it otherwise
1 objects are left out: 1 not seen in the picture
>>> labels = json.loads((folder / "annotations" / "instances_train.json").read_text())
>>> labels["images"][0]["file_name"], [each["name"] for each in labels["categories"]]
('000007.png', ['card', 'stamp'])
>>> labels["annotations"][0]["bbox"]
[11.0, 28.0, 4.0, 3.0]
"""

from blendtorch.core.hooks import hookimpl

from blendtorch_coco.writer import Coco, CocoOptions

__all__ = ["Coco", "CocoOptions"]


@hookimpl
def blendtorch_register_writers() -> type[Coco]:
    """Return the writer."""
    return Coco
