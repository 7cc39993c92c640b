"""Shards are the samples again, bit for bit, whatever wrote them; and webdataset streams them."""

import json
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from blendtorch import btt
from blendtorch.core import geometry
from blendtorch.core.errors import ConfigurationError, DecodeError, PluginError
from blendtorch.core.selection import LabelOptions, array_names, labelled_pictures, split_of
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from blendtorch.core.testing.subject import alike
from blendtorch.core.testing.suites import WriterSuite
from blendtorch.core.testing.writing import samples
from blendtorch_webdataset import Webdataset, WebdatasetOptions, array_members, decode, encode, pictures, samples_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from torch.utils.data import DataLoader

README = Path(__file__).resolve().parents[2] / "plugins" / "blendtorch-webdataset" / "README.md"
SPLIT = {"train": 0.7, "val": 0.3}


# webdataset leaves its files to the garbage collector.
streamed = pytest.mark.filterwarnings(r"ignore:unclosed file .*\.tar:ResourceWarning")


class TestWebdataset(WriterSuite):
    plugin = Webdataset


def writer(folder, **options):
    made = Webdataset(WebdatasetOptions(**options))
    made.open(Path(folder))
    return made


def dataset(folder, count, **options):
    made = writer(folder, **options)
    for index in range(count):
        made.write(labelled_sample(index, frames_per_episode=2))
    made.finish(CATEGORIES)
    return made


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def equal(one, two):
    """Compare samples, one of which a DataLoader has made tensors of."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return alike(one.numpy(), two)
    return alike(one, two)


def shards(folder, part="train"):
    return sorted(map(str, folder.glob(f"{part}-*.tar")))


DTYPES = [*"?bBhHiIlLqQefd", ">f4", ">i8", "<U3", "S4", "F", "D", "M8[ns]"]
SHAPES = st.sampled_from([(), (3,), (0, 4), (2, 3, 4), (6, 8), (6, 8, 3), (6, 8, 4), (6, 8, 2), (2, 6, 8), (0, 6, 8)])
ARRAYS = st.builds(some.arrays, st.sampled_from(DTYPES), SHAPES).flatmap(lambda made: made)
NAMES = st.sampled_from(["depth", "Depth", "image", "a/b", "~", "", "Cam.001", "\u00e9", "xy", "json", "npz", "png", "objects"])
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    PLAIN | ARRAYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)


def same(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())
    return type(one) is type(two) and one == two


@settings(max_examples=150, deadline=None)
@given(fields=st.dictionaries(NAMES, VALUES, max_size=4), image=st.booleans())
@example(fields={"depth": {"image": [None, np.zeros(3)]}}, image=False)  # what is called so is a list
def test_what_is_written_is_read(fields, image):
    fields = {name: each for name, each in fields.items() if name != "image" or isinstance(each, np.ndarray)}
    sample = {**fields, "meta": {"index": 7}}
    if image or np.ndim(fields.get("image")) < 2:
        sample["image"] = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    members = encode(sample, LabelOptions(), 1)
    assert same(sample, decode(members))
    assert members == encode(sample, LabelOptions(), 1)
    assert len({name.lower() for name in members}) == len(members)


def of_two_cameras(index):
    sample, other = labelled_sample(index), labelled_sample(index + 1)
    return {**sample, "Side": {name: each for name, each in other.items() if name not in ("objects", "meta")}}


def test_a_sample_of_several_cameras():
    """Members are called after cameras and annotators; what is no picture and no map is in one archive."""
    sample = of_two_cameras(7)
    members = encode(sample, LabelOptions(), 1)
    own = {"png", "depth.npz", "instance_ids.npz", "masks_amodal.npz"}
    assert set(members) == own | {f"side.{name}" for name in own} | {"json", "npz"}
    assert alike(decode(members), sample)
    for picture, index in zip(pictures(members), (7, 8), strict=True):
        (expected,) = labelled_pictures(labelled_sample(index), LabelOptions())
        assert picture.camera == ("Side" if index == 8 else "")
        assert np.array_equal(picture.image, expected.image)
        assert [each.xyxy.tolist() for each in picture.objects] == [each.xyxy.tolist() for each in expected.objects]
        assert all(
            np.array_equal(*masks) for masks in zip(*([o.mask for o in p.objects] for p in (picture, expected)), strict=True)
        )


def test_whole_samples_are_read_before_and_after_they_are_in_shards(tmp_path):
    made = writer(tmp_path, samples_per_shard=4, split=SPLIT)
    for last in (5, 10):
        for index in range(last - 5, last):
            made.write(labelled_sample(index, frames_per_episode=2))
        for _ in range(2):
            for index in range(last):
                sample = labelled_sample(index, frames_per_episode=2)
                assert alike(made.read_sample(index), sample)
                assert {each.split for each in made.read(index)} == {split_of(sample["meta"], SPLIT)}
            with pytest.raises(FileNotFoundError, match=f"sample {last} is not in"):
                made.read_sample(last)
            made.finish(CATEGORIES)


def test_samples_without_boxes_are_kept():
    (sample,) = samples([7])
    members = encode(sample, LabelOptions(), 1)
    assert alike(decode(members), sample)
    assert [(each.camera, each.objects) for each in pictures(members)] == [("", ()), ("Side", ())]


@streamed
def test_webdataset_streams_it(tmp_path):
    """With its own decoders; pictures, labels and arrays are those of the samples."""
    dataset(tmp_path, 10, samples_per_shard=4)
    urls = shards(tmp_path)
    stream = (
        webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("__key__", "png", "json", "depth.npz", "npz")
    )
    seen = []
    for key, image, labels, depth, arrays in stream:
        sample = labelled_sample(int(key), frames_per_episode=2)
        (expected,) = labelled_pictures(sample, LabelOptions())
        assert np.array_equal(image, sample["image"])
        assert np.array_equal(depth["depth/depth"], sample["depth"]["depth"])
        assert np.array_equal(arrays["boxes2d_tight/xyxy"], sample["boxes2d_tight"]["xyxy"], equal_nan=True)
        assert [each["instance_id"] for each in labels["objects"]] == [each.instance_id for each in expected.objects]
        assert {each["category"] for each in labels["objects"]} <= set(CATEGORIES.values())
        for each, other in zip(labels["objects"], expected.objects, strict=True):
            left, top, width, height = each["bbox"]
            assert [left, top, left + width, top + height] == other.xyxy.tolist()
            assert each["area"] == np.count_nonzero(other.mask)
        assert (labels["height"], labels["width"]) == (48, 64)
        assert labels["sample"]["meta"]["seed"] == 0
        seen.append(key)
    assert seen == [f"{index:06}" for index in range(10)]


@streamed
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_samples_again(tmp_path, workers):
    dataset(tmp_path, 10, samples_per_shard=3, split=SPLIT)
    found = []
    for part in SPLIT:
        stream = webdataset.WebDataset(shards(tmp_path, part), shardshuffle=False, empty_check=False).map(decode)
        found += [(part, each) for each in DataLoader(stream, batch_size=None, num_workers=workers)]
    assert sorted(each["meta"]["index"] for _, each in found) == list(range(10))
    for part, each in found:
        sample = labelled_sample(each["meta"]["index"], frames_per_episode=2)
        assert part == split_of(sample["meta"], SPLIT)
        assert each.pop("__key__") == f"{each['meta']['index']:06}", "webdataset adds it to what a function returns"
        assert equal(each, sample)
    parts = {each["meta"]["episode"]: part for part, each in found}
    assert all(parts[each["meta"]["episode"]] == part for part, each in found), "an episode is in one part"
    assert set(parts.values()) == set(SPLIT)


def inside(corners, shape):
    """The pixels whose centres are in a convex quadrilateral."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    sides = [
        (end[0] - begin[0]) * (y - begin[1]) - (end[1] - begin[1]) * (x - begin[0])
        for begin, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    return (np.array(sides) > 0).all(axis=0) | (np.array(sides) < 0).all(axis=0)


