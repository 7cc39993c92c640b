"""What each plug-in has to do: one function for each requirement. It returns, or raises `Failed` or `Skipped`."""

import copy
import dataclasses
import functools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

import msgspec
import numpy as np
from blendtorch.core.discovery import check_class
from blendtorch.core.errors import ConfigurationError, PluginError, SceneError
from blendtorch.core.interfaces import EFFECTS, Annotator, CameraView, Randomizer, RandomizerOptions, Renderer
from blendtorch.core.inventory import interpreter
from blendtorch.core.payload import ArraySpec
from blendtorch.core.sampler import Sample, Stage
from blendtorch.core.testing.subject import Failed, Skipped, Subject, alike

BLOCKED = ("bpy", "mathutils", "gpu", "torch", "blendtorch.btb", "blendtorch.btt")


def is_well_formed(subject: Subject) -> None:
    """Name, interface version, options class, abstract methods."""
    check_class(subject.found.cls, subject.found.kind)


def imports_alone(subject: Subject) -> None:
    """In a fresh process in which Blender's modules, PyTorch and the rest of blendtorch cannot be imported."""
    found = subject.found
    module = found.source.module.partition(":")[0] if found.source.distribution else found.cls.__module__
    if module == "__main__":
        raise Skipped("it is part of a script")
    if problem := _imported_alone(module, getattr(sys.modules.get(module), "__file__", None) or ""):
        raise Failed(f"{problem}: import bpy, torch and blendtorch.btb inside functions only")


_ALONE = """
import importlib, json, runpy, sys
path, blocked, module, file = json.loads(sys.argv[1])
class Block:
    def find_spec(self, name, *_):
        if any(name == other or name.startswith(other + ".") for other in blocked):
            raise ImportError(f"it imports {name} at its top")
sys.path[:] = path
sys.meta_path.insert(0, Block())
try:
    importlib.import_module(module)
except ModuleNotFoundError as error:
    if not file or not f"{module}.".startswith(f"{error.name}."):
        raise
    runpy.run_path(file)
"""


@functools.cache
def _imported_alone(module: str, file: str) -> str:
    arguments = json.dumps([sys.path, BLOCKED, module, file])
    command = [interpreter(), "-c", _ALONE, arguments]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return process.stderr.strip().rpartition("\n")[2] if process.returncode else ""


def options_survive_json(subject: Subject) -> None:
    """Options can be sent."""
    try:
        options = subject.make().options
    except ConfigurationError as error:
        raise Failed(str(error)) from None
    again = msgspec.json.decode(msgspec.json.encode(options), type=type(options))
    if again != options:
        raise Failed(f"options changed on their way through JSON, from {options} to {again}: use tuples, not lists")


def declares(subject: Subject) -> None:
    """What it emits, needs, shows or changes is known before `setup`."""
    plugin = subject.make()
    for name, effects in (("shows", getattr(plugin, "shows", ())), ("changes", getattr(plugin, "changes", ()))):
        if unknown := set(effects) - EFFECTS:
            raise Failed(f"{name} has {sorted(unknown)}: the effects are {sorted(EFFECTS)}")
    if isinstance(plugin, Randomizer):
        if not isinstance(plugin.preroll, int) or plugin.preroll < 0:
            raise Failed(f"preroll is {plugin.preroll!r}: expected a number of frames, 0 or more")
        if plugin.options.every not in get_args(RandomizerOptions.__annotations__["every"]):
            raise Failed(f"options.every is {plugin.options.every!r}: expected 'episode' or 'frame'")
        return
    _check_specs(plugin.emits)
    if isinstance(plugin, Annotator):
        for attribute in ("needs", "uses"):
            value = getattr(plugin, attribute)
            if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
                raise Failed(f"{attribute} is {value!r}: expected a tuple of names")


