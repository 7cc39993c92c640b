"""From plug-ins to samples: who is called when, what is checked, and how a sample is laid out.

Knows nothing of Blender: that is behind a `Stage`, which `blendtorch.btb.pipeline` makes of a scene and
`blendtorch.core.testing` of nothing at all.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.composition import Composition, Part
from blendtorch.core.configuration import RunConfiguration
from blendtorch.core.distortion import check_perspective
from blendtorch.core.errors import BlendtorchError, ConfigurationError, PluginError
from blendtorch.core.interfaces import (
    Annotator,
    CameraView,
    Moment,
    ObjectOfInterest,
    Plugin,
    Randomizer,
    Renderer,
    SetupContext,
)
from blendtorch.core.payload import ArraySpec, describe
from blendtorch.core.resampling import Resampling
from blendtorch.core.seeding import generator, reseed

Sample = dict[str, Any]


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a sample says of itself, under `meta`: enough to render it again.

    Attributes
    ----------
    seed, episode, frame, index : int
    drawn : str
        JSON: for each randomizer, by its name in the run, the values that it drew.
    versions : str
        JSON: of blendtorch, of Blender, and of the distributions of the plug-ins.
    legend : str
        JSON: `categories`, names by their ids, and what annotators say of their labels, by their names in the run: for
        `keypoints` the names of its columns.
    btid : int
        Which instance made it.
    """

    seed: int
    episode: int
    frame: int
    index: int
    drawn: str
    versions: str
    legend: str
    btid: int


class Stage(Protocol):
    """What a sampler has to know of the scene."""

    scene: Any
    cameras: tuple[Any, ...]
    objects: tuple[ObjectOfInterest, ...]
    shape: tuple[int, int]
    frame_range: tuple[int, int]
    versions: Mapping[str, str]

    def view(self, camera: Any) -> CameraView:
        """Look at the evaluated frame through a camera."""

    def showing(self, view: CameraView) -> AbstractContextManager[None]:
        """Give the scene's camera the lens of a view, and its pictures the size; only where a run has a distortion."""

    def overwritten(self, datablock: Any, path: str, every: str) -> str:
        """Say what of the scene would overwrite a property that a randomizer sets; empty for nothing."""

    def notify(self, text: str) -> None:
        """Say a sentence to the user."""


