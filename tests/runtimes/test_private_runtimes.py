"""A private runtime from its making to its removal, with real downloads: the session `runtimes` runs this with two trainers."""

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.btt import lending, private_runtimes, runtimes
from blendtorch.btt.command import main

# By the trainer's Python: a Blender that needs another one.
BLENDER = {(3, 11): "5.2", (3, 12): "4.5"}.get(sys.version_info[:2], "4.5")


@pytest.mark.runtimes
@pytest.mark.timeout(900)
def test_a_private_runtime_is_made_streams_and_goes(short_tmp, monkeypatch, capfd):
    """A trainer on 3.11 with bpy names it, one on 3.12 with numpy 2 and without bpy lets the launch find it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(short_tmp / "data"))
    monkeypatch.delenv(runtimes.VARIABLE, raising=False)
    assert main(["runtime", "add", BLENDER, "--json"]) == 0
    output, progress = capfd.readouterr()
    assert f"Ready: Blender {BLENDER}." in progress
    (made,) = json.loads(output)
    assert made["is_whole"]
    assert made["is_current"]
    assert made["blender"].startswith(f"{BLENDER}.")
    assert made["size_mb"] > 500

    on_its_own = find_spec("bpy") is None
    assert on_its_own == (sys.version_info[:2] == (3, 12) and np.__version__.startswith("2."))
    name = None if on_its_own else BLENDER
    with btt.stream(annotators=["keypoints"], resolution=(64, 48), count=2, seed=3, blender=name) as dataset:
        samples = list(dataset)
    assert [sample["meta"]["index"] for sample in samples] == [0, 1]
    assert [sample["image"].shape for sample in samples] == [(48, 64, 3)] * 2
    assert all(json.loads(sample["meta"]["versions"])["blender"].startswith(BLENDER) for sample in samples)

    capfd.readouterr()
    assert main(["runtime", "pip", BLENDER, "list", "--format=json"]) == 0
    installed = {lending.normalized(each["name"]) for each in json.loads(capfd.readouterr().out)}
    ours = {lending.normalized(each.name) for each in lending.plugin_distributions()}
    assert {"bpy", "blendtorch-core", "blendtorch-btb", "blendtorch-standard"} | ours <= installed
    assert "torch" not in installed
    assert main(["runtime", "add", BLENDER]) == 0
    assert "is there already" in capfd.readouterr().err
    assert main(["runtime", "remove", BLENDER]) == 0
    assert [path.name for path in private_runtimes.root().iterdir()] == [".lock"]
