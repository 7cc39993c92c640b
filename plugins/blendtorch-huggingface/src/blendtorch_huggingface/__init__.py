"""Samples as a folder that `datasets.load_dataset` opens: Parquet files with features, and a card.

>>> import tempfile
>>> from pathlib import Path
>>> from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
>>> folder = Path(tempfile.mkdtemp())
>>> writer = Huggingface(HuggingfaceOptions(samples_per_shard=2))
>>> writer.open(folder)
>>> for index in range(3):
...     writer.write(labelled_sample(index))
>>> said = writer.finish(CATEGORIES)
>>> sorted(str(path.relative_to(folder)) for path in folder.glob("[a-zA-Z]*/*"))
['data/train-000000.parquet', 'data/train-000001.parquet']
>>> "license" in (folder / "README.md").read_text()
False
"""

from blendtorch.core.hooks import hookimpl

from blendtorch_huggingface.writer import Huggingface, HuggingfaceOptions

__all__ = ["Huggingface", "HuggingfaceOptions"]


@hookimpl
def blendtorch_register_writers() -> type[Huggingface]:
    """Return the writer."""
    return Huggingface
