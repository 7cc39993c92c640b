"""`blendtorch info` and `verify`: what they tell of recordings and of folders, and of what is neither."""

import json
import re

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.btt.command import main
from blendtorch.btt.viewing.folder import FolderSource
from blendtorch.core.errors import PluginError
from blendtorch.core.testing.cards import labelled_sample

READING = """
import numpy as np
from blendtorch.core import Writer, hookimpl, write_atomically
from blendtorch.core.labels import LabelledPicture

class Reading(Writer):
    \"\"\"Reads what it wrote.\"\"\"
    name = "reading"
    interface = 1

    def open(self, folder):
        self.folder = folder

    def written(self):
        return frozenset(int(path.stem) for path in self.folder.glob("*.npy"))

    def write(self, sample):
        with open(self.folder / f"{sample['meta']['index']}.npy", "wb") as file:
            np.save(file, sample["image"])

    def read(self, index):
        return [LabelledPicture(camera="", image=np.load(self.folder / f"{index}.npy"))]

class Mute(Reading):
    \"\"\"Does not.\"\"\"
    name = "mute"
    read = Writer.read

@hookimpl
def blendtorch_register_writers():
    return Reading, Mute
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `blendtorch` in an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run


def record(prefix, indexes, worker=0):
    with btt.FileRecorder(btt.FileRecorder.filename(prefix, worker)) as recorder:
        for index in indexes:
            recorder.save(labelled_sample(index))


def test_a_recording_is_told_as_a_table_and_as_json(run, tmp_path):
    (tmp_path / "runs").mkdir()
    record("runs/night", range(8))
    record("runs/night", range(10, 12), 1)
    for place in ("runs", "runs/night"):
        code, output, said = run("info", place)
        assert (code, said) == (0, "")
        assert re.search(r"messages +10 \(index 0 to 11\), 2 between them are missing\n", output)
        assert re.search(r"size +[\d.]+ kB in 2 files\n", output)
        assert re.search(r"recorded +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, in 0:\d\d: [\d.e+]+ messages/s", output)
        assert re.search(r"categories +1 card, 2 stamp\n", output)
        assert re.search(r"night_01.arrows +2 +[\d.]+ kB +1 +whole\n", output)
        assert re.search(r"boxes2d_tight.xyxy +float64 +\(5, 4\) +column\n", output)
    code, output, _ = run("info", "runs/night", "--json")
    info = json.loads(output)
    assert info["folder"] is None
    assert (info["recording"]["messages"], info["recording"]["categories"]) == (10, {"1": "card", "2": "stamp"})
    code, output, said = run("verify", "runs/night")
    assert (code, output) == (0, "")
    assert "10 of 10 messages" in said
    assert "10 messages of runs/night were read: all of them are whole" in said
    code, output, said = run("info", "runs/nihgt")
    assert (code, output) == (2, "")
    assert "there is no recording with the prefix 'nihgt'; runs has 'night'" in said


def test_what_has_no_labels_is_told_too(run):
    with btt.FileRecorder(btt.FileRecorder.filename("script", 0)) as recorder:
        recorder.save({"image": np.zeros((4, 6, 3), np.uint8), "btid": 2, "note": "x"})
    code, output, _ = run("info", "script")
    assert code == 0
    assert re.search(r"messages +1\n", output)
    assert re.search(r"instances +1 messages of 2\n", output)
    assert re.search(r"note +str\n", output)


def test_a_folder_of_samples_is_told_and_read_back(run, tmp_path):
    (tmp_path / "reading.py").write_text(READING)
    record("cards", range(6))
    plugin = ("--plugin", "reading.py")
    assert run("export", "cards", "--format", "reading", "-o", "out", *plugin)[0] == 0
    code, output, said = run("info", "out", *plugin)
    assert (code, said) == (0, "")
    for line in (
        r"format +reading",
        r"samples +6 \(index 0 to 5\)",
        rf"exported from +{tmp_path / 'cards'}",
        r"categories +1 card, 2 stamp",
        r"made by +blendtorch none",
        r"written by +python 3\.\d+\.\d+, torch .*",
    ):
        assert re.search(rf"^ +{line}$", output, re.MULTILINE), line
    code, output, _ = run("info", "out", *plugin, "--json")
    folder = json.loads(output)["folder"]
    assert (folder["written"], folder["wanted"], folder["first_index"], folder["last_index"]) == (6, None, 0, 5)
    assert folder["recording"]["recording"] == str(tmp_path / "cards")
    for workers in (0, 2):
        code, output, said = run("verify", "out", *plugin, "--workers", workers)
        assert (code, output) == (0, ""), said
        assert "6 of 6 samples" in said
        assert "6 samples of out were read: all of them are whole" in said
    path = tmp_path / "out" / "3.npy"
    path.write_bytes(path.read_bytes()[:200])
    code, output, said = run("verify", "out", *plugin)
    assert code == 1
    assert output.startswith("sample 3 cannot be read: ValueError: ")
    assert "6 samples of out were read: 1 problems" in said
    code, output, _ = run("verify", "out", *plugin, "--json")
    assert json.loads(output)["problems"][0].startswith("sample 3 cannot be read")
    code, _, said = run("info", "out")
    assert code == 2
    assert "versions.json: there is no writer 'reading'" in said
    (tmp_path / "out" / "configuration.yaml").write_text(f"start: 2\ncount: 8\nplugins: [{tmp_path / 'reading.py'}]\n")
    code, output, said = run("info", "out")
    assert (code, f"if you trust them, say --plugin {tmp_path / 'reading.py'}" in said) == (2, True)
    code, output, said = run("info", "out", *plugin)
    assert code == 0
    assert re.search(r"samples +6 \(index 0 to 5\), 4 of 8 of its configuration are missing\n", output)
    (tmp_path / "out" / "configuration.yaml").write_text("count: many")
    code, _, said = run("info", "out", *plugin)
    assert (code, "configuration.yaml is not what blendtorch has written" in said) == (2, True)


@pytest.mark.parametrize("name", ["images", "reading"])
@pytest.mark.parametrize("command", [["info"], ["verify"], ["audit", "--samples", "0"], ["audit", "--samples", "1"], ["view"]])
def test_what_a_folder_names_is_not_run(command, name, run, tmp_path):
    """Whoever looks into a folder has not chosen the plug-ins that are named in it."""
    (tmp_path / "reading.py").write_text(READING)
    record("cards", range(2))
    assert run("export", "cards", "--format", name, "-o", "out", "--plugin", "reading.py")[0] == 0
    evil = tmp_path / "out" / "evil plug-in.py"
    evil.write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()\n{READING}")
    (tmp_path / "out" / "configuration.yaml").write_text(json.dumps({"start": 0, "count": 2, "plugins": [str(evil)]}))
    if command == ["view"]:
        try:
            FolderSource("out").close()
            code, said = 0, ""
        except PluginError as error:
            code, said = 2, str(error)
    else:
        code, _, said = run(*command, "out")
    assert not (tmp_path / "trace").exists()
    refused = name == "reading" or command[-1] == "1"
    assert code == (2 if refused else 0), said
    assert (f"if you trust them, say --plugin '{evil}'" in said) == refused, said


def test_what_is_neither_is_told_with_what_is_near(run, tmp_path):
    record("cards", range(2))
    assert run("export", "cards", "--format", "images", "-o", "data/first")[0] == 0
    for command in ("info", "verify"):
        code, output, said = run(command, "data/frist")
        assert (code, output) == (2, "")
        assert "; data has the folders of samples first" in said
        code, _, said = run(command, "data")
        assert code == 2
        assert "the folder data has no recording" in said
        assert "; data has the folders of samples first" in said
        code, _, said = run(command, "nowhere/at/all")
        assert code == 2
        assert "the folder nowhere/at does not exist" in said
        code, output, said = run(command, "data/first/000000.png")
        assert code == {"info": 2, "verify": 1}[command]
        assert "000000.png is no recording" in output + said
    (tmp_path / "reading.py").write_text(READING)
    assert run("export", "cards", "--format", "mute", "--plugin", "reading.py", "-o", "mute")[0] == 0
    code, _, said = run("verify", "mute", "--plugin", "reading.py")
    assert code == 2
    assert "is of the format 'mute', whose writer does not read what it wrote" in said
    (tmp_path / "data" / "first" / "versions.json").write_text("{")
    code, _, said = run("info", "data/first")
    assert code == 2
    assert "versions.json is not what blendtorch has written" in said
    code, _, said = run("verify", "cards", "--workers", "-1")
    assert (code, "--workers is -1" in said) == (2, True)
