"""Which writer writes, with which options: what `--format`, `--split` and `--loose` say."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.generation.normalization import unequal
from blendtorch.btt.generation.writing import WriterInFolder, named
from blendtorch.core.configuration import Entry, entries, read_options
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import Writer

ORIGIN = "--format"


@dataclass(frozen=True)
class Format:
    """A writer that was chosen, its options checked.

    Attributes
    ----------
    cls : type
        Derived from `Writer`.
    options : Options
    source : str
        What has the writer: its distribution with its version, or a file.
    """

    cls: type[Writer]
    options: Any
    source: str

    @property
    def description(self) -> dict[str, Any]:
        """Name and options, as plain data."""
        return {"name": self.cls.name, **_plain(self.options)}

    def into(self, folder: Path) -> WriterInFolder:
        """Make the writer of a folder."""
        return WriterInFolder(self.cls, self.options, folder)

    def check(self, names: Collection[str]) -> None:
        """Let the writer refuse samples that have not what it needs.

        Parameters
        ----------
        names : collection of str
            Of the arrays of a sample.

        Raises
        ------
        ConfigurationError
            Says what is missing, and what to do.
        """
        writer = self.cls(self.options)
        try:
            with named(writer, "check what samples have"):
                writer.check(frozenset(names))
        except ConfigurationError as error:
            raise ConfigurationError(f"{ORIGIN}: {error}") from None

    def differences(self, there: Mapping[str, Any]) -> list[str]:
        """Name what the writer of a folder's samples had otherwise; an option that it did not have yet had its default.

        Parameters
        ----------
        there : mapping
            A `description`.
        """
        here = self.description
        if there.get("name") != here["name"]:
            return [f"format: {there.get('name')!r} there, {here['name']!r} here"]
        try:
            options = read_options(self.cls, {name: value for name, value in there.items() if name != "name"}, ORIGIN)
        except ConfigurationError:  # an option that is no more
            return list(unequal(there, here, "format"))
        return list(unequal(_plain(options), _plain(self.options), "format"))


def find_format(
    written_as: Entry,
    catalogue: Catalogue,
    split: Mapping[str, float] | None = None,
    loose: bool = False,
    origin: str = ORIGIN,
) -> Format:
    """Find a writer and check its options.

    Parameters
    ----------
    written_as : str or mapping
        Its name, or a mapping with `name` and its options.
    catalogue : Catalogue
    split : mapping of str to float, optional
        Its option of that name.
    loose : bool
        The same; False leaves the option alone.
    origin : str
        Where the name comes from, for errors.

    Raises
    ------
    PluginError
        If there is no such writer.
    ConfigurationError
        If an option is wrong, or it has no such option.
    """
    if not isinstance(written_as, (str, Mapping)):
        raise ConfigurationError(f"{origin}: expected the name of a writer, or {{name: ..., options}}; got {written_as!r}")
    (entry,) = entries([written_as], origin)
    try:
        found = catalogue.find("writer", entry.name)
    except PluginError as error:
        raise PluginError(f"{origin}: {error}") from None
    if not issubclass(found.cls, Writer):
        raise PluginError(f"{origin}: {entry.name!r} is no writer")
    options = dict(entry.options)
    known = {each.encode_name for each in msgspec.structs.fields(found.cls.Options)}
    for name, value, what in (
        ("split", dict(split or {}), "does not divide samples into parts"),
        ("loose", loose, "has no labels that could be loose"),
    ):
        if value and name not in known:
            raise ConfigurationError(
                f"--{name}: the format {entry.name!r} {what}: leave --{name} out, or choose another format with --format"
            )
        if value:
            options[name] = value
    source = f"{found.source.distribution} {found.source.version}" if found.source.distribution else found.source.module
    return Format(found.cls, read_options(found.cls, options, origin), source)


def parse_split(text: str) -> dict[str, float]:
    """Read what `--split` is given.

    Raises
    ------
    ConfigurationError
        If it is no list of names with numbers.

    Examples
    --------
    >>> parse_split("train=0.9,val=0.1")
    {'train': 0.9, 'val': 0.1}
    """
    parts: dict[str, float] = {}
    for part in text.split(","):
        name, equals, size = (each.strip() for each in part.partition("="))
        try:
            value = float(size)
        except ValueError:
            value = -1.0
        if not name or not equals or not 0 <= value < float("inf") or name in parts:
            raise ConfigurationError(
                f"--split {text}: expected names and the part of the episodes that each gets: --split train=0.9,val=0.1"
            )
        parts[name] = value
    return parts


def _plain(options: Any) -> dict[str, Any]:
    """Make what JSON gives back: lists for tuples."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(options, enc_hook=str))
    return plain
