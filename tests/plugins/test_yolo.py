"""YOLO data sets are what ultralytics reads, and what they say lies where the masks are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, DecodeError, PluginError
from blendtorch.core.geometry import project, transform
from blendtorch.core.selection import INEXACT, UNSEEN, array_names, labelled_pictures, split_of
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from blendtorch.core.testing.suites import WriterSuite
from blendtorch_yolo import Yolo, YoloOptions, filled, polygon_of
from hypothesis import given, settings
from hypothesis.extra import numpy as some

README = Path(__file__).resolve().parents[2] / "plugins" / "blendtorch-yolo" / "README.md"
SHAPE = (96, 128)
COUNT = 8
TASKS = ("detect", "segment", "pose")
HALVES = {"train": 0.5, "val": 0.5}
FLIP = [1, 0, 3, 2]


class TestDetect(WriterSuite):
    plugin = Yolo


class TestSegment(WriterSuite):
    plugin = Yolo
    options = {"task": "segment"}


class TestPose(WriterSuite):
    plugin = Yolo
    options = {"task": "pose"}


def sample_of(index):
    """A sample of two cameras: the second sees other cards of the same categories."""
    sample, other = labelled_sample(index, shape=SHAPE), labelled_sample(index + 1000, shape=SHAPE)
    sample["left"] = {name: value for name, value in other.items() if name not in ("objects", "meta")}
    for view in (sample, sample["left"]):
        view["keypoints"]["flip"] = np.array(FLIP)
    return sample


def writer(folder, **options):
    made = Yolo(YoloOptions(**options))
    made.open(Path(folder))
    return made


def data_set(folder, samples, categories=CATEGORIES, **options):
    made = writer(folder, **options)
    for sample in samples:
        made.write(sample)
    return made, made.finish(categories)


def listed(index):
    """Pictures of a sample with what a file lists, and the name of the file."""
    for picture in labelled_pictures(sample_of(index), YoloOptions()):
        yield f"{index:06}{'_left' if picture.camera else ''}", picture, [each for each in picture.objects if not each.ignored]


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """A folder for each task."""
    folder = tmp_path_factory.mktemp("cards")
    for task in TASKS:
        data_set(folder / task, map(sample_of, range(COUNT)), task=task, split=HALVES)
    return folder


READING = """
import json, sys
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset, polygon2mask
found = {}
for task in sys.argv[1:]:
    data = check_det_dataset(f"{task}/data.yaml", autodownload=False)
    found[task] = {"names": data["names"], "kpt_shape": data.get("kpt_shape"), "flip_idx": data.get("flip_idx")}
    for part in ("train", "val"):
        dataset = YOLODataset(img_path=data[part], data=data, task=task, augment=False, imgsz=128)
        pictures = found[task][part] = {}
        for number, label in enumerate(dataset.get_labels()):
            height, width = label["shape"]
            painted = [polygon2mask((height, width), [each * (width, height)]).tolist() for each in label["segments"]]
            keypoints = None if label["keypoints"] is None else label["keypoints"].tolist()
            pictures[label["im_file"].rpartition("/")[2]] = {
                "shape": label["shape"], "classes": label["cls"].ravel().tolist(), "boxes": label["bboxes"].tolist(),
                "painted": painted, "keypoints": keypoints, "sample": sorted(dataset[number]),
            }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def read_by_ultralytics(cards, tmp_path_factory):
    """What its own loader makes of the folders, in a process of its own: it writes settings, and changes those of libraries."""
    home = tmp_path_factory.mktemp("home")
    names = ("HOME", "YOLO_CONFIG_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    environment = {**os.environ, **dict.fromkeys(names, str(home)), "YOLO_OFFLINE": "true", "TMPDIR": str(home)}
    command = [sys.executable, "-c", READING, *TASKS]
    result = subprocess.run(command, cwd=cards, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("task", TASKS)
def test_ultralytics_reads_what_was_written(read_by_ultralytics, task):
    found = read_by_ultralytics[task]
    assert found["names"] == {"0": "card", "1": "stamp"}
    assert (found["kpt_shape"], found["flip_idx"]) == (([4, 3], FLIP) if task == "pose" else (None, None))
    overlaps = []
    for index in range(COUNT):
        part = split_of(sample_of(index)["meta"], HALVES)
        for name, picture, objects in listed(index):
            label = found[part].pop(f"{name}.png")
            height, width = label["shape"]
            assert (height, width) == SHAPE == picture.image.shape[:2]
            order = np.lexsort(np.transpose([[each.category_id, *each.xyxy] for each in objects]))
            boxes = np.reshape(label["boxes"], (-1, 2, 2)) * (width, height)
            corners = np.c_[boxes[:, 0] - boxes[:, 1] / 2, boxes[:, 0] + boxes[:, 1] / 2]
            theirs = np.lexsort(np.c_[label["classes"], np.round(corners)].T)
            assert [label["classes"][each] + 1 for each in theirs] == [objects[each].category_id for each in order]
            assert np.allclose(corners[theirs], [objects[each].xyxy for each in order], atol=1e-3)
            assert {"img", "cls", "bboxes"} <= set(label["sample"])
            for one, two in zip(theirs, order, strict=True):
                if task == "segment":
                    painted = np.array(label["painted"][one], bool)
                    mask = objects[two].mask
                    assert painted[mask].all()
                    overlaps.append(mask.sum() / painted.sum())
                if task == "pose":
                    assert np.array_equal(np.array(label["keypoints"][one])[:, 2], objects[two].states)
    assert not found["train"], "there is no picture that was not written"
    assert not found["val"]
    if task == "segment":
        assert np.mean(overlaps) > 0.85, "it paints the border too, and these are small"


@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_back_is_what_was_written(cards, task):
    """Boxes and keypoints to a thousandth of a pixel, masks to the pixel."""
    made = writer(cards / task, task=task, split=HALVES)
    for index in range(COUNT):
        found = made.read(index)
        assert [picture.camera for picture in found] == ["", "left"]
        assert {picture.split for picture in found} == {split_of(sample_of(index)["meta"], HALVES)}
        for picture, (_, other, objects) in zip(found, listed(index), strict=True):
            assert np.array_equal(picture.image, other.image)
            for one, two in zip(picture.objects, objects, strict=True):
                assert one.category_id == two.category_id
                assert np.abs(one.xyxy - two.xyxy).max() < 1e-3
                assert (one.mask is None) == (task != "segment")
                assert one.mask is None or np.array_equal(one.mask, two.mask)
                if task == "pose":
                    assert np.array_equal(one.states, two.states)
                    seen = two.states > 0
                    assert np.abs(one.keypoints[seen] - two.keypoints[seen]).max(initial=0) < 1e-3
                    assert np.isnan(one.keypoints[~seen]).all()


def test_keypoints_of_the_files_lie_on_the_outlines_of_their_masks(cards):
    """Corners of cards that are seen whole, as they are in the files, enclose the pixels of their masks; half a pixel off they do not."""
    pose, segment = (writer(cards / task, task=task, split=HALVES) for task in ("pose", "segment"))
    right, wrong = [], []
    for index in range(COUNT):
        sample = sample_of(index)
        for one, two in zip(pose.read(index), segment.read(index), strict=True):
            view = sample["left"] if one.camera else sample
            for point, area in zip(one.objects, two.objects, strict=True):
                row = next(
                    row for row in range(5) if np.array_equal(view["instance_ids"]["instance_ids"] == row + 1, area.mask)
                )
                pose_of, size = view["poses"]["camera_from_object"][row], view["poses"]["size"][row]
                corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * size / 2
                projected, _ = project(transform(pose_of, corners), view["camera"]["K"])
                seen = point.states > 0
                assert np.abs(point.keypoints[seen] - projected[seen]).max(initial=0) < 1e-3
                if (point.states == 2).all() and view["visibility"]["fraction"][row] == 1 and area.mask.sum() > 100:
                    for found, shift in ((right, 0), (wrong, 0.5)):
                        inside = filled(point.keypoints + shift, SHAPE)
                        found.append((inside & area.mask).sum() / (inside | area.mask).sum())
    assert len(right) >= 8
    assert min(right) > 0.995
    assert np.mean(wrong) < 0.97


@settings(max_examples=300, deadline=None)
@given(mask=some.arrays(bool, some.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_polygon_is_its_mask(mask):
    """With any pieces and holes, after rounding to the digits of the file too; and the box around it is the box of the mask."""
    if not mask.any():
        return
    polygon = polygon_of(mask)
    rows, columns = np.nonzero(mask)
    assert [*polygon.min(axis=0), *polygon.max(axis=0)] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    size = np.array(mask.shape[::-1])
    for points in (polygon, np.round(polygon / size, 8) * size):
        assert np.array_equal(filled(points, mask.shape), mask)


def test_a_polygon_joins_pieces_and_keeps_holes():
    mask = np.zeros((60, 80), bool)
    mask[10:50, 10:30] = mask[20:40, 50:70] = True
    mask[25:35, 15:25] = False
    polygon = polygon_of(mask)
    assert np.array_equal(filled(polygon, mask.shape), mask)
    x, y = polygon.T
    assert abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 == pytest.approx(mask.sum(), rel=0.01), (
        "pieces turn one way, holes the other"
    )
    assert len(polygon) < 40, "straight edges have no points between"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_are_right_yaml_and_classes_are_categories_less_one(tmp_path):
    names = {1: "card", 2: "an \"8: it's", 3: "yes", 4: "\u00e9crou 10 mm", 6: "007", 7: "\u87ba\u4e1d \U0001f529", 0: "none"}
    (tmp_path / "a: b").mkdir()
    _, notes = data_set(tmp_path / "a: b", [sample_of(0)], names, split={"train": 1, "test": 1e-9})
    data = yaml.safe_load((tmp_path / "a: b" / "data.yaml").read_bytes())
    assert data == {
        "path": str((tmp_path / "a: b").resolve()),
        "train": "images/train",
        "test": "images/test",
        "val": "images/train",
        "names": {number - 1: name for number, name in sorted({**names, 5: "category_5"}.items()) if number},
    }
    assert "there is no part val, which readers want: data.yaml names train for it" in notes
    assert "no category has the ids of the classes 4 (less 1): they are there, and stay empty" in notes
    assert any(each.startswith("test has no pictures") for each in notes)
    rows = (tmp_path / "a: b" / "labels" / "train" / "000000.txt").read_text().splitlines()
    (_, _, objects), _ = listed(0)
    assert [int(row.split()[0]) + 1 for row in rows] == [each.category_id for each in objects]


def test_pictures_without_objects_have_an_empty_file_and_what_is_dropped_is_said(tmp_path):
    empty, other = labelled_sample(0), labelled_sample(1)
    empty["boxes2d_tight"]["valid"][:] = False
    (picture,) = labelled_pictures(other, YoloOptions())
    ignored = [each.ignored for each in picture.objects if each.ignored]
    _, notes = data_set(tmp_path, [empty, other], split={"train": 1})
    assert (tmp_path / "labels" / "train" / "000000.txt").read_bytes() == b""
    assert (tmp_path / "images" / "train" / "000000.png").exists()
    dropped = next(each for each in notes if "dropped" in each)
    assert dropped.startswith(f"{len(ignored)} objects")
    assert f"{ignored.count(INEXACT)} {INEXACT}" in dropped
    assert any(f"{5 + 5 - len(picture.objects)} {UNSEEN}" in each for each in notes)
    other["objects"]["category_id"][picture.objects[0].instance_id - 1] = 0
    _, notes = data_set(tmp_path / "none", [other])
    assert any("1 no category" in each for each in notes)


def test_the_same_samples_have_the_same_bytes_whoever_wrote_them(tmp_path):
    """In another order, by two writers, with a finish between, after a process was killed."""
    folder, other = tmp_path / "data", tmp_path / "aside"
    data_set(folder, map(sample_of, range(4)), task="pose", split=HALVES)
    expected = contents(folder)
    folder.rename(other)
    first, second = (writer(folder, task="pose", split=HALVES) for _ in range(2))
    second.write(sample_of(3))
    second.finish({})
    for draft in (
        "data.yaml.7.part",
        "images/train/000001.png.7.part",
        "labels/val/000001.txt.7.part",
        ".samples/000001.json.7.part",
    ):
        (folder / draft).write_text("half")
        os.utime(folder / draft, (0, 0))
    for index in (1, 0, 2):
        (first if index else second).write(sample_of(index))
    first.finish(CATEGORIES)
    assert contents(folder) == expected


def test_a_resumed_run_describes_all_that_is_there(tmp_path):
    """Parts, classes and the place are those of the whole folder, wherever it lies and whatever the first run said."""
    first, moved = tmp_path / "first", tmp_path / "moved"
    data_set(first, [sample_of(0)], categories={}, split={"early": 1})
    first.rename(moved)
    data_set(moved, [sample_of(1)], split={"train": 1})
    described = yaml.safe_load((moved / "data.yaml").read_text())
    assert described.pop("names") == {number - 1: name for number, name in CATEGORIES.items() if number > 0}
    parts = {"train": "images/train", "val": "images/train", "early": "images/early"}
    assert described == {"path": str(moved.resolve()), **parts}
    assert all(list((moved / folder).glob("*.png")) for folder in parts.values())


def test_what_it_wrote_goes_and_what_is_called_alike_stays(tmp_path):
    made, _ = data_set(tmp_path, map(sample_of, range(3)), split={"train": 1})
    before = contents(tmp_path)
    for orphan in ("images/train/000004.png", "labels/train/000004_left.txt.77.part"):
        (tmp_path / orphan).touch()
    others = ("images/train/20240101.png", "labels/train/7.txt", "labels/train.cache", "notes.txt", "images/mine.png")
    for name in others:
        (tmp_path / name).write_text("mine")
    made.clear()
    assert sorted(map(str, contents(tmp_path))) == sorted(others)
    for index in range(3):
        made.write(sample_of(index))
    made.finish(CATEGORIES)
    assert before.items() <= contents(tmp_path).items()


REFUSED = {
    "masks": ({"task": "segment"}, ["instance_ids"], "no instance_ids"),
    "loose segments": ({"task": "segment", "loose": True}, [], "task segment needs masks"),
    "keypoints": ({"task": "pose"}, ["keypoints"], "no keypoints"),
    "boxes": ({}, ["boxes2d_tight", "visibility"], "no boxes2d_tight, visibility"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_task_needs_is_asked_for(case):
    options, lacks, reason = REFUSED[case]
    names = [name for name in array_names(labelled_sample(0)) if name.partition(".")[0] not in lacks]
    with pytest.raises(ConfigurationError, match=reason):
        Yolo(YoloOptions(**options)).check(names)


def test_loose_boxes_need_no_masks(tmp_path):
    sample = labelled_sample(3)
    for name in ("boxes2d_tight", "instance_ids", "visibility"):
        del sample[name]
    made = writer(tmp_path, loose=True)
    made.check(array_names(sample))
    made.write(sample)
    boxes = sample["boxes2d_loose"]
    (picture,) = made.read(3)
    assert np.allclose([each.xyxy for each in picture.objects], boxes["clipped"][boxes["valid"]], atol=1e-5)


def test_what_cannot_be_written_is_refused(tmp_path):
    sample = labelled_sample(0)
    sample["objects"]["category_id"][:] = 10_001
    with pytest.raises(ConfigurationError, match="has the category id 10001"):
        writer(tmp_path).write(sample)
    with pytest.raises(ConfigurationError, match="there is a category 10001"):
        writer(tmp_path).finish({10_001: "far"})
    with pytest.raises(PluginError, match="expected 0 or more"):
        writer(tmp_path).write({"meta": {"index": -1}})
    made, other = writer(tmp_path, task="pose"), labelled_sample(1)
    other["meta"]["legend"] = '{"keypoints": {"names": ["w", "x", "y", "z"]}}'
    made.write(labelled_sample(0))
    made.write(other)
    with pytest.raises(ConfigurationError, match=r"sample 1 has the keypoints \['w', 'x', 'y', 'z'\], and those before"):
        made.finish(CATEGORIES)


WRONG = {
    "detect": ["0 0.5 0.5 0.1", "0 0.5 0.5 0.1 0.1 0.2", "x 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1", ""],
    "segment": ["0 0.1 0.1 0.2 0.2", "0 0.1 0.1 0.2 0.2 0.3"],
    "pose": ["0 0.5 0.5 0.1", "0 0.5 0.5 0.1 0.1 0.2 0.2"],
}


@pytest.mark.parametrize(("task", "row"), [(task, row) for task in WRONG for row in WRONG[task]])
def test_damaged_labels_are_refused(task, row, tmp_path):
    made, _ = data_set(tmp_path, [labelled_sample(0)], task=task, split={"train": 1})
    path = tmp_path / "labels" / "train" / "000000.txt"
    path.write_text(f"{path.read_text()}{row}\n")
    with pytest.raises(DecodeError, match=r"000000.txt, line \d: expected class x y"):
        made.read(0)


@pytest.mark.parametrize("task", TASKS)
def test_estimates_are_more_than_is_taken_and_not_ten_times(tmp_path, task):
    sample = labelled_sample(0, shape=(480, 640))
    data_set(tmp_path, [sample], task=task)
    names = {"image": sample["image"], "boxes2d_tight.xyxy": sample["boxes2d_tight"]["xyxy"]}
    arrays = {name: (array.shape, str(array.dtype)) for name, array in names.items()}
    taken = sum(len(each) for each in contents(tmp_path).values())
    assert taken < writer(tmp_path, task=task).bytes_per_sample(arrays) < 10 * taken


def test_the_readme_reads_it(tmp_path, monkeypatch, capsys):
    data_set(tmp_path / "dataset", [labelled_sample(0)], split={"train": 1})
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    first, *_ = capsys.readouterr().out.splitlines()
    number, *box = (tmp_path / "dataset/labels/train/000000.txt").read_text().splitlines()[0].split()
    assert first == f"000000 {CATEGORIES[int(number) + 1]} {box}"


def test_it_is_found_by_its_name():
    found = Catalogue().find("writer", "yolo")
    assert (found.cls, found.source.distribution) == (Yolo, "blendtorch-yolo")
