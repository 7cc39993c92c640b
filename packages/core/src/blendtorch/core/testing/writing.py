"""What each writer has to do: one function for each requirement. It returns, or raises `Failed` or `Skipped`.

Samples come from the fake scene; a writer is killed by an error in the middle of what it does to files.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Annotator, Arrays, CameraView, Moment, Writer
from blendtorch.core.payload import ArraySpec
from blendtorch.core.sampler import Sample
from blendtorch.core.selection import LabelOptions, array_names, labelled_pictures
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from blendtorch.core.testing.fakes import run
from blendtorch.core.testing.subject import Failed, Skipped, Subject, alike


class _Marks(Annotator):
    """Labels with and without a value, of several types, one of them a map."""

    name = "conformance_marks"
    interface = 1
    emits: ClassVar[Mapping[str, ArraySpec]] = {
        "xy": ArraySpec("float64", ("objects", 2), unit="px"),
        "count": ArraySpec("int64", ("objects",)),
        "ids": ArraySpec("int32", ("height", "width")),
        "valid": ArraySpec("bool", ("objects",)),
    }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        xy, depth = camera.project([obj.root.matrix_world[:3, 3] for obj in moment.objects])
        ids = np.arange(camera.shape[0] * camera.shape[1], dtype=np.int32).reshape(camera.shape)
        return {"xy": xy, "count": np.arange(len(xy)), "ids": ids, "valid": depth > 0}


def samples(indexes: Sequence[int], with_labels: bool = True) -> list[Sample]:
    """Make samples of the fake scene, as a dataset yields them, and give them these indexes."""
    labels: dict[str, Any] = {"renderers": [{"name": "fake", "depth": True}], "annotators": [_Marks.name]}
    made = run(_Marks, count=len(indexes), **(labels if with_labels else {}))
    for sample, index in zip(made, indexes, strict=True):
        sample["meta"]["index"] = index
    return made


def labelled(indexes: Sequence[int]) -> list[Sample]:
    """Make samples with every label that writers know, and some that they do not."""
    made = []
    for index in indexes:
        sample = labelled_sample(index)
        count, shape = len(sample["objects"]["instance_id"]), sample["image"].shape[:2]
        xy = np.full((count, 2), np.nan)
        xy[:3] = index
        ids = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
        made.append({**sample, _Marks.name: {"xy": xy, "count": np.arange(count), "ids": ids, "valid": np.arange(count) < 3}})
    return made


@contextmanager
def _opened(subject: Subject, folder: Path) -> Iterator[Writer]:
    """Make a writer as another process would, and open it."""
    writer: Writer = subject.make()
    try:
        writer.open(folder)
        yield writer
    finally:
        writer.close()


@contextmanager
def _new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="blendtorch-conformance-") as folder:
        yield Path(folder)


def _expect(writer: Writer, expected: Sequence[int], when: str) -> None:
    found = writer.written()
    if not isinstance(found, frozenset) or found != frozenset(expected):
        raise Failed(f"written() is {found!r} {when}: expected {frozenset(expected)!r}")


def counts_what_it_wrote(subject: Subject) -> None:
    """Each sample as soon as it is written, and no other, whatever their order."""
    counts_in_order(subject, (5, 0, 1_000_000))


def counts_in_order(subject: Subject, indexes: Sequence[int]) -> None:
    """Write samples in this order, and ask after each."""
    with _new_folder() as folder, _opened(subject, folder) as writer:
        _expect(writer, (), "in an empty folder")
        for number, sample in enumerate(labelled(indexes), 1):
            writer.write(sample)
            _expect(writer, indexes[:number], f"after the samples {list(indexes[:number])} were written")


def shares_its_folder(subject: Subject) -> None:
    """Several processes write into one folder, and each sees what the others have written."""
    one, two, three = labelled((3, 4, 7))
    with _new_folder() as folder:
        with _opened(subject, folder) as first, _opened(subject, folder) as second:
            first.write(one)
            second.write(two)
            first.write(three)
            _expect(first, (3, 4, 7), "though another writer wrote one of the samples 3, 4 and 7 into the folder")
            _expect(second, (3, 4, 7), "though another writer wrote two of the samples 3, 4 and 7 into the folder")
        with _opened(subject, folder) as later:
            _expect(later, (3, 4, 7), "when a folder with the samples 3, 4 and 7 is opened again")


def writes_a_sample_again(subject: Subject) -> None:
    """It is the same sample: nothing is added to the folder."""
    (sample,) = labelled((2,))
    with _new_folder() as folder, _opened(subject, folder) as writer:
        writer.write(sample)
        before = _sizes(folder)
        writer.write(sample)
        _expect(writer, (2,), "after sample 2 was written twice")
        if (after := _sizes(folder)) != before:
            raise Failed(f"writing a sample again changed the folder from {before} to {after}: expected the same files")


def writes_without_labels(subject: Subject) -> None:
    """A run may have no annotators, and a writer refuses it before, or takes it."""
    (sample,) = samples((0,), with_labels=False)
    try:
        subject.make().check(frozenset(array_names(sample)))
    except ConfigurationError:
        raise Skipped("it refuses samples without labels") from None
    with _new_folder() as folder, _opened(subject, folder) as writer:
        writer.write(sample)
        _expect(writer, (0,), "after a sample without labels was written")


def takes_what_it_checked(subject: Subject) -> None:
    """It takes samples with every label."""
    (sample,) = labelled((0,))
    try:
        subject.make().check(frozenset(array_names(sample)))
    except ConfigurationError as error:
        raise Failed(f"check refuses samples that have every label: {error}") from error


def reads_back(subject: Subject) -> None:
    """What it reads is what was written: samples whole, or pictures, categories, boxes to a pixel."""
    one, two = labelled((2, 5))
    with _new_folder() as folder, _opened(subject, folder) as writer:
        for sample in (one, two):
            writer.write(sample)
        reads_samples = _reads_sample(writer, two)
        writer.finish(CATEGORIES)
        try:
            first, *_ = writer.read(5)
        except ConfigurationError:
            if reads_samples:
                return
            raise Skipped("it does not read") from None
        if not np.array_equal(first.image, two["image"]):
            raise Failed("the picture that it reads is not the one that it was given")
        expected, *_ = labelled_pictures(two, LabelOptions())
        for each in first.objects:
            alternatives = [other.xyxy for other in expected.objects if other.category_id == each.category_id]
            if not any(np.abs(each.xyxy - other).max() <= 1 for other in alternatives):
                raise Failed(
                    f"it reads a box {each.xyxy.tolist()} of category {each.category_id}, and was given none within a pixel"
                )
        try:
            writer.read(3)
        except FileNotFoundError:
            return
        raise Failed("reading a sample that is not there raised no FileNotFoundError")


def _reads_sample(writer: Writer, expected: Sample) -> bool:
    """Whether it reads samples; they are then to be what was written, before it has finished."""
    try:
        found = writer.read_sample(5)
    except ConfigurationError:
        return False
    if not alike(found, expected):
        raise Failed("the sample that it reads is not the one that it was given")
    try:
        writer.read_sample(3)
    except FileNotFoundError:
        return True
    raise Failed("reading a whole sample that is not there raised no FileNotFoundError")


def leaves_the_sample(subject: Subject) -> None:
    """What it is given is to be read only."""
    (sample,), (same,) = labelled((0,)), labelled((0,))
    with _new_folder() as folder, _opened(subject, folder) as writer:
        writer.write(sample)
    if not alike(sample, same):
        raise Failed("it changed the sample that it was given: copy what you change")


def leaves_foreign_files(subject: Subject) -> None:
    """Notes, pictures and folders of other people stay, and count for nothing."""
    (sample,) = labelled((1,))
    names = ["README.md", "notes.json", "x.png", "12 (copy).json", "12_old.npy", "-3.json", ".hidden", "other/x"]
    with _new_folder() as folder:
        (folder / "other").mkdir()
        for name in names:
            (folder / name).write_text("mine")
        with _opened(subject, folder) as writer:
            _expect(writer, (), f"in a folder with other people's files {names}")
            writer.write(sample)
            _expect(writer, (1,), f"after sample 1 was written into a folder with other people's files {names}")
            writer.finish(CATEGORIES)
        changed = [name for name in names if not (folder / name).is_file() or (folder / name).read_text() != "mine"]
        if changed:
            raise Failed(f"it changed files that are not its own: {changed}")


def finishes(subject: Subject) -> None:
    """Also without a sample, also again after more samples were added."""
    one, two = labelled((0, 1))
    with _new_folder() as folder, _opened(subject, folder) as writer:
        writer.finish({})
        _expect(writer, (), "after it finished without a sample")
        for sample, written in ((one, (0,)), (two, (0, 1))):
            writer.write(sample)
            writer.finish(CATEGORIES)
            _expect(writer, written, "after it finished")


def estimates_bytes(subject: Subject) -> None:
    """A whole number, for any arrays."""
    writer: Writer = subject.make()
    arrays = {"image": ((480, 640, 3), "uint8"), "depth": ((480, 640), "float32"), "boxes.xyxy": ((0, 4), "float64")}
    for given in (arrays, {}):
        found = writer.bytes_per_sample(given)
        if not isinstance(found, int) or found < (1 if given else 0):
            raise Failed(f"bytes_per_sample is {found!r} for {given}: expected a whole number of bytes")


def counts_whole_samples(subject: Subject) -> None:
    """Killed before each thing that it does to a file, and in the middle of each file, it leaves no sample that counts."""
    (sample,) = labelled((4,))
    with _new_folder() as folder, _opened(subject, folder) as writer:
        with _Interruption(folder) as interruption:
            writer.write(sample)
        whole, steps = _sizes(folder), interruption.steps
    for number, (opens, path) in enumerate(steps):
        name = path.relative_to(folder)
        _killed(subject, sample, whole, number, f"before it {'opened' if opens else 'renamed'} {name}")
        if opens:
            _killed(subject, sample, whole, number + 1, f"in the middle of {name}", halved=number)


def _killed(subject: Subject, sample: Sample, whole: dict[str, int], number: int, told: str, halved: int | None = None) -> None:
    """Write a sample and be killed before the step `number`; what step `halved` had opened is written to its half."""
    with _new_folder() as folder:
        with _opened(subject, folder) as writer, _Interruption(folder, number) as interruption:
            writer.write(sample)
        if halved is not None and len(interruption.steps) > halved and (path := interruption.steps[halved][1]).is_file():
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
        with _opened(subject, folder) as later:
            sizes = _sizes(folder)
            if (
                not getattr(subject.found.cls, "gathers", False)
                and 4 in later.written()
                and any(sizes.get(name) != size for name, size in whole.items())
            ):
                raise Failed(
                    f"a process that was killed {told} left half a sample that written() counts: give files their names when "
                    "they are whole (blendtorch.core.write_atomically), the one by which written() knows the sample last"
                )
            later.write(sample)
            _expect(later, (4,), f"after sample 4 was written again, by a process after one that was killed {told}")
            sizes = _sizes(folder)
            if not getattr(subject.found.cls, "gathers", False) and any(
                sizes.get(name) != size for name, size in whole.items()
            ):
                raise Failed(f"what a process that was killed {told} left is in the way: {sizes}, expected {whole}")


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


class _Killed(BaseException):
    """In place of SIGKILL."""


class _Interruption:
    """Kills what runs in its block before it does the n-th thing to a file in a folder, and notes these things.

    Nothing that is done to files as the error passes by is done: a killed process does not clean up.
    """

    _active: ClassVar["_Interruption | None"] = None
    _installed: ClassVar[bool] = False

    def __init__(self, folder: Path, number: int | None = None) -> None:
        self._folder, self._number = folder, number
        self._dead = False
        self.steps: list[tuple[bool, Path]] = []  # whether it opens a file, and which; else it gives one its name

    def __enter__(self) -> Self:
        if not _Interruption._installed:  # Python has no way to take one away again
            sys.addaudithook(_Interruption._audit)
            _Interruption._installed = True
        _Interruption._active = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        _Interruption._active = None
        return kind is not None and issubclass(kind, _Killed)

    @staticmethod
    def _audit(event: str, arguments: tuple[Any, ...]) -> None:
        if _Interruption._active is not None and event in ("open", "os.rename", "os.link", "os.truncate", "os.remove"):
            _Interruption._active._see(event, arguments)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            mode, flags = arguments[1:3]
            if not (set(mode) & set("wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)):
                return
        named = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
        if not isinstance(named, (str, os.PathLike)) or self._folder not in (path := Path(named)).parents:
            return
        self._dead |= len(self.steps) == self._number
        if self._dead:
            raise _Killed
        self.steps.append((event == "open", path))
