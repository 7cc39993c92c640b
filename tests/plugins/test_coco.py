"""COCO data sets are what pycocotools and torchvision read, and what they say lies where the masks are."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, DecodeError, PluginError
from blendtorch.core.geometry import project, transform
from blendtorch.core.selection import INEXACT, UNSEEN, array_names, labelled_pictures, split_of
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from blendtorch.core.testing.suites import WriterSuite
from blendtorch_coco import Coco, CocoOptions
from matplotlib.path import Path as Outline
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "plugins" / "blendtorch-coco" / "README.md"
SHAPE = (96, 128)
COUNT = 10


class TestCoco(WriterSuite):
    plugin = Coco


class TestLoose(WriterSuite):
    plugin = Coco
    options = {"loose": True}


def sample_of(index):
    """A sample of two cameras: the second sees other cards of the same categories."""
    sample, other = labelled_sample(index, shape=SHAPE), labelled_sample(index + 1000, shape=SHAPE)
    sample["left"] = {name: value for name, value in other.items() if name not in ("objects", "meta")}
    return sample


def writer(folder, **options):
    made = Coco(CocoOptions(**options))
    made.open(Path(folder))
    return made


def data_set(folder, samples, categories=CATEGORIES, **options):
    made = writer(folder, **options)
    for sample in samples:
        made.write(sample)
    return made, made.finish(categories)


def load(folder, part):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(folder / "annotations" / f"instances_{part}.json")


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """The folder, and its two parts as pycocotools reads them."""
    folder = tmp_path_factory.mktemp("cards")
    data_set(folder, map(sample_of, range(COUNT)), split={"train": 0.5, "val": 0.5})
    return folder, [load(folder, part) for part in ("train", "val")]


def objects_of(coco):
    """Each annotation with the view of the sample that it describes, and its row there."""
    for each in coco.loadAnns(coco.getAnnIds()):
        image = coco.loadImgs(each["image_id"])[0]
        sample = sample_of(image["sample"])
        yield each, sample if image["camera"] == "" else sample["left"], each["instance_id"] - 1


def evaluate(coco, kind, shift=0.0):
    """The average precision of its own labels, moved to the right."""
    found = []
    for each in coco.loadAnns(coco.getAnnIds(iscrowd=False)):
        x, *rest = each["bbox"]
        keypoints = np.reshape(each["keypoints"], (-1, 3)) + np.array([shift, 0, 0])
        values = {"bbox": [x + shift, *rest], "segmentation": each["segmentation"], "keypoints": keypoints.ravel().tolist()}
        name = {"segm": "segmentation"}.get(kind, kind)
        found.append({"image_id": each["image_id"], "category_id": each["category_id"], "score": 0.9, name: values[name]})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(found), kind)
        evaluation.params.kpt_oks_sigmas = np.full(4, 0.05)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_labels_are_perfect_for_themselves(cards, kind):
    for coco in cards[1]:
        assert evaluate(coco, kind) == 1
        if kind != "segm":
            assert evaluate(coco, kind, shift=6) < 0.9


def test_every_picture_and_object_is_in_one_part(cards):
    folder, parts = cards
    images = [image for coco in parts for image in coco.loadImgs(coco.getImgIds())]
    assert sorted(image["file_name"] for image in images) == sorted(path.name for path in (folder / "images").iterdir())
    assert sorted(image["id"] for image in images) == list(range(1, 2 * COUNT + 1))
    assert {(image["sample"], image["camera"]): image["file_name"] for image in images}[7, "left"] == "000007_left.png"
    assert sorted(each for coco in parts for each in coco.anns) == list(range(1, sum(len(coco.anns) for coco in parts) + 1))
    for part, coco in zip(("train", "val"), parts, strict=True):
        for image in coco.loadImgs(coco.getImgIds()):
            assert split_of(sample_of(image["sample"])["meta"], {"train": 0.5, "val": 0.5}) == part
            expected = {view.camera: view for view in labelled_pictures(sample_of(image["sample"]), CocoOptions())}
            there = coco.loadAnns(coco.getAnnIds(image["id"]))
            assert [each["instance_id"] for each in there] == [each.instance_id for each in expected[image["camera"]].objects]


def test_boxes_and_masks_are_exact(cards):
    for coco in cards[1]:
        for each, view, row in objects_of(coco):
            mask = view["instance_ids"]["instance_ids"] == row + 1
            assert np.array_equal(coco.annToMask(each), mask)
            assert each["bbox"] == masks.toBbox(each["segmentation"]).tolist()
            x, y, width, height = each["bbox"]
            assert [x, y, x + width, y + height] == view["boxes2d_tight"]["xyxy"][row].tolist()
            assert each["area"] == mask.sum() == masks.area(each["segmentation"])
            assert each["iscrowd"] == (each.get("ignored", "") != "")
            assert (each.get("ignored") == INEXACT) == (row == 4)


def test_keypoints_of_the_files_lie_on_the_outlines_of_their_masks(cards):
    """The corners of cards that are seen whole enclose their pixels, when half a pixel is added as COCO has it, and not without."""
    centers = np.stack(np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5), axis=-1).reshape(-1, 2)

    def overlap(corners, mask):
        inside = Outline(corners).contains_points(centers).reshape(SHAPE)
        return (inside & mask).sum() / (inside | mask).sum()

    right, wrong = [], []
    for coco in cards[1]:
        for each, view, row in objects_of(coco):
            points = np.reshape(each["keypoints"], (-1, 3))
            assert np.array_equal(points[:, 2], view["keypoints"]["state"][row])
            assert each["num_keypoints"] == (points[:, 2] > 0).sum()
            assert not points[points[:, 2] == 0].any()
            labelled = points[:, 2] > 0
            pose, size = view["poses"]["camera_from_object"][row], view["poses"]["size"][row]
            corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * size / 2
            projected, _ = project(transform(pose, corners), view["camera"]["K"])
            assert np.abs(points[labelled, :2] + 0.5 - projected[labelled]).max(initial=0) <= 1e-4
            if (points[:, 2] == 2).all() and view["visibility"]["fraction"][row] == 1 and each["area"] > 100:
                mask = coco.annToMask(each).astype(bool)
                right.append(overlap(points[:, :2] + 0.5, mask))
                wrong.append(overlap(points[:, :2], mask))
    assert len(right) >= 10
    assert min(right) > 0.995
    assert np.mean(wrong) < 0.97


def test_every_category_is_declared_with_its_keypoints(tmp_path):
    sample = sample_of(0)
    for view in (sample, sample["left"]):
        view["keypoints"]["skeleton"] = np.array([[0, 1], [2, 3]])
    data_set(tmp_path, [sample], {5: '\u00e9crou "8"', 1: "card", 2: "stamp", 0: "none"}, split={"train": 1})
    coco = load(tmp_path, "train")
    assert list(coco.cats) == [1, 2, 5]
    assert coco.cats[5]["name"] == '\u00e9crou "8"'
    assert coco.cats[5]["keypoints"] == ["a", "b", "c", "d"]
    assert coco.cats[5]["skeleton"] == [[1, 2], [3, 4]]
    assert {"description", "version"} <= set(coco.dataset["info"])
    assert coco.dataset["licenses"] == []


def test_a_category_that_nobody_named_is_declared(tmp_path):
    data_set(tmp_path, [sample_of(0)], {}, split={"train": 1})
    assert [each["name"] for each in load(tmp_path, "train").cats.values()] == ["category_1", "category_2"]


def hide(view):
    view["instance_ids"]["instance_ids"][:] = 0
    view["boxes2d_tight"]["valid"][:] = False


def test_pictures_without_objects_stay_and_what_is_left_out_is_said(tmp_path):
    empty, other = labelled_sample(0), labelled_sample(1)
    hide(empty)
    seen = np.flatnonzero(other["boxes2d_tight"]["valid"])
    other["objects"]["category_id"][seen[0]] = 0
    _, notes = data_set(tmp_path, [empty, other], split={"train": 1, "test": 0, "val": 1e-9})
    coco = load(tmp_path, "train")
    assert len(coco.imgs) == 2
    assert len(coco.anns) == len(seen) - 1
    assert len(load(tmp_path, "val").imgs) == 0
    assert not (tmp_path / "annotations" / "instances_test.json").exists()
    assert any(f"{5 + 5 - len(seen)} {UNSEEN}" in each and "1 no category" in each for each in notes)
    assert any(each.startswith("val has no pictures") for each in notes)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_samples_have_the_same_bytes_whoever_wrote_them(tmp_path):
    """In another order, by two writers, with a finish between, after a process was killed in its own."""
    one, two = tmp_path / "one", tmp_path / "two"
    data_set(one, map(sample_of, range(4)))
    first, second = writer(two), writer(two)
    second.write(sample_of(3))
    second.finish({})
    for draft in (
        "annotations/instances_train.json.7.part",
        "annotations/instances_val.json.images.7.part",
        "images/000001.png.7.part",
    ):
        (two / draft).write_text("half")
        os.utime(two / draft, (0, 0))
    for index in (1, 0, 2):
        (first if index else second).write(sample_of(index))
    first.finish(CATEGORIES)
    assert contents(one) == contents(two)
    first.write(sample_of(4))
    first.finish(CATEGORIES)
    assert sum(len(load(two, part).imgs) for part in ("train", "val")) == 10


def test_what_is_read_back_is_what_was_written(cards):
    folder, _ = cards
    made = writer(folder)
    for index in range(COUNT):
        expected = {view.camera: view for view in labelled_pictures(sample_of(index), CocoOptions())}
        found = made.read(index)
        assert [picture.camera for picture in found] == list(expected) == ["", "left"]
        assert {picture.split for picture in found} == {split_of(sample_of(index)["meta"], {"train": 0.5, "val": 0.5})}
        for picture in found:
            other = expected[picture.camera]
            assert np.array_equal(picture.image, other.image)
            for one, two in zip(picture.objects, other.objects, strict=True):
                assert (one.category_id, one.instance_id, one.ignored, one.truncated) == (
                    two.category_id,
                    two.instance_id,
                    two.ignored,
                    two.truncated,
                )
                assert np.array_equal(one.xyxy, two.xyxy)
                assert np.array_equal(one.mask, two.mask)
                assert abs(one.visibility - two.visibility) <= 1e-6
                assert np.array_equal(one.states, two.states)
                seen = two.states > 0
                assert np.abs(one.keypoints[seen] - two.keypoints[seen]).max(initial=0) <= 1e-4
                assert np.isnan(one.keypoints[~seen]).all()


def test_loose_boxes_have_no_masks(tmp_path):
    sample = labelled_sample(3)
    for name in ("boxes2d_tight", "instance_ids", "visibility"):
        del sample[name]
    writer(tmp_path, loose=True).check(array_names(sample))
    with pytest.raises(ConfigurationError, match="boxes2d_tight, instance_ids, visibility"):
        writer(tmp_path).check(array_names(sample))
    data_set(tmp_path, [sample], loose=True, split={"train": 1})
    coco = load(tmp_path, "train")
    boxes = sample["boxes2d_loose"]["clipped"][sample["boxes2d_loose"]["valid"]]
    assert np.allclose([each["bbox"] for each in coco.anns.values()], np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    for each in coco.anns.values():
        assert "segmentation" not in each
        assert each["area"] == pytest.approx(each["bbox"][2] * each["bbox"][3])
    (picture,) = writer(tmp_path).read(3)
    assert [each.mask for each in picture.objects] == [None] * len(boxes)


def test_samples_with_other_keypoints_are_refused(tmp_path):
    made, other = writer(tmp_path), labelled_sample(1)
    other["meta"]["legend"] = '{"keypoints": {"names": ["w", "x", "y", "z"]}}'
    made.write(labelled_sample(0))
    made.write(other)
    with pytest.raises(ConfigurationError, match=r"sample 1 has the keypoints \['w', 'x', 'y', 'z'\], and those before"):
        made.finish(CATEGORIES)
    assert not list(tmp_path.rglob("*.part"))


def test_an_index_below_zero_is_refused(tmp_path):
    with pytest.raises(PluginError, match="expected 0 or more"):
        writer(tmp_path).write({"meta": {"index": -1}})


def test_what_it_wrote_goes_and_what_is_called_alike_stays(tmp_path):
    made, _ = data_set(tmp_path, map(sample_of, range(3)))
    before = contents(tmp_path)
    for orphan in ("images/000004.png", "images/000004_left.png.77.part", ".samples/000004.json.77.part"):
        (tmp_path / orphan).touch()
    others = ("images/20240101.png", "images/7.png", "annotations/notes.json", "notes.txt", ".samples/x.txt")
    for name in others:
        (tmp_path / name).write_text("mine")
    made.clear()
    assert sorted(map(str, contents(tmp_path))) == sorted(others)
    for index in range(3):
        made.write(sample_of(index))
    made.finish(CATEGORIES)
    assert before.items() <= contents(tmp_path).items()


def test_gathering_takes_no_memory_for_pictures(tmp_path):
    made = writer(tmp_path, split={"train": 1})
    made.write(labelled_sample(0))
    document = tmp_path / ".samples" / "000000.json"
    for index in range(1, 3000):
        shutil.copy(document, document.with_name(f"{index:06}.json"))
    tracemalloc.start()
    made.finish(CATEGORIES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = (tmp_path / "annotations" / "instances_train.json").stat().st_size
    assert size > 3_000_000
    assert peak < size / 3


DAMAGES = {
    "half": (lambda text: text[: len(text) // 2], "cannot be read"),
    "size": (lambda text: text.replace('"size":[48,64]', '"size":[4800,64]'), "expected a mask of 48 x 64"),
    "counts": (lambda text: re.sub(r'"counts":"[^"]*', '"counts":"~~~~', text), "a mask cannot be read"),
    "keypoints": (lambda text: re.sub(r'"keypoints":\[[0-9.-]+,', '"keypoints":[', text), "expected x, y, v"),
    "box": (lambda text: text.replace('"bbox":[', '"bbox":[1,'), "an annotation of 000000.png cannot be read"),
    "path": (lambda text: text.replace('"000000.png"', '"../000000.png"'), "expected one in the folder images"),
    "width": (lambda text: text.replace('"width":64', '"width":65'), "expected 65 x 48"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused(damage, tmp_path):
    change, reason = DAMAGES[damage]
    data_set(tmp_path, [labelled_sample(0)], split={"train": 1})
    path = tmp_path / "annotations" / "instances_train.json"
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    with pytest.raises(DecodeError, match=reason):
        writer(tmp_path).read(0)


def test_estimates_are_more_than_is_taken_and_not_ten_times(tmp_path):
    sample = labelled_sample(0, shape=(480, 640))
    data_set(tmp_path, [sample])
    names = {"image": sample["image"], "boxes2d_tight.xyxy": sample["boxes2d_tight"]["xyxy"]}
    arrays = {name: (array.shape, str(array.dtype)) for name, array in names.items()}
    taken = sum(len(each) for each in contents(tmp_path).values())
    assert taken < writer(tmp_path).bytes_per_sample(arrays) < 10 * taken


TORCHVISION = """
import sys
from torchvision.datasets import CocoDetection
found = CocoDetection("dataset/images", "dataset/annotations/instances_train.json")
for image, targets in found:
    print(image.size, [found.coco.annToMask(each).shape for each in targets] == [(48, 64)] * len(targets), len(targets))
"""


def test_torchvision_and_the_readme_read_it(tmp_path):
    _, _ = data_set(tmp_path / "dataset", map(labelled_sample, range(2)), split={"train": 1})
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    operators = REPOSITORY / "tests" / "examples" / "torchvision_operators.py"
    outputs = []
    for program in (TORCHVISION, block):
        (tmp_path / "program.py").write_text(program)
        command = [sys.executable, str(operators), "program.py"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False, env=os.environ)
        assert result.returncode == 0, result.stderr
        outputs.append([line for line in result.stdout.splitlines() if line[0] in "(0"])
    objects = [len(labelled_pictures(labelled_sample(index), CocoOptions())[0].objects) for index in range(2)]
    assert outputs[0] == [f"(64, 48) True {count}" for count in objects]
    assert len(outputs[1]) == sum(objects)
    first = json.loads((tmp_path / "dataset/annotations/instances_train.json").read_text())["annotations"][0]
    assert outputs[1][0] == f"000000.png {first['category_id']} {first['bbox']} {int(first['area'])}"


def test_it_is_found_by_its_name():
    found = Catalogue().find("writer", "coco")
    assert (found.cls, found.source.distribution) == (Coco, "blendtorch-coco")
