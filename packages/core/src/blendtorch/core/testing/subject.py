"""A plug-in that is being checked, and the runs that it is put into."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from blendtorch.core.composition import compose
from blendtorch.core.configuration import read_options, run_configuration
from blendtorch.core.discovery import Found
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import Plugin
from blendtorch.core.sampler import Sample, Sampler, Stage
from blendtorch.core.testing.fakes import FakeRenderer, FakeStage, Given
from blendtorch.core.testing.scene import facade


class Skipped(Exception):  # noqa: N818 - no error
    """The check says nothing about this plug-in, here."""


class Failed(Exception):  # noqa: N818 - what is raised is the sentence
    """The plug-in does not do it."""


@dataclass
class Subject:
    """A plug-in to be checked.

    Attributes
    ----------
    found : Found
    stage : Stage
    options : dict
    """

    found: Found
    stage: Stage = field(default_factory=FakeStage)
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, **options: Any) -> Any:
        """Make an instance with the options, and others over them."""
        cls = self.found.cls
        given = {**self.options, **options}
        missing = [each.name for each in msgspec.structs.fields(cls.Options) if each.required and each.encode_name not in given]
        if missing:
            raise Skipped(f"needs options: {', '.join(missing)}")
        try:
            return cls(read_options(cls, given, cls.name))
        except ConfigurationError as error:
            if self.options:
                raise
            raise Skipped(f"needs options: {error}") from None

    @contextmanager
    def playing(self, seed: int = 7, also: tuple[type[Plugin], ...] = (), **options: Any) -> Iterator[tuple[Sampler, Any]]:
        """Set up a run of this plug-in with what it needs; gives its sampler and the instance."""
        self.make(**options)  # for the errors of options
        kind, fake = self.found.kind, isinstance(self.stage, FakeStage)
        lists: dict[str, list[Any]] = {"renderers": ["fake"], "annotators": [], "randomizers": [cls.name for cls in also]}
        if fake and kind == "annotator":  # for those that need depth
            lists["renderers"].append({"name": "fake", "as": "fake_depth", "depth": True})
        entry = {"name": self.found.name, **self.options, **options}
        lists[f"{kind}s"] = [entry, *lists["randomizers"]] if kind == "randomizer" else [entry]
        configuration = run_configuration(seed=seed, frames_per_episode=2, **lists)
        try:
            parts = compose(configuration, Given([FakeRenderer, self.found, *also]))
        except PluginError as error:
            if kind == "annotator" and self.make(**options).needs:
                raise Skipped(str(error)) from None
            raise
        with facade(self.stage.scene) if fake else nullcontext():
            sampler = Sampler(configuration, parts, self.stage)
            try:
                sampler.setup()
                yield sampler, next(part.plugin for part in parts if (part.kind, part.label) == (kind, self.found.name))
            finally:
                sampler.close()

    def episode(self, sampler: Sampler, number: int) -> Iterator[Sample]:
        """Play an episode of two frames."""
        sampler.begin_episode(number)
        for frame in range(-sampler.preroll, 2):
            if frame >= 0:
                sampler.before_frame(frame)
            self.stage.scene.frame_set(self.stage.frame_range[0] + sampler.preroll + frame)
            if frame >= 0:
                yield sampler.sample(frame)


def alike(one: Any, two: Any) -> bool:
    """Compare arrays bit for bit, NaN alike, in whatever they are nested."""
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(alike, one, two))
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
    return bool(one == two)
