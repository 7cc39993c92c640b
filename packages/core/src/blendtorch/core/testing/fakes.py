"""A whole pipeline without Blender: plug-ins composed, called, checked and seeded as in a real one.

>>> from blendtorch.core import Randomizer
>>> class Lift(Randomizer):
...     name = "lift"
...     interface = 1
...
...     def randomize(self, moment, rng):
...         height = round(rng.uniform(0, 2), 3)
...         moment.objects[0].root.location[2] = height
...         return {"height": height}
>>> samples = run(Lift, randomizers=["lift"], count=2, seed=7)
>>> [sample["meta"]["drawn"] for sample in samples]
['{"lift":{"height":0.488}}', '{"lift":{"height":0.935}}']
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from blendtorch.core.composition import compose
from blendtorch.core.configuration import run_configuration
from blendtorch.core.discovery import KINDS, Catalogue, Found, Kind, Source, check_class
from blendtorch.core.errors import PluginError
from blendtorch.core.interfaces import (
    EFFECTS,
    Arrays,
    CameraView,
    Moment,
    ObjectOfInterest,
    Options,
    Plugin,
    Renderer,
)
from blendtorch.core.payload import ArraySpec
from blendtorch.core.sampler import Sample, Sampler
from blendtorch.core.schedule import Share, episodes
from blendtorch.core.testing.scene import FakeObject, FakeScene, default_objects, draw, facade, look

__all__ = ["FakeObject", "FakePublisher", "FakeRenderer", "FakeScene", "FakeStage", "Given", "run"]


class FakeStage:
    """A `blendtorch.core.sampler.Stage` of a fake scene.

    Parameters
    ----------
    objects : sequence of FakeObject, optional
        Default: two cubes, a third behind the first camera, two cameras and a lamp. Every mesh is an object of interest.

    Attributes
    ----------
    said : list of str
        What plug-ins notified.
    moves : dict
        For `(name, path)` what overwrites that property: "an F-curve".
    """

    def __init__(self, objects: Sequence[FakeObject] = ()) -> None:
        self.scene = FakeScene(objects or default_objects())
        meshes = [obj for obj in self.scene.objects if obj.type == "MESH"]
        self.cameras: tuple[Any, ...] = tuple(obj for obj in self.scene.objects if obj.type == "CAMERA")
        self.objects = tuple(ObjectOfInterest(n, obj.name, 1, "cube", obj, (obj,)) for n, obj in enumerate(meshes, 1))
        self.shape: tuple[int, int] = self.cameras[0].data.height, self.cameras[0].data.width
        self.frame_range = (1, 1)
        self.versions: Mapping[str, str] = {"blender": "none"}
        self.said: list[str] = []
        self.moves: dict[tuple[str, str], str] = {}

    def view(self, camera: Any) -> CameraView:
        """Look through a camera."""
        return look(camera)

    def showing(self, view: CameraView) -> AbstractContextManager[None]:  # noqa: ARG002 - what draws here goes by the view alone
        """Do nothing."""
        return nullcontext()

    def overwritten(self, datablock: Any, path: str, every: str) -> str:  # noqa: ARG002 - nothing is simulated
        """Look into `moves`."""
        return self.moves.get((datablock.name, path), "")

    def notify(self, text: str) -> None:
        """Remember it."""
        self.said.append(text)


class FakeRendererOptions(Options, frozen=True, kw_only=True):
    """Options of `fake`.

    Attributes
    ----------
    depth : bool
        Emit `depth` too.
    """

    depth: bool = False


class FakeRenderer(Renderer):
    """Draws a square where each object of interest is; needs no Blender, and claims to show everything."""

    name = "fake"
    interface = 1
    Options = FakeRendererOptions
    shows = EFFECTS

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """A picture, and planar depth where it is asked for."""
        image = {"image": ArraySpec("uint8", ("height", "width", 4 if self.transparent else 3))}
        return {**image, "depth": ArraySpec("float32", ("height", "width"))} if self.options.depth else image

    def render(self, moment: Moment, camera: CameraView) -> Arrays:
        """Draw."""
        roots = [obj.root for obj in moment.objects if obj.root is not None]
        arrays = draw(roots, camera, 4 if self.transparent else 3)
        return {name: arrays[name] for name in self.emits}


class FakePublisher(list[Sample]):
    """A list in place of a `blendtorch.btb.DataPublisher`: what a pipeline publishes is copied into it.

    >>> publisher = FakePublisher()
    >>> publisher.publish_sample({"meta": {"index": 5}}, index=5)
    >>> publisher
    [{'meta': {'index': 5}}]
    """

    sequence = 0

    def publish_sample(self, sample: Sample, index: int) -> None:  # noqa: ARG002 - it is in the sample
        """Keep a copy of a sample."""
        self.append(copy.deepcopy(sample))

    def delivered(self, sequence: int) -> bool:  # noqa: ARG002
        """Nothing was delivered before."""
        return False


class Given(Catalogue):
    """A catalogue of classes at hand, and of what is installed; the first count where both have a name."""

    def __init__(self, classes: Sequence[type[Plugin] | Found], files: Sequence[str] = ()) -> None:
        super().__init__(files)
        given = [each if isinstance(each, Found) else found_of(each) for each in classes]
        self._given = {(found.kind, found.name): found for found in given}

    def find(self, kind: Kind, name: str) -> Found:
        """Find a class by its name."""
        return self._given.get((kind, name)) or super().find(kind, name)


def found_of(cls: type[Plugin]) -> Found:
    """Describe a class at hand as discovery would.

    Raises
    ------
    PluginError
        If it is no plug-in.
    """
    kinds = [kind for kind, base in KINDS.items() if isinstance(cls, type) and issubclass(cls, base)]
    if not kinds:
        raise PluginError(f"{cls!r} is no plug-in: expected a class derived from Renderer, Annotator, Randomizer or Writer")
    check_class(cls, kinds[0])
    return Found(kinds[0], cls.name, cls, Source((), cls.__module__))


def run(*classes: type[Plugin], stage: FakeStage | None = None, share: Share | None = None, **fields: Any) -> list[Sample]:
    """Run a pipeline without Blender, by the calls that `blendtorch.btb.Pipeline` makes.

    Parameters
    ----------
    *classes
        Plug-ins that need not be installed. `fake`, a renderer, is always there.
    stage : FakeStage, optional
    share : Share, optional
        Which part of the run is made. Default: all.
    **fields
        Of `RunConfiguration`; default: `renderers=["fake"], count=1`.

    Returns
    -------
    list of dict
        The samples, copied.
    """
    configuration = run_configuration(**{"renderers": ["fake"], "count": 1, **fields})
    composition = compose(configuration, Given([FakeRenderer, *classes], configuration.plugins))
    stage = stage or FakeStage()
    sampler = Sampler(configuration, composition, stage)
    length, wanted = configuration.frames_per_episode, (configuration.start, configuration.count)
    first = stage.frame_range[0] + sampler.preroll
    stage.frame_range = stage.frame_range[0], first + length - 1
    samples = []
    with facade(stage.scene):
        try:
            sampler.setup()
            for episode in episodes(*wanted, length, share or Share(), configuration.exclude):
                sampler.begin_episode(episode.number)
                for frame in range(-sampler.preroll, episode.frames[-1] + 1):
                    if frame >= 0:
                        sampler.before_frame(frame)
                    stage.scene.frame_set(first + frame)
                    if frame in episode.frames:
                        samples.append(copy.deepcopy(sampler.sample(frame)))
                    elif frame >= 0:
                        sampler.skip(frame)
        finally:
            sampler.close()
    return samples
