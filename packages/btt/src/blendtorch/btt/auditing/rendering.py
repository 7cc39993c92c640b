"""Samples rendered again from their seeds, and brought into the form in which the data set has them."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.auditing.data import DataSet, all_but, differences
from blendtorch.btt.generation.writing import named
from blendtorch.btt.runtimes import find_candidates
from blendtorch.btt.streaming import stream
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.selection import LabelOptions, pictures_of

Sample = Mapping[str, Any]
Renderer = Callable[[DataSet, Sequence[int]], Iterator[Sample]]


def choose(indexes: Sequence[int], count: int, seed: int) -> list[int]:
    """Choose samples, spread over all: one of each of `count` parts of the same size, by a hash.

    Parameters
    ----------
    indexes : sequence of int
        In order.
    count : int
    seed : int
        Another one chooses others.

    Examples
    --------
    >>> choose(range(100), 4, 0) == choose(range(100), 4, 0)
    True
    >>> [index // 25 for index in choose(range(100), 4, 0)]
    [0, 1, 2, 3]
    """
    count = min(count, len(indexes))
    bounds = [place * len(indexes) // count for place in range(count)] if count else []
    chosen = []
    for begin, end in zip(bounds, [*bounds[1:], len(indexes)], strict=True) if count else ():
        chosen.append(min(indexes[begin:end], key=lambda index: hashlib.sha256(f"{seed}/{index}".encode()).digest()))
    return chosen


class RenderAgain:
    """Renders samples with Blender, as the configuration of a data set says.

    Parameters
    ----------
    blender : str, optional
        Which one. Default: one of the version that made the samples, if it is here, else the usual one.

    Attributes
    ----------
    differing : list of str
        What is another version than when the samples were made; known after the first sample.
    """

    def __init__(self, blender: str | None = None) -> None:
        self._blender = blender
        self.differing: list[str] = []

    def __call__(self, data: DataSet, indexes: Sequence[int]) -> Iterator[Sample]:
        """Render samples, in any order.

        Raises
        ------
        ConfigurationError
            If the configuration does not make all of them.
        BlendtorchError
            If Blender fails.
        """
        data.require_configuration()
        start, count = data.configuration.get("start", 0), data.configuration.get("count", 0)
        if beyond := [index for index in indexes if not start <= index < start + count]:
            raise ConfigurationError(
                f"{data.folder.configuration} makes the samples {start} to {start + count - 1}, and {data.folder.path} has "
                f"{beyond[0]}: mend start and count there"
            )
        then = data.versions[-1].blender
        changes = {"exclude": all_but(indexes, start, count), "shard": (0, 1), "blender": self._blender or _same(then)}
        with stream(**{**data.configuration, **changes}) as dataset:
            for sample in dataset:
                if then and not self.differing:
                    now = msgspec.json.decode(sample["meta"]["versions"], type=dict[str, str])
                    self.differing = differences({name: text for name, text in then.items() if name != "python"}, now)
                yield sample


def _same(versions: Mapping[str, str]) -> str | None:
    """Look for a Blender of the version that made the samples; None for the usual one."""
    wanted = versions.get("blender", "").split()[:1]
    for each in find_candidates():
        if each.runtime is not None and [".".join(map(str, each.runtime.version))] == wanted:
            return None if each.is_default else str(each.path)
    return None


def as_stored(data: DataSet, sample: Sample) -> Sequence[LabelledPicture]:
    """Write a sample with the data set's own writer into a folder that does not stay, and read it back.

    So it is rounded as the stored one is, whatever the format: what is left between them is no rounding.
    """
    index = int(sample["meta"]["index"])
    with tempfile.TemporaryDirectory(prefix="blendtorch-audit-") as folder:
        opened = data.writer_in(Path(folder))
        try:
            writer = opened.open()
            with named(writer, f"write sample {index} again"):
                writer.write(sample)
                writer.finish(data.categories)
                return writer.read(index)
        finally:
            opened.close()


def as_rendered(data: DataSet, sample: Sample) -> Sequence[LabelledPicture]:
    """List what the labels of a sample are before a format rounds them; nothing where they are no boxes."""
    options = data.writer.options
    try:
        return pictures_of(sample, options if isinstance(options, LabelOptions) else LabelOptions(loose=True))
    except ConfigurationError:
        return ()
