"""The writers `coco`, `yolo` and `bop` in processes that are killed, and with samples of a real Blender."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from blendtorch import btt
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import DecodeError
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.selection import labelled_pictures, split_of
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample

SCENE = Path(__file__).resolve().parents[2] / "examples" / "datagen" / "falling_cubes.blend"
KINDS = {
    "coco": ("coco", {}),
    "detect": ("yolo", {"task": "detect"}),
    "segment": ("yolo", {"task": "segment"}),
    "pose": ("yolo", {"task": "pose"}),
}


def writer(kind, folder):
    name, options = KINDS[kind]
    return opened(name, folder, **options)


def opened(name, folder, **options):
    cls = Catalogue().find("writer", name).cls
    made = cls(cls.Options(split={"train": 0.5, "val": 0.5}, **options))
    made.open(folder)
    return made


WRITING = """
import sys
from pathlib import Path
from blendtorch.core.discovery import Catalogue
from blendtorch.core.testing.cards import labelled_sample
cls = Catalogue().find("writer", sys.argv[1]).cls
writer = cls(cls.Options(split={"train": 0.5, "val": 0.5}))
writer.open(Path(sys.argv[2]))
print("ready", flush=True)
for index in range(*map(int, sys.argv[3:])):
    writer.write(labelled_sample(index))
"""


def start(*arguments, script=WRITING):
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


GATHERING = """
while len(writer.written()) < int(sys.argv[4]):
    writer.finish({})
