"""What a run is told, as data: written by `btt.stream` or by a script, checked, sent to every instance."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from blendtorch.core.assets import Asset
from blendtorch.core.distortion import Distortion
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Plugin

Entry = str | dict[str, Any]


class ObjectRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which objects of the scene get labels.

    Attributes
    ----------
    match : str
        Names of objects (of collections, for `instance="collection"`), with the wildcards `*`, `?` and `[]`.
    category : str
        Default: the name, without Blender's numbers (`.001`).
    instance : {'object', 'root', 'collection'}
        What is one instance: each object that matches; each with everything that is parented to it; each collection.
    """

    match: str
    category: str = ""
    instance: Literal["object", "root", "collection"] = "object"


class RunConfiguration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to render and to label; `btt.stream` explains the fields.

    The files of `assets` are absolute paths here: see `blendtorch.core.assets.resolve`.

    `repeat` is the number of samples of an epoch that is made again and again, whenever it is asked for. `exclude` has the
    indexes of samples that are not wanted, as `blendtorch.core.schedule.ranges_of` gives them.

    An entry of `renderers`, `annotators` and `randomizers` is a name, or a mapping with `name`, the options of that plug-in,
    and perhaps `as`, the name that it gets in this run.
    """

    renderers: tuple[Entry, ...] = ("workbench",)
    annotators: tuple[Entry, ...] = ()
    randomizers: tuple[Entry, ...] = ()
    objects: tuple[ObjectRule, ...] = ()
    assets: tuple[Asset, ...] = ()
    cameras: tuple[str, ...] = ()
    resolution: tuple[int, int] | None = None
    distortion: Distortion | None = None
    seed: int = 0
    start: int = 0
    count: int | None = None
    frames_per_episode: int = 1
    repeat: int | None = None
    exclude: tuple[tuple[int, int], ...] = ()
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("seed", 0), ("start", 0), ("count", 0), ("frames_per_episode", 1), ("repeat", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}: expected {least} or more")
        if self.resolution is not None and min(self.resolution) < 1:
            raise ValueError(f"resolution is {self.resolution}: expected width and height in pixels, each 1 or more")
        bounds = [bound for each in self.exclude for bound in each]
        if any(before >= after for before, after in itertools.pairwise([-1, *bounds])):
            raise ValueError("exclude: expected ranges of indexes, [first, behind the last], sorted and apart from each other")
        if self.exclude and self.repeat is not None:
            raise ValueError("exclude is for a run that goes on, and one that repeats an epoch makes all of it each time")
        if not self.renderers:
            raise ValueError("renderers is empty: name one, 'workbench' for example")


class PluginEntry(msgspec.Struct, frozen=True):
    """An entry of a configuration, taken apart.

    Attributes
    ----------
    name : str
        Of the plug-in.
    label : str
        In this run: the key in samples, and what its random numbers depend on.
    options : dict
    path : str
        Where in the configuration it stands.
    """

    name: str
    label: str
    options: dict[str, Any]
    path: str


def run_configuration(**fields: Any) -> RunConfiguration:
    """Check a description of a run, and make it plain data.

    Structs (distributions, options) become mappings, so that the result can be sent where their classes are not known.

    Raises
    ------
    ConfigurationError
        If a field is wrong; names its path.
    """
    try:
        plain = msgspec.to_builtins(fields, enc_hook=_plain)
        return msgspec.convert(plain, RunConfiguration)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigurationError(f"wrong configuration: {error}") from None


def entries(configured: Sequence[Entry], path: str) -> list[PluginEntry]:
    """Take the entries of a list of plug-ins apart.

    Parameters
    ----------
    configured : sequence
        Names, or mappings with `name`.
    path : str
        The field, `randomizers` for example.

    Raises
    ------
    ConfigurationError
        If an entry has no name, or two have the same.
    """
    found: list[PluginEntry] = []
    for number, entry in enumerate(configured):
        where = f"{path}[{number}]"
        options = {"name": entry} if isinstance(entry, str) else dict(entry)
        name, label = options.pop("name", None), options.pop("as", None)
        if not isinstance(name, str):
            raise ConfigurationError(f"{where}: expected a name, or a mapping with `name` and options; got {entry!r}")
        label = name if label is None else label
        if not isinstance(label, str) or not label:
            raise ConfigurationError(f"{where}.as: expected a name, got {label!r}")
        if any(other.label == label for other in found):
            raise ConfigurationError(f"{where}: {label!r} is there twice; give this one another name with `as`")
        found.append(PluginEntry(name, label, options, where))
    return found


def read_options(cls: type[Plugin], options: Mapping[str, Any], path: str) -> Any:
    """Check the options of a plug-in.

    Raises
    ------
    ConfigurationError
        Names the path of the wrong field, what was expected and what came.
    """
    try:
        # Not strict: YAML 1.1 takes 1e-3 for text.
        return msgspec.convert(dict(options), cls.Options, strict=False)
    except msgspec.ValidationError as error:
        text = str(error)
        text = text.replace("`$", f"`{path}") if "`$" in text else f"{text} - at `{path}`"
        known = ", ".join(each.encode_name for each in msgspec.structs.fields(cls.Options))
        hint = f"; {cls.name} has {known or 'no options'}" if "unknown field" in text else ""
        raise ConfigurationError(f"{text}{hint}") from None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    raise ConfigurationError(f"a {type(value).__name__} cannot be part of a configuration: {value!r}")
