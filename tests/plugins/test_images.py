"""Samples in a folder are the samples again, bit for bit, whatever they hold; half of one is none."""

import json
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import OpenEXR
import pytest
import torch
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import DecodeError, PluginError
from blendtorch.core.selection import LabelOptions, labelled_pictures
from blendtorch.core.testing.cards import labelled_sample
from blendtorch.core.testing.subject import alike
from blendtorch.core.testing.suites import WriterSuite
from blendtorch.core.testing.writing import samples
from blendtorch_images import Images, ImagesOptions, array_files, indexes, layout, read, read_categories
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from PIL import Image

HEIGHT, WIDTH = 12, 16
README = Path(__file__).resolve().parents[2] / "plugins" / "blendtorch-images" / "README.md"


class TestImages(WriterSuite):
    plugin = Images


def writer(folder, **options):
    made = Images(ImagesOptions(**options))
    made.open(Path(folder))
    return made


def written(folder, sample):
    writer(folder).write(sample)
    return read(folder, sample["meta"]["index"])


DTYPES = [*"?bBhHiIlLqQefd", ">f4", ">i8", "<U3", "S4", "F", "D", "M8[ns]"]
SHAPES = st.one_of(
    some.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    st.sampled_from([(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 2), (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH, 4)]),
    st.sampled_from([(HEIGHT, WIDTH, 5), (2, HEIGHT, WIDTH), (0, HEIGHT, WIDTH), (101, 100), (1, 101, 100)]),
)
ARRAYS = st.builds(lambda dtype, shape: some.arrays(dtype, shape), st.sampled_from(DTYPES), SHAPES).flatmap(lambda made: made)
NAMES = st.sampled_from(["depth", "Depth", "image", "a/b", "~", "", "Cam.001", "left right", "\u00e9", "xy"]) | st.text(
    max_size=4
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS | ARRAYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)


def same(one, two):
    """Compare with what was written; a NaN is a NaN, also without an array."""
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return isinstance(two, list) and len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, np.ndarray):
        equal = one.dtype == two.dtype and one.shape == two.shape and type(two) is np.ndarray
        if one.dtype.kind in "fc":  # the signs of zeros, too; numpy has many NaNs
            nan = np.isnan(one)
            return equal and (np.isnan(two) == nan).all() and one[~nan].tobytes() == two[~nan].tobytes()
        return equal and one.tobytes() == two.tobytes()
    return type(one) is type(two) and (one == two or (one != one and two != two))


@settings(max_examples=150, deadline=None)
@given(fields=st.dictionaries(NAMES.filter(lambda name: name != "meta"), VALUES, max_size=4), index=st.integers(0, 10**7))
def test_what_is_written_is_read(tmp_path_factory, fields, index):
    folder = tmp_path_factory.mktemp("any")
    sample = {**fields, "meta": {"index": index, "drawn": "{}"}}
    back = written(folder, sample)
    assert same(sample, back)
    assert writer(folder).written() == indexes(folder) == {index}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len({name.lower() for name in before}) == len(before), "file systems that do not tell letters apart"
    writer(folder).write(sample)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}, "the same sample has the same bytes"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def real_sample():
    (sample,) = samples([7])
    depth = sample["depth"] if "depth" in sample else sample["fake"]["depth"]
    ids = sample["conformance_marks"]["ids"]
    return {
        **sample,
        "depth": {"depth": depth},
        "instance_ids": {"instance_ids": ids},
        "flow": {"backward": np.dstack([depth, depth])},
    }


def test_other_programs_read_the_files(tmp_path):
    """Pillow a picture, OpenEXR a map with infinity, json the labels with null for NaN."""
    sample = real_sample()
    writer(tmp_path).write(sample)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "000007.png")), sample["image"])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "000007.Side.png")), sample["Side"]["image"])
    ids = np.asarray(Image.open(tmp_path / "000007.instance_ids.png"))
    assert (ids.dtype, ids.max()) == (np.uint16, 48 * 64 - 1)
    assert np.array_equal(ids, sample["instance_ids"]["instance_ids"])
    depth = OpenEXR.File(str(tmp_path / "000007.depth.exr")).channels()["Y"].pixels
    assert np.isinf(depth).any()
    assert np.array_equal(depth, sample["depth"]["depth"])
    flow = OpenEXR.File(str(tmp_path / "000007.flow.backward.exr"), separate_channels=True).channels()
    assert sorted(flow) == ["G", "R"]
    labels = json.loads((tmp_path / "000007.json").read_text())["sample"]
    assert labels["image"] == {"file": "000007.png"}
    assert labels["conformance_marks"]["xy"][2] == [None, None], "it is behind the camera"
    assert labels["objects"]["instance_id"] == [1, 2, 3]
    assert labels["meta"]["index"] == 7
    assert alike(read(tmp_path, 7), sample)


