"""Shards are the same whatever wrote the samples, in whatever order, and whatever was killed."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blendtorch.core.atomic import whole
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.shards import Shards
from blendtorch.core.testing.writing import _Interruption
from hypothesis import given, settings
from hypothesis import strategies as st

SPLIT = {"train": 2.0, "val": 1.0}


def opened(folder, size=4, split=SPLIT):
    return Shards(folder / "data", folder / ".samples", ".txt", ".lines", size, split)


def put(shards, index):
    shards.put(index, "val" if index % 3 == 0 else "train", f"sample {index}\n".encode())


def joined(path, before, documents):
    lines = [] if before is None else before.read_text().splitlines(keepends=True)
    lines = [line for line in lines if int(line.split()[1]) not in documents]
    lines += [document.read_text() for document in documents.values()]
    path.write_text("".join(sorted(lines, key=lambda line: int(line.split()[1]))))
    return {"samples": {path.name.partition("-")[0]: len(documents)}}


def gather(shards, write=joined):
    with shards.gathered(write) as tally:
        return tally


def tree(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@settings(max_examples=40, deadline=None)
@given(indexes=st.lists(st.integers(0, 20), unique=True, min_size=1), seed=st.integers(0, 99))
def test_shards_do_not_depend_on_how_they_came_to_be(tmp_path_factory, indexes, seed):
    one, other, rng = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other"), random.Random(seed)
    for index in sorted(indexes):
        put(opened(one), index)
    assert gather(opened(one)) == gather(opened(one))
    for index in indexes:
        put(opened(other), index)
        if rng.random() < 0.3:
            gather(opened(other))
        if rng.random() < 0.3:
            put(opened(other), index)
    tally = gather(opened(other))
    assert sum(tally["samples"].values()) == len(indexes)
    assert tree(one) == tree(other)
    assert opened(one).written() == frozenset(indexes)
    lines = [int(line.split()[1]) for path in (one / "data").iterdir() for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(indexes)
    for path in (one / "data").iterdir():
        numbers = [int(line.split()[1]) for line in path.read_text().splitlines()]
        part, _, number = path.stem.partition("-")
        assert numbers == sorted(numbers)
        assert {each // 4 for each in numbers} == {int(number)}
        assert {each % 3 == 0 for each in numbers} == {part == "val"}


def test_gathering_goes_on_after_a_kill_at_any_step(tmp_path):
    def folder(name):
        made = tmp_path / name
        for index in (0, 1, 2, 5, 6):
            put(opened(made), index)
        gather(opened(made))
        for index in range(10):
            put(opened(made), index)
        return made

    expected = folder("expected")
    with _Interruption(expected) as interruption:
        tally = gather(opened(expected))
    assert len(interruption.steps) > 20, "shards, marks, documents"
    for number in range(len(interruption.steps)):
        killed = folder(str(number))
        with _Interruption(killed, number):
            gather(opened(killed))
        assert opened(killed).written() == frozenset(range(10))
        assert gather(opened(killed)) == tally
        found = tree(killed)
        assert {name: found[name] for name in tree(expected)} == tree(expected)
        assert not [name for name in found if name.startswith("data") and name.endswith(".part")]


def test_documents_go_when_they_are_in_shards(tmp_path):
    shards = opened(tmp_path)
    for index in range(10):
        put(shards, index)
    draft = tmp_path / ".samples" / "train" / "000001.txt.77.part"
    draft.write_text("half")
    os.utime(draft, (0, 0))  # nobody writes at it
    gather(shards)
    hidden = {name for name in tree(tmp_path) if name.startswith(".samples")}
    assert hidden == {f".samples/{name}" for name in (".lock", "layout.json", "000000.full", "000001.full", "000002.json")}
    before = tree(tmp_path)
    put(shards, 2)
    assert tree(tmp_path) == before, "it is in a shard whose range is full"
    put(shards, 9)
    gather(shards)
    assert tree(tmp_path) == before, "it is the same sample"
    assert {part: [path.name for path in paths] for part, paths in shards.shards().items()} == {
        "train": ["train-000000.lines", "train-000001.lines", "train-000002.lines"],
        "val": ["val-000000.lines", "val-000001.lines", "val-000002.lines"],
    }


GATHERING = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_shards import gather, joined, opened, put

folder, name, slow, *indexes = sys.argv[2:]

def write(path, before, documents):
    tally = joined(path, before, documents)
    if slow == "slow":
        Path(folder, "writing").touch()
        while not Path(folder, "go on").exists():
            time.sleep(0.01)
    return tally

for index in map(int, indexes):
    put(opened(Path(folder, "set")), index)
Path(folder, name).touch()
gather(opened(Path(folder, "set")), write)
"""


@pytest.fixture
def start(tmp_path):
    """Start processes that put samples and gather."""
    started = []

    def start(name, slow, indexes):
        command = [sys.executable, "-c", GATHERING, str(Path(__file__).parent), str(tmp_path), name, slow, *map(str, indexes)]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} does not come"
        time.sleep(0.01)


def test_nothing_is_lost_where_one_gathers_while_another_does(tmp_path, start):
    """The second puts its samples into ranges of which the first writes shards."""
    first = start("first", "slow", range(0, 10, 2))
    wait_for(tmp_path / "writing")
    second = start("second", "fast", range(1, 10, 2))
    wait_for(tmp_path / "second")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    (tmp_path / "go on").touch()
    assert (first.wait(30), second.wait(30)) == (0, 0)
    alone = tmp_path / "alone"
    for index in range(10):
        put(opened(alone), index)
    gather(opened(alone))
    assert tree(tmp_path / "set") == tree(alone)


def test_processes_gather_at_the_same_time(tmp_path, start):
    started = [start(str(number), "fast", range(number, 60, 4)) for number in range(4)]
    assert [each.wait(60) for each in started] == [0] * 4
    shards = opened(tmp_path / "set")
    assert sum(gather(shards)["samples"].values()) == 60
    lines = [line for path in (tmp_path / "set" / "data").iterdir() for line in path.read_text().splitlines()]
    assert sorted(int(line.split()[1]) for line in lines) == list(range(60)) == sorted(shards.written())


@pytest.mark.parametrize(
    ("size", "split", "expected"),
    [
        (5, SPLIT, "samples_per_shard 4 and not 5"),
        (4, {"train": 1.0}, "split {'train': 2.0, 'val': 1.0} and not {'train': 1.0}"),
    ],
)
def test_another_layout_is_refused_and_can_replace_what_is_there(tmp_path, size, split, expected):
    first = opened(tmp_path)
    for index in range(6):
        put(first, index)
    gather(first)
    (tmp_path / "data" / "train-000077.lines").write_text("mine")
    other = opened(tmp_path, size, split)
    for call in (other.written, lambda: gather(other), lambda: other.put(7, "train", b"")):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert expected in str(caught.value)
    other.clear()
    assert tree(tmp_path) == {"data/train-000077.lines": b"mine"}
    other.put(7, "train", b"7\n")
    assert other.written() == {7}


def test_samples_agree_on_what_the_first_one_says(tmp_path):
    opened(tmp_path).agree("features", {"depth": "float32"})
    opened(tmp_path).agree("features", {"depth": "float32"})
    with pytest.raises(ConfigurationError, match="has samples with depth float32 and not float64, K none and not 3"):
        opened(tmp_path).agree("features", {"depth": "float64", "K": "3"})


def test_a_file_that_cannot_be_written_leaves_no_draft(tmp_path):
    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        whole(tmp_path / "x", fail)
    assert list(tmp_path.iterdir()) == []
