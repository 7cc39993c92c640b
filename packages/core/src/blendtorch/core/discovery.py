"""Finding plug-ins: what is installed, what each has, and what is wrong with it.

A distribution names its renderers, annotators, randomizers and writers as entry points of the group `blendtorch`. A run
imports those whose names it asks for; only where a name is claimed by no entry point, the others are looked into. What is
wrong with a distribution is noted, and stops the runs that ask for it and no other.
"""

import difflib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any, Literal

import pluggy
from blendtorch.core import hooks
from blendtorch.core.errors import PluginError
from blendtorch.core.interfaces import INTERFACE, Annotator, Plugin, Randomizer, Renderer, Writer
from blendtorch.core.seeding import stable_hash

Kind = Literal["renderer", "annotator", "randomizer", "writer"]
KINDS: dict[Kind, type[Plugin]] = {
    "renderer": Renderer,
    "annotator": Annotator,
    "randomizer": Randomizer,
    "writer": Writer,
}
GROUP = "blendtorch"
DISABLE_VARIABLE = "BLENDTORCH_DISABLE_PLUGINS"
# Where the names of ours are, for who has not installed them.
_GBUFFER = (
    "depth distance normals position uv object_coordinates instance_ids category_ids material_ids flow boxes2d_tight "
    "boxes2d_amodal visibility masks_amodal"
)
_ALONE = "cycles images coco yolo bop webdataset huggingface"  # in distributions called as they are
OURS = {
    **{name: f"blendtorch-{name}" for name in _ALONE.split()},
    **dict.fromkeys(_GBUFFER.split(), "blendtorch-gbuffer"),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Source:
    """A module of plug-ins: an entry point of a distribution, or a file.

    Attributes
    ----------
    names : tuple of str
        Of its entry points; several may name one module. Empty for a file.
    module : str
        What the entry points load, or the path of the file.
    distribution, version : str
        "" for a file.
    """

    names: tuple[str, ...]
    module: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        if not self.distribution:
            return self.module
        return f"{self.distribution} {self.version} (entry point {', '.join(self.names)} = {self.module})"


@dataclass(frozen=True)
class Found:
    """A class that a source registers."""

    kind: Kind
    name: str
    cls: type[Plugin]
    source: Source


@dataclass(frozen=True)
class Problem:
    """What is wrong with a source, for people."""

    source: Source
    reason: str
    traceback: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class Catalogue:
    """The plug-ins that are installed here, imported as they are asked for.

    Parameters
    ----------
    files : sequence of path
        Modules of plug-ins that are not packaged.
    elsewhere : mapping of str to str
        The `claims` of the trainer, for an instance to say what is installed there and not here.

    Attributes
    ----------
    sources : list of Source
    disabled : list of Source
        Switched off by the environment variable BLENDTORCH_DISABLE_PLUGINS: names of distributions or of entry points,
        separated by commas.
    problems : list of Problem
        Of what was imported so far.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]] = (), elsewhere: Mapping[str, str] | None = None) -> None:
        self._elsewhere = elsewhere or {}
        switched_off = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",")} - {""}
        installed = list(_installed())
        self.disabled = [source for source in installed if switched_off & {source.distribution, *source.names}]
        self.sources = [source for source in installed if source not in self.disabled]
        self.sources += [Source((), str(Path(path).expanduser().absolute())) for path in files]
        self.problems: list[Problem] = []
        self._found: dict[Source, list[Found]] = {}
        for source in self.sources:
            if not source.distribution:
                self._look_into(source)  # it was named by the user, and what it has cannot be known otherwise

    def find(self, kind: Kind, name: str) -> Found:
        """Find a class by its name; imports what claims it, and what else may have it where nobody does.

        Raises
        ------
        PluginError
            If there is none (names the nearest known one, or the distribution to install), if its source cannot be used,
            or if several have it.
        """
        claiming = [source for source in self.sources if name in source.names]
        found = list(self._named(kind, name, [*claiming, *self._files()]))
        if not found:
            found = list(self._named(kind, name, self.sources))
        if len(found) > 1:
            raise PluginError(
                f"{kind} {name!r} is there more than once, switch one off with {DISABLE_VARIABLE}: "
                + "; ".join(str(each.source) for each in found)
            )
        if found:
            return found[0]
        raise PluginError(self._why_absent(kind, name, claiming))

    def all(self) -> list[Found]:
        """Import everything, and return what is there, our own first."""
        return [found for source in self.sources for found in self._look_into(source)]

    def duplicates(self) -> list[Problem]:
        """Find names that several sources have, of what was imported so far."""
        seen: dict[tuple[Kind, str], Source] = {}
        problems = []
        for found in (found for each in self._found.values() for found in each):
            first = seen.setdefault((found.kind, found.name), found.source)
            if first != found.source:
                problems.append(Problem(found.source, f"{found.kind} {found.name!r} is there already, in {first}"))
        return problems

    def claims(self) -> dict[str, str]:
        """Name the distribution, with its version, of each entry point; imports nothing."""
        return {name: f"{source.distribution} {source.version}" for source in self.sources for name in source.names}

    def _files(self) -> list[Source]:
        return [source for source in self.sources if not source.distribution]

    def _named(self, kind: Kind, name: str, sources: Iterable[Source]) -> Iterator[Found]:
        for source in sources:
            yield from (found for found in self._look_into(source) if (found.kind, found.name) == (kind, name))

    def _why_absent(self, kind: Kind, name: str, claiming: list[Source]) -> str:
        if problems := [problem for problem in self.problems if problem.source in claiming]:
            details = "\n".join(filter(None, (problem.traceback for problem in problems)))
            return f"{kind} {name!r} cannot be used. " + "; ".join(map(str, problems)) + (f"\n\n{details}" if details else "")
        if not claiming and name in self._elsewhere:
            installed = self._elsewhere[name]
            return (
                f"{kind} {name!r} is installed in the trainer ({installed}), and absent from this Blender's Python: "
                f"run {sys.executable} -m pip install {installed.partition(' ')[0]}"
            )
        for source in self.disabled:
            if name in source.names:
                return f"{kind} {name!r} of {source} is switched off by {DISABLE_VARIABLE}"
        others = [found.kind for each in self._found.values() for found in each if found.name == name]
        if others:
            return f"{name!r} is no {kind} but {'an' if others[0] == 'annotator' else 'a'} {others[0]}"
        text = f"there is no {kind} {name!r}"
        known = sorted({found.name for each in self._found.values() for found in each if found.kind == kind})
        nearest = difflib.get_close_matches(name, known, 1)
        if name in OURS:
            text += f": it is in the distribution {OURS[name]}: pip install {OURS[name]}"
            nearest = []
        elif nearest:
            text += f"; did you mean {nearest[0]!r}?"
        if known:
            text += f" Known: {', '.join(known)}." if nearest else f". Known: {', '.join(known)}."
        if self.problems:
            text += " Could not be looked into: " + "; ".join(map(str, self.problems))
            text += "".join(f"\n\n{problem.traceback}" for problem in self.problems if problem.traceback)
        return text

    def _look_into(self, source: Source) -> list[Found]:
        if source not in self._found:
            self._found[source] = []
            try:
                self._found[source] = list(_registered(source))
            except PluginError as error:
                self.problems.append(Problem(source, str(error)))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plug-in raises is its author's to know
                reason = f"cannot be imported: {type(error).__name__}: {error}"
                self.problems.append(Problem(source, reason, traceback.format_exc()))
        return self._found[source]


def _installed() -> Iterator[Source]:
    """Name the modules that installed distributions claim to have plug-ins in; imports nothing."""
    seen = set()
    sources: list[Source] = []
    for distribution in distributions():
        if "Name" not in distribution.metadata:  # the remains of one that was uninstalled
            continue
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if name in seen:  # further down the path: Python would not import it either
            continue
        seen.add(name)
        modules: dict[str, list[str]] = {}
        for point in distribution.entry_points:
            if point.group == GROUP:
                modules.setdefault(point.value, []).append(point.name)
        sources += [Source(tuple(names), module, name, distribution.version) for module, names in modules.items()]
    yield from sorted(sources, key=lambda source: (not source.distribution.startswith("blendtorch-"), source.distribution))


def _registered(source: Source) -> Iterator[Found]:
    """Import a source and call its hooks.

    Raises
    ------
    PluginError
        If a hook is misspelt, takes arguments, or returns something else than classes of its kind; if two have one name.
    """
    module = _load(source)
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hooks)
    _check_hooks(manager, module)
    manager.register(module)
    for kind in KINDS:
        names: set[str] = set()
        for result in getattr(manager.hook, f"blendtorch_register_{kind}s")():
            for cls in result if isinstance(result, (list, tuple)) else [result]:
                check_class(cls, kind)
                if cls.name in names:
                    raise PluginError(f"two of its {kind}s are called {cls.name!r}")
                names.add(cls.name)
                yield Found(kind, cls.name, cls, source)


def _load(source: Source) -> Any:
    if source.distribution:
        return EntryPoint(source.names[0], source.module, GROUP).load()
    path = Path(source.module)
    if not path.is_file():
        raise PluginError("there is no such file")
    name = f"blendtorch_plugin_{path.stem}_{stable_hash(str(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("it is no Python file: its name has to end with .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses and Structs look up their types
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_hooks(manager: pluggy.PluginManager, module: Any) -> None:
    known = [name for name in dir(hooks) if name.startswith("blendtorch_register_")]
    implemented = []
    for name in dir(module):
        options = manager.parse_hookimpl_opts(module, name)
        if options is None:
            if name.startswith("blendtorch_register_") and inspect.isfunction(getattr(module, name)):
                raise PluginError(f"hook {name} is not marked: write @hookimpl over it")
            continue
        if name not in known:
            if options.get("optionalhook"):  # for a newer core
                implemented.append(name)
                continue
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
            raise PluginError(f"there is no hook {name}: {hint} (for one of a newer blendtorch: hookimpl(optionalhook=True))")
        if parameters := list(inspect.signature(getattr(module, name)).parameters):
            raise PluginError(f"hook {name} has the argument {parameters[0]!r}: hooks take nothing")
        implemented.append(name)
    if not implemented:
        raise PluginError(f"it has none of the hooks {', '.join(known)}")


def check_class(cls: object, kind: Kind) -> None:
    """Refuse what is no plug-in of a kind.

    Raises
    ------
    PluginError
        If it is no class derived from the kind's base, or its name, interface version or options are not as they should be.
    """
    base = KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginError(f"blendtorch_register_{kind}s returned {cls!r}: expected classes derived from {base.__name__}")
    where = f"{kind} class {cls.__name__}"
    if not isinstance(getattr(cls, "name", None), str) or not _NAME.fullmatch(cls.name):
        raise PluginError(f"{where}: `name` is {getattr(cls, 'name', None)!r}, expected lower-case letters, digits and _")
    interface = getattr(cls, "interface", None)
    if interface != INTERFACE:
        raise PluginError(f"{where} is written for interface {interface}, and this blendtorch has {INTERFACE}")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise PluginError(f"{where} lacks {', '.join(missing)}")
    if not (isinstance(cls.Options, type) and issubclass(cls.Options, base.Options)):
        expected = f"blendtorch.core.{base.Options.__name__}"
        raise PluginError(f"{where}: Options is {cls.Options!r}, expected a Struct derived from {expected}")
