"""Everything that can be known of an export before its first sample, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.cpus import allowed_cpus
from blendtorch.btt.exporting.source import Source, open_source
from blendtorch.btt.generation.clearing import clear
from blendtorch.btt.generation.estimate import check_space, in_units, shapes_in
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.format import Format, find_format
from blendtorch.btt.generation.versions import ExportedRecording, Versions, versions_here
from blendtorch.btt.generation.writing import WriterInFolder, named
from blendtorch.core.configuration import Entry
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, RecordingError
from blendtorch.core.selection import array_names

_OF_EPISODES = ("seed", "episode")  # what `meta` has to have where samples are divided
_MOST_WORKERS = 8


@dataclass
class ExportPlan:
    """An export that can begin.

    Attributes
    ----------
    source : Source
    folder : DataFolder
    writer : WriterInFolder
    format : Format
    written : frozenset of int
        Samples of the recording that are there already.
    made_by : tuple of Versions
        What has made the samples, as far as it is known before they are read.
    workers : int
        Processes that write.
    skip_damaged : bool
    notices : tuple of str
        What the user should know.
    """

    source: Source
    folder: DataFolder
    writer: WriterInFolder
    format: Format
    written: frozenset[int]
    made_by: tuple[Versions, ...]
    workers: int
    skip_damaged: bool
    notices: tuple[str, ...]

    @property
    def recorded(self) -> DataFolder:
        """The folder of the recording, which says what its samples were made of where `blendtorch generate` has recorded."""
        return DataFolder(self.source.folder)


def make_export(
    recording: str,
    output: str,
    written_as: Entry,
    *,
    plugins: Sequence[str] = (),
    workers: int | None = None,
    overwrite: bool = False,
    split: Mapping[str, float] | None = None,
    loose: bool = False,
    skip_damaged: bool = False,
) -> ExportPlan:
    """Check everything that can be checked before the first sample.

    Makes the folder, and nothing in it; with `overwrite` it removes what was written there before.

    Parameters
    ----------
    recording : str
        A prefix, a folder or a file.
    output : str
        The folder of the data.
    written_as : str or mapping
        The writer: its name, or a mapping with `name` and its options.
    plugins : sequence of path
        Python files with plug-ins that are not packaged.
    workers : int, optional
        Processes that write. Default: one for each CPU, eight at most.
    overwrite : bool
    split, loose
        Options of the writer.
    skip_damaged : bool
        Leave out samples that are damaged.

    Raises
    ------
    BlendtorchError
        Of whatever is wrong; says what to do.
    """
    catalogue = Catalogue(plugins)
    chosen = find_format(written_as, catalogue, split, loose)
    try:
        source = open_source(recording)
    except RecordingError as error:
        if versions := DataFolder(recording).read_versions():
            raise RecordingError(
                f"{recording} has samples of the format {versions[-1].writer.get('name')!r}, and export takes recordings: make "
                "one with blendtorch generate --format recording"
            ) from None
        raise error from None
    chosen.check(array_names(source.first))
    _check_episodes(chosen, source)
    folder = DataFolder(output)
    if folder.path.resolve() == source.folder.resolve():
        raise ConfigurationError(f"-o {output} is the folder of the recording itself: name another one")
    folder.make()
    writer = chosen.into(folder.path)
    there: frozenset[int] = frozenset()
    if not overwrite:
        _check_what_is_known(folder, source, chosen)  # before the writer makes its folders there
        with named(writer.open(), "list what is there"):
            there = writer.open().written()
        if there and folder.read_recording() is None:
            raise ConfigurationError(folder.refusal("something else", [f"{len(there)} samples that nothing is known of"]))
    written = there.intersection(source.places)
    needed = check_space(folder.path, writer.open(), shapes_in(source.first), len(source.places) - len(written))
    if overwrite:  # now that nothing else can be wrong
        clear(folder, chosen, writer, catalogue)
    return ExportPlan(
        source=source,
        folder=folder,
        writer=writer,
        format=chosen,
        written=written,
        made_by=_made_by(source, chosen),
        workers=min(_MOST_WORKERS, allowed_cpus()) if workers is None else workers,
        skip_damaged=skip_damaged,
        notices=(*source.notices, *([f"They take about {in_units(needed)} on disk"] if needed else ())),
    )


def note_origin(plan: ExportPlan) -> None:
    """Write down, before the first sample, what is exported and what has made it.

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    """
    known = plan.folder.read_recording()
    ids = sorted({*plan.source.ids, *(known.ids if known else ())})
    plan.folder.note_recording(ExportedRecording(recording=str(Path(plan.source.path).absolute()), ids=tuple(ids)))
    for versions in plan.made_by:
        note = plan.folder.note_versions if versions.blender else plan.folder.note_beginning
        note(versions)
    if plan.recorded.configuration.exists():
        plan.folder.copy_configuration(plan.recorded)


def _check_episodes(chosen: Format, source: Source) -> None:
    """Refuse samples that no writer can divide."""
    if not any(each.encode_name == "split" for each in msgspec.structs.fields(chosen.cls.Options)):
        return
    meta: Mapping[str, Any] = source.first["meta"]
    if missing := [f"meta.{name}" for name in _OF_EPISODES if name not in meta]:
        raise ConfigurationError(
            f"--format: {chosen.cls.name!r} divides samples by their seed and their episode, and those of {source.path} have "
            f"no {' and no '.join(missing)}: record with btt.stream or blendtorch generate, give them where you record, or "
            "export with --format images"
        )


def _check_what_is_known(folder: DataFolder, source: Source, chosen: Format) -> None:
    """Refuse to mix two data sets."""
    exported = folder.read_recording()
    if exported is None:
        if folder.configuration.exists():
            raise ConfigurationError(
                folder.refusal("something else", [f"samples of blendtorch generate: {folder.configuration.name}"])
            )
        if folder.versions.exists():
            raise ConfigurationError(folder.refusal("something else", [f"{folder.versions.name} of something else"]))
        return
    known, here = set(exported.ids), set(source.ids)
    if not (known <= here or here <= known):
        raise ConfigurationError(
            folder.refusal("another recording", [f"recording: {exported.recording} there, {Path(source.path).absolute()} here"])
        )
    if found := folder.other_formats(chosen):
        raise ConfigurationError(folder.refusal("the same recording, written otherwise", found))


def _made_by(source: Source, chosen: Format) -> tuple[Versions, ...]:
    """Say what has made the samples: as their folder says it, where `blendtorch generate` has recorded."""
    written = {"trainer": versions_here(chosen.source), "writer": chosen.description}
    there = [each for each in DataFolder(source.folder).read_versions() if each.writer.get("name") == "recording"]
    if there:
        return tuple(msgspec.structs.replace(each, **written) for each in there)
    return (Versions(**written, blender={}, categories=source.dataset.categories or {}),)
