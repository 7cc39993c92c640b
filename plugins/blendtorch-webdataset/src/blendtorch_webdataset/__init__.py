"""Samples as shards that webdataset streams: pictures as PNG, labels as JSON, arrays as NPZ; and back, bit for bit.

>>> import tempfile
>>> from pathlib import Path
>>> from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
>>> folder = Path(tempfile.mkdtemp())
>>> writer = Webdataset(WebdatasetOptions(samples_per_shard=2))
>>> writer.open(folder)
>>> for index in range(3):
...     writer.write(labelled_sample(index))
>>> said = writer.finish(CATEGORIES)
>>> sorted(path.name for path in folder.iterdir() if path.is_file())
['categories.json', 'train-000000.tar', 'train-000001.tar', 'train-shards.json']
>>> first = next(samples_of(folder / "train-000000.tar"))
>>> sorted(first)
['__key__', 'depth.npz', 'instance_ids.npz', 'json', 'masks_amodal.npz', 'npz', 'png']
>>> decode(first)["boxes2d_tight"]["xyxy"].shape
(5, 4)
"""

from blendtorch.core.hooks import hookimpl

from blendtorch_webdataset.members import decode, encode, pictures
from blendtorch_webdataset.writer import Webdataset, WebdatasetOptions, samples_of

__all__ = ["Webdataset", "WebdatasetOptions", "decode", "encode", "pictures", "samples_of"]


@hookimpl
def blendtorch_register_writers() -> type[Webdataset]:
    """Return the writer."""
    return Webdataset