def test_labels_that_are_read_fit_the_masks_that_are_read(tmp_path):
    """An even shift of everything would pass elsewhere: corners by pose and K, and keypoints, enclose the pixels."""
    made = dataset(tmp_path, 12)
    checked = 0
    for index in range(12):
        (picture,) = made.read(index)
        sizes = labelled_sample(index, frames_per_episode=2)["poses"]["size"]
        for each in picture.objects:
            rows, columns = np.nonzero(each.mask)
            assert each.xyxy.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            if each.visibility < 1 or each.truncated:
                continue
            corners = np.array([[x, y, 0] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]) * sizes[each.instance_id - 1] / 2
            xy, _ = geometry.project(geometry.transform(each.camera_from_object, corners), picture.K)
            assert np.allclose(xy, each.keypoints)
            assert np.array_equal(inside(xy, each.mask.shape), each.mask)
            assert set(each.states.tolist()) <= {1, 2}
            checked += 1
    assert checked > 5


def test_indexes_count_samples_and_bytes(tmp_path):
    """Of the kind that wids opens: it takes the number of samples and the place of each shard from it."""
    dataset(tmp_path, 10, samples_per_shard=4, split=SPLIT)
    total = 0
    for part in SPLIT:
        index = json.loads((tmp_path / f"{part}-shards.json").read_text())
        assert (index["__kind__"], index["wids_version"], index["name"]) == ("wids-shard-index-v1", 1, part)
        assert [str(tmp_path / each["url"]) for each in index["shardlist"]] == shards(tmp_path, part)
        for each in index["shardlist"]:
            assert each["nsamples"] == len(list(samples_of(tmp_path / each["url"])))
            assert each["filesize"] == (tmp_path / each["url"]).stat().st_size
            total += each["nsamples"]
    assert total == 10
    assert json.loads((tmp_path / "categories.json").read_text()) == {"1": "card", "2": "stamp"}