"""


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["coco", "detect"])
def test_processes_write_side_by_side_and_one_is_killed(kind, tmp_path):
    """What counts can be read, the rest is written later, and then all is as one process writes it."""
    folder, aside = tmp_path / "data", tmp_path / "aside"
    folder.mkdir()
    made = writer(kind, folder)
    victim, survivor = (start(KINDS[kind][0], folder, *numbers) for numbers in ((0, 100_000, 2), (1, 60, 2)))
    try:
        deadline = time.monotonic() + 60
        while len(made.written()) < 20 and time.monotonic() < deadline:
            time.sleep(0.005)
        victim.send_signal(signal.SIGKILL)
        assert survivor.wait(60) == 0
    finally:
        for process in (victim, survivor):
            process.kill()
            process.wait()
            process.stdout.close()
    whole = made.written()
    assert set(range(1, 60, 2)) < whole
    made.finish(CATEGORIES)
    for index in whole:
        assert np.array_equal(made.read(index)[0].image, labelled_sample(index)["image"])
    count = max(*whole, 59) + 1
    for index in {*range(count), max(whole) + 2} - whole:
        made.write(labelled_sample(index))
    made.finish(CATEGORIES)
    there = contents(folder)
    folder.rename(aside)
    folder.mkdir()
    made = writer(kind, folder)
    for index in sorted(writer(kind, aside).written()):
        made.write(labelled_sample(index))
    made.finish(CATEGORIES)
    assert contents(folder) == there


@pytest.mark.parametrize("name", ["coco", "yolo", "bop"])
def test_processes_that_gather_leave_each_other_s_drafts_alone(name, tmp_path):
    """Jobs of an array write into one folder, and each gathers at its end."""
    folder, aside = tmp_path / "data", tmp_path / "aside"
    folder.mkdir()
    made = opened(name, folder)
    for index in range(24):
        made.write(labelled_sample(index))
    made.finish(CATEGORIES)
    expected = contents(folder)
    folder.rename(aside)
    folder.mkdir()
    jobs = [start(name, folder, 24, 24, script=WRITING + GATHERING) for _ in range(2)]
    jobs += [start(name, folder, number, 24, 2) for number in range(2)]
    try:
        assert [job.wait(60) for job in reversed(jobs)] == [0, 0, 0, 0]
    finally:
        for job in jobs:
            job.kill()
            job.wait()
            job.stdout.close()
    opened(name, folder).finish(CATEGORIES)
    assert contents(folder) == expected


@pytest.mark.parametrize(
    ("name", "stage", "key"), [("coco", ".samples", "part"), ("yolo", ".samples", "part"), ("bop", ".bop", "split")]
)
def test_documents_that_name_other_folders_are_refused(name, stage, key, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    made = opened(name, folder)
    made.write(labelled_sample(0))
    made.finish(CATEGORIES)
    part = split_of(labelled_sample(0)["meta"], {"train": 0.5, "val": 0.5})
    (tmp_path / "other").mkdir()
    victim = opened(name, tmp_path / "other")
    victim.write(labelled_sample(0))
    victim.finish(CATEGORIES)
    document = folder / stage / "000000.json"
    content = document.read_text()
    assert f'"{key}":"{part}"' in content
    for hostile in (f"../other/{part}", f"x/../../../{part}", str(tmp_path / "other" / part), "..", "", "a\\\\b"):
        document.write_text(content.replace(f'"{key}":"{part}"', f'"{key}":"{hostile}"'))
        before = contents(tmp_path)
        made = opened(name, folder)
        with pytest.raises(DecodeError, match="names files: use letters"):
            made.finish(CATEGORIES)
        assert contents(tmp_path) == before
        if name != "coco":  # reads its files of labels
            with pytest.raises(DecodeError, match="names files"):
                made.read(0)
    with suppress(DecodeError):
        made.clear()
    assert contents(tmp_path / "other") == {
        path.removeprefix("other/"): data for path, data in before.items() if path.startswith("other/")
    }


def test_pictures_of_coco_s_documents_are_in_its_folder(tmp_path):
    made = opened("coco", tmp_path)
    made.write(labelled_sample(0))
    document = tmp_path / ".samples" / "000000.json"
    document.write_text(document.read_text().replace("000000.png", "../000000.png"))
    with pytest.raises(DecodeError, match=r"sample 0 .*'../000000.png': expected one in the folder images"):
        made.finish(CATEGORIES)


def tensors(value):
    """What a DataLoader makes of a sample."""
    if isinstance(value, dict):
        return {name: tensors(each) for name, each in value.items()}
    return torch.as_tensor(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_written_as_arrays_are(kind, tmp_path):
    for name, sample in (("arrays", labelled_sample(7)), ("tensors", tensors(labelled_sample(7)))):
        (tmp_path / name).mkdir()
        writer(kind, tmp_path / name).write(sample)
    assert contents(tmp_path / "arrays") == contents(tmp_path / "tensors")


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    """Samples of falling cubes, some of them hidden, written by every writer as they came; their folder, and the samples."""
    folder, samples = tmp_path_factory.mktemp("cubes"), []
    writers = {}
    for kind in KINDS:
        (folder / kind).mkdir()
        writers[kind] = writer(kind, folder / kind)
    falling = {"objects": "Cube*", "low": [-3, -3, 2], "high": [3, 3, 9], "ground": "Plane", "preroll": 12}
    with btt.stream(
        SCENE,
        renderer="workbench",
        annotators=["camera", "instance_ids", "boxes2d_tight", "visibility", {"name": "keypoints", "source": "box"}],
        objects=[{"match": "Cube*", "category": "cube"}],
        randomizers=[
            {"name": "physics_drop", **falling},
            {"name": "camera_shell", "distance": {"draw": "uniform", "low": 8, "high": 12}},
        ],
        resolution=(160, 120),
        count=4,
        seed=1,
    ) as dataset:
        for sample in dataset:
            for made in writers.values():
                made.write(sample)
            samples.append(sample)
        categories = dataset.categories
    for made in writers.values():
        made.finish(categories)
    return folder, samples


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_back_is_what_blender_streamed(cubes, kind):
    folder, samples = cubes
    made = writer(kind, folder / kind)
    assert made.written() == {0, 1, 2, 3}
    listed = 0
    for sample in samples:
        (found,) = made.read(sample["meta"]["index"])
        (expected,) = labelled_pictures(sample, made.options)
        assert np.array_equal(found.image, sample["image"])
        assert isinstance(found, LabelledPicture)
        objects = [each for each in expected.objects if kind == "coco" or not each.ignored]
        listed += len(objects)
        for one, two in zip(found.objects, objects, strict=True):
            assert one.category_id == two.category_id == 1
            assert np.abs(one.xyxy - two.xyxy).max() < (1e-9 if kind == "coco" else 1e-3)
            if kind in ("coco", "segment"):
                mask = np.asarray(sample["instance_ids"]["instance_ids"]) == two.instance_id
                assert np.array_equal(one.mask, mask)
            if kind in ("coco", "pose"):
                row = two.instance_id - 1
                seen = np.asarray(sample["keypoints"]["state"])[row] > 0
                assert np.array_equal(one.states > 0, seen)
                assert np.abs(one.keypoints - np.asarray(sample["keypoints"]["xy"])[row])[seen].max(initial=0) < 1e-3
    assert listed > 12