def test_it_lists_objects_of_what_it_wrote(tmp_path):
    sample = labelled_sample(7)
    made = writer(tmp_path)
    made.write(sample)
    (found,), (expected,) = made.read(7), labelled_pictures(sample, LabelOptions())
    assert np.array_equal(found.image, sample["image"])
    assert len(found.objects) == len(expected.objects) > 0
    for one, two in zip(found.objects, expected.objects, strict=True):
        assert (one.category_id, one.instance_id, one.ignored) == (two.category_id, two.instance_id, two.ignored)
        assert np.array_equal(one.xyxy, two.xyxy)
        assert np.array_equal(one.mask, two.mask)
    loose = {name: each for name, each in labelled_sample(8).items() if name not in ("boxes2d_tight", "instance_ids")}
    made.write(loose)
    assert len(made.read(8)[0].objects) > 0, "boxes around projected geometry will do"
    with pytest.raises(FileNotFoundError):
        made.read(9)


def test_the_readme_reads_a_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "dataset").mkdir()
    writer(tmp_path / "dataset").write({**real_sample(), "boxes2d_tight": {"xyxy": np.array([[1.0, 2, 3, 4]])}})
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out == "(48, 64, 3) [[1. 2. 3. 4.]]\n"


def test_tensors_are_arrays_and_tuples_are_lists(tmp_path):
    sample = {
        "image": torch.arange(HEIGHT * WIDTH * 3, dtype=torch.uint8).reshape(HEIGHT, WIDTH, 3),
        "meta": {"index": torch.tensor(3)},
    }
    sample["boxes"] = {"valid": torch.tensor([True, False]), "xy": torch.tensor([[0.1, float("nan")]]), "pair": (1, "a")}
    back = written(tmp_path, sample)
    assert np.array_equal(back["image"], sample["image"].numpy())
    assert back["boxes"]["xy"].dtype == np.float32
    assert back["boxes"]["xy"][0, 0] == np.float32(0.1)
    assert back["boxes"]["pair"] == [1, "a"]
    assert back["meta"]["index"] == 3


def test_categories_and_numbers_of_many_digits(tmp_path):
    made = writer(tmp_path)
    made.finish({10: "bolt", 2: "\u00e9crou"})
    assert read_categories(tmp_path) == {2: "\u00e9crou", 10: "bolt"}
    assert list(json.loads((tmp_path / "categories.json").read_text())) == ["2", "10"]
    for index in (0, 1_000_000):
        made.write({"meta": {"index": index}})
    for other in ("0000001.json", "00001.json", "000002.json.12.part", "000003.png", "x000004.json"):
        (tmp_path / other).write_text("")
    assert made.written() == {0, 1_000_000}
    assert (tmp_path / "1000000.json").exists()
    with pytest.raises(FileNotFoundError):
        read(tmp_path, 5)