def test_what_is_ignored_and_left_out_is_said(tmp_path):
    made = dataset(tmp_path, 10, samples_per_shard=3)
    listed = [labelled_pictures(labelled_sample(index, frames_per_episode=2), LabelOptions())[0] for index in range(10)]
    ignored = sum(bool(each.ignored) for picture in listed for each in picture.objects)
    left_out = sum(sum(picture.left_out.values()) for picture in listed)
    for _ in range(2):  # of shards that are there already, too
        one, two = made.finish(CATEGORIES)
        assert one.startswith(f"{ignored} objects are ignored: ")
        assert two.startswith(f"{left_out} objects are left out: ")


WRITING = """
import sys
from pathlib import Path
from blendtorch.core.testing.cards import labelled_sample
from blendtorch_webdataset import Webdataset, WebdatasetOptions
writer = Webdataset(WebdatasetOptions(samples_per_shard=7, split={"train": 0.7, "val": 0.3}))
writer.open(Path(sys.argv[1]))
first, step, end = map(int, sys.argv[2:])
print("ready", flush=True)
for index in range(first, end, step):
    writer.write(labelled_sample(index, frames_per_episode=2))
"""


def test_processes_write_side_by_side_and_one_is_killed(tmp_path):
    """The shards are those of one process that wrote in order."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    dataset(alone, 40, samples_per_shard=7, split=SPLIT)
    shared.mkdir()
    command = [sys.executable, "-c", WRITING, str(shared)]
    started = [subprocess.Popen([*command, str(first), "2", "40"], stdout=subprocess.PIPE) for first in (0, 1)]
    made = writer(shared, samples_per_shard=7, split=SPLIT)
    try:
        for process in started:
            process.stdout.readline()
        deadline = time.monotonic() + 30
        while len(made.written()) < 10 and time.monotonic() < deadline:
            time.sleep(0.002)
        started[0].send_signal(signal.SIGKILL)
        assert started[1].wait(60) == 0
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()
    assert set(range(1, 40, 2)) <= made.written()
    made.finish(CATEGORIES)
    for index in set(range(40)) - made.written():
        made.write(labelled_sample(index, frames_per_episode=2))
    made.finish(CATEGORIES)
    found = {name: content for name, content in tree(shared).items() if not name.endswith(".part")}
    assert found == tree(alone)
    assert [each.split for index in range(40) for each in made.read(index)] == [
        split_of({"seed": 0, "episode": index // 2}, SPLIT) for index in range(40)
    ]
    made.clear()
    assert tree(shared) == {}


def test_other_options_are_refused_and_can_replace_what_is_there(tmp_path):
    dataset(tmp_path, 5, samples_per_shard=2, split=SPLIT)
    (tmp_path / "train-000099.tar").write_text("mine")
    made = writer(tmp_path, samples_per_shard=3)
    with pytest.raises(ConfigurationError, match=r"samples_per_shard 2 and not 3, split .* and not .*'train': 1.0"):
        made.written()
    made.clear()
    assert tree(tmp_path) == {"train-000099.tar": b"mine"}
    made.write(labelled_sample(1))
    assert made.written() == {1}


@pytest.mark.parametrize("part", ["../mine", "/mine", "a/../../mine", ".", "", "a\n"])
def test_clearing_touches_nothing_that_a_damaged_layout_names(tmp_path, part):
    (tmp_path / "set").mkdir()
    dataset(tmp_path / "set", 1)
    (tmp_path / "mine").mkdir()
    for name in ("mine-shards.json", "mine/000000.tar", "mine-000000.tar"):
        (tmp_path / name).write_text("mine")
    layout = {"samples_per_shard": 1000, "split": {part: 1.0}}
    (tmp_path / "set" / ".samples" / "layout.json").write_text(json.dumps(layout))
    before = tree(tmp_path)
    made = writer(tmp_path / "set")
    with pytest.raises(ConfigurationError, match=r"layout\.json is damaged: split: .* names files.* Name another folder"):
        made.clear()
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("lacks", "expected"),
    [
        ([], None),
        (["boxes2d_tight", "boxes2d_loose"], None),
        (["boxes2d_tight"], "with --loose"),
        (["visibility"], "no visibility"),
    ],
)
def test_objects_need_their_boxes(lacks, expected):
    names = [name for name in array_names(labelled_sample(0)) if name.partition(".")[0] not in lacks]
    made = Webdataset(WebdatasetOptions())
    if expected is None:
        made.check(names)
    else:
        with pytest.raises(ConfigurationError, match=expected):
            made.check(names)


REFUSED = {
    "object": ({"a": {"b": np.array([None])}}, "/a/b: an array of object cannot be kept"),
    "bytes": ({"a": [b"x"]}, "/a/0: b'x' cannot be kept"),
    "key": ({"a": {3: 1}}, "/a: its key 3 is no text"),
    "long": ({"a": 2**64}, "/a: 18446744073709551616 cannot be kept"),
    "index": ({"meta": {"index": -1, "seed": 0, "episode": 0}}, "/meta/index: -1 is no index"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_shards_cannot_hold_is_refused_with_its_place(case, tmp_path):
    fields, reason = REFUSED[case]
    made = writer(tmp_path)
    with pytest.raises(PluginError) as caught:
        made.write({"meta": {"index": 0, "seed": 0, "episode": 0}, **fields})
    assert reason in str(caught.value)
    assert tree(tmp_path) == {}


def npy(header, content=b""):
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(content)
    return file.getvalue()


HOSTILE = {
    "pickle": (npy({"descr": "|O", "fortran_order": False, "shape": (1,)}, b"cos\nsystem\n(S'true'\ntR." * 9), "ValueError"),
    "huge": (npy({"descr": "<f8", "fortran_order": False, "shape": (2**40,)}), "says that it is float64"),
    "bomb": (npy({"descr": "|u1", "fortran_order": False, "shape": (2**26,)}, bytes(2**26)), "and 1048576 are allowed"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_is_executed_and_memory_is_asked_for_first(case):
    content, reason = HOSTILE[case]
    with pytest.raises(DecodeError, match=reason):
        decode({"json": b"{}", "npz": content}, limit_bytes=2**20)


def test_the_limit_is_one_for_the_whole_sample():
    members = encode({"image": np.zeros((64, 64, 3), np.uint8), "meta": {"index": 0}}, LabelOptions(), 1)
    more = {f"{name}.npz": array_members.to_npz({name: np.zeros(2**16)}) for name in "ab"}
    assert decode(members | more, limit_bytes=64 * 64 * 3 + 2**20 + 2 * 128)["a"].shape == (2**16,)
    with pytest.raises(DecodeError, match=f"and {2**20 - 64 * 64 * 3 - 2**19} are allowed"):
        decode(members | more, limit_bytes=2**20)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_shard_are_not_followed(tmp_path, kind):
    """They have no size of their own, so many of them would pass any limit."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        entry = tarfile.TarInfo("000000.npz")
        entry.size = 2**20
        tar.addfile(entry, BytesIO(bytes(entry.size)))
        for number in range(20):
            link = tarfile.TarInfo(f"000000.{number}.npz")
            link.type, link.linkname = kind, "000000.npz"
            tar.addfile(link)
    ((key, name),) = samples_of(tmp_path / "x.tar", limit_bytes=2**20 + 2**10)
    assert {key, name} == {"__key__", "npz"}


