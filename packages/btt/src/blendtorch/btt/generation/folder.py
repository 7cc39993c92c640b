"""The folder of a data set: what is in it beside the samples, and whether a run may go on there."""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml
from blendtorch.btt.configuration import load_configuration
from blendtorch.btt.generation.format import Format
from blendtorch.btt.generation.normalization import differences
from blendtorch.btt.generation.versions import ExportedRecording, Versions
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import ConfigurationError

CONFIGURATION, VERSIONS, RECORDING = "configuration.yaml", "versions.json", "recording.json"
PREVIEW, AUDIT = "preview.png", "audit.png"
_HEAD = """\
# What these samples were made of; blendtorch generate has written it. To make the same ones again:
#
#     blendtorch generate --config {name} -o another_folder
#
# or live, in Python: btt.stream(**btt.load_configuration("{name}"))
"""
_MOST_NAMED = 5  # differences in an error


def checksums(normal: Mapping[str, Any]) -> dict[str, str]:
    """Compute the checksums of the files that a description names.

    Parameters
    ----------
    normal : mapping
        In its normal form.
    """
    scene = [normal["scene"]] if normal["scene"] else []
    paths = [*scene, *(path for asset in normal["assets"] for path in asset["files"]), *normal["plugins"]]
    return {path: checksum(path) for path in paths}


def checksum(path: str) -> str:
    """Compute the checksum (SHA-256) of a file."""
    with open(path, "rb") as file:  # noqa: PTH123 - as file_digest wants it
        return hashlib.file_digest(file, "sha256").hexdigest()


class DataFolder:
    """A folder of samples, with `configuration.yaml` and `versions.json`, and `recording.json` where they were exported.

    Several runs may write into it at the same time: each file is replaced as a whole, and what two write is the same.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.configuration = self.path / CONFIGURATION
        self.versions = self.path / VERSIONS
        self.preview = self.path / PREVIEW
        self.audit = self.path / AUDIT
        self.recording = self.path / RECORDING

    def make(self) -> None:
        """Make it, and try whether it can be written to.

        Raises
        ------
        ConfigurationError
            If it cannot.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"-o {self.path}: cannot write there ({error.strerror or error}): name another folder, or change who may write"
            ) from None

    def check(self, normal: Mapping[str, Any], files: Mapping[str, str], written_as: Format) -> None:
        """Refuse to mix two data sets.

        Parameters
        ----------
        normal : mapping
            The description of the run, in its normal form.
        files : mapping of str to str
            Checksums of the files that it names.
        written_as : Format

        Raises
        ------
        ConfigurationError
            If the samples that are there were described otherwise; names the differences.
        """
        if not self.configuration.exists():
            return
        found = differences(load_configuration(self.configuration), normal)
        made_of = {path: digest for each in self.read_versions() for path, digest in each.files.items()}
        found += [f"{path}: the file has changed" for path, digest in files.items() if made_of.get(path, digest) != digest]
        found += self.other_formats(written_as)
        if found:
            raise ConfigurationError(self.refusal("another configuration", found))

    def other_formats(self, written_as: Format) -> list[str]:
        """Name what the writer of the samples that are there had otherwise."""
        return list(dict.fromkeys(text for each in self.read_versions() for text in written_as.differences(each.writer)))

    def refusal(self, what: str, found: Sequence[str]) -> str:
        """Write the sentence that refuses to mix what is there with something else.

        Parameters
        ----------
        what : str
            That there are samples of.
        found : sequence of str
            The differences.
        """
        more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
        listed = "".join(f"\n  {each}" for each in [*found[:_MOST_NAMED], *more])
        return (
            f"{self.path} has samples of {what}:{listed}\n"
            "Name another folder with -o, go on with what is there by the same arguments, or replace it with --overwrite"
        )

    def note_configuration(self, normal: Mapping[str, Any]) -> None:
        """Write down what the samples are made of; the range of those that are there already is kept.

        Raises
        ------
        ConfigurationError
            If it cannot be written.
        """
        start, count = normal["start"], normal["count"]
        if self.configuration.exists():
            before = load_configuration(self.configuration)
            end = max(start + count, before["start"] + before["count"])
            start = min(start, before["start"])
            count = end - start
        text = yaml.safe_dump(
            {**normal, "start": start, "count": count}, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
        )
        _write(self.configuration, (_HEAD.format(name=CONFIGURATION) + text).encode())

    def read_versions(self) -> list[Versions]:
        """Read what has made the samples; several entries where that has changed."""
        try:
            return msgspec.json.decode(self.versions.read_bytes(), type=list[Versions])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{self.versions} is not what blendtorch has written: {error}") from None

    def note_beginning(self, versions: Versions) -> None:
        """Write down, before the first sample, what is known already of what makes samples; nothing where there are some.

        Raises
        ------
        ConfigurationError
            If it cannot be written.
        """
        if not self.read_versions():
            self._write_versions([versions])

    def note_versions(self, versions: Versions) -> list[Versions]:
        """Write down what makes samples; returns what made others before, where that was something else.

        Entries that differ in categories alone become one.

        Raises
        ------
        ConfigurationError
            If it cannot be written.
        """
        known, others = self.read_versions(), []
        for each in known:
            if not each.blender or msgspec.structs.replace(each, categories=versions.categories) == versions:
                versions = msgspec.structs.replace(versions, categories={**each.categories, **versions.categories})
            else:
                others.append(each)
        if known != [*others, versions]:
            self._write_versions([*others, versions])
        return others

    def _write_versions(self, versions: Sequence[Versions]) -> None:
        _write(self.versions, msgspec.json.format(msgspec.json.encode(versions)) + b"\n")

    @property
    def categories(self) -> dict[int, str]:
        """What the objects in the samples are labelled as, by their ids."""
        return {number: name for each in self.read_versions() for number, name in each.categories.items()}

    def read_recording(self) -> ExportedRecording | None:
        """Read what recording the samples were exported from; None where they were not.

        Raises
        ------
        ConfigurationError
            If the file is damaged.
        """
        try:
            return msgspec.json.decode(self.recording.read_bytes(), type=ExportedRecording)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{self.recording} is not what blendtorch has written: {error}") from None

    def note_recording(self, exported: ExportedRecording) -> None:
        """Write down what recording the samples are exported from.

        Raises
        ------
        ConfigurationError
            If it cannot be written.
        """
        _write(self.recording, msgspec.json.format(msgspec.json.encode(exported)) + b"\n")

    def copy_configuration(self, other: Self) -> None:
        """Take over what samples of another folder were made of.

        Raises
        ------
        ConfigurationError
            If it cannot be read or written.
        """
        try:
            content = other.configuration.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {other.configuration}: {error.strerror or error}") from None
        _write(self.configuration, content)

    def remove(self, path: Path) -> None:
        """Remove one of these files, if it is there, and its drafts."""
        path.unlink(missing_ok=True)
        for draft in self.path.glob(f"{path.name}.*.part"):
            draft.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror or error}: free some room, and run it again") from None
