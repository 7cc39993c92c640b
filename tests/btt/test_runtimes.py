"""Finding Blender: what is chosen, and what is said where there is none that will do."""

import json
import os
import sys
from pathlib import Path

import pytest
from blendtorch import btt
from blendtorch.btt import cpus, runtimes, system_libraries
from blendtorch.core.errors import BlenderNotFoundError


@pytest.fixture
def fake_blender(tmp_path):
    """An executable that answers the probe as some Blender would. What is under test is what we make of the answer."""

    def make(**facts):
        answer = {"blender": "4.0.2", "python": [3, 11], "interpreter": "/opt/python", "missing": [], **facts}
        path = tmp_path / "blender"
        path.write_text(f"#!/bin/sh\necho noise\necho '{runtimes._MARK}{json.dumps(answer)}'\n")
        path.chmod(0o755)
        return path

    return make


def reason(**arguments):
    with pytest.raises(BlenderNotFoundError) as error:
        runtimes.find_runtime(**arguments)
    return str(error.value)


def test_this_python_is_the_default(monkeypatch):
    monkeypatch.delenv(runtimes.VARIABLE, raising=False)
    runtime = runtimes.find_runtime()
    assert (runtime.kind, runtime.path) == ("module", Path(sys.executable))
    assert runtime.python == sys.version_info[:2]
    info = btt.discover_blender()
    assert (info["path"], info["major"], info["minor"]) == (Path(sys.executable), *runtime.version[:2])


def test_a_folder_and_the_environment_variable_name_one_too(fake_blender, tmp_path, monkeypatch):
    path = fake_blender()
    assert runtimes.find_runtime(tmp_path).path == path
    assert runtimes.find_runtime(os.pathsep.join(["/nowhere", str(tmp_path)])).path == path
    monkeypatch.setenv(runtimes.VARIABLE, str(path))
    assert runtimes.find_runtime().version == (4, 0, 2)
    assert runtimes.find_runtime(sys.executable).path == Path(sys.executable), "the argument counts more"


def test_what_was_tried_is_listed(tmp_path, monkeypatch):
    text = reason(blend_path=tmp_path)
    assert f"blend_path={tmp_path}: neither a file, nor a folder that holds blender" in text
    assert 'pip install "blendtorch-btb[bpy]"' in text
    monkeypatch.setenv("PATH", str(tmp_path))
    text = reason(background=False)
    assert "the bpy module has no window" in text
    assert "blender on PATH: there is none" in text
    assert btt.discover_blender(tmp_path) is None


def test_a_python_that_is_too_old_or_differs_gets_a_sentence(fake_blender):
    assert "carries Python 3.10, and blendtorch needs 3.11 to 3.13" in reason(blend_path=fake_blender(python=[3, 10]))


def test_a_differing_python_is_told_what_to_install(fake_blender):
    other = [3, 13] if sys.version_info[1] != 13 else [3, 11]
    text = reason(blend_path=fake_blender(python=other, missing=["zmq", "blendtorch.btb"]))
    assert "lacks zmq, blendtorch.btb" in text
    assert "run /opt/python -m pip install blendtorch-btb" in text


def test_something_else_is_not_taken_for_blender(tmp_path):
    other = tmp_path / "blender"
    other.write_text("#!/bin/sh\necho I am a mixer >&2\nexit 2\n")
    other.chmod(0o755)
    assert "is no Blender and no Python with bpy (exit code 2): I am a mixer" in reason(blend_path=other)


def test_missing_system_libraries_are_named_with_their_packages(monkeypatch):
    assert system_libraries.missing_libraries() == ""
    monkeypatch.setitem(system_libraries._LIBRARIES, "libnothing.so.9", ("libnothing9", "nothing"))
    assert "libnothing.so.9. Install them first:\n    apt-get install -y libnothing9" in system_libraries.missing_libraries()
    assert "libnothing9" in reason(blend_path=sys.executable)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("nonsense", None)],
)
def test_a_containers_quota_counts(tmp_path, monkeypatch, content, expected):
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path)
    (tmp_path / "cpu.max").write_text(content)
    assert cpus.allowed_cpus() == (expected or len(os.sched_getaffinity(0)))