def _check_specs(emits: Mapping[str, ArraySpec]) -> None:
    if not isinstance(emits, Mapping) or not emits:
        raise Failed(f"emits is {emits!r}: expected a mapping of names to ArraySpec")
    for name, spec in emits.items():
        if not isinstance(spec, ArraySpec):
            raise Failed(f"emits {name!r} as {spec!r}: expected an ArraySpec")
        try:
            np.dtype(spec.dtype)
        except TypeError:
            raise Failed(f"emits {name!r} with the dtype {spec.dtype!r}, which numpy does not have") from None
    rows = [name for name, spec in emits.items() if spec.shape[:1] == ("objects",)]
    if rows and (emits.get("valid") is None or (emits["valid"].dtype, emits["valid"].shape) != ("bool", ("objects",))):
        raise Failed(f"{rows[0]!r} has a row for each object, so emit valid, bool (objects,): which rows hold a label")


def closes_without_setup(subject: Subject) -> None:
    """`close` is called also where `setup` was not reached."""
    subject.make().close()


def sets_up_and_closes(subject: Subject) -> None:
    """Twice in one process: another run begins after the first."""
    for _ in range(2):
        with subject.playing():
            pass


def emits_what_it_declares(subject: Subject) -> None:
    """At several frames, twice in each."""
    with subject.playing() as (sampler, plugin):
        declared = dict(plugin.emits)
        for frame, _ in enumerate(subject.episode(sampler, 0)):
            sampler.sample(frame)
        if dict(plugin.emits) != declared:
            raise Failed(f"emits was {declared} after setup and is {dict(plugin.emits)} after a frame")


def emits_with_transparency(subject: Subject) -> None:
    """Where a randomizer puts something behind the objects, pictures have an alpha channel."""
    if "image" not in subject.make().emits:
        raise Skipped("it makes no pictures")
    with subject.playing(also=(_Behind,)) as (sampler, _):
        for sample in subject.episode(sampler, 0):
            if sample["image"].shape[2] != 3:
                raise Failed("alpha is still there")


