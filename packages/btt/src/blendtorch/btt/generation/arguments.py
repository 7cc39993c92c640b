"""What a configuration file may hold: the arguments of `btt.stream` that are data, typed and checked."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from blendtorch.btt.dataset import DEFAULT_TIMEOUT_MS
from blendtorch.btt.streaming import stream
from blendtorch.btt.supervision import RestartPolicy
from blendtorch.core.assets import Asset, Unit
from blendtorch.core.configuration import Entry, ObjectRule
from blendtorch.core.distortion import Distortion
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.transport import DEFAULT_QUEUE_SIZE
from msgspec import Meta

NO_DATA = ("item_transform", "record_path_prefix")  # arguments of `btt.stream` that are no part of a configuration

_Size = Annotated[int, Meta(ge=1)]
_Index = Annotated[int, Meta(ge=0)]


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of `btt.stream`, which explains them; its defaults."""

    scene: str | None = None
    unit: Unit | None = None
    assets: tuple[Asset, ...] = ()
    renderer: str | dict[str, Any] | tuple[Entry, ...] = "workbench"
    annotators: tuple[Entry, ...] = ()
    randomizers: tuple[Entry, ...] = ()
    objects: tuple[ObjectRule, ...] = ()
    cameras: tuple[str, ...] = ()
    resolution: tuple[_Size, _Size] | None = None
    distortion: Distortion | None = None
    num_instances: _Size = 1
    seed: _Index = 0
    start: _Index = 0
    count: _Index | None = None
    epoch_size: _Index | None = None
    epoch: Literal["continue", "repeat"] = "continue"
    frames_per_episode: _Size = 1
    exclude: tuple[_Index, ...] = ()
    shard: Literal["auto"] | tuple[int, int] = "auto"
    blender: str | None = None
    devices: tuple[int | str, ...] | None = None
    plugins: tuple[str, ...] = ()
    queue_size: _Size = DEFAULT_QUEUE_SIZE
    timeoutms: int = DEFAULT_TIMEOUT_MS
    enable_autoexec: bool = False
    show_output: bool = False
    restart: Literal["on-failure", "never"] | RestartPolicy = "on-failure"


def argument_names() -> list[str]:
    """Name the arguments of `btt.stream` that a file may hold."""
    return [name for name in inspect.signature(stream).parameters if name not in NO_DATA]


def check_arguments(configuration: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Check a description of a run, as far as that goes without plug-ins and files.

    Parameters
    ----------
    configuration : mapping
        As `btt.load_configuration` reads it.
    origin : str
        Where it comes from, for the errors.

    Returns
    -------
    dict
        The same, as arguments for `btt.stream`.

    Raises
    ------
    ConfigurationError
        If it has a key that `btt.stream` does not know, or a value of the wrong type; names the path.

    Examples
    --------
    >>> check_arguments({"annotators": ["depth"], "count": 4}, "run.yaml")
    {'annotators': ['depth'], 'count': 4}
    >>> check_arguments({"annotator": ["depth"]}, "run.yaml")
    Traceback (most recent call last):
    blendtorch.core.errors.ConfigurationError: run.yaml: there is no argument 'annotator'; did you mean 'annotators'?
    """
    known = argument_names()
    for name in configuration:
        if name not in known:
            raise ConfigurationError(f"{origin}: there is no argument {name!r}{did_you_mean(str(name), known)}")
    try:
        msgspec.convert(dict(configuration), Arguments)
    except msgspec.ValidationError as error:
        text = str(error).replace("`$.", "`").replace(" - at `$`", "")
        raise ConfigurationError(f"{origin}: {text}") from None
    return dict(configuration)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest of several names, or all of them where none is near: the end of a sentence."""
    names = list(known)
    nearest = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; there are {', '.join(names)}" if names else ""
