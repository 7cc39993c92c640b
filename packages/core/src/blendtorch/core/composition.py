"""From a configuration to plug-ins that are ready to be set up: named, ordered, with providers for what they need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from blendtorch.core.configuration import PluginEntry, RunConfiguration, entries, read_options
from blendtorch.core.discovery import OURS, Catalogue, Kind, Source
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import EFFECTS, IMAGE, Annotator, Plugin, Randomizer, Renderer

P = TypeVar("P", bound=Plugin)
ASSETS = "assets"  # the randomizer that a run with assets has
RESERVED = ("meta", "objects", "btid")  # what else a sample has at its top


@dataclass(eq=False)
class Part(Generic[P]):
    """A plug-in in a run.

    Attributes
    ----------
    kind : str
    label : str
        Its name in this run.
    plugin : Plugin
    source : Source
        Where it comes from.
    path : str
        Where in the configuration it stands; who needs it, where it was not asked for.
    inputs : dict of str to tuple
        Of an annotator: for each name in `needs` and `uses` that the run has, whether a renderer or an annotator has it, and
        the label of that.
    asked : bool
        False for an annotator that only others need.
    """

    kind: Kind
    label: str
    plugin: P
    source: Source
    path: str
    inputs: dict[str, tuple[Kind, str]] = field(default_factory=dict)
    asked: bool = True

    @property
    def distribution(self) -> str:
        """With its version; the path of a file."""
        return f"{self.source.distribution} {self.source.version}" if self.source.distribution else self.source.module

    def __str__(self) -> str:
        called = f" (called {self.label!r})" if self.label != self.plugin.name else ""
        return f"{self.kind} {self.plugin.name!r}{called} of {self.distribution}"


@dataclass
class Composition:
    """The plug-ins of a run; annotators stand after what they need."""

    renderers: list[Part[Renderer]]
    annotators: list[Part[Annotator]]
    randomizers: list[Part[Randomizer]]

    def __iter__(self) -> Iterator[Part[Any]]:
        yield from self.renderers
        yield from self.annotators
        yield from self.randomizers


def compose(configuration: RunConfiguration, catalogue: Catalogue) -> Composition:
    """Make the plug-ins of a run.

    Raises
    ------
    PluginError
        If one is absent, or what it needs is.
    ConfigurationError
        If its options are wrong, names collide, or a randomizer changes what no renderer shows.
    """
    randomizers = [_make(catalogue, "randomizer", each) for each in _randomizers(configuration)]
    renderers = [_make(catalogue, "renderer", each) for each in entries(configuration.renderers, "renderers")]
    if any(part.plugin.needs_transparent for part in randomizers):
        for part in renderers:
            part.plugin.transparent = True
    asked = [_make(catalogue, "annotator", each) for each in entries(configuration.annotators, "annotators")]
    annotators = _Ordering(catalogue, renderers, asked).order()
    composition = Composition(renderers, annotators, randomizers)
    _check_names(composition, configuration.cameras[1:])
    _check_effects(composition, catalogue)
    return composition


def _randomizers(configuration: RunConfiguration) -> list[PluginEntry]:
    """List the randomizers, behind the one that spawns assets: all others place and change what it has chosen."""
    asked = entries(configuration.randomizers, "randomizers")
    if not configuration.assets:
        return asked
    if spawning := next((each for each in asked if ASSETS in (each.name, each.label)), None):
        raise ConfigurationError(f"{spawning.path}: a run with `assets` has a randomizer {ASSETS!r} already: leave it out")
    counts = [asset.counts for asset in configuration.assets]
    return [PluginEntry(ASSETS, ASSETS, {"counts": counts}, ASSETS), *asked]


def _make(catalogue: Catalogue, kind: Kind, entry: PluginEntry) -> Part[Any]:
    try:
        found = catalogue.find(kind, entry.name)
    except PluginError as error:
        raise PluginError(f"{entry.path}: {error}") from None
    options = read_options(found.cls, entry.options, entry.path)
    return Part(kind, entry.label, found.cls(options), found.source, entry.path)


class _Ordering:
    """Finds providers, and puts annotators after what they need."""

    def __init__(self, catalogue: Catalogue, renderers: list[Part[Renderer]], asked: list[Part[Annotator]]) -> None:
        self._catalogue = catalogue
        self._renderers = renderers
        self._present = list(asked)
        self._ordered: list[Part[Annotator]] = []

    def order(self) -> list[Part[Annotator]]:
        for part in self._present:  # grows on the way
            for name in part.plugin.needs:
                part.inputs[name] = self._provider(name) or self._add(part, name)
        for part in self._present:
            for name in part.plugin.uses:
                provider = self._provider(name)
                if provider and not self._leads(provider, part):
                    part.inputs[name] = provider
        for part in self._present:
            self._place(part, [])
        return self._ordered

    def _provider(self, name: str) -> tuple[Kind, str] | None:
        """Find who has what is called `name`: an annotator's label counts first, then its name, then a renderer's array."""
        called = [part for part in self._present if part.label == name]
        for part in [*called, *(part for part in self._present if part.plugin.name == name)]:
            return "annotator", part.label
        return next((("renderer", part.label) for part in self._renderers if name in part.plugin.emits), None)

    def _needed(self, part: Part[Annotator]) -> list[Part[Annotator]]:
        labels = {label for kind, label in part.inputs.values() if kind == "annotator"}
        return [each for each in self._present if each.label in labels]

    def _leads(self, start: tuple[Kind, str], end: Part[Annotator]) -> bool:
        """Whether an annotator needs another, directly or not."""
        reached = [each for each in self._present if ("annotator", each.label) == start]
        for part in reached:  # grows on the way
            reached += [each for each in self._needed(part) if each not in reached]
        return end in reached

    def _place(self, part: Part[Annotator], waiting: list[Part[Annotator]]) -> None:
        if part in self._ordered:
            return
        if part in waiting:
            circle = " needs ".join(repr(each.label) for each in [*waiting[waiting.index(part) :], part])
            raise PluginError(f"annotators need each other in a circle: {circle}")
        for each in self._needed(part):
            self._place(each, [*waiting, part])
        self._ordered.append(part)

    def _add(self, part: Part[Annotator], name: str) -> tuple[Kind, str]:
        entry = PluginEntry(name, name, {}, f"needed by {part.path}")
        try:
            provider = _make(self._catalogue, "annotator", entry)
        except PluginError as error:
            here = name in self._catalogue.claims()  # and cannot be used
            distribution = None if here else part.plugin.providers.get(name) or OURS.get(name)
            install = f"install {distribution}: pip install {distribution}" if distribution else str(error)
            raise PluginError(f"{part.path}: {part} needs {name!r}, and nothing here has it; {install}") from None
        provider.asked = False
        self._present.append(provider)
        return "annotator", provider.label


def _check_names(composition: Composition, cameras: Sequence[str]) -> None:
    first, *others = composition.renderers
    named = [
        *((name, "reserved") for name in RESERVED),
        *((name, f"an array of {first}") for name in first.plugin.emits),
        *((part.label, str(part)) for part in others),
        *((part.label, str(part)) for part in composition.annotators if part.asked),
        *((name, "a camera") for name in cameras),
    ]
    owners: dict[str, str] = {}
    for name, owner in named:
        if name in owners:
            both = f"{owners[name]}, and {owner}"
            raise ConfigurationError(f"{name!r} would be two things in a sample: {both}; rename one with `as`")
        owners[name] = owner


def _check_effects(composition: Composition, catalogue: Catalogue) -> None:
    shown = frozenset({IMAGE}).union(*(part.plugin.shows for part in composition.renderers))
    for part in composition.randomizers:
        changes = frozenset(part.plugin.changes)
        if unknown := changes - EFFECTS:
            raise PluginError(f"{part}: it changes {sorted(unknown)}, and the effects are {sorted(EFFECTS)}")
        if hidden := sorted(changes - shown):
            names = ", ".join(each.label for each in composition.renderers)
            present = {each.plugin.name for each in composition.renderers}
            others = [each for each in catalogue.all() if each.kind == "renderer" and each.name not in present]
            showing = [each.name for each in others if set(hidden) <= _shows(each.cls)]
            way_out = f"use the renderer {' or '.join(showing)}" if showing else "install a renderer that shows it"
            raise ConfigurationError(
                f"{part.path}: {part} changes {', '.join(hidden)}, which {names} does not show: {way_out}, or leave it out"
            )


def _shows(cls: type[Any]) -> frozenset[str]:
    """What a renderer shows with its default options; nothing where it has none."""
    try:
        return frozenset(cls(read_options(cls, {}, "")).shows)
    except ConfigurationError:
        return frozenset()
