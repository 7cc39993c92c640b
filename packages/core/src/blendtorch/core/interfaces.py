"""What a renderer, an annotator, a randomizer and a writer are: the interfaces of plug-ins, and what these are given.

One process, one thread: all but writers are called from the main thread of a Blender process, in this order::

    __init__(options)                     options are checked already; no Blender yet
    setup(context)                        once, the scene is open and evaluated
    for each episode:
        randomizer.randomize(moment, rng) of those that draw once per episode
        for each frame of the episode:
            randomizer.randomize(moment, rng) of those that draw for each frame
            ... Blender evaluates the frame ...
            for each camera:
                renderer.render(moment, camera)
                randomizer.retouch(moment, camera, image, rng)
                annotator.annotate(moment, camera, inputs)     or observe, where no sample is made
            ... the sample is published ...
    close()                               once, also after an error

**Errors.** Any method may raise. The stream stops with the plug-in's name and the traceback at the trainer, and what was
published before is delivered. `close` is called nevertheless.

**Buffers.** Arrays that a plug-in returns must keep their content until the next frame: a plug-in may then use them again.
Arrays that it is given are to be read only, and must not be kept over the frame: copy what you keep.

**State.** A sample depends on the seed, the episode and the frame alone. Whatever a plug-in carries from one episode to the
next breaks that promise: a randomizer sets everything that it touches, each time.

**The camera is an argument**, never `scene.camera`: several cameras per sample are normal.

**Writers** put samples on disk, on the training side and in processes of their own: see `Writer`.

A module of plug-ins imports `blendtorch.core` at its top, and `bpy` and the facade `blendtorch.btb.blender` inside functions
only: the training side reads options and emitted arrays from the same classes, and has no Blender.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core import geometry
from blendtorch.core.errors import ConfigurationError, SceneError
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.payload import ArraySpec
from blendtorch.core.resampling import Resampling, resampling

INTERFACE = 1  # the version of these interfaces; a class says for which one it was written

# What a randomizer changes and a renderer shows.
GEOMETRY = "geometry"  # poses, shapes, cameras, visibility
COLOR = "color"  # base colours of materials
TEXTURE = "texture"  # images on materials
SURFACE = "surface"  # roughness, metallic and the like
LIGHTS = "lights"  # lamps
WORLD_COLOR = "world_color"  # one colour behind everything
WORLD_IMAGE = "world_image"  # an environment image, seen and shining
IMAGE = "image"  # the finished picture: every renderer shows it
EFFECTS = frozenset({GEOMETRY, COLOR, TEXTURE, SURFACE, LIGHTS, WORLD_COLOR, WORLD_IMAGE, IMAGE})

Arrays = Mapping[str, npt.NDArray[Any]]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of the options of plug-ins: typed, checked with the path of the wrong field, printable, sendable."""


class RandomizerOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of the options of randomizers.

    Attributes
    ----------
    every : {'episode', 'frame'}
        When it draws.
    """

    every: Literal["episode", "frame"] = "episode"


@dataclass(frozen=True)
class ObjectOfInterest:
    """One instance that gets labels.

    Attributes
    ----------
    id : int
        From 1, in a fixed order; 0 is background. Its row in arrays per object is `id - 1`.
    name : str
    category_id : int
        From 1; 0 where it has none.
    category_name : str
    root : bpy.types.Object or None
        Whose frame is the instance's frame. None for a collection with several objects that have no parent in it.
    parts : tuple of bpy.types.Object
        Its geometry.
    """

    id: int
    name: str
    category_id: int
    category_name: str
    root: Any
    parts: tuple[Any, ...]

    def require_frame(self) -> None:
        """Refuse an instance that has no frame of its own.

        Raises
        ------
        SceneError
        """
        if self.root is None:
            raise SceneError(
                f"collection {self.name!r} has several objects without a parent in it, so it has no frame of its own: "
                "parent them to one empty in the collection, or choose instance='object' or 'root' in `objects`"
            )


@dataclass(frozen=True)
class CameraView:
    """A camera at one moment.

    Attributes
    ----------
    name : str
    obj : bpy.types.Object
    lens : Lens
        With the size of the picture.
    camera_from_world : ndarray, shape (4, 4), float64
        Into the camera frame x right, y down, z forward.
    clip_range : tuple of float
        Near and far, in scene units.
    """

    name: str
    obj: Any
    lens: geometry.Lens
    camera_from_world: geometry.Array
    clip_range: tuple[float, float] = (0.1, 100.0)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        return self.lens.height, self.lens.width

    @property
    def orthographic(self) -> bool:
        """Whether it projects along parallel lines."""
        return self.lens.projection == "orthographic"

    @cached_property
    def K(self) -> geometry.Array:
        """The camera matrix, shape (3, 3), float64, that counts from the corner: see `geometry.intrinsics`."""
        return geometry.intrinsics(self.lens)

    def project(self, points_world: npt.ArrayLike) -> tuple[geometry.Array, geometry.Array]:
        """Project points of the world, shape (N, 3), to pixels (N, 2) and depths (N,): see `geometry.project`."""
        return self.project_from_camera(geometry.transform(self.camera_from_world, points_world))

    def project_from_camera(self, points_camera: npt.ArrayLike) -> tuple[geometry.Array, geometry.Array]:
        """Project points of the camera frame, as `project` does."""
        return geometry.project(points_camera, self.K, self.orthographic, self.lens.distortion)

    @cached_property
    def resampling(self) -> Resampling | None:
        """Where the rays of its pixels are in the picture of `pinhole`; None for a lens that does not distort.

        Raises
        ------
        CameraError
            If a pixel has no ray.
        """
        return None if self.lens.distortion is None else resampling(self.lens)

    @cached_property
    def pinhole(self) -> "CameraView":
        """The view that an engine draws, which knows no distortion: a wider one; this one where the lens does not distort."""
        return self if self.resampling is None else replace(self, lens=self.resampling.pinhole)


@dataclass(frozen=True)
class SetupContext:
    """What is known when a run begins.

    Attributes
    ----------
    scene : bpy.types.Scene
    seed : int
        Of the run: the same in every instance.
    objects : tuple of ObjectOfInterest
    cameras : tuple of bpy.types.Object
    shape : tuple of int
        Height and width of the pictures in pixels.
    renderers : tuple of str
        The names of the renderers of the run.
    frame_range : tuple of int
        First and last frame of the scene that an episode plays.
    transparent : bool
        Renderers are to emit RGBA with a transparent background: some randomizer puts something behind it.
    available : frozenset of str
        What of an annotator's `needs` and `uses` it will find in `inputs`.
    rng : callable
        `rng(name)` makes the generator for what is drawn once per process; it depends on the seed and the name alone.
    notify : callable
        `notify(text)` says a sentence to the user, once.
    """

    scene: Any
    seed: int
    objects: tuple[ObjectOfInterest, ...] = ()
    cameras: tuple[Any, ...] = ()
    shape: tuple[int, int] = (480, 640)
    renderers: tuple[str, ...] = ()
    frame_range: tuple[int, int] = (1, 1)
    transparent: bool = False
    available: frozenset[str] = frozenset()
    rng: Callable[[str], np.random.Generator] = np.random.default_rng  # type: ignore[assignment]
    notify: Callable[[str], None] = print


class Moment(msgspec.Struct, frozen=True, eq=False):
    """Where in a run we are.

    Attributes
    ----------
    scene : bpy.types.Scene
    episode : int
    frame : int
        Of the episode, from 0; 0 when an episode is randomized.
    index : int
        Of the sample: `episode * frames_per_episode + frame`.
    objects : tuple of ObjectOfInterest
    """

    scene: Any
    episode: int
    frame: int
    index: int
    objects: tuple[ObjectOfInterest, ...] = ()
    _memo: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gives, computed once per frame: for what several plug-ins of a distribution share.

        Only in `render` and `annotate`: before, the frame is not evaluated yet.
        """
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]


class Plugin(ABC):
    """What renderers, annotators, randomizers and writers have in common.

    Attributes
    ----------
    name : str
        What users write. A class attribute.
    interface : int
        The version of the interface that the class was written for. A class attribute.
    Options : type
        A Struct derived from `Options`. A class attribute.
    options : Options
    """

    name: ClassVar[str]
    interface: ClassVar[int]
    Options: ClassVar[type[Options]] = Options

    def __init__(self, options: Any) -> None:
        self.options = options

    def setup(self, context: SetupContext) -> None:  # noqa: B027 - many have nothing to set up
        """Get ready. Raise `SceneError` or `ConfigurationError` for what cannot work: no frame has been made yet.

        Not called for writers, which have no scene: they have `open`.
        """

    def close(self) -> None:  # noqa: B027 - many have nothing to close
        """Give back what `setup`, or `open`, took. Called once, also after an error and where that was not reached."""