class Sampler:
    """Calls the plug-ins of a run, in order, and makes samples of what they return.

    Parameters
    ----------
    configuration : RunConfiguration
    composition : Composition
    stage : Stage
    btid : int
        Number of this instance, for the record.
    """

    def __init__(self, configuration: RunConfiguration, composition: Composition, stage: Stage, btid: int = 0) -> None:
        self._configuration = configuration
        self._parts = composition
        self._stage = stage
        self._btid = btid
        retouchers = [part for part in composition.randomizers if type(part.plugin).retouch is not Randomizer.retouch]
        # Those that put something behind the objects come first: what the others change is the whole picture.
        self._retouchers = sorted(retouchers, key=lambda part: not part.plugin.needs_transparent)
        distortion = configuration.distortion
        self._distortion = distortion if distortion is not None and distortion.distorts else None
        self._observers = [part for part in composition.annotators if type(part.plugin).observe is not Annotator.observe]
        self._open = list(composition)
        self._declared = {part: dict(part.plugin.emits) for part in composition if part.kind != "randomizer"}
        self._accepted: dict[tuple[Part[Any], str], Any] = {}  # what was checked already: dtypes and shapes
        self._generators = {part: generator(0, part.label) for part in composition.randomizers}  # seeded anew for each place
        self._drawn: dict[str, Mapping[str, Any]] = {}
        self._drawn_json = "{}"
        self._episode = 0
        self._rows = {
            "instance_id": np.array([each.id for each in stage.objects], np.int64),
            "category_id": np.array([each.category_id for each in stage.objects], np.int64),
        }
        sources = {part.source.distribution: part.source.version for part in composition if part.source.distribution}
        self._legend = "{}"
        self._versions = msgspec.json.encode(
            {
                "blendtorch": version("blendtorch-core"),
                **stage.versions,
                **dict(sorted(sources.items())),
            }
        ).decode()

    @property
    def preroll(self) -> int:
        """How many frames each episode is simulated before its first sample."""
        return max((part.plugin.preroll for part in self._parts.randomizers), default=0)

    def setup(self) -> None:
        """Set all plug-ins up, and refuse what would be overwritten.

        Raises
        ------
        ConfigurationError, SceneError, PluginError
            Names the plug-in.
        CameraError
            If a camera cannot have the distortion of the run.
        """
        if self._distortion is not None:
            for camera in self._stage.cameras:
                self._look(camera)
        for part in self._parts:
            call(part, part.plugin.setup, self._context(part))
        for part in self._parts.randomizers:
            for datablock, path in call(part, part.plugin.writes):
                if reason := self._stage.overwritten(datablock, path, part.plugin.options.every):
                    what = f"{path} of {getattr(datablock, 'name', datablock)!r}"
                    raise ConfigurationError(
                        f"{part.path}: {part} sets {what}, which {reason} would overwrite: remove it, or choose another"
                    )
        self._legend = self._describe()

    def begin_episode(self, episode: int) -> None:
        """Randomize what is drawn once per episode."""
        self._episode = episode
        self._drawn = {}
        self._randomize("episode", 0, (episode,))

    def before_frame(self, frame: int) -> None:
        """Randomize what is drawn for each frame; `frame` counts from 0."""
        self._randomize("frame", frame, (self._episode, frame))

    def skip(self, frame: int) -> None:
        """Show the evaluated frame, of which no sample is made, to those who compare frames."""
        if self._observers:
            moment = self._moment(frame)
            for camera in self._stage.cameras:
                view = self._look(camera)
                for part in self._observers:
                    call(part, part.plugin.observe, moment, view)

    def sample(self, frame: int) -> Sample:
        """Render and label the evaluated frame.

        Raises
        ------
        PluginError
            If a plug-in raises, or returns something else than it declares.
        """
        moment = self._moment(frame)
        first, *others = self._stage.cameras
        sample = self._view(moment, first, 0)
        for number, camera in enumerate(others, 1):
            sample[camera.name] = self._view(moment, camera, number)
        sample["objects"] = self._rows
        meta = Meta(
            seed=self._configuration.seed,
            episode=self._episode,
            frame=frame,
            index=moment.index,
            drawn=self._drawn_json,
            versions=self._versions,
            legend=self._legend,
            btid=self._btid,
        )
        sample["meta"] = msgspec.structs.asdict(meta)
        return sample

    def devices(self) -> dict[str, str]:
        """Say on which device each renderer has rendered."""
        return {part.label: part.plugin.device for part in self._parts.renderers}

    def close(self) -> None:
        """Close every plug-in once, whatever the others raise; then raises the first error."""
        errors: list[BlendtorchError] = []
        parts, self._open = self._open, []
        for part in reversed(parts):
            try:
                call(part, part.plugin.close)
            except BlendtorchError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _context(self, part: Part[Plugin]) -> SetupContext:
        seed = self._configuration.seed
        return SetupContext(
            scene=self._stage.scene,
            seed=seed,
            objects=self._stage.objects,
            cameras=self._stage.cameras,
            shape=self._stage.shape,
            renderers=tuple(each.label for each in self._parts.renderers),
            frame_range=self._stage.frame_range,
            transparent=any(each.plugin.needs_transparent for each in self._parts.randomizers),
            available=frozenset(part.inputs),
            rng=lambda name: generator(seed, name),
            notify=lambda text: self._stage.notify(f"{part.kind} {part.label}: {text}"),
        )

    def _moment(self, frame: int) -> Moment:
        index = self._episode * self._configuration.frames_per_episode + frame
        return Moment(self._stage.scene, self._episode, frame, index, self._stage.objects)

    def _randomize(self, every: str, frame: int, place: tuple[int, ...]) -> None:
        parts = [part for part in self._parts.randomizers if part.plugin.options.every == every]
        moment = self._moment(frame)
        for part in parts:
            rng = reseed(self._generators[part], self._configuration.seed, part.label, *place)
            drawn = call(part, part.plugin.randomize, moment, rng)
            if not isinstance(drawn, Mapping):
                raise PluginError(f"{part}: randomize returned {type(drawn).__name__}: expected a mapping of what was drawn")
            self._drawn[part.label] = drawn
        if parts:
            self._drawn_json = self._record()
        elif every == "episode":
            self._drawn_json = "{}"

    def _record(self) -> str:
        """Write down what was drawn since the episode began."""
        try:
            return _encoder.encode(self._drawn).decode()
        except (TypeError, msgspec.MsgspecError):
            for part in self._parts.randomizers:
                call(part, _encoder.encode, self._drawn.get(part.label))
            raise

    def _describe(self) -> str:
        """Write down what labels are called."""
        categories = {str(each.category_id): each.category_name for each in self._stage.objects if each.category_id}
        legend: dict[str, Any] = {"categories": dict(sorted(categories.items(), key=lambda item: int(item[0])))}
        for part in self._parts.annotators:
            if part.asked and (described := call(part, part.plugin.legend)):
                call(part, _encoder.encode, described)
                legend[part.label] = described
        return _encoder.encode(legend).decode()

    def _look(self, camera: Any) -> CameraView:
        view = self._stage.view(camera)
        if self._distortion is None:
            return view
        check_perspective(self._distortion, view.orthographic, view.name)
        return replace(view, lens=msgspec.structs.replace(view.lens, distortion=self._distortion))

    def _view(self, moment: Moment, camera: Any, number: int) -> Sample:
        view = self._look(camera)
        made: dict[tuple[str, str], Mapping[str, npt.NDArray[Any]]] = {}
        height, width = view.shape
        sizes = {"height": height, "width": width, "objects": len(moment.objects)}
        result: Sample = {}
        for position, renderer in enumerate(self._parts.renderers):
            arrays = self._render(renderer, moment, view, number, sizes)
            made["renderer", renderer.label] = arrays
            if position:
                result[renderer.label] = arrays
            else:
                result.update(arrays)
        for annotator in self._parts.annotators:
            inputs = {}
            for name, (kind, label) in annotator.inputs.items():
                provided = made[kind, label]
                inputs[name] = {name: provided[name]} if kind == "renderer" else provided
            labels = call(annotator, annotator.plugin.annotate, moment, view, inputs)
            self._check(annotator, view, labels, sizes)
            made["annotator", annotator.label] = labels
            if annotator.asked:
                result[annotator.label] = labels
        return result

    def _render(
        self, part: Part[Renderer], moment: Moment, view: CameraView, number: int, sizes: Mapping[str, int]
    ) -> dict[str, npt.NDArray[Any]]:
        if view.resampling is None:
            arrays = dict(call(part, part.plugin.render, moment, view))
            self._check(part, view, arrays, sizes)
        else:
            arrays = self._render_distorted(part, moment, view, view.resampling, sizes)
        if "image" in arrays and self._retouchers:
            image = arrays["image"]
            for retoucher in self._retouchers:
                place = (moment.episode, moment.frame, number)
                rng = generator(self._configuration.seed, f"{retoucher.label}.retouch", *place)
                image = call(retoucher, retoucher.plugin.retouch, moment, view, image, rng)
            spec = ArraySpec("uint8", ("height", "width", 3)) if part.plugin.transparent else self._declared[part]["image"]
            check_emitted(self._retouchers[-1], {"image": spec}, {"image": image}, sizes)
            arrays["image"] = image
        return arrays

    def _render_distorted(
        self, part: Part[Renderer], moment: Moment, view: CameraView, table: Resampling, sizes: Mapping[str, int]
    ) -> dict[str, npt.NDArray[Any]]:
        """Render what a pinhole camera sees, and look the rays of the lens up in it."""
        height, width = view.pinhole.shape
        with self._stage.showing(view.pinhole):
            arrays = dict(call(part, part.plugin.render, moment, view.pinhole))
        self._check(part, view, arrays, {**sizes, "height": height, "width": width})
        for name, spec in self._declared[part].items():
            if name in part.plugin.pictures:
                arrays[name] = table.smooth(arrays[name])
            elif "height" in spec.shape:
                arrays[name] = table.sharp(arrays[name], axis=spec.shape.index("height"))
        return arrays

    def _check(self, part: Part[Any], view: CameraView, emitted: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Check what a plug-in emitted, unless it is like what it emitted for this camera before."""
        try:
            seen = [(name, array.dtype, array.shape) for name, array in emitted.items()]
        except AttributeError:
            seen = []  # refused below
        if not seen or self._accepted.get((part, view.name)) != seen:
            check_emitted(part, self._declared[part], emitted, sizes)
            self._accepted[part, view.name] = seen


def check_emitted(part: Part[Any], declared: Mapping[str, ArraySpec], emitted: object, sizes: Mapping[str, int]) -> None:
    """Refuse what differs from what was declared.

    Raises
    ------
    PluginError
        Names the plug-in, the field, what was expected and what came.
    """
    if not isinstance(emitted, Mapping):
        raise PluginError(f"{part} returned {type(emitted).__name__}: expected a mapping of {', '.join(declared)} to arrays")
    known = dict(sizes)
    for name, spec in declared.items():
        if name not in emitted:
            raise PluginError(f"{part} declares {name!r} and gave {', '.join(map(repr, emitted)) or 'nothing'}")
        if not spec.fits(emitted[name], known):
            given = ", ".join(f"{axis} = {size}" for axis, size in known.items() if axis in spec.shape)
            where = f" (here {given})" if given else ""
            raise PluginError(f"{part}, field {name!r}: expected {spec}{where}, got {describe(emitted[name])}")
    if len(emitted) > len(declared):
        extra = [name for name in emitted if name not in declared]
        raise PluginError(f"{part} gave {extra[0]!r}, which it does not declare; it declares {', '.join(declared)}")


def call(part: Part[Any], method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a plug-in, and name it where it raises."""
    try:
        return method(*arguments)
    except BlendtorchError as error:
        raise type(error)(f"{part.path}: {part}: {error}") from error
    except Exception as error:
        raise PluginError(f"{part} raised {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__iter__"):  # Blender's vectors
        return list(value)
    raise TypeError(f"what it gave is no JSON: a {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
