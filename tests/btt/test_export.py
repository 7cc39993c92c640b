"""`blendtorch export`: what is written in the end, whatever happens on the way, and what is refused before."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import blendtorch_images
import numpy as np
import psutil
import pytest
from blendtorch import btt
from blendtorch.btt.command import main
from blendtorch.btt.generation import estimate
from blendtorch.core import Writer
from blendtorch.core.configuration import read_options
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.selection import LabelOptions, labelled_pictures
from blendtorch.core.testing.cards import labelled_sample

COUNT = 30
WRITERS = [found.name for found in Catalogue().all() if found.kind == "writer"]
SCENE = Path(__file__).resolve().parents[2] / "examples" / "datagen" / "cube.blend"

LABELS = """
import time
from blendtorch.core import Writer, hookimpl
from blendtorch.core.selection import LabelOptions, require_labels, split_of, tell

class Labels(Writer):
    \"\"\"Needs boxes and divides samples; slow, so that it can be caught in the middle.\"\"\"
    name = "labels"
    interface = 1
    Options = LabelOptions

    def check(self, names):
        require_labels(names, self.options, masks=False)

    def open(self, folder):
        self.folder = folder

    def written(self):
        return frozenset(int(path.stem) for path in self.folder.glob("*/*.txt"))

    def write(self, sample):
        time.sleep(0.02)
        folder = self.folder / split_of(sample["meta"], self.options.split)
        folder.mkdir(exist_ok=True)
        (folder / f"{sample['meta']['index']}.txt").write_text(str(sample["boxes2d_tight"]["xyxy"].tolist()))

    def finish(self, categories):
        return [tell({"they are small": 3}, f"objects of {sorted(categories.values())} are left out")]

    def clear(self):
        for path in self.folder.glob("*/*.txt"):
            path.unlink()

@hookimpl
def blendtorch_register_writers():
    return Labels
"""


def record(prefix, samples, worker=0):
    """Record samples into one file."""
    with btt.FileRecorder(btt.FileRecorder.filename(prefix, worker)) as recorder:
        for sample in samples:
            recorder.save(sample)
    return Path(recorder.outpath)


def card(index, **changes):
    return labelled_sample(index, frames_per_episode=2, **changes)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a recording of two files, `cards`, and a plug-in."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "labels.py").write_text(LABELS)
    for worker in (0, 1):
        record(folder / "cards", (card(index) for index in range(worker, COUNT, 2)), worker)
    return folder


@pytest.fixture
def run(home, tmp_path, monkeypatch, capsys):
    """Run `blendtorch` in this process; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.py").symlink_to(home / "labels.py")

    def run(*arguments):
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def export(run, home):
    """Run `blendtorch export`; returns its exit code and what it says."""

    def export(*arguments, recording=home / "cards", written_as="images"):
        code, _, said = run("export", recording, "--format", written_as, *arguments)
        return code, said

    return export


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The files of the samples that the writer `images` makes of the cards, in one go: their bytes by their names."""
    folder = tmp_path_factory.mktemp("expected")
    (cls,) = [found.cls for found in Catalogue().all() if (found.kind, found.name) == ("writer", "images")]
    writer = cls(read_options(cls, {}, ""))
    writer.open(folder)
    for index in range(COUNT):
        writer.write(card(index))
    writer.close()
    return files(folder)


def files(folder):
    """Read all files of samples: their bytes by their names."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[:6].isdigit()}


def same(got, wanted):
    """Compare without printing all bytes."""
    return sorted(got) == sorted(wanted) and [name for name in wanted if got[name] != wanted[name]] == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_export_is_what_the_samples_would_have_given(workers, run, home, expected, tmp_path):
    code, output, said = run("export", home / "cards", "--format", "images", "-o", "out", "--workers", workers, "--json")
    assert code == 0, said
    assert same(files(tmp_path / "out"), expected)
    summary = json.loads(output)
    assert (summary["wanted"], summary["written"], summary["made"], summary["missing"]) == (COUNT, COUNT, COUNT, 0)
    assert f"{COUNT} of {COUNT} samples" in said
    assert json.loads((tmp_path / "out" / "categories.json").read_text()) == {"1": "card", "2": "stamp"}
    assert json.loads((tmp_path / "out" / "recording.json").read_text())["recording"] == str(home / "cards")
    (versions,) = json.loads((tmp_path / "out" / "versions.json").read_text())
    assert versions["blender"] == {"blendtorch": "none"}
    assert (versions["writer"]["name"], versions["categories"]) == ("images", {"1": "card", "2": "stamp"})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*")}
    code, _, said = run("export", home / "cards", "--format", "images", "-o", "out")
    assert code == 0
    assert f"All {COUNT} samples are there already" in said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*")} == before
    assert len(json.loads((tmp_path / "out" / "versions.json").read_text())) == 1


