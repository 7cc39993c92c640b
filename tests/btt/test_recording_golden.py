"""Recordings of each released version open for ever: `golden` has them, written once by write_golden.py."""

import datetime
import shutil
from pathlib import Path

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.btt.recording import index
from blendtorch.btt.recording.description import verify

GOLDEN = Path(__file__).parent / "golden"
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)


def of_a_script(number):
    """Make an item with every type that travels."""
    return {
        "image": np.arange(number, number + 72, dtype=np.uint8).reshape(4, 6, 3),
        "xy": np.arange(8.0).reshape(4, 2) / 3 + number,
        "nested": {"half": np.array([1.5, np.nan], np.float16), "flags": np.array([True, False])},
        "scalar": np.array(number, np.int32),
        "text": np.array(["cube", "ü"]),
        "bytes": np.array([b"ab"]),
        "complex": np.array([1 + 2j]),
        "when": np.array(["2026-01-02"], "M8[D]"),
        "empty": np.zeros((0, 4), np.float32),
        "plain": [None, True, -(2**70), 2**63, 0.1, float("inf"), "text", b"raw", 1 - 2j, np.float32(0.1)],
        "others": {"tuple": (1, (2,)), "set": {3}, "path": Path("a/b"), "date": WHEN, "keys": {1: "one"}, "long": b"x" * 5000},
        "btid": number % 2,
    }


def of_a_sample(number):
    """Make an item as `btt.stream` gives them."""
    return {
        "image": np.full((4, 6, 3), number, np.uint8),
        "depth": {"depth": np.full((4, 6), np.inf, np.float32)},
        "boxes": {"xyxy": np.array([[0.0, 0.5, 2.0, np.nan]]), "valid": np.array([True])},
        "objects": {"instance_id": np.array([1]), "category_id": np.array([2])},
        "meta": {"seed": 0, "episode": number, "frame": 0, "index": number, "btid": 0, "drawn": "{}", "versions": "{}"},
    }


def ragged(number):
    """Make an item that has not the shapes of the one before."""
    return {"image": np.full((4, 6, 3), number, np.uint8), "points": np.full((number, 2), 0.25), "list": [np.arange(number)]}


# By name: the items in the order of their recording, and their categories.
RECORDINGS = {
    "script": ([of_a_script(number) for number in range(3)], None),
    "samples": ([of_a_sample(number) for number in (2, 0, 1)], {1: "cube", 2: "bracket"}),
    "ragged": ([ragged(number) for number in (1, 1, 2, 3)], None),
}


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_of_a_released_version_is_what_it_was(name, has_index, tmp_path):
    for path in GOLDEN.glob(f"{name}_*.arrows*"):
        if has_index or path.suffix != ".index":
            shutil.copy(path, tmp_path)  # what is read beside golden ones would be written there
    items, categories = RECORDINGS[name]
    dataset = btt.FileDataset(tmp_path / name)
    assert dataset.categories == categories
    if categories is not None:
        items = sorted(items, key=lambda item: item["meta"]["index"])
    assert len(dataset) == len(items)
    for reader in dataset.files if has_index else ():
        assert len(index.read(reader.path, reader._schema, reader.path.stat().st_size)) == len(reader), "and not by scanning"
    for one, other in zip(dataset, items, strict=True):
        assert_same(one, other)
    assert verify(tmp_path / name) == []


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(other, dict):
        assert list(one) == list(other)
        for key in other:
            assert_same(one[key], other[key])
    elif isinstance(other, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif isinstance(other, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other
