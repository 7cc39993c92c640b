"""`blendtorch generate`: what is on disk in the end, whatever happens on the way, and what is refused before."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import blendtorch_images
import numpy as np
import pytest
from blendtorch import btt
from blendtorch.btt.command import main
from blendtorch.btt.generation import estimate
from blendtorch.btt.generation.overrides import override
from blendtorch.core.errors import ConfigurationError
from PIL import Image

SCENE = Path(__file__).resolve().parents[2] / "examples" / "datagen" / "cube.blend"
CONFIGURATION = f"""
scene: {SCENE}
renderer: {{name: cycles, samples: 1, device: cpu}}
annotators: [camera, boxes2d_loose, depth, slow]
plugins: [slow.py]
randomizers:
  - {{name: pose, uniform_rotation: true}}
  - {{name: camera_shell, distance: {{draw: uniform, low: 6, high: 9}}}}
resolution: [64, 48]
seed: 3
"""

SLOW = """
import time
import numpy as np
from blendtorch.core import Annotator, ArraySpec, hookimpl

class Slow(Annotator):
    \"\"\"Takes its time, so that a run can be caught in the middle.\"\"\"
    name = "slow"
    interface = 1
    emits = {"index": ArraySpec("int64", ())}

    def annotate(self, moment, camera, inputs):
        time.sleep(0.1)
        return {"index": np.array(moment.index)}

@hookimpl
def blendtorch_register_annotators():
    return Slow
"""


TELLING = """
from blendtorch.core import Writer, hookimpl
from blendtorch.core.selection import LabelOptions, require_labels, split_of, tell

class Telling(Writer):
    \"\"\"Needs boxes, divides samples, and says something in the end.\"\"\"
    name = "telling"
    interface = 1
    Options = LabelOptions

    def check(self, names):
        require_labels(names, self.options, masks=False)

    def open(self, folder):
        self.folder = folder

    def written(self):
        return frozenset(int(path.name.split(".")[0]) for path in self.folder.glob("*.txt"))

    def write(self, sample):
        part = split_of(sample["meta"], self.options.split)
        (self.folder / f"{sample['meta']['index']}.{part}.txt").touch()

    def finish(self, categories):
        return [tell({"they are small": 3}, f"objects of {sorted(categories.values())} are left out")]

    def clear(self):
        for path in self.folder.glob("*.txt"):
            path.unlink()

@hookimpl
def blendtorch_register_writers():
    return Telling
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a configuration, `run.yaml`, and the plug-in that it names."""
    folder = tmp_path_factory.mktemp("generate")
    (folder / "telling.py").write_text(TELLING)
    (folder / "run.yaml").write_text(CONFIGURATION)
    (folder / "slow.py").write_text(SLOW)
    return folder


@pytest.fixture
def command(home, blender):
    """Start `blendtorch generate` in a process of its own, as a shell does."""

    def command(*arguments, stderr=subprocess.PIPE):
        named = ["--blender", blender] if blender else []
        python = [sys.executable, "-W", "ignore::UserWarning", "-m", "blendtorch.btt.command", "generate"]
        return subprocess.Popen(
            [*python, *map(str, arguments), *named],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    return command


def ended(process, timeout=100):
    """Wait for a command; returns its exit code, stdout and stderr."""
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def samples(folder):
    """Read all files of samples in a folder: their bytes by their names."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[:6].isdigit()}


def documents(folder):
    return sorted(folder.glob("??????.json")) if folder.exists() else []