class Renderer(Plugin):
    """Makes named arrays of what a camera sees.

    Example::

        class FlatRenderer(Renderer):
            name = "flat"
            interface = 1
            shows = frozenset({GEOMETRY})

            viewport = None

            @property
            def emits(self):
                return {"image": ArraySpec("uint8", ("height", "width", 4 if self.transparent else 3))}

            def setup(self, context):
                from blendtorch.btb import blender

                self.viewport = blender.Viewport(shading="SOLID", alpha=self.transparent)

            def render(self, moment, camera):
                return {"image": self.viewport.draw(camera).copy()}  # the next camera is drawn into the same memory

            def close(self):
                if self.viewport:
                    self.viewport.close()

    Attributes
    ----------
    shows : frozenset of str
        Which of `EFFECTS` change its pictures.
    transparent : bool
        Set before `setup` where a randomizer puts something behind the objects: `image` is to have four channels then, with
        alpha 0 where nothing was hit; `emits` says so. The alpha is straight, as F12 saves it to a PNG: a pixel that an object
        covers by half has the full colour of the object and alpha 128.
    pictures : tuple of str
        Which of its arrays are colours. Where a run has a lens distortion, `render` is given a wider camera without one, and
        its arrays are looked up for each ray: these are interpolated, all others take the value of the nearest pixel.
    """

    shows: frozenset[str] = frozenset({GEOMETRY, COLOR})
    transparent: bool = False
    pictures: tuple[str, ...] = ("image",)

    @property
    @abstractmethod
    def emits(self) -> Mapping[str, ArraySpec]:
        """What `render` returns; `image` first, where it makes pictures. Known before `setup`.

        The sizes called `height` and `width` are those of the picture.
        """

    @abstractmethod
    def render(self, moment: Moment, camera: CameraView) -> Arrays:
        """Render the evaluated frame, once per frame and camera, as large as `camera.shape` says.

        Pictures are uint8, row 0 on top, as F12 would save them; depth is planar z in scene units, inf for background.
        """

    @property
    def device(self) -> str:
        """On which device it really renders, for people. Read after the first frame."""
        return "unknown"


class Annotator(Plugin):
    """Makes named labels of one frame in one camera.

    Example::

        class Centers(Annotator):
            name = "centers"
            interface = 1
            needs = ("camera",)

            @property
            def emits(self):
                return {
                    "xy": ArraySpec("float64", ("objects", 2), unit="px"),
                    "valid": ArraySpec("bool", ("objects",)),
                }

            def annotate(self, moment, camera, inputs):
                from blendtorch.btb import blender

                world = [blender.world_matrix(obj.root)[:3, 3] for obj in moment.objects]
                xy, depth = camera.project(np.reshape(world, (-1, 3)))
                return {"xy": xy, "valid": depth > 0}

    Attributes
    ----------
    needs : tuple of str
        Names of annotators, or of arrays of a renderer, that `annotate` finds in `inputs`. What is needed is computed before,
        once per frame and camera, and shared; it becomes part of the sample only where the user asks for it.
    uses : tuple of str
        The same, where it can do without: they come where the run has them.
    providers : mapping of str to str
        Distributions that have what is needed, for the error that says what to install.
    """

    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    providers: ClassVar[Mapping[str, str]] = {}

    @property
    @abstractmethod
    def emits(self) -> Mapping[str, ArraySpec]:
        """What `annotate` returns. Known before `setup`.

        Sizes: `height` and `width` of the picture, `objects` for the axis over the objects of interest. Arrays per object
        have a row for each object at each frame, and a bool array `valid` says which rows hold a label. In rows
        that do not, floats are NaN.
        """

    @abstractmethod
    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:
        """Label the evaluated frame, once per frame and camera, after the renderers.

        Parameters
        ----------
        moment : Moment
        camera : CameraView
        inputs : mapping of str to mapping
            By the names in `needs` and `uses`: the arrays that the annotator of this name emits. An array of a renderer is
            `inputs["depth"]["depth"]`.
        """

    def legend(self) -> Mapping[str, Any]:
        """Say what its labels are called, after `setup`: values of JSON, the same for the whole run, such as names of columns.

        It is part of each sample, in `meta["legend"]`, under the annotator's name. Default: nothing.
        """
        return {}

    def observe(self, moment: Moment, camera: CameraView) -> None:
        """Look at an evaluated frame of the episode of which no sample is made: it is not wanted, or was delivered before.

        For annotators that compare a frame with the one before. Without it their labels would depend on which samples are made.
        """


