"""The conformance kit finds what is wrong with a writer."""

from io import BytesIO

import numpy as np
import pytest
from blendtorch.core import Writer, write_atomically
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.testing import run_checks
from blendtorch.core.testing.checks import names, run_check


class Pictures(Writer):
    """A picture and its number: two files, of which the second counts."""

    name = "pictures"
    interface = 1

    def open(self, folder):
        self.folder = folder

    def written(self):
        return frozenset(int(path.stem) for path in self.folder.glob("*.txt") if path.stem.isdecimal())

    def write(self, sample):
        index, picture = sample["meta"]["index"], BytesIO()
        np.save(picture, sample["image"])
        self.put(self.folder / f"{index}.npy", picture.getvalue())
        self.put(self.folder / f"{index}.txt", str(index).encode())

    def put(self, path, content):
        write_atomically(path, content)

    def read(self, index):
        return [LabelledPicture(camera="", image=np.load(self.folder / f"{index}.npy"))]


class Remembering(Pictures):
    def open(self, folder):
        super().open(folder)
        self.known = set()

    def written(self):
        return frozenset(self.known)

    def write(self, sample):
        super().write(sample)
        self.known.add(sample["meta"]["index"])


class Direct(Pictures):
    """Gives files their names before they are whole."""

    def put(self, path, content):
        path.write_bytes(content)


class Tidy(Direct):
    """Removes what is not whole, if it lives to do it."""

    def put(self, path, content):
        try:
            super().put(path, content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


class Hasty(Pictures):
    """Says first that a sample is there."""

    def write(self, sample):
        write_atomically(self.folder / f"{sample['meta']['index']}.txt", str(sample["meta"]["index"]).encode())
        super().write(sample)


class CountingDrafts(Pictures):
    """Takes a draft for the file that it is to become."""

    def written(self):
        return frozenset(int(path.name.split(".")[0]) for path in self.folder.glob("[0-9]*.txt*") if " " not in path.name)


class Numbering(Pictures):
    """Never writes over a file."""

    def put(self, path, content):
        super().put(path if not path.exists() else path.with_name(f"again{len(list(self.folder.iterdir()))}"), content)


class Listing(Pictures):
    """Has the folder for itself, it believes."""

    def written(self):
        return frozenset(int(path.stem) for path in self.folder.iterdir() if path.suffix == ".json")


class Sweeping(Pictures):
    def finish(self, categories):
        for path in self.folder.iterdir():
            if path.is_file() and not path.stem.isdecimal():
                path.unlink()


class Marking(Pictures):
    def write(self, sample):
        sample["meta"]["writer"] = self.name
        super().write(sample)


class Labelled(Pictures):
    def write(self, sample):
        super().write({**sample, "first": sample["conformance_marks"]["xy"][0]})


class Short(Pictures):
    """Has four digits for an index."""

    def write(self, sample):
        super().write({**sample, "meta": {"index": sample["meta"]["index"] % 10000}})


class Once(Pictures):
    def finish(self, categories):
        self.categories = [categories[each] for each in (1,)]


class Choosy(Pictures):
    """Asks for a label that nobody makes."""

    def check(self, names):
        if "labels.all" not in names:
            raise ConfigurationError("the samples have no labels")


class Forgetful(Pictures):
    def read(self, index):
        return [LabelledPicture(camera="", image=np.load(self.folder / f"{index}.npy")[::-1])]


class Lossy(Pictures):
    def read_sample(self, index):
        return {"image": np.load(self.folder / f"{index}.npy")}


class Vague(Pictures):
    def bytes_per_sample(self, arrays):
        return super().bytes_per_sample(arrays) * 0.5


class Unopened(Pictures):
    def close(self):
        del self.folder


BROKEN_OFF = "counts no sample that was broken off"
WRONG = {
    Remembering: ("shares its folder with others", "though another writer wrote one of the samples"),
    Direct: (BROKEN_OFF, "a process that was killed in the middle of 4.txt left half a sample"),
    Tidy: (BROKEN_OFF, "a process that was killed in the middle of 4.txt left half a sample"),
    Hasty: (BROKEN_OFF, "left half a sample that written() counts"),
    CountingDrafts: (BROKEN_OFF, "left half a sample that written() counts"),
    Numbering: ("writes a sample again", "writing a sample again changed the folder"),
    Listing: ("leaves other people's files alone", "ValueError: invalid literal for int()"),
    Sweeping: ("leaves other people's files alone", "it changed files that are not its own: ['README.md'"),
    Marking: ("leaves the sample alone", "it changed the sample that it was given"),
    Labelled: ("writes a sample without labels", "KeyError: 'conformance_marks'"),
    Short: ("counts what it wrote", "after the samples [5, 0, 1000000] were written: expected"),
    Once: ("finishes", "KeyError: 1"),
    Choosy: ("takes samples with every label", "the samples have no labels"),
    Forgetful: ("reads back what it wrote", "is not the one that it was given"),
    Lossy: ("reads back what it wrote", "the sample that it reads is not the one"),
    Vague: ("estimates what it writes", "expected a whole number of bytes"),
    Unopened: ("closes without setup", "AttributeError"),
}


def test_what_is_right_passes_every_check():
    assert [str(check) for check in run_checks(Pictures)] == [f"{name}: passed" for name in names("writer")]


@pytest.mark.parametrize("cls", WRONG)
def test_what_is_wrong_is_found(cls):
    name, reason = WRONG[cls]
    assert reason in run_check(name, cls).error


def test_each_check_has_a_writer_that_fails_it():
    for_all = {"is well-formed", "imports without Blender and PyTorch", "has options that survive JSON"}
    assert {name for name, _ in WRONG.values()} == set(names("writer")) - for_all