def wait_for_documents(folder, number):
    deadline = time.monotonic() + 60
    while len(documents(folder)) < number:
        assert time.monotonic() < deadline, "no samples come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def data(home, blender):
    """A data set of 24 samples, made in one go by the command in this process; its folder and the summary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "stdout", stdout := _Text())
        named = ["--blender", blender] if blender else []
        code = main(["generate", "--config", "run.yaml", "--count", "24", "-o", "data", "--workers", "0", "--json", *named])
    assert code == 0
    return home / "data", json.loads(stdout.text)


class _Text:
    text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.blender
def test_the_folder_has_the_samples_and_what_makes_them_again(data, blender):
    folder, summary = data
    assert (summary["wanted"], summary["written"], summary["made"], summary["exit_code"]) == (24, 24, 24, 0)
    assert summary["folder"] == str(folder)
    assert summary["devices"]
    assert summary["bottleneck"]
    assert len(documents(folder)) == 24
    assert json.loads((folder / "categories.json").read_text()) == {"1": "Cube"}
    (versions,) = json.loads((folder / "versions.json").read_text())
    assert {"python", "torch", "blendtorch-core", "blendtorch-btt", "blendtorch-images"} == set(versions["trainer"])
    assert {"blendtorch", "blender", "blendtorch-standard"} <= set(versions["blender"])
    again = btt.load_configuration(folder / "configuration.yaml")
    assert Path(again["scene"]).is_absolute()
    assert (again["start"], again["count"]) == (0, 24)
    with btt.stream(**{**again, "count": 1}, blender=blender) as dataset:
        (sample,) = dataset
    stored = blendtorch_images.read(folder, 0)
    np.testing.assert_array_equal(stored["boxes2d_loose"]["clipped"], sample["boxes2d_loose"]["clipped"])


@pytest.mark.blender
def test_a_run_that_was_killed_goes_on_and_gives_the_same(data, home, command):
    """Byte for byte, pictures too: Cycles repeats itself on a CPU, and Workbench does not at edges."""
    folder, _ = data
    arguments = ("--config", "run.yaml", "--count", 24, "-o", "killed", "--workers", 1)
    process = command(*arguments)
    wait_for_documents(home / "killed", 3)
    process.kill()
    ended(process)
    there = len(documents(home / "killed"))
    assert 3 <= there < 24
    code, _, errors = ended(command(*arguments))
    assert code == 0, errors
    assert "are there already" in errors
    expected, got = samples(folder), samples(home / "killed")
    assert sorted(got) == sorted(expected)
    assert [name for name in expected if expected[name] != got[name]] == []
    assert btt.load_configuration(home / "killed" / "configuration.yaml") == btt.load_configuration(
        folder / "configuration.yaml"
    )
    lines = [line for line in errors.splitlines() if " of 24 images" in line]
    assert lines[0].startswith(f"{there} of 24 images"), "without a terminal: a line when it begins ..."
    assert lines[-1].startswith("24 of 24 images, "), "... and one in the end, with the device"
    assert "instance 0 " in lines[-1]
    assert f" on {data[1]['devices'][0]}" in lines[-1]


@pytest.mark.blender
def test_an_interrupt_keeps_what_is_done_and_the_terminal_shows_how_far_it_is(home, command):
    main_end, terminal = os.openpty()
    try:
        process = command(
            "--config", "run.yaml", "--count", 4000, "-o", "interrupted", "--instances", 2, "--workers", 2, stderr=terminal
        )
    finally:
        os.close(terminal)
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: read(main_end), b"")))
    reader.start()
    wait_for_documents(home / "interrupted", 5)
    process.send_signal(signal.SIGINT)
    code = process.wait(30)
    reader.join()
    os.close(main_end)
    process.stdout.close()
    text = b"".join(shown).decode()
    assert code == 130, text
    assert "of 4000 images" in text
    assert re.search(r"instance 1 +(starting|running)", text)
    assert "Run the same command again to make the rest" in text
    kept = documents(home / "interrupted")
    assert 5 <= len(kept) < 4000
    assert list((home / "interrupted").glob("*.part")) == []
    assert all(json.loads(path.read_text()) for path in kept)


def read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end is closed
        return b""


@pytest.fixture
def run(home, monkeypatch, capsys, blender):
    """Run `blendtorch generate` in this process; returns its exit code and what it says."""
    monkeypatch.chdir(home)

    def run(*arguments):
        named = ["--blender", blender] if blender and "--blender" not in arguments else []
        code = main(["generate", *map(str, arguments), *named])
        return code, capsys.readouterr().err

    return run


@pytest.mark.blender
def test_what_is_there_is_not_made_again_nor_mixed_with_others(data, run, home):
    folder, _ = data
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, said = run("--config", "run.yaml", "--count", 24, "-o", "data", "--workers", 3)
    assert code == 0
    assert "All 24 samples are there already" in said
    code, said = run("--config", "run.yaml", "--count", 24, "-o", "data", "--set", "randomizers.pose.scale=2", "--seed", 4)
    assert code == 2
    assert "has samples of another configuration:\n  randomizers[0].scale: None there, 2 here\n  seed: 3 there, 4 here" in said
    assert "--overwrite" in said
    versions = folder / "versions.json"
    known, changed = versions.read_text(), str(home / "slow.py")
    versions.write_text(known.replace(json.loads(known)[0]["files"][changed], "0" * 64))
    code, said = run("--config", "run.yaml", "--count", 24, "-o", "data")
    versions.write_text(known)
    assert (code, f"{changed}: the file has changed" in said) == (2, True)
    unchanged = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name[:6].isdigit()}
    assert unchanged.items() <= before.items()
    assert len(unchanged) == len(before) - 3


@pytest.mark.blender
def test_overwriting_removes_what_was_written_and_nothing_else(run, home):
    """And a job array may write into one folder."""
    folder = home / "replaced"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert run("--config", "run.yaml", "--start", 7, "--count", 2, "-o", folder, "--workers", 0)[0] == 0
    assert run("--config", "run.yaml", "--start", 9, "--count", 1, "-o", folder, "--workers", 0)[0] == 0
    assert [path.name for path in documents(folder)] == ["000007.json", "000008.json", "000009.json"]
    configuration = btt.load_configuration(folder / "configuration.yaml")
    assert (configuration["start"], configuration["count"]) == (7, 3)
    arguments = ("--config", "run.yaml", "--count", 1, "-o", folder, "--workers", 0, "--set", "annotators=[camera]")
    assert run(*arguments)[0] == 2
    code, said = run(*arguments, "--overwrite")
    assert code == 0, said
    names = {"notes.txt", "000000.json", "000000.png", "categories.json", "configuration.yaml", "versions.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "notes.txt").read_text() == "mine"


READ_ONLY = """
from blendtorch.core import Writer, hookimpl