def test_drafts_of_killed_processes_go_when_their_sample_is_written(tmp_path):
    for name in ("000002.png.1.part", "000002.json.1.part", "000003.png.1.part", "mine.part"):
        (tmp_path / name).write_text("half")
    made = writer(tmp_path)
    made.write({"meta": {"index": 2}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002.json", "000003.png.1.part", "mine.part"]


def test_what_it_wrote_goes_and_what_is_called_alike_stays(tmp_path):
    one = writer(tmp_path)
    made = list(samples(range(3)))
    for sample in made:
        one.write(sample)
    one.finish({1: "bracket"})
    for orphan in ("000001.12.part", "000017.png", "000017.depth.exr.77.part"):  # of a process that was killed
        (tmp_path / orphan).touch()
    others = {"20240101.png", "20240101.json", "notes.txt", "000001", "17.png", "model.json"}
    for name in others:
        (tmp_path / name).write_text("{}")
    one.clear()
    assert {path.name for path in tmp_path.iterdir()} == others
    one.write(made[0])
    assert one.written() == {0, 20240101}


REFUSED = {
    "object": ({"a": {"b": np.array([None])}}, "/a/b: an array of object cannot be kept"),
    "bytes": ({"a": [b"x"]}, "/a/0: a bytes cannot be kept"),
    "set": ({"a/b": {1}}, "/a~1b: a set cannot be kept"),
    "key": ({"a": {3: 1}}, "/a: its key 3 is no text"),
    "long": ({"a": 2**64}, "/a: 18446744073709551616 takes more than 64 bits"),
    "record": ({"a": np.zeros(2, "i4,f8")}, "/a: an array of [('f0', '<i4'), ('f1', '<f8')] cannot be kept"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_files_cannot_hold_is_refused_with_its_place(case, tmp_path):
    fields, reason = REFUSED[case]
    made = writer(tmp_path)
    with pytest.raises(PluginError) as caught:
        made.write({**fields, "meta": {"index": 0}})
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def changed(folder, change):
    """Write a sample, and change its JSON."""
    writer(folder).write(real_sample())
    path = folder / "000007.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def stored(pointer, **fields):
    return lambda document: document["arrays"][pointer].update(fields)


WRONG = {
    "path": (lambda d: d["sample"]["image"].update(file="../000007.png"), "expected one beside it, of the same sample"),
    "other": (lambda d: d["sample"]["image"].update(file="000008.png"), "expected one beside it, of the same sample"),
    "absent": (lambda d: d["sample"]["image"].update(file="000007.x.png"), "000007.x.png, which is not there"),
    "kind": (lambda d: d["sample"]["image"].update(file="000007.json"), "expected a file of .png, .exr, .npz"),
    "swapped": (lambda d: d["sample"]["image"].update(file="000007.depth.exr"), "000007.depth.exr cannot be read"),
    "huge": (stored("/image", shape=[2**20, 2**20, 3]), "its arrays take 3298534"),
    "bigger": (stored("/image", shape=[48, 65, 3]), "expected a PNG of mode RGB, 65 x 48"),
    "flat": (stored("/depth/depth", shape=[48 * 64]), "an EXR holds no float32 (3072,)"),
    "channels": (stored("/depth/depth", shape=[48, 64, 3]), "expected an EXR of (48, 64) with channels"),
    "objects": (stored("/image", dtype="object"), "is said to be a object"),
    "dtype": (stored("/image", dtype="nonsense"), "cannot be read: TypeError"),
    "negative": (stored("/image", shape=[-1, 64, 3]), "which is never written"),
    "list": (stored("/objects/instance_id", shape=[4]), "expected the shape (4,), got (3,)"),
    "pointer": (lambda d: d["arrays"].update({"/nothing/there": {"dtype": "int64", "shape": []}}), "KeyError: 'nothing'"),
    "version": (lambda d: d.update(format="blendtorch-images/2"), "Invalid enum value 'blendtorch-images/2'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_document_that_does_not_fit_its_files_is_refused(case, tmp_path):
    change, reason = WRONG[case]
    changed(tmp_path, change)
    with pytest.raises(DecodeError) as caught:
        read(tmp_path, 7)
    assert reason in str(caught.value)


def test_damaged_files_are_refused_or_read_but_raise_nothing_else(tmp_path):
    """Bytes changed and files cut, with a fixed seed."""
    writer(tmp_path).write({**real_sample(), "stack": np.eye(200, dtype=bool)})
    rng = random.Random(5)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for _ in range(25):
            damaged = bytearray(content[: rng.randrange(len(content))] if rng.random() < 0.3 else content)
            for _ in range(min(len(damaged), rng.randrange(1, 4))):
                damaged[rng.randrange(min(len(damaged), 400))] = rng.randrange(256)
            path.write_bytes(damaged)
            try:
                read(tmp_path, 7, limit_bytes=2**24)
            except DecodeError:
                pass
        path.write_bytes(content)
    assert read(tmp_path, 7)["stack"].sum() == 200


def test_an_npz_that_says_less_than_it_unpacks_takes_no_memory():
    """Its JSON says 4 bytes, and it holds 400 MB of zeros."""
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("array.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (400_000_000,)})
        member.write(bytes(1000))
    with pytest.raises(ValueError, match=r"expected uint8 \(4,\), got uint8 \(400000000,\)"):
        array_files.decode(bomb.getvalue(), ".npz", np.dtype("uint8"), (4,))


WRITING = """
import sys
from pathlib import Path
from blendtorch.core.testing.writing import samples
from blendtorch_images import Images, ImagesOptions
writer = Images(ImagesOptions())
writer.open(Path(sys.argv[1]))
first, step, count = map(int, sys.argv[2:])
(sample,) = samples([0])
print("ready", flush=True)
for index in range(first, first + step * count, step):
    sample["meta"]["index"] = index
    writer.write(sample)
"""


def start(folder, first, step, count):
    command = [sys.executable, "-c", WRITING, str(folder), str(first), str(step), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_processes_write_side_by_side_and_one_is_killed(tmp_path):
    """What counts can be read; the rest is written later, and nothing of what was half-written is left."""
    victim, survivor = start(tmp_path, 0, 2, 100_000), start(tmp_path, 1, 2, 30)
    try:
        deadline = time.monotonic() + 30
        while len(indexes(tmp_path)) < 20 and time.monotonic() < deadline:
            time.sleep(0.005)
        victim.send_signal(signal.SIGKILL)
        assert survivor.wait(60) == 0
    finally:
        for process in (victim, survivor):
            process.kill()
            process.wait()
            process.stdout.close()
    whole = indexes(tmp_path)
    assert set(range(1, 60, 2)) < whole
    (expected,) = samples([0])
    for index in whole:
        expected["meta"]["index"] = index
        assert alike(read(tmp_path, index), expected)
    made = writer(tmp_path)
    for index in {*range(60), max(whole) + 2} - whole:
        expected["meta"]["index"] = index
        made.write(expected)
    assert not list(tmp_path.glob("*.part"))


def test_the_estimate_is_more_than_is_taken_and_not_ten_times(tmp_path):
    """Of a curved surface under some noise, which PNG and EXR can do little about."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1:1:480j, -1:1:640j]
    depth = (5 + np.sin(3 * x) * y).astype(np.float32)
    image = (depth[..., None] * 20 + rng.integers(0, 3, (480, 640, 3))).astype(np.uint8)
    fields = {"image": image, "depth": {"depth": depth}, "instance_ids": {"instance_ids": (depth > 5).astype(np.int32)}}
    fields["keypoints"] = {"xy": rng.random((20, 9, 2))}
    writer(tmp_path).write({**fields, "meta": {"index": 0}})
    arrays = {"image": (image.shape, "uint8")}
    arrays |= {
        f"{name}.{key}": (each.shape, str(each.dtype)) for name in list(fields)[1:] for key, each in fields[name].items()
    }
    taken = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert taken < writer(tmp_path).bytes_per_sample(arrays) < 5 * taken


def test_it_is_found_by_its_name_and_its_option_is_checked():
    found = Catalogue().find("writer", "images")
    assert (found.cls, found.source.distribution) == (Images, "blendtorch-images")
    with pytest.raises(msgspec.ValidationError, match="<= 9"):
        msgspec.convert({"png_level": 10}, found.cls.Options)


def test_the_level_changes_the_size_alone(tmp_path):
    sample, sizes = real_sample(), []
    for level in (0, 9):
        writer(tmp_path, png_level=level).write(sample)
        sizes.append((tmp_path / "000007.png").stat().st_size)
        assert alike(read(tmp_path, 7), sample)
    assert sizes[1] < sizes[0] / 10


def test_names_of_files():
    taken = set()
    for path, name in (
        (("image",), "000007.png"),
        (("left", "image"), "000007.left.png"),
        (("depth", "depth"), "000007.depth.png"),
        (("depth",), "000007.depth.2.png"),
        (("Cam/1", "image"), "000007.Cam_1.png"),
        (("Cam.1", "image"), "000007.Cam_1.image.png"),
        (("cam:1", "image"), "000007.cam_1.image.2.png"),
        (("", "image"), "000007._.png"),
        (("x" * 400,), "000007." + "x" * 143 + ".png"),
        (("x" * 401,), "000007." + "x" * 143 + ".2.png"),
    ):
        made = layout.file_name(7, path, ".png", taken)
        assert made == name
        taken.add(made.lower())
