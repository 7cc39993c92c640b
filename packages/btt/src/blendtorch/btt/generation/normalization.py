"""Two descriptions of the same data are the same description: options in full, paths absolute, nothing of the machine.

What is written beside a data set is of this form, and what another run of the same folder is compared with.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.generation.arguments import Arguments
from blendtorch.core.assets import Asset, resolve
from blendtorch.core.configuration import Entry, entries, read_options
from blendtorch.core.discovery import Catalogue, Kind
from blendtorch.core.errors import PluginError

# Where and how a run is made; the data are the same.
OF_THE_MACHINE = frozenset(
    {"num_instances", "blender", "devices", "show_output", "queue_size", "timeoutms"}
    | {"restart", "shard", "epoch", "epoch_size", "exclude"}
)
RANGE = frozenset({"start", "count"})  # which samples: several runs may share a folder
_DEVICE = "device"  # the option of renderers
_PATHS = frozenset({"folder", "file", "files", "path"})  # options of plug-ins that name files

_KINDS: dict[str, Kind] = {"renderer": "renderer", "annotators": "annotator", "randomizers": "randomizer"}


def normalized(arguments: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Bring a description of a run into its normal form.

    Parameters
    ----------
    arguments : mapping
        Of `btt.stream`.
    catalogue : Catalogue
        That has all its plug-ins.

    Returns
    -------
    dict
        Plain data, which `btt.stream` takes, too. Without what is of the machine.

    Raises
    ------
    ConfigurationError, PluginError
        If the options of a plug-in are wrong, or it is absent.
    """
    full = {**_plain(Arguments()), **_plain(dict(arguments))}
    normal = {name: value for name, value in full.items() if name not in OF_THE_MACHINE}
    for name, kind in _KINDS.items():
        configured = normal[name]
        normal[name] = _explicit([configured] if isinstance(configured, (str, dict)) else configured, kind, catalogue)
    if len(normal["renderer"]) == 1:
        (normal["renderer"],) = normal["renderer"]
    if normal["scene"]:
        normal["scene"] = _absolute(normal["scene"])
    normal["assets"] = _plain(resolve(msgspec.convert(normal["assets"], tuple[Asset, ...])))
    normal["plugins"] = [_absolute(path) for path in normal["plugins"]]
    return normal


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Name what two normal forms differ in, beside the range of samples and the device.

    Examples
    --------
    >>> differences({"seed": 1, "count": 5, "cameras": ["A"]}, {"seed": 2, "count": 9, "cameras": ["A"]})
    ['seed: 1 there, 2 here']
    """
    return list(unequal(_comparable(there), _comparable(here), ""))


def _comparable(normal: Mapping[str, Any]) -> dict[str, Any]:
    compared = {name: value for name, value in normal.items() if name not in RANGE}
    renderers = compared.get("renderer", [])
    renderers = [renderers] if isinstance(renderers, (str, dict)) else renderers
    compared["renderer"] = [
        {key: value for key, value in each.items() if key != _DEVICE} if isinstance(each, dict) else each for each in renderers
    ]
    return compared


def unequal(there: Any, here: Any, path: str) -> Iterator[str]:
    """Name what two values of plain data differ in, by their paths."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from unequal(there.get(key), here.get(key), f"{path}.{key}" if path else key)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, (first, second) in enumerate(zip(there, here, strict=True)):
            yield from unequal(first, second, f"{path}[{number}]")
    elif there != here:
        yield f"{path}: {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    if isinstance(value, list):
        names = [each.get("as") or each.get("name") or each if isinstance(each, dict) else each for each in value]
        value = names
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _explicit(configured: list[Entry], kind: Kind, catalogue: Catalogue) -> list[dict[str, Any]]:
    """Write the options of each entry in full."""
    explicit = []
    for entry in entries(configured, f"{kind}s"):
        try:
            cls = catalogue.find(kind, entry.name).cls
        except PluginError as error:
            raise PluginError(f"{entry.path}: {error}") from None
        options = _plain(read_options(cls, entry.options, entry.path))
        options = {key: _absolute_in(value) if key in _PATHS else value for key, value in options.items()}
        label = {} if entry.label == entry.name else {"as": entry.label}
        explicit.append({"name": entry.name, **label, **options})
    return explicit


def _plain(value: Any) -> Any:
    """Make what a file would give: lists for tuples, mappings for Structs, text for paths."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))


def _absolute_in(value: Any) -> Any:
    if isinstance(value, str):
        return _absolute(value) if value else value
    return [_absolute_in(each) for each in value] if isinstance(value, (list, tuple)) else value


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