class ReadOnly(Writer):
    \"\"\"Cannot write sample 1.\"\"\"
    name = "read_only"
    interface = 1

    def open(self, folder):
        self.folder = folder

    def written(self):
        return frozenset(int(path.stem) for path in self.folder.glob("*.txt"))

    def write(self, sample):
        if sample["meta"]["index"] == 1:
            raise OSError(30, "Read-only file system", "1.txt")
        (self.folder / f"{sample['meta']['index']}.txt").touch()

@hookimpl
def blendtorch_register_writers():
    return ReadOnly
"""


@pytest.mark.blender
def test_what_cannot_be_written_ends_the_run_with_the_reason(run, home):
    (home / "read_only.py").write_text(READ_ONLY)
    arguments = ("--config", "run.yaml", "--count", 30, "-o", "readonly", "--workers", 1, "--plugin", "read_only.py")
    code, said = run(*arguments, "--format", "read_only")
    assert code == 1
    assert "writer 'read_only' cannot write sample 1: [Errno 30] Read-only file system: '1.txt'" in said
    assert "Traceback" not in said
    assert (home / "readonly" / "0.txt").exists()


def test_samples_are_divided_as_their_writer_is_told_and_it_has_the_last_word(run, home):
    folder = home / "divided"
    arguments = ("--config", "run.yaml", "--count", 2, "-o", folder, "--workers", 1, "--plugin", "telling.py", "--loose")
    code, said = run(*arguments, "--format", "telling", "--split", "train=0,val=1")
    assert code == 0, said
    assert {path.name for path in folder.glob("*.txt")} == {"0.val.txt", "1.val.txt"}
    told = "3 objects of ['Cube'] are left out: 3 they are small"
    assert told in said.splitlines()
    (versions,) = json.loads((folder / "versions.json").read_text())
    assert versions["categories"] == {"1": "Cube"}
    assert versions["writer"]["split"] == {"train": 0, "val": 1}
    code, said = run(*arguments, "--format", "telling")
    assert code == 2
    assert (
        "has samples of another configuration:\n  format.split.train: 0.0 there, 1.0 here\n  format.split.val: 1.0 there"
        in said
    )
    code, said = run(*arguments[:-1])
    assert (code, "\n  format: 'telling' there, 'images' here\n" in said) == (2, True)
    code, said = run(*arguments, "--format", "{name: telling, split: {val: 1, train: 0}}")
    assert code == 0, "the same, whatever the order"
    assert told in said.splitlines()
    versions["writer"].pop("min_pixels")
    (folder / "versions.json").write_text(json.dumps([versions]))
    assert run(*arguments, "--format", "telling", "--split", "train=0,val=1")[0] == 0, (
        "an option of a newer version of a writer"
    )
    assert run(*arguments, "--format", "telling", "--overwrite")[0] == 0
    assert {path.name for path in folder.glob("*.txt")} == {"0.train.txt", "1.train.txt"}


@pytest.mark.blender
def test_what_fails_in_blender_ends_the_command(home, command):
    """Its workers leave signals to the main process, and are gone nevertheless."""
    arguments = ("--config", "run.yaml", "--count", 3, "-o", "failing", "--workers", 2)
    code, _, said = ended(command(*arguments, "--set", "randomizers=[{name: visibility, objects: Nope}]"), timeout=50)
    assert code == 1
    assert "no object is called 'Nope'" in said
    assert said.rstrip().endswith("What was written is whole: once this is mended, the same command goes on.")


@pytest.mark.blender
def test_a_preview_draws_every_label_and_makes_no_samples(run, home):
    code, said = run("--config", "run.yaml", "--count", 1000, "-o", "looked", "--preview", 3)
    assert code == 0, said
    assert [path.name for path in (home / "looked").iterdir()] == ["preview.png"]
    assert f"The sheet is {home / 'looked' / 'preview.png'}" in said
    with Image.open(home / "looked" / "preview.png") as sheet:
        width, height = sheet.size
    assert width / height == pytest.approx(3 * 64 / (3 * 48), rel=0.01), "image, boxes and depth of three samples"


AS_THE_SCENE_HAS_IT = "resolution=null"
WRONG = {
    "nothing to render": ([], "name models or a scene, or a configuration with --config"),
    "no folder": (["--config", "run.yaml", "--count", 3], "say where to write, with -o FOLDER"),
    "no count": (["--config", "run.yaml", "-o", "x"], "run.yaml: count is None: say how many samples to make"),
    "a count of 0": (["--config", "run.yaml", "-o", "x", "--count", 0], "count is 0"),
    "no such file": (["--config", "none.yaml", "-o", "x"], "cannot read none.yaml"),
    "no such argument": (["--config", "run.yaml", "-o", "x", "--set", "resolutoin=3"], "did you mean 'resolution'?"),
    "no such entry": (
        ["--config", "run.yaml", "-o", "x", "--set", "randomizers.camera.distance=3"],
        "did you mean 'camera_shell'?",
    ),
    "no such option": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--set", "randomizers.pose.sclae=3"],
        "unknown field `sclae` - at `randomizers[0]`; pose has every, objects, location",
    ),
    "no such annotator": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--set", "annotators=[keypoint]"],
        "annotators[0]: there is no annotator 'keypoint'; did you mean 'keypoints'?",
    ),
    "no such format": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--format", "image"],
        "--format: there is no writer 'image'",
    ),
    "no split": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--split", "train=1"],
        "--split: the format 'images' does not divide samples into parts: leave --split out",
    ),
    "no loose boxes": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--loose"],
        "--loose: the format 'images' has no labels that could be loose",
    ),
    "half a split": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--split", "train=0.9,val"],
        "--split train=0.9,val: expected names and the part of the episodes that each gets: --split train=0.9,val=0.1",
    ),
    "labels that are not made": (
        [
            "--config",
            "run.yaml",
            "-o",
            "x",
            "--count",
            3,
            "--plugin",
            "telling.py",
            "--format",
            "telling",
            "--set",
            AS_THE_SCENE_HAS_IT,
        ],
        "--format: writer 'telling': the samples have no boxes2d_tight, visibility, which it needs: add them",
    ),
    "a wrong part": (
        ["--config", "run.yaml", "-o", "x", "--count", 3, "--plugin", "telling.py", "--format", "telling", "--split", "a b=1"],
        "split: 'a b' names files: use letters, digits, _ and - - at `--format`",
    ),
    "no such scene": (["--config", "run.yaml", "-o", "x", "--count", 3, "--set", "scene=nowhere.blend"], "nowhere.blend"),
    "what is not shown": (
        [
            "--config",
            "run.yaml",
            "-o",
            "x",
            "--count",
            3,
            "--set",
            "randomizers=[{name: lights, energy: 3}]",
            "--set",
            "renderer=workbench",
        ],
        "changes lights, which workbench does not show: use the renderer",
    ),
    "an epoch": (["--config", "run.yaml", "-o", "x", "--count", 3, "--set", "epoch=repeat"], "epoch is for streams"),
    "no such model": (["part.glb", "-o", "x"], "'part.glb' does not exist (looked for"),
    "a picture": (["slow.py", "-o", "x"], "'slow.py' is no model (.glb, .gltf"),
    "a configuration as model": (["run.yaml", "-o", "x"], "a configuration is named with --config run.yaml"),
    "a unit of a configuration": (["--config", "run.yaml", "--unit", "mm", "-o", "x"], "run.yaml says it of each"),
    "two scenes": (["a.blend", "b.blend", "-o", "x"], "a.blend is a scene, and goes alone"),
    "no such folder to write to": (["--config", "run.yaml", "-o", "run.yaml/x", "--count", 3], "cannot write there"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_a_blender_starts(case, run, home, monkeypatch):
    monkeypatch.setattr(btt.BlenderLauncher, "__enter__", lambda _: pytest.fail("a Blender was started"))
    arguments, text = WRONG[case]
    code, said = run(*arguments)
    assert code == 2
    assert text in said
    assert not (home / "x").exists() or list((home / "x").iterdir()) == []


def test_what_does_not_fit_on_the_disk_is_refused_with_both_numbers(run, monkeypatch):
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    code, said = run("--config", "run.yaml", "-o", "full", "--count", 100_000)
    assert code == 2
    assert re.search(r"100000 samples take about [\d.]+ GB, [\d.]+ kB each, and the disk of \S+ has 5.0 MB left", said)


def test_a_folder_of_samples_that_nobody_described_is_refused(run, home):
    folder = home / "undescribed"
    folder.mkdir()
    (folder / "000003.json").write_text("{}")
    code, said = run("--config", "run.yaml", "-o", folder, "--count", 5)
    assert code == 2
    assert "has 1 samples, and no configuration.yaml" in said


def test_values_are_set_by_name_and_by_place():
    configuration = {
        "randomizers": [{"name": "pose"}, {"name": "pose", "as": "lid", "scale": {"draw": "uniform", "low": 1, "high": 2}}],
        "annotators": ["depth"],
        "assets": [{"files": "a.glb", "category": "a"}],
    }
    changed = override(
        configuration,
        ["randomizers.lid.scale.low=1.5", "randomizers[0].every=frame", "annotators.depth.x=1e-3", "assets.a.count=[1, 2]"],
    )
    assert changed == {
        "randomizers": [
            {"name": "pose", "every": "frame"},
            {"name": "pose", "as": "lid", "scale": {"draw": "uniform", "low": 1.5, "high": 2}},
        ],
        "annotators": [{"name": "depth", "x": 0.001}],
        "assets": [{"files": "a.glb", "category": "a", "count": [1, 2]}],
    }
    assert "scale" not in configuration["randomizers"][0]
    for setting, text in (
        ("randomizers[5].x=1", "randomizers has 2 entries, counted from 0: there is no 5"),
        ("seed.x=1", "has no 'seed'"),
        ("annotators", "expected path=value"),
        ("assets[0].files.x=1", "assets.0.files is 'a.glb', and has nothing in it"),
        ("seed=[1", "cannot read --set seed=[1"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(text)):
            override(configuration, [setting])
