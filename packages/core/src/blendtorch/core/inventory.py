"""What plug-ins a Python has, as data: each side makes its own, the trainer compares.

Unlike a run, this imports every plug-in that is installed.
"""

import inspect
import sys
import types
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from blendtorch.core.configuration import read_options
from blendtorch.core.discovery import Catalogue, Found, Problem, Source
from blendtorch.core.distributions import Distribution
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Annotator, Plugin, Renderer
from blendtorch.core.payload import ArraySpec

PACKAGES = ("blendtorch-core", "blendtorch-btb", "blendtorch-btt")


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """An option of a plug-in, for people.

    Attributes
    ----------
    name, type : str
    default : str or None
        As Python writes it; None where the option has to be given.
    """

    name: str
    type: str
    default: str | None = None


class InstalledPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """A renderer, annotator, randomizer or writer that is installed.

    Attributes
    ----------
    kind, name : str
    distribution, version : str
        "" for a file.
    module : str
        Where it is registered; the path of a file.
    hook : str
        That registers it.
    summary : str
        The first line of its documentation.
    emits : dict of str to ArraySpec
        With its default options. Empty where these do not tell.
    needs, uses : tuple of str
        Of an annotator.
    effects : tuple of str
        What a renderer shows, or a randomizer changes.
    options : tuple of Option
    """

    kind: str
    name: str
    distribution: str
    version: str
    module: str
    hook: str
    summary: str = ""
    emits: dict[str, ArraySpec] = {}
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()

    @property
    def origin(self) -> str:
        """The distribution with its version, or the file."""
        return f"{self.distribution} {self.version}" if self.distribution else self.module


class PluginProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a distribution, or with a file.

    Attributes
    ----------
    distribution, version : str
        "" for a file.
    entry_points : tuple of str
    module : str
        What these load; the path of a file.
    reason, traceback : str
    """

    distribution: str
    version: str
    entry_points: tuple[str, ...]
    module: str
    reason: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{Source(self.entry_points, self.module, self.distribution, self.version)}: {self.reason}"


class Inventory(msgspec.Struct, frozen=True, kw_only=True, tag="inventory"):
    """What is installed in one Python.

    Attributes
    ----------
    python, interpreter : str
        Its version, and the path to run it by: an embedded Python's own, not that of the program around it.
    packages : dict of str to str
        Versions of our packages.
    distributions : dict of str to str
        Versions of what has plug-ins, usable or not.
    plugins : tuple of InstalledPlugin
    problems : tuple of PluginProblem
    disabled : tuple of str
        Switched off by the environment variable BLENDTORCH_DISABLE_PLUGINS.
    """

    python: str
    interpreter: str
    packages: dict[str, str]
    distributions: dict[str, str]
    plugins: tuple[InstalledPlugin, ...]
    problems: tuple[PluginProblem, ...]
    disabled: tuple[str, ...]


def take_inventory(files: Sequence[str] = ()) -> Inventory:
    """Import every plug-in that is installed here, and say what there is and what is wrong with it.

    Parameters
    ----------
    files : sequence of path
        Modules of plug-ins that are not packaged.
    """
    catalogue = Catalogue(files)
    plugins = []
    broken = []
    for found in catalogue.all():
        try:
            plugins.append(_describe(found))
        except Exception as error:  # noqa: BLE001 - `emits` is a plug-in's own code
            reason = f"{found.kind} {found.name!r} cannot say what it emits: {type(error).__name__}: {error}"
            broken.append(Problem(found.source, reason))
    problems = [*catalogue.problems, *broken, *catalogue.duplicates()]
    sources = [*catalogue.sources, *catalogue.disabled]
    return Inventory(
        python=".".join(map(str, sys.version_info[:3])),
        interpreter=interpreter(),
        packages=_versions(PACKAGES),
        distributions={source.distribution: source.version for source in sources if source.distribution},
        plugins=tuple(plugins),
        problems=tuple(_plain(problem) for problem in problems),
        disabled=tuple(str(source) for source in catalogue.disabled),
    )


def interpreter() -> str:
    """Find the path to run this Python by; of one that is embedded in a program, `sys.executable` may be any on PATH."""
    own = Path(sys.prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return str(own) if own.exists() else sys.executable


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(problem: Problem) -> PluginProblem:
    source = problem.source
    return PluginProblem(
        distribution=source.distribution,
        version=source.version,
        entry_points=source.names,
        module=source.module,
        reason=problem.reason,
        traceback=problem.traceback,
    )


def _describe(found: Found) -> InstalledPlugin:
    plugin: Plugin | type[Plugin]
    emits: dict[str, ArraySpec] = {}
    try:
        plugin = found.cls(read_options(found.cls, {}, ""))
    except ConfigurationError:  # some option has to be given
        plugin = found.cls
    else:
        if isinstance(plugin, (Renderer, Annotator)):
            emits = dict(plugin.emits)
    effects = getattr(plugin, {"renderer": "shows", "randomizer": "changes"}.get(found.kind, ""), ())
    return InstalledPlugin(
        kind=found.kind,
        name=found.name,
        distribution=found.source.distribution,
        version=found.source.version,
        module=found.source.module,
        hook=f"blendtorch_register_{found.kind}s",
        summary=(inspect.getdoc(found.cls) or "").partition("\n")[0],
        emits=emits,
        needs=tuple(getattr(plugin, "needs", ())),
        uses=tuple(getattr(plugin, "uses", ())),
        effects=() if isinstance(effects, property) else tuple(sorted(effects)),
        options=tuple(_option(field) for field in msgspec.structs.fields(found.cls.Options)),
    )


def _option(field: msgspec.structs.FieldInfo) -> Option:
    default: str | None = None
    if field.default is not msgspec.NODEFAULT:
        default = repr(field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        default = repr(field.default_factory())
    return Option(name=field.encode_name, type=_type_text(field.type), default=default)


def _type_text(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [repr(each).partition("Meta")[2] for each in arguments[1:] if isinstance(each, msgspec.Meta)]
        return " ".join([_type_text(arguments[0]), *bounds])
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        members = set(get_args(Distribution))
        short = ["Distribution"] if members <= set(arguments) else []
        return " | ".join([*short, *(_type_text(each) for each in arguments if not short or each not in members)])
    if kind is type(None):
        return "None"
    if isinstance(origin, type):
        inner = ", ".join("..." if each is Ellipsis else _type_text(each) for each in arguments)
        return f"{origin.__name__}[{inner}]"
    return getattr(kind, "__name__", str(kind))