@pytest.fixture
def command(home, tmp_path):
    """Start `blendtorch export` in a process of its own, as a shell does."""
    started = []

    def command(*arguments):
        python = [sys.executable, "-W", "ignore::UserWarning", "-m", "blendtorch.btt.command", "export", home / "cards"]
        process = subprocess.Popen(
            [*map(str, [*python, *arguments])], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


def wait_for(folder, pattern, number):
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < number:
        assert time.monotonic() < deadline, "no samples come"
        time.sleep(0.01)


def test_an_export_that_was_killed_goes_on_and_gives_the_same(home, command, run, tmp_path):
    def outcome(folder):
        return {str(path.relative_to(folder)): path.read_text() for path in folder.glob("*/*.txt")}

    arguments = ("--format", "labels", "--plugin", home / "labels.py", "--split", "train=0.7,val=0.3", "--workers", 1)
    process = command(*arguments, "-o", "killed")
    wait_for(tmp_path / "killed", "*/*.txt", 3)
    process.kill()
    process.communicate()
    there = len(outcome(tmp_path / "killed"))
    assert 3 <= there < COUNT
    again = command(*arguments, "-o", "killed")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert "of them are there already" in said
    assert run("export", home / "cards", *arguments, "-o", "whole")[0] == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert {"train", "val"} == {path.name for path in (tmp_path / "whole").iterdir() if path.is_dir()}
    for name in ("versions.json", "recording.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done(sent, home, command, tmp_path):
    process = command("--format", "labels", "--plugin", home / "labels.py", "--workers", 1, "-o", "interrupted")
    wait_for(tmp_path / "interrupted", "*/*.txt", 3)
    os.kill(process.pid, sent)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + sent, said
    assert f"of {COUNT} samples are in " in said
    assert "Run the same command again to write the rest" in said
    assert "Traceback" not in said
    assert 3 <= len(list((tmp_path / "interrupted").glob("*/*.txt"))) < COUNT


def test_a_worker_that_dies_ends_the_export_and_it_goes_on(home, command, run, tmp_path):
    arguments = ("--format", "labels", "--plugin", home / "labels.py", "-o", "out")
    process = command(*arguments, "--workers", 2)
    wait_for(tmp_path / "out", "*/*.txt", 3)
    workers = psutil.Process(process.pid).children()
    max(workers, key=lambda each: each.pid).kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "a process that writes samples has died: " in said
    assert said.rstrip().endswith("What was written is whole: once this is mended, the same command goes on.")
    assert run("export", home / "cards", *arguments, "--workers", 0)[0] == 0
    assert len(list((tmp_path / "out").glob("*/*.txt"))) == COUNT


def test_a_writer_divides_as_it_is_told_and_has_the_last_word(export, tmp_path):
    plugin = ("--plugin", "labels.py", "-o", "out")
    code, said = export(*plugin, "--split", "a=1,b=1", "--loose", written_as="{name: labels, min_pixels: 2}")
    assert code == 0, said
    assert "3 objects of ['card', 'stamp'] are left out: 3 they are small" in said.splitlines()
    a, b = ({int(path.stem) for path in (tmp_path / "out" / part).iterdir()} for part in "ab")
    assert a | b == set(range(COUNT))
    assert a
    assert all(index ^ 1 in b for index in b), "both frames of an episode"
    code, said = export(*plugin, "--split", "a=1,b=2", "--loose", written_as="labels")
    assert code == 2
    assert "has samples of the same recording, written otherwise:\n  format.split.b: 1.0 there, 2.0 here" in said
    assert "format.min_pixels: 2 there, 1 here" in said
    code, said = export(*plugin, "--overwrite", written_as="labels")
    assert code == 0, said
    assert sorted(path.name for path in (tmp_path / "out").glob("*/*.txt")) == sorted(
        path.name for path in (tmp_path / "out" / "train").iterdir()
    )


@pytest.mark.parametrize("name", ["coco", "yolo", "bop", "webdataset", "huggingface", "recording", "images"])
def test_overwriting_removes_what_another_format_has_written(name, export, tmp_path):
    """Formats share folders and the names of files."""
    out, after = tmp_path / "out", "yolo" if name == "coco" else "coco"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert export("-o", out, "--workers", 0, written_as=name)[0] == 0
    assert export("-o", "fresh", "--workers", 0, written_as=after)[0] == 0
    code, said = export("-o", out, "--overwrite", "--workers", 0, written_as=after)
    assert code == 0, said

    def there(folder):
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert there(out) == there(tmp_path / "fresh") | {"notes.txt"}


def test_what_nobody_can_remove_is_not_overwritten(export, tmp_path):
    (tmp_path / "fixed.py").write_text(LABELS.replace("def clear(", "def other(").replace('"labels"', '"fixed"'))
    assert export("-o", "out", "--plugin", "labels.py", "--workers", 0, written_as="labels")[0] == 0
    assert export("-o", "fixed", "--plugin", "fixed.py", "--workers", 0, written_as="fixed")[0] == 0
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, said = export("-o", "out", "--overwrite")
    assert code == 2
    assert "were written by 'labels', which has to remove them and cannot be used: " in said
    assert "Give its plug-in with --plugin FILE" in said
    for written_as in ("images", "fixed"):
        code, said = export("-o", "fixed", "--overwrite", "--plugin", "fixed.py", written_as=written_as)
        assert (code, "writer 'fixed' cannot remove what it wrote before" in said) == (2, True)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    code, said = export("-o", "out", "--overwrite", "--plugin", "labels.py")
    assert code == 0, said
    assert not list((tmp_path / "out").glob("*/*.txt"))


def test_what_is_lost_in_the_end_is_missing(export, tmp_path):
    finish = 'next(self.folder.glob("*/*.txt")).unlink()\n        return ['
    (tmp_path / "losing.py").write_text(LABELS.replace("return [", finish).replace("sleep(0.02)", "sleep(0)"))
    code, said = export("-o", "out", "--plugin", "losing.py", written_as="labels")
    assert code == 1
    assert f"{COUNT - 1} of {COUNT} samples are in " in said


def test_a_folder_of_something_else_is_refused(export, home, run, tmp_path):
    assert export("-o", "out")[0] == 0
    other = record(tmp_path / "other", [card(3)])
    code, said = export("-o", "out", recording=other)
    assert code == 2
    assert f"has samples of another recording:\n  recording: {home / 'cards'} there, {other} here" in said
    assert "or replace it with --overwrite" in said
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "000003.json").write_text("{}")
    code, said = export("-o", "foreign")
    assert (code, "1 samples that nothing is known of" in said) == (2, True)
    code, said = export("-o", "x", recording="out")
    assert code == 2
    assert "out has samples of the format 'images', and export takes recordings: make one with blendtorch generate" in said
    code, said = export("-o", home)
    assert code == 2
    assert "is the folder of the recording itself" in said
    code, said = export("-o", home, "--overwrite", written_as="recording")
    assert code == 2
    assert len(btt.FileDataset(home / "cards")) == COUNT


def test_what_is_recorded_later_is_added(export, tmp_path, expected):
    record(tmp_path / "grown", (card(index) for index in range(5)))
    assert export("-o", "out", recording="grown")[0] == 0
    record(tmp_path / "grown", (card(index) for index in range(5, COUNT)), 1)
    code, said = export("-o", "out", recording="grown")
    assert code == 0, said
    assert "5 of them are there already" in said
    assert same(files(tmp_path / "out"), expected)
    assert len(json.loads((tmp_path / "out" / "recording.json").read_text())["ids"]) == 2
    code, said = export("-o", "out", recording="grown_00.arrows")
    assert code == 0, "one of its files"


def test_what_was_recorded_twice_is_written_once(export, tmp_path):
    record(tmp_path / "epochs", [card(index) for index in [0, 1, 2, 0, 1, 2]])
    code, said = export("-o", "out", recording="epochs")
    assert code == 0, said
    assert "3 samples were recorded again, as a repeated epoch is: each is written once" in said
    assert len(list((tmp_path / "out").glob("??????.json"))) == 3
    record(tmp_path / "seeds", [card(0), card(1), card(1, seed=5)])
    code, said = export("-o", "two", recording="seeds")
    assert code == 2
    assert "sample 1 is there several times, with the seeds 0 and 5: these are recordings of different runs" in said


def test_runs_of_two_seeds_are_never_mixed(export, tmp_path):
    """Wherever they overlap, and whatever else was recorded again."""
    record(tmp_path / "mixed", [card(0), card(0), card(1), card(2)], 0)
    record(tmp_path / "mixed", [card(0), card(3)], 1)
    record(tmp_path / "mixed", [card(3, seed=7), card(4, seed=7)], 2)
    code, said = export("-o", "out", recording="mixed")
    assert code == 2
    assert "sample 3 is there several times, with the seeds 0 and 7: these are recordings of different runs" in said
    assert not (tmp_path / "out").exists()


def test_samples_of_scripts_are_numbered_as_they_came(export, tmp_path):
    items = [{"image": np.full((4, 6, 3), number, np.uint8), "number": 10 * number, "btid": 3} for number in range(3)]
    record(tmp_path / "script", items)
    code, said = export("-o", "out", recording="script")
    assert code == 0, said
    assert "The samples have no index, and are numbered as they came" in said
    stored = blendtorch_images.read(tmp_path / "out", 2)
    assert (stored["number"], stored["meta"], stored["image"].max()) == (20, {"index": 2}, 2)
    code, said = export("-o", "x", "--plugin", "labels.py", recording="script", written_as="labels")
    assert code == 2
    assert "--format: writer 'labels': the samples have no boxes2d_tight, visibility, which it needs" in said
    boxes = {key: value for key, value in card(0).items() if key != "meta"}
    record(tmp_path / "unmarked", [boxes])
    code, said = export("-o", "x", "--plugin", "labels.py", recording="unmarked", written_as="labels")
    assert code == 2
    assert "have no meta.seed and no meta.episode" in said
    record(tmp_path / "mixed", [card(0), boxes])
    code, said = export("-o", "x", recording="mixed")
    assert code == 2
    assert "1 of the 2 samples of mixed have no index" in said
    record(tmp_path / "called", [{"image": items[0]["image"], "meta": "notes"}])
    code, said = export("-o", "x", recording="called")
    assert (code, "has str for `meta`, expected a mapping" in said) == (2, True)
    assert not (tmp_path / "x").exists()


@pytest.fixture
def damaged(tmp_path):
    """A recording of six samples: a bit of the third is flipped, and the last is cut."""
    path = record(tmp_path / "damaged", (card(index) for index in range(6)))
    content = bytearray(path.read_bytes())
    position = content.index(card(2)["image"].tobytes())
    content[position + 100] ^= 4
    path.write_bytes(content[:-500])
    return path


def test_what_is_damaged_is_told_and_costs_nothing_else(damaged, export, run, tmp_path):
    code, said = export("-o", "out", "--workers", 1, recording=damaged)
    assert code == 1
    assert "message 2: it is damaged: its checksum does not fit" in said
    assert "To leave out what is damaged, say --skip-damaged" in said
    assert "damaged_00.arrows is cut: its last " in said
    assert "Traceback" not in said
    code, output, said = run("verify", damaged, "--json")
    assert code == 1
    assert "5 messages of " in said
    verdict = json.loads(output)
    assert verdict["checked"] == 5
    assert len(verdict["problems"]) == 2
    assert any("message 2: it is damaged" in each for each in verdict["problems"])
    code, output, said = run("verify", damaged)
    assert len(output.splitlines()) == 2
    code, said = export("-o", "out", "--skip-damaged", recording=damaged)
    assert code == 0, said
    assert "1 samples are damaged and left out: " in said
    assert {path.stem for path in (tmp_path / "out").glob("??????.json")} == {"000000", "000001", "000003", "000004"}
    code, output, said = run("info", damaged)
    assert code == 0
    assert "cut: who recorded was killed or had no room" in output
    assert "can be replayed and exported as it is" in output


WRONG = {
    "no recording": (["nothing", "-o", "x"], "there is no recording with the prefix 'nothing'"),
    "an empty folder": (["empty", "-o", "x"], "the folder empty has no recording"),
    "no such format": (["{cards}", "-o", "x", "--format", "image"], "--format: there is no writer 'image'"),
    "a list": (["{cards}", "-o", "x", "--format", "[images]"], "--format: expected the name of a writer, or {name: ..."),
    "no name": (["{cards}", "-o", "x", "--format", "{png_level: 3}"], "--format[0]: expected a name, or a mapping with `name`"),
    "no such option": (["{cards}", "-o", "x", "--format", "{name: images, level: 3}"], "unknown field `level` - at `--format`"),
    "no split": (["{cards}", "-o", "x", "--split", "train=1"], "--split: the format 'images' does not divide"),
    "workers": (["{cards}", "-o", "x", "--workers", -1], "--workers is -1: expected 0 or more"),
    "a file": (["{cards}", "-o", "labels.py/x"], "cannot write there"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_anything_is_written(case, run, home, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments, text = WRONG[case]
    named = [str(each).replace("{cards}", str(home / "cards")) for each in arguments]
    code, _, said = run("export", *(named if "--format" in named else [*named, "--format", "images"]))
    assert code == 2
    assert text in said
    assert not (tmp_path / "x").exists()


def test_what_does_not_fit_on_the_disk_is_refused(export, monkeypatch):
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000))
    code, said = export("-o", "full")
    assert code == 2
    assert f"{COUNT} samples take about " in said
    assert "has 5.0 kB left: free some" in said


def test_what_cannot_be_written_ends_the_export_with_the_reason(export, tmp_path):
    (tmp_path / "failing.py").write_text(LABELS.replace("time.sleep(0.02)", "raise OSError(28, 'No space left on device')"))
    code, said = export("-o", "out", "--plugin", "failing.py", "--workers", 1, written_as="labels")
    assert code == 1
    assert "writer 'labels' cannot write sample 0: [Errno 28] No space left on device" in said
    assert "Traceback" not in said


def test_a_recording_is_exported_to_a_recording_bit_for_bit(export, home, tmp_path):
    code, said = export("-o", "again", written_as="recording")
    assert code == 0, said
    again, cards = btt.FileDataset(tmp_path / "again"), btt.FileDataset(home / "cards")
    assert again.indexes.tolist() == cards.indexes.tolist()
    np.testing.assert_array_equal(again[7]["image"], cards[7]["image"])


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_keeps_the_labels_of_a_recording(name, export, home, tmp_path):
    """From a recording to a format and back: pictures, and what there is to learn from, to a pixel."""
    code, said = export("-o", "out", written_as=name)
    assert code == 0, said
    (cls,) = [found.cls for found in Catalogue().all() if (found.kind, found.name) == ("writer", name)]
    writer = cls(read_options(cls, {}, ""))
    writer.open(tmp_path / "out")
    try:
        assert writer.written() == frozenset(range(COUNT))
        for number, sample in enumerate(btt.FileDataset(home / "cards") if cls.read is not Writer.read else ()):
            (picture,), (wanted,) = writer.read(number), labelled_pictures(sample, LabelOptions())
            np.testing.assert_array_equal(picture.image, wanted.image)
            found, objects = ([each for each in one.objects if not each.ignored] for one in (picture, wanted))
            assert sorted(each.category_id for each in found) == sorted(each.category_id for each in objects)
            for each in found:
                near = [abs(each.xyxy - other.xyxy).max() for other in objects if other.category_id == each.category_id]
                assert min(near) <= 1, f"sample {number}"
        if cls.read is Writer.read:
            with pytest.raises(ConfigurationError, match="does not read what it wrote"):
                writer.read(0)
            return
    finally:
        writer.close()
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_what_generate_records_is_exported_as_it_would_have_written_it(run, tmp_path, blender):
    named = ["--blender", blender] if blender else []
    (tmp_path / "run.yaml").write_text(
        f"scene: {SCENE}\nrenderer: workbench\nannotators: [camera, boxes2d_loose, depth]\nresolution: [64, 48]\n"
        "randomizers: [{name: pose, uniform_rotation: true}]\n"
    )
    for folder, written_as in (("recorded", "recording"), ("direct", "images")):
        arguments = ["generate", "--config", "run.yaml", "--count", 6, "-o", folder, "--format", written_as, *named]
        code, _, said = run(*arguments)
        assert code == 0, said
    code, _, said = run("export", "recorded", "--format", "images", "-o", "exported")
    assert code == 0, said
    exported, direct = tmp_path / "exported", tmp_path / "direct"
    assert {path.name for path in exported.iterdir()} == {path.name for path in direct.iterdir()} | {"recording.json"}
    for index in range(6):
        one, other = blendtorch_images.read(exported, index), blendtorch_images.read(direct, index)
        assert one["meta"] == other["meta"]
        assert np.mean(one["image"] != other["image"]) < 0.01, "Workbench repeats itself but for single pixels"
        for name, field in (("boxes2d_loose", "clipped"), ("camera", "K"), ("depth", "depth")):
            np.testing.assert_array_equal(one[name][field], other[name][field])
    assert (exported / "configuration.yaml").read_text() == (direct / "configuration.yaml").read_text()
    assert (exported / "versions.json").read_text() == (direct / "versions.json").read_text()
    code, output, _ = run("info", "recorded")
    assert code == 0
    assert re.search(r"samples +6 \(index 0 to 5\), all of them", output)
    assert "Recording recorded" in output
    (tmp_path / "exported" / "000003.json").unlink()
    code, output, _ = run("info", "exported")
    assert re.search(r"samples +5 \(index 0 to 5\), 1 of 6 of its configuration are missing", output)
    code, _, said = run("export", "recorded", "--format", "images", "-o", "exported")
    assert (code, "6 of 6 samples are in" in said) == (0, True)