class _Behind(Randomizer):
    """Puts black behind the objects."""

    name = "conformance_behind"
    interface = 1
    changes = frozenset({"image"})
    needs_transparent = True

    def randomize(self, moment: Any, rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def retouch(self, moment: Any, camera: CameraView, image: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002
        if image.shape != (*camera.shape, 4):
            raise PluginError(f"a renderer whose `transparent` is set is to give RGBA, got shape {image.shape}")
        return np.ascontiguousarray(image[..., :3])


@contextmanager
def _called(subject: Subject) -> Iterator[tuple[Callable[..., Any], list[Any], list[Any], Mapping[str, Any]]]:
    """Give the method of a renderer or annotator, its arguments in a run, copies of them made before, and what it returned."""
    with subject.playing() as (sampler, plugin):
        name = "render" if isinstance(plugin, Renderer) else "annotate"
        method, calls = getattr(plugin, name), []

        def spy(moment: Any, camera: CameraView, *inputs: Any) -> Any:
            before = copy.deepcopy([camera.camera_from_world, camera.K, *inputs])
            result = method(moment, camera, *inputs)
            calls.append((method, [moment, camera, *inputs], before, result))
            return result

        setattr(plugin, name, spy)
        next(subject.episode(sampler, 0))
        yield calls[-1]


def keeps_its_arrays(subject: Subject) -> None:
    """An array keeps its content until the next frame, also when another camera is rendered or labelled."""
    with _called(subject) as (method, (moment, camera, *inputs), _, result):
        kept = copy.deepcopy(dict(result))
        aside = np.eye(4)
        aside[:2, 3] = 0.5, 0.25
        method(moment, dataclasses.replace(camera, name="aside", camera_from_world=aside @ camera.camera_from_world), *inputs)
        for name, array in kept.items():
            if not alike(array, result[name]):
                raise Failed(f"{name!r} changed when the next camera of the same frame was asked for: return a copy")


def repeats_a_frame(subject: Subject) -> None:
    """The same frame has the same labels."""
    with _called(subject) as (method, arguments, _, result):
        first = copy.deepcopy(dict(result))
        second = method(*arguments)
        for name, array in first.items():
            if not alike(array, second[name]):
                raise Failed(f"{name!r} of one frame and camera differs from call to call: {array} and {second[name]}")


def leaves_its_inputs(subject: Subject) -> None:
    """What it is given is to be read only."""
    with _called(subject) as (_, (_, camera, *inputs), before, _):
        if not alike(before, [camera.camera_from_world, camera.K, *inputs]):
            raise Failed("it changed an array that it was given: copy it before")


def marks_empty_rows(subject: Subject) -> None:
    """In rows that are not valid, floats are NaN."""
    with subject.playing() as (sampler, plugin):
        for sample in subject.episode(sampler, 0):
            for camera in [sample, *(sample[each.name] for each in subject.stage.cameras[1:])]:
                labels = camera[subject.found.name]
                for name, spec in plugin.emits.items():
                    if spec.shape[:1] == ("objects",) and np.dtype(spec.dtype).kind == "f":
                        empty = labels[name][~labels["valid"]]
                        if not np.isnan(empty).all():
                            raise Failed(f"{name!r} is {empty.tolist()} in rows that are not valid: expected NaN")


def draws_from_its_generator(subject: Subject) -> None:
    """Not from numpy's global one, nor from the module random."""

    def states() -> Any:
        return [random.getstate(), np.random.get_state()]  # noqa: NPY002 - it is looked at, not used

    before = states()
    with subject.playing() as (sampler, _):
        for _ in subject.episode(sampler, 0):
            pass
    if not alike(before, states()):
        raise Failed("it draws from numpy.random or random: draw from the generator that it is given")


def names_what_it_sets(subject: Subject) -> None:
    """`writes` names datablocks and properties that they have."""
    with subject.playing() as (_, plugin):
        for target in plugin.writes():
            if not (isinstance(target, (tuple, list)) and len(target) == 2 and isinstance(target[1], str)):
                raise Failed(f"writes has {target!r}: expected a datablock and the path of its property")
            datablock, path = target
            try:
                datablock.path_resolve(path)
            except (ValueError, AttributeError) as error:
                raise Failed(f"writes has {path!r} of {getattr(datablock, 'name', datablock)!r}: {error}") from None


def repeats_an_episode(subject: Subject) -> None:
    """An episode made after others is the same as made first: draws, places, what is set, pictures."""
    for every in ("episode", "frame"):
        if subject.options.get("every", every) != every:
            continue
        try:
            repeats_after(subject, (0, 5, 1), every=every)
        except (SceneError, ConfigurationError):
            if subject.make().options.every == every:
                raise


def repeats_after(subject: Subject, others: tuple[int, ...], seed: int = 7, **options: Any) -> None:
    """Compare episode 3 made first with the same made after others."""
    with subject.playing(seed, **options) as (sampler, plugin):

        def observed() -> list[dict[str, Any]]:
            return [_observe(subject.stage, plugin, sample) for sample in subject.episode(sampler, 3)]

        first = observed()
        for number in others:
            for _ in subject.episode(sampler, number):
                pass
        for frame, (one, two) in enumerate(zip(first, observed(), strict=True)):
            for what, value in one.items():
                if not alike(value, two[what]):
                    raise Failed(
                        f"{what} of frame {frame} differ when episodes {others} were made before: {value} first, {two[what]} "
                        "afterwards. It carries state: set everything that is touched, each time, from the generator alone"
                    )


def _observe(stage: Stage, plugin: Randomizer, sample: Sample) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "the values drawn": sample["meta"]["drawn"],
            "the places of objects": [
                np.array(obj.root.matrix_world, np.float64) for obj in stage.objects if obj.root is not None
            ],
            "the cameras": [[view.camera_from_world, view.K] for view in map(stage.view, stage.cameras)],
            "the properties in writes()": [_numbers(block.path_resolve(path)) for block, path in plugin.writes()],
            "the pictures": sample["image"],
        }
    )


def _numbers(value: Any) -> Any:
    """Turn a property into what can be compared; None for links to other datablocks, whose names say nothing."""
    try:
        return value if isinstance(value, str) else np.array(value, np.float64)
    except (TypeError, ValueError):
        return None
