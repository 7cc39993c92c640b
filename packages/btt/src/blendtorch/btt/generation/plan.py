"""Everything that can be known of a run before its first frame, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blendtorch.btt.cpus import allowed_cpus
from blendtorch.btt.generation.arguments import check_arguments
from blendtorch.btt.generation.clearing import clear
from blendtorch.btt.generation.estimate import arrays_of, check_space, in_units, shapes_of
from blendtorch.btt.generation.folder import DataFolder, checksums
from blendtorch.btt.generation.format import Format, find_format
from blendtorch.btt.generation.normalization import normalized
from blendtorch.btt.generation.writing import WriterInFolder, named
from blendtorch.btt.streaming import Stream, stream
from blendtorch.core.composition import Composition, compose
from blendtorch.core.configuration import Entry, RunConfiguration
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.payload import ArraySpec

# Of a stream: samples that are written are made once, whoever trains with them.
_NOT_FOR_FILES = ("epoch", "epoch_size", "shard", "exclude")
_OBJECTS = 16  # of interest, where nothing says how many there are


@dataclass
class Plan:
    """A run that can begin.

    Attributes
    ----------
    arguments : dict
        Of `btt.stream`.
    configuration : RunConfiguration
    composition : Composition
    normal : dict
        The description, in its normal form.
    folder : DataFolder
    writer : WriterInFolder
    format : Format
    files : dict of str to str
        Checksums of the files that the data are made of.
    written : frozenset of int
        Samples that are there already, of this range.
    workers : int
        Processes that write.
    notices : list of str
        What the user should know.
    """

    arguments: dict[str, Any]
    configuration: RunConfiguration
    composition: Composition
    normal: dict[str, Any]
    folder: DataFolder
    writer: WriterInFolder
    format: Format
    files: dict[str, str]
    written: frozenset[int]
    workers: int
    notices: list[str] = field(default_factory=list)

    @property
    def indexes(self) -> range:
        """The samples of this run."""
        return range(self.arguments["start"], self.arguments["start"] + self.arguments["count"])

    def stream(self, **changes: Any) -> Stream:
        """Make the stream of the samples that are missing."""
        left_out = {"exclude": self.written} if self.written else {}
        return stream(**{**self.arguments, "shard": (0, 1), **left_out, **changes})


def make_plan(
    configuration: Mapping[str, Any],
    origin: str,
    output: str,
    written_as: Entry = "images",
    workers: int | None = None,
    overwrite: bool = False,
    split: Mapping[str, float] | None = None,
    loose: bool = False,
) -> Plan:
    """Check everything that can be checked before the first frame.

    Makes the folder, and nothing in it; with `overwrite` it removes what was written there before.

    Parameters
    ----------
    configuration : mapping
        The arguments of `btt.stream`.
    origin : str
        Where they come from, for errors.
    output : str
        The folder of the data.
    written_as : str or mapping
        The writer: its name, or a mapping with `name` and its options.
    workers : int, optional
        Processes that write. Default: by the number of CPUs.
    overwrite : bool
    split, loose
        Options of the writer.

    Raises
    ------
    BlendtorchError
        Of whatever is wrong; says what to do.
    """
    arguments = check_generation(configuration, origin)
    catalogue = Catalogue(arguments.get("plugins", ()))
    normal = normalized(arguments, catalogue)
    made = stream(**arguments, shard=(0, 1))  # checks the rest: scene, plug-ins together, Blender
    composition = compose(made.configuration, catalogue)
    written = find_format(written_as, catalogue, split, loose)
    arrays = arrays_of(composition, made.configuration.cameras)
    written.check(arrays)
    folder = DataFolder(output)
    folder.make()
    writer = written.into(folder.path)
    files = checksums(normal)
    there: frozenset[int] = frozenset()
    if not overwrite:
        folder.check(normal, files, written)
        with named(writer.open(), "list what is there"):
            there = writer.open().written()
    if there and not folder.configuration.exists():
        raise ConfigurationError(
            f"{folder.path} has {len(there)} samples, and no {folder.configuration.name} that says how they were made: name "
            "another folder with -o, or replace them with --overwrite"
        )
    plan = Plan(
        arguments=arguments,
        configuration=made.configuration,
        composition=composition,
        normal=normal,
        folder=folder,
        writer=writer,
        format=written,
        files=files,
        written=there.intersection(range(arguments["start"], arguments["start"] + arguments["count"])),
        workers=max(1, min(4, allowed_cpus() // 2)) if workers is None else workers,
    )
    _check_space(plan, arrays)
    if overwrite:  # now that nothing else can be wrong
        clear(folder, written, writer, catalogue)
    return plan


def check_generation(configuration: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Check the arguments of a run whose samples are written; see `check_arguments`.

    Raises
    ------
    ConfigurationError
        Also where `count` is missing or 0, or something is given that a run without training has not.
    """
    arguments = {"start": 0, **check_arguments(configuration, origin)}
    for name in _NOT_FOR_FILES:
        if name in arguments:
            raise ConfigurationError(f"{origin}: {name} is for streams, and generate writes each sample once: leave it out")
    if not arguments.get("count"):
        raise ConfigurationError(
            f"{origin}: count is {arguments.get('count')}: say how many samples to make, with --count 1000"
        )
    return arguments


def _check_space(plan: Plan, arrays: Mapping[str, ArraySpec]) -> None:
    if plan.configuration.resolution is None:
        plan.notices.append("What the samples take on disk is not known before: give a resolution to have it checked")
        return
    most = sum(_most(asset.get("count", 1)) for asset in plan.arguments.get("assets", ()) if isinstance(asset, dict))
    shapes = shapes_of(arrays, plan.configuration.resolution, most or _OBJECTS)
    needed = check_space(plan.folder.path, plan.writer.open(), shapes, plan.arguments["count"] - len(plan.written))
    if needed:
        plan.notices.append(f"They take about {in_units(needed)} on disk")


def _most(count: int | list[int]) -> int:
    return count if isinstance(count, int) else max(count)