def test_the_estimate_is_more_than_is_taken_and_not_ten_times(tmp_path):
    """Of a curved surface under some noise, which compression can do little about."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1:1:480j, -1:1:640j]
    depth = (5 + np.sin(3 * x) * y).astype(np.float32)
    image = (depth[..., None] * 20 + rng.integers(0, 3, (480, 640, 3))).astype(np.uint8)
    sample = {**labelled_sample(0, shape=(480, 640)), "image": image, "depth": {"depth": depth}}
    made = writer(tmp_path)
    made.write(sample)
    flat = {"image": sample["image"]} | {
        f"{name}.{field}": array
        for name, fields in sample.items()
        if isinstance(fields, dict) and name != "meta"
        for field, array in fields.items()
    }
    taken = sum(map(len, tree(tmp_path).values()))
    assert taken < made.bytes_per_sample({name: (each.shape, str(each.dtype)) for name, each in flat.items()}) < 10 * taken


def test_damaged_shards_are_refused_or_read_but_raise_nothing_else(tmp_path):
    """Bytes changed and files cut, with a fixed seed."""
    made = dataset(tmp_path, 2)
    path = tmp_path / "train-000000.tar"
    content, rng = path.read_bytes(), random.Random(3)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)
        for _ in range(min(len(damaged), 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            made.read(1)
        except (DecodeError, FileNotFoundError):
            refused += 1
    assert refused > 50
    path.write_bytes(content)
    assert len(made.read(1)) == 1


@streamed
def test_the_readme_reads_a_folder(tmp_path, monkeypatch, capsys):
    made = dataset(tmp_path / "dataset", 3)
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(block, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("(64, 48) ['card', ")
    assert lines[-1] == "(48, 64, 3) (5, 4)"
    with tarfile.open(tmp_path / "dataset" / "train-000000.tar") as tar:
        names = {name.partition(".")[2] for name in tar.getnames()}
    assert {name.rpartition(".")[2] for name in names} == {"png", "json", "npz"}, "no pickles"
    assert made.read(2)


def test_a_stream_of_blender_becomes_shards(tmp_path):
    """Rendered, written and read back: every array as it was received."""
    made = writer(tmp_path, samples_per_shard=2)
    stream = btt.stream(
        objects=[{"match": "Cube", "category": "cube"}],
        annotators=["camera", "boxes2d_tight", "instance_ids", "visibility", "depth"],
        resolution=(64, 48),
        count=3,
        seed=5,
    )
    with stream as received:
        kept = {each["meta"]["index"]: each for each in received}
    for each in kept.values():
        made.write(each)
    made.finish({1: "cube"})
    found = [decode(members) for path in shards(tmp_path) for members in samples_of(Path(path))]
    assert [each["meta"]["index"] for each in found] == sorted(kept) == [0, 1, 2]
    for each in found:
        assert alike(each, kept[each["meta"]["index"]])
        (picture,), (expected,) = made.read(each["meta"]["index"]), labelled_pictures(each, LabelOptions())
        assert [one.xyxy.tolist() for one in picture.objects] == [one.xyxy.tolist() for one in expected.objects]
        assert len(picture.objects) == 1