class Randomizer(Plugin):
    """Draws from the generator that it is given, and applies what it drew.

    Example::

        class Brightness(Randomizer):
            name = "sun"
            interface = 1
            changes = frozenset({LIGHTS})

            class Options(RandomizerOptions, frozen=True, kw_only=True):
                energy: Distribution = Uniform(low=1.0, high=5.0)

            def setup(self, context):
                self.lamp = context.scene.objects["Sun"].data

            def writes(self):
                return [(self.lamp, "energy")]

            def randomize(self, moment, rng):
                self.lamp.energy = draw(self.options.energy, rng)
                return {"energy": self.lamp.energy}

    Attributes
    ----------
    changes : frozenset of str
        Which of `EFFECTS` it has, with its options. A run is refused where one of them is shown by none of its renderers.
    needs_transparent : bool
        It puts something behind the objects, in `retouch`: renderers emit RGBA.
    preroll : int
        How many frames are simulated in each episode before its first sample; with what is drawn for that one.
    """

    Options: ClassVar[type[Options]] = RandomizerOptions
    changes: frozenset[str] = frozenset({GEOMETRY})
    needs_transparent: bool = False
    preroll: int = 0

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Name what it sets: a Blender datablock and the path of its property, as `(cube, "location")`. Called after `setup`.

        A run is refused where animation, a driver or a constraint would overwrite it, or the physics, unless the randomizer
        draws once per episode: it sets the start of the simulation then.
        """
        return ()

    @abstractmethod
    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:
        """Draw and apply, before Blender evaluates the frame.

        Parameters
        ----------
        moment : Moment
        rng : numpy.random.Generator
            For this episode (and frame) and the name of this randomizer alone. Nothing else may be drawn from.

        Returns
        -------
        mapping
            The values drawn, for the record: numbers, text, lists, arrays and mappings of them.
        """

    def retouch(
        self,
        moment: Moment,  # noqa: ARG002
        camera: CameraView,  # noqa: ARG002
        image: npt.NDArray[Any],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> npt.NDArray[Any]:
        """Change a finished picture; called for each `image`, only where a class overrides it.

        Those that put something behind the objects come first, then the others, each in the order of the run.

        Parameters
        ----------
        image : ndarray, shape (height, width, 3 or 4), uint8
            Four channels for those that `needs_transparent`, until one of them returns three.
        rng : numpy.random.Generator
            For this episode, frame and camera; the same for the pictures of several renderers.
        """
        return image


class Writer(Plugin):
    """Puts samples on disk, so that what is there is whole.

    Writers run on the training side, without Blender, and `setup` is not called for them. In this order::

        __init__(options)
        check(names)             before anything is written, where it is known what samples have
        open(folder)             in every process that writes or asks
        clear()                  only where what is there is to be replaced
        written()                at any time: what need not be made again
        write(sample)            in any order; in several processes at the same time, each with a Writer of its own
        finish(categories)       once in a run, in its main process, when every sample of it is written
        read(index)              at any time, for those who compare what is there with something
        read_sample(index)       at any time, for those who look at it
        close()                  in every process, also after an error, and where open was not reached

    Processes are killed, and a run that was broken off goes on in the same folder: a sample counts once all of it is there. So
    files get their names when they are whole (`blendtorch.core.write_atomically`), and the one by which `written` knows a
    sample comes last. Any method may raise: what it raises ends the run with the plug-in's name.

    Example::

        class Pictures(Writer):
            name = "pictures"
            interface = 1

            def open(self, folder):
                self.folder = folder

            def written(self):
                return frozenset(int(path.stem) for path in self.folder.glob("*.npy") if path.stem.isdecimal())

            def write(self, sample):
                from io import BytesIO

                content = BytesIO()
                np.save(content, sample["image"])
                write_atomically(self.folder / f"{sample['meta']['index']}.npy", content.getvalue())

    Attributes
    ----------
    annotators : tuple of str or mapping
        Whose labels the format has, by their names, or with options: `blendtorch generate` puts them into its preset.
    gathers : bool
        It appends samples to files that it shares between them while it writes. A process that is killed may then leave files
        that a later one does not use; else what a later one writes is to be what one that was not killed writes.
    """

    annotators: tuple[str | dict[str, Any], ...] = ()
    gathers: bool = False

    def check(self, names: Collection[str]) -> None:
        """Refuse samples that lack what the format needs: nothing has been written yet.

        Parameters
        ----------
        names : collection of str
            Of the arrays of a sample: `image`, `boxes2d_tight.xyxy`; those of further cameras begin with the camera's name.

        Raises
        ------
        ConfigurationError
            Says what is missing, and what to do.
        """

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Get ready to write into a folder and to ask for what is there; make the folders in it that `write` needs.

        Called in every process, before anything else. It leaves samples alone that are there, and files that are not its own.

        Parameters
        ----------
        folder : Path
            There already, perhaps with samples of a run before.

        Raises
        ------
        ConfigurationError
            If what is there cannot be gone on with.
        """

    @abstractmethod
    def written(self) -> frozenset[int]:
        """Return the indexes of the samples that are whole in the folder, whoever wrote them.

        Cheap: one listing of a folder, without looking into files. Half-written samples, drafts and other people's files do
        not count.
        """

    @abstractmethod
    def write(self, sample: Mapping[str, Any]) -> None:
        """Write a sample. After it returns, `written` has its index, in every process.

        A process that is killed on the way leaves no sample that `written` counts. A sample that is there already is replaced
        by the same one.

        Parameters
        ----------
        sample : mapping
            As a dataset yields it: arrays, numbers, text, lists and mappings of them. Its index is
            `sample["meta"]["index"]`. Arrays are of numpy, or tensors of torch, which `numpy.asarray` takes. They are to be
            read only, and must not be kept.
        """

    def finish(self, categories: Mapping[int, str]) -> Sequence[str] | None:  # noqa: ARG002
        """Write what belongs to the whole, an index for example. A later run may add samples, and finish again.

        Other runs may write and finish in the same folder at the same time, as jobs of an array do: take turns with
        `blendtorch.core.atomic.locked`, and leave young drafts alone.

        Parameters
        ----------
        categories : mapping of int to str
            The names of the categories, by their ids.

        Returns
        -------
        sequence of str, or None
            What the user should know: how many objects were left out, by reason.
        """
        return None

    def read(self, index: int) -> Sequence[LabelledPicture]:  # noqa: ARG002
        """Read a sample back from the files that others read, after `finish`. Default: it cannot.

        Parameters
        ----------
        index : int

        Returns
        -------
        sequence of LabelledPicture
            One for each camera, with what the format keeps of it.

        Raises
        ------
        ConfigurationError
            If the writer cannot read.
        FileNotFoundError
            If there is no such sample.
        """
        raise ConfigurationError(f"writer {self.name!r} does not read what it wrote: look at it with the tools of its format")

    def read_sample(self, index: int) -> Mapping[str, Any]:  # noqa: ARG002
        """Read a sample back as `write` was given it, bit for bit, before and after `finish`. Default: the format keeps less.

        Parameters
        ----------
        index : int

        Returns
        -------
        mapping
            Arrays of numpy.

        Raises
        ------
        ConfigurationError
            If the format does not keep all of it.
        FileNotFoundError
            If there is no such sample.
        """
        raise ConfigurationError(f"writer {self.name!r} does not keep all of a sample: it has what its format has")

    def clear(self) -> None:
        """Remove from the folder what `write` and `finish` made, drafts too, and nothing else. Default: it cannot.

        Called after `open`, before anything is written, where a user wants to replace what is there.

        Raises
        ------
        ConfigurationError
            If it does not know what it made.
        """
        raise ConfigurationError(
            f"writer {self.name!r} cannot remove what it wrote before: remove it yourself, or name another folder"
        )

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate what a sample takes on disk, to tell in time that a disk is too small. Default: the bytes of its arrays.

        Parameters
        ----------
        arrays : mapping of str to tuple
            By their names (`image`, `boxes.xyxy`), the shape and the dtype of each array.

        Returns
        -------
        int
        """
        return sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays.values())
