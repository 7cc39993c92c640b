"""Files that `datasets` loads, with the labels and the arrays of the samples, whatever wrote them."""

import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from blendtorch import btt
from blendtorch.core import geometry
from blendtorch.core.errors import ConfigurationError, DecodeError, PluginError
from blendtorch.core.selection import LabelOptions, array_names, labelled_pictures, split_of
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from blendtorch.core.testing.suites import WriterSuite
from blendtorch.core.testing.writing import samples
from blendtorch_huggingface import Huggingface, HuggingfaceOptions, tables
from blendtorch_huggingface.columns import Rows
from blendtorch_huggingface.image_values import from_image, is_picture, to_image
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from pyarrow import parquet

README = Path(__file__).resolve().parents[2] / "plugins" / "blendtorch-huggingface" / "README.md"
SPLIT = {"train": 0.7, "val": 0.3}


class TestHuggingface(WriterSuite):
    plugin = Huggingface


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a folder without a network, with the cache in the test's own folder."""

    def refuse(*_):
        raise OSError("datasets wanted to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield datasets.load_dataset
    datasets.enable_progress_bars()


def writer(folder, **options):
    made = Huggingface(HuggingfaceOptions(**options))
    made.open(Path(folder))
    return made


def dataset(folder, count, **options):
    folder.mkdir(exist_ok=True)
    made = writer(folder, **options)
    for index in range(count):
        made.write(labelled_sample(index, frames_per_episode=2))
    made.finish(CATEGORIES)
    return made


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_datasets_loads_pictures_and_labels(tmp_path, load):
    dataset(tmp_path / "set", 10, samples_per_shard=4, split=SPLIT)
    loaded = load(str(tmp_path / "set"))
    assert set(loaded) == set(SPLIT)
    assert sorted(index for part in loaded.values() for index in part["index"]) == list(range(10))
    for part, table in loaded.items():
        names = table.features["objects"]["category"].feature.names
        assert names == ["card", "stamp"]
        assert table["index"] == sorted(table["index"])
        for row in table:
            sample = labelled_sample(row["index"], frames_per_episode=2)
            (expected,) = labelled_pictures(sample, LabelOptions())
            objects = row["objects"]
            assert part == split_of(sample["meta"], SPLIT)
            assert (row["seed"], row["episode"], row["frame"], row["drawn"]) == (0, row["index"] // 2, row["index"] % 2, "{}")
            assert np.array_equal(np.asarray(row["image"]), sample["image"])
            assert np.array_equal(np.asarray(row["instance_ids"]), sample["instance_ids"]["instance_ids"])
            depth = np.asarray(row["depth"])
            assert depth.dtype == np.float32
            assert np.array_equal(depth, sample["depth"]["depth"])
            assert np.isinf(depth).any()
            assert np.array_equal(row["camera_K"], sample["camera"]["K"])
            assert len(objects["id"]) == len(expected.objects)
            for number, other in enumerate(expected.objects):
                left, top, width, height = objects["bbox"][number]
                assert [left, top, left + width, top + height] == other.xyxy.tolist()
                assert names[objects["category"][number]] == CATEGORIES[other.category_id]
                assert objects["area"][number] == np.count_nonzero(other.mask)
                assert (objects["iscrowd"][number], objects["ignored"][number]) == (int(bool(other.ignored)), other.ignored)
                row_of = other.instance_id - 1
                for annotator, field in (("boxes3d", "corners"), ("keypoints", "xyz"), ("visibility", "amodal")):
                    assert np.array_equal(objects[f"{annotator}_{field}"][number], sample[annotator][field][row_of])
                amodal = np.asarray(row["masks_amodal_masks"][number])
                assert np.array_equal(amodal, sample["masks_amodal"]["masks"][row_of])


def test_datasets_streams_it_and_makes_tensors(tmp_path, load):
    dataset(tmp_path / "set", 5, samples_per_shard=2)
    streamed = load(str(tmp_path / "set"), split="train", streaming=True)
    assert [row["index"] for row in streamed] == list(range(5))
    table = load(str(tmp_path / "set"), split="train").with_format("torch")
    for row in table:
        assert row["image"].shape == (3, 48, 64)
        assert row["camera_K"].shape == (3, 3)
        assert torch.stack(list(row["objects"]["bbox"])).shape == (len(row["objects"]["id"]), 4)
        assert torch.stack(list(row["masks_amodal_masks"])).shape[-2:] == (48, 64)


def test_files_say_their_features_and_have_small_row_groups(tmp_path):
    dataset(tmp_path / "set", 1)
    made = writer(tmp_path / "set")
    sample = labelled_sample(0)
    small = {"image": sample["image"], "meta": sample["meta"]}
    many = writer(tmp_path / "many")
    for index in range(250):
        many.write({**small, "meta": {**sample["meta"], "index": index}, "objects": sample["objects"]})
    assert many.finish({}) == []
    file = parquet.ParquetFile(tmp_path / "many" / "data" / "train-000000.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [100, 100, 50]
    (path,) = (tmp_path / "set" / "data").iterdir()
    features = datasets.Features.from_arrow_schema(parquet.read_schema(path))
    assert features["objects"]["category"] == datasets.List(datasets.ClassLabel(names=["card", "stamp"]))
    assert features["depth"] == datasets.Image()
    assert made.written() == {0}


def of_two_cameras(index):
    sample, other = labelled_sample(index), labelled_sample(index + 1)
    return {**sample, "Side": {name: each for name, each in other.items() if name not in ("objects", "meta")}}


def test_several_cameras_are_rows(tmp_path, load):
    sample = of_two_cameras(7)
    made = writer(tmp_path / "set")
    made.write(sample)
    made.finish(CATEGORIES)
    for row, picture, index in zip(load(str(tmp_path / "set"), split="train"), made.read(7), (7, 8), strict=True):
        (expected,) = labelled_pictures(labelled_sample(index), LabelOptions())
        assert row["index"] == 7
        assert row["camera"] == picture.camera == ("Side" if index == 8 else "")
        assert np.array_equal(np.asarray(row["image"]), expected.image)
        assert np.array_equal(picture.image, expected.image)
        assert row["objects"]["id"] == [each.instance_id for each in expected.objects]
        assert len(row["masks_amodal_masks"]) == len(expected.objects)


def test_samples_without_labels_have_no_objects(tmp_path, load):
    (sample,) = samples([7], with_labels=False)
    made = writer(tmp_path / "set")
    made.check(array_names(sample))
    made.write(sample)
    made.finish(CATEGORIES)
    (row,) = load(str(tmp_path / "set"), split="train")
    assert "objects" not in row
    assert np.array_equal(np.asarray(row["image"]), sample["image"])
    assert np.array_equal(np.asarray(row["Side_image"]), sample["Side"]["image"])


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
    made = dataset(tmp_path / "set", 12, samples_per_shard=5)
    checked = 0
    for index in range(12):
        (picture,) = made.read(index)
        sample = labelled_sample(index, frames_per_episode=2)
        assert np.array_equal(picture.image, sample["image"])
        for each in picture.objects:
            rows, columns = np.nonzero(each.mask)
            assert each.xyxy.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            if each.visibility < 1 or each.truncated:
                continue
            size = sample["poses"]["size"][each.instance_id - 1]
            corners = np.array([[x, y, 0] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]) * size / 2
            xy, _ = geometry.project(geometry.transform(each.camera_from_object, corners), picture.K)
            assert np.allclose(xy, each.keypoints)
            assert np.array_equal(inside(xy, each.mask.shape), each.mask)
            assert set(each.states.tolist()) <= {1, 2}
            checked += 1
    assert checked > 5
    with pytest.raises(FileNotFoundError):
        made.read(12)


MAPS = st.sampled_from(["?", "B", "H", "i", "q", "f", "b"]).flatmap(
    lambda dtype: some.arrays(dtype, (6, 8), elements=some.from_dtype(np.dtype(dtype), allow_nan=True))
)
PICTURES = st.sampled_from([3, 4]).flatmap(lambda channels: some.arrays("B", (6, 8, channels)))


@settings(max_examples=100, deadline=None)
@given(array=MAPS | PICTURES)
def test_images_hold_what_they_were_made_of(array):
    assert is_picture(array)
    if array.dtype.kind in "iu" and not 0 <= array.min() <= array.max() < 2**16:
        with pytest.raises(ValueError, match="an image holds 0 to 65535"):
            to_image(array, "x", 1)
        return
    back = from_image(to_image(array, "x", 1), 2**20)
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
    if array.dtype.kind == "f":
        assert back.tobytes() == array.tobytes()
    with pytest.raises(ValueError, match="and 40 are allowed"):
        from_image(to_image(array, "x", 1), 40)


def test_the_card_keeps_what_its_user_wrote(tmp_path):
    folder = tmp_path / "My set: 1"
    made = dataset(folder, 3)
    path = folder / "README.md"
    card = DatasetCard.load(path)
    assert card.data.pretty_name == "My set: 1"
    assert "license" not in card.data.to_dict()
    assert card.data.task_categories == ["object-detection", "image-segmentation", "keypoint-detection", "depth-estimation"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data["dataset_info"]["splits"][0]["num_examples"] == 3
    for said in ("| train | 3 | 1 |", "| card | ", "the seed 0", "Keypoints are a, b, c, d.", "blendtorch none", "not seen"):
        assert said in card.text
    path.write_text(str(card).replace("pretty_name:", "license: cc-by-4.0\npretty_name:") + "\nWritten by hand.\n")
    for index in range(3, 6):
        made.write(labelled_sample(index))
    made.finish(CATEGORIES)
    again = DatasetCard.load(path)
    assert again.data.license == "cc-by-4.0"
    assert again.data["dataset_info"]["splits"][0]["num_examples"] == 6
    assert "| train | 6 | 1 |" in again.text
    assert "| train | 3 | 1 |" not in again.text
    assert again.text.rstrip().endswith("Written by hand.")
    before = path.read_text()
    made.finish(CATEGORIES)
    assert path.read_text() == before
    path.write_text(before.replace("license:", "license: [", 1))
    with pytest.raises(ConfigurationError, match=r"README.md cannot be read: .* Mend"):
        made.finish(CATEGORIES)


def test_a_card_of_somebody_else_stays(tmp_path, load):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    made = writer(folder)
    made.write(labelled_sample(0))
    assert made.finish(CATEGORIES)[-1].startswith("README.md is not its own and stays as it is")
    assert (folder / "README.md").read_text() == "mine"
    assert load(str(folder))["train"]["index"] == [0]
    made.clear()
    assert tree(folder) == {"README.md": b"mine"}


def test_categories_that_are_known_later_are_declared_everywhere(tmp_path, load):
    made = dataset(tmp_path / "set", 4, samples_per_shard=2)
    made.finish({**CATEGORIES, 0: "first", 9: "card"})
    table = load(str(tmp_path / "set"), split="train")
    category = table.features["objects"]["category"].feature
    assert category.names == ["first", "card 1", "stamp", "card 9"]
    for row in table:
        assert [category.int2str(each) for each in row["objects"]["category"]] == [
            {1: "card 1", 2: "stamp"}[each] for each in row["objects"]["category_id"]
        ]
    for path in (tmp_path / "set" / "data").iterdir():
        assert datasets.Features.from_arrow_schema(parquet.read_schema(path)) == table.features


WRITING = """
import sys
from pathlib import Path
from blendtorch.core.testing.cards import labelled_sample
from blendtorch_huggingface import Huggingface, HuggingfaceOptions, tables
from blendtorch_huggingface.columns import Rows
writer = Huggingface(HuggingfaceOptions(samples_per_shard=7, split={"train": 0.7, "val": 0.3}))
writer.open(Path(sys.argv[1]))
first, step, end = map(int, sys.argv[2:])
print("ready", flush=True)
for index in range(first, end, step):
    writer.write(labelled_sample(index, frames_per_episode=2))
"""


def test_processes_write_side_by_side_and_one_is_killed(tmp_path):
    """The files are those of one process that wrote in order."""
    alone, shared = tmp_path / "alone" / "set", tmp_path / "shared" / "set"
    for folder in (alone, shared):
        folder.parent.mkdir()
        folder.mkdir()
    dataset(alone, 40, samples_per_shard=7, split=SPLIT)
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


@pytest.mark.parametrize(
    ("lacks", "expected"),
    [([], None), (["image"], "no image"), (["boxes2d_tight"], "with --loose"), (["visibility"], "no visibility")],
)
def test_what_is_missing_is_said(lacks, expected):
    names = [name for name in array_names(labelled_sample(0)) if name.partition(".")[0] not in lacks]
    made = Huggingface(HuggingfaceOptions())
    if expected is None:
        made.check(names)
        made.check(["image", "depth.depth"])
    else:
        with pytest.raises(ConfigurationError, match=expected):
            made.check(names)


REFUSED = {
    "complex": ({"a": {"b": np.zeros(2, complex)}}, "a_b: an array of complex128 cannot be kept"),
    "anything": ({"a": {"b": [1, object()]}}, "a_b: a object cannot be kept"),
    "ids": ({"a": {"ids": np.full((48, 64), 70_000)}}, "has numbers from 70000 to 70000: an image holds 0 to 65535"),
    "twice": ({"a": {"b": np.zeros(2)}, "a_b": np.zeros(2)}, "two values of the sample are called a_b"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_columns_cannot_hold_is_refused_with_its_place(case, tmp_path):
    fields, reason = REFUSED[case]
    made = writer(tmp_path)
    with pytest.raises(PluginError) as caught:
        made.write({**labelled_sample(0), **fields})
    assert reason in str(caught.value)
    assert tree(tmp_path) == {}


def test_samples_have_the_same_columns_and_names(tmp_path):
    made = writer(tmp_path)
    made.write(labelled_sample(0))
    sample = labelled_sample(1)
    for changed, expected in (
        (
            {"depth": {"depth": sample["depth"]["depth"].astype(np.float64)}},
            "has samples with depth .*Image.* and not .*float64",
        ),
        ({"meta": {**sample["meta"], "legend": '{"keypoints":{"names":["b","a","c","d"]}}'}}, "keypoints"),
    ):
        with pytest.raises(ConfigurationError, match=expected):
            made.write({**sample, **changed})
    assert made.written() == {0}


def test_what_all_objects_share_is_theirs_together_however_many_there_are(tmp_path):
    """There are as many bones and keypoints as objects here, of which one is left out."""
    sample = labelled_sample(0)
    bones, flip = np.stack([np.arange(5), np.arange(1, 6)], axis=-1), np.array([1, 0, 3, 2, 4])
    sample["keypoints"] |= {"skeleton": bones, "flip": flip}
    (row,) = Rows(sample, LabelOptions(), 1).rows
    assert (row["keypoints_skeleton"], row["keypoints_flip"]) == (bones.tolist(), flip.tolist())
    assert len(row["objects"]["keypoints_xy"]) == len(row["objects"]["id"]) < 5
    made = writer(tmp_path)
    made.write(sample)
    fewer = labelled_sample(1)
    fewer["keypoints"] |= {"skeleton": bones[:3], "flip": flip}
    made.write(fewer)
    assert made.written() == {0, 1}


def test_what_is_measured_of_models_may_differ_by_a_bit(tmp_path):
    """As it does from one processor to the next."""
    made = writer(tmp_path)
    for index, size in enumerate((1.0, 1.0000000000000002)):
        sample = labelled_sample(index)
        legend = {**json.loads(sample["meta"]["legend"]), "poses": {"models": {"1": [{"size": [size] * 3}]}}}
        made.write({**sample, "meta": {**sample["meta"], "legend": json.dumps(legend)}})
    assert made.written() == {0, 1}


@pytest.mark.parametrize("index", [None, 5])
def test_a_table_that_is_small_in_its_file_only_is_refused_before_it_is_read(tmp_path, monkeypatch, index):
    """Equal values take a few bytes, however many there are."""
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"index": np.full(2**18, 5)}), path, compression="zstd")
    assert path.stat().st_size < 2**12
    with monkeypatch.context() as patch:
        patch.setattr(parquet.ParquetFile, "read_row_group", None)
        with pytest.raises(ValueError, match=f"a row group of {2**21} bytes, and {2**20} are allowed"):
            next(tables.read_table(path, 2**20, index))
    assert next(tables.read_table(path, 2**22, index)) == {"index": 5}
    assert list(tables.read_table(path, 2**22, 4)) == []


def test_a_part_needs_a_name_that_datasets_takes():
    with pytest.raises(ValueError, match="datasets takes no 'hold-out'"):
        HuggingfaceOptions(split={"hold-out": 1.0})


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


def test_damaged_files_are_refused_or_read_but_raise_nothing_else(tmp_path):
    """Bytes changed and files cut, with a fixed seed."""
    made = dataset(tmp_path / "set", 2)
    path = tmp_path / "set" / "data" / "train-000000.parquet"
    content, rng = path.read_bytes(), random.Random(3)
    refused = 0
    for _ in range(100):
        damaged = bytearray(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)
        for _ in range(min(len(damaged), 20)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            made.read(1)
        except (DecodeError, FileNotFoundError):
            refused += 1
    assert refused > 50
    path.write_bytes(content)
    assert len(made.read(1)) == 1


def test_what_is_ignored_and_left_out_is_said(tmp_path):
    made = dataset(tmp_path / "set", 10, samples_per_shard=3)
    listed = [labelled_pictures(labelled_sample(index, frames_per_episode=2), LabelOptions())[0] for index in range(10)]
    ignored = sum(bool(each.ignored) for picture in listed for each in picture.objects)
    left_out = sum(sum(picture.left_out.values()) for picture in listed)
    for _ in range(2):  # of files that are there already, too
        one, two = made.finish(CATEGORIES)
        assert one.startswith(f"{ignored} objects are ignored: ")
        assert two.startswith(f"{left_out} objects are left out: ")


def test_the_readme_loads_a_folder(tmp_path, monkeypatch, capsys, load):
    dataset(tmp_path / "dataset", 3)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(block, {})
    first, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\(64, 48\) \['card', .*\] \(48, 64\)", first)
    options = json.loads(json.dumps(re.findall(r"^\| `(\w+)`.* \| .* \|", README.read_text(), re.MULTILINE)))
    assert {"split", "samples_per_shard", "png_level"} <= set(options)


def test_a_stream_of_blender_is_loaded(tmp_path, load):
    """Rendered, written and read back by `datasets`: pictures, maps and boxes as they were received."""
    made = writer(tmp_path / "set", samples_per_shard=2)
    stream = btt.stream(
        objects=[{"match": "Cube", "category": "cube"}],
        annotators=["camera", "boxes2d_tight", "instance_ids", "visibility", "depth", "normals"],
        resolution=(64, 48),
        count=3,
        seed=5,
    )
    with stream as received:
        kept = {each["meta"]["index"]: each for each in received}
    for each in kept.values():
        made.write(each)
    made.finish({1: "cube"})
    table = load(str(tmp_path / "set"), split="train")
    assert table["index"] == sorted(kept) == [0, 1, 2]
    for row in table:
        sample = kept[row["index"]]
        assert np.array_equal(np.asarray(row["image"]), sample["image"])
        assert np.array_equal(np.asarray(row["depth"]), sample["depth"]["depth"])
        normals = np.stack([np.asarray(each) for each in row["normals"]], axis=-1)
        assert np.array_equal(normals, sample["normals"]["normals"], equal_nan=True)
        (box,) = row["objects"]["bbox"]
        (left, top, right, bottom) = sample["boxes2d_tight"]["xyxy"][0]
        assert box == [left, top, right - left, bottom - top]
        assert table.features["objects"]["category"].feature.int2str(row["objects"]["category"]) == ["cube"]
    assert pa.__version__.partition(".")[0] < "26"
