"""Finding Blender: what is chosen, and what is said where there is none that will do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blendtorch import btt
from blendtorch.btt import cpus, lending, runtimes, system_libraries
from blendtorch.core.errors import BlenderNotFoundError


@pytest.fixture
def fake_blender(tmp_path):
    """An executable that answers the probe as some Blender would. What is under test is what we make of the answer."""

    def make(**facts):
        answer = {"blender": "4.0.2", "python": [3, 11], "interpreter": "/opt/python", "missing": [], "installed": [], **facts}
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


def test_a_loaders_message_is_answered_with_the_package():
    text = system_libraries.packages_for("error while loading shared libraries: libEGL.so.1: cannot open shared object file")
    assert "apt-get install -y libegl1 " in text
    assert "conda install -c conda-forge libegl " in text
    assert system_libraries.packages_for("error while loading shared libraries: libnothing.so") == ""


def test_every_place_is_looked_at_and_the_default_is_marked(fake_blender, tmp_path, monkeypatch):
    monkeypatch.delenv(runtimes.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    own, on_path = runtimes.find_candidates()
    assert (own.path, own.is_default, own.reason) == (Path(sys.executable), True, "")
    assert (on_path.origin, on_path.reason, on_path.path) == ("blender on PATH", "there is none", None)
    path = fake_blender(python=[3, 10])
    own, on_path = runtimes.find_candidates()
    assert own.is_default
    assert (on_path.path, on_path.runtime, on_path.is_default) == (path, None, False)
    assert "carries Python 3.10" in on_path.reason
    monkeypatch.setenv(runtimes.VARIABLE, str(path))
    variable, own = runtimes.find_candidates()  # what is on PATH is the same file
    assert variable.origin == f"{runtimes.VARIABLE}={path}"
    assert not variable.is_default
    assert own.runtime is not None
    assert not own.is_default, "a launch stops at what the variable names"
    (named,) = runtimes.find_candidates(sys.executable)
    assert named.runtime == own.runtime


@pytest.fixture
def plugins_here(tmp_path, monkeypatch):
    """Install three distributions of plug-ins here: a module, part of a namespace, and one whose module is absent."""
    site = tmp_path / "site"
    code = "from blendtorch.core import hookimpl\n\n\n@hookimpl\ndef blendtorch_register_annotators():\n    return []\n"
    for path in ("acme_module.py", "acme/space/__init__.py"):
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(code)
    for name, module in (("acme-module", "acme_module"), ("acme.space", "acme.space"), ("acme-gone", "acme_gone")):
        info = site / f"{name.replace('-', '_').replace('.', '_')}-0.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
        (info / "entry_points.txt").write_text(f"[blendtorch]\n{module} = {module}\n")
    monkeypatch.syspath_prepend(site)


def look_inside(folder):
    """Say what a Python with nothing but the lent folder finds."""
    code = (
        "import json\nfrom importlib.metadata import version\nfrom blendtorch.core.discovery import Catalogue\n"
        "catalogue = Catalogue()\nfound = [each.name for each in catalogue.all()]\n"
        "print(json.dumps([found, catalogue.claims(), list(map(str, catalogue.problems)), version('blendtorch-core')]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_what_is_lent_is_found_with_its_plugins(plugins_here, tmp_path):
    runtime = runtimes.Runtime("executable", tmp_path / "blender", (4, 5, 0), sys.version_info[:2], tuple(lending.NEEDS))
    found, claims, problems, version = look_inside(runtime.lend(tmp_path / "lent"))
    assert {"workbench", "eevee"} <= set(found)
    assert claims["workbench"].startswith("blendtorch-standard ")
    assert claims["acme_module"] == "acme-module 0.3"
    assert claims["acme.space"] == "acme-space 0.3"
    (problem,) = [text for text in problems if "acme" in text]
    assert problem.startswith("acme-gone 0.3 (entry point acme_gone = acme_gone): cannot be imported: ModuleNotFoundError")
    assert version
    assert not (tmp_path / "lent" / "bpy").exists()
    assert not (tmp_path / "lent" / "torch").exists()


def test_only_what_is_missing_is_lent(plugins_here, tmp_path):
    python = sys.version_info[:2]
    complete = runtimes.Runtime("module", tmp_path / "python", (4, 5, 0), python)
    assert complete.lend(tmp_path / "nothing") is None
    lacking = runtimes.Runtime("module", tmp_path / "python", (4, 5, 0), python, ("pluggy",), ("acme-space",))
    assert [path.name for path in lacking.lend(tmp_path / "one").iterdir()] == ["pluggy"]
    empty = runtimes.Runtime("module", tmp_path / "python", (4, 5, 0), python, tuple(lending.NEEDS), ("acme-space",))
    lent = {path.name for path in empty.lend(tmp_path / "all").iterdir()}
    assert {"acme_module.py", "acme_module-0.3.dist-info", "blendtorch_standard"} <= lent
    assert not lent & {"acme", "acme_space-0.3.dist-info"}, "it has its own"


@pytest.fixture
def requirements_here(tmp_path, monkeypatch):
    """Install a distribution of plug-ins that requires others, as pip would: each with the files that it has brought."""
    site = tmp_path / "site"

    def install(name, files, requires=(), points=""):
        info = f"{name.replace('-', '_')}-0.3.dist-info"
        written = {
            **files,
            f"{info}/METADATA": "\n".join(
                ["Metadata-Version: 2.1", f"Name: {name}", "Version: 0.3", *(f"Requires-Dist: {each}" for each in requires)]
            ),
            f"{info}/entry_points.txt": points,
            f"{info}/RECORD": "".join(f"{path},,\n" for path in [*files, f"{info}/METADATA", "../../bin/acme"]),
        }
        for path, text in written.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text)

    plugin = "from acme.optics import lens\nfrom blendtorch.core import hookimpl\n\n\n@hookimpl\n"
    plugin += "def blendtorch_register_annotators():\n    return []\n"
    requires = [
        "acme-optics",
        "Acme.Optics[glass]>=0.2",
        "acme-old; python_version < '3'",
        "acme-docs; extra == 'docs'",
        "acme-absent",
        "blendtorch-core",
        "numpy",
    ]
    install("acme-needy", {"acme_needy.py": plugin}, requires, "[blendtorch]\nacme_needy = acme_needy\n")
    package = {
        "acme/optics/__init__.py": "",
        "acme/optics/lens.py": "import acme_glass, acme.paint\n",
        "acme_optics.libs/x.so": "",
    }
    circle = ["acme-glass; extra == 'glass'", "acme-docs; extra == 'docs'", "acme-paint", "acme-needy"]
    install("acme-optics", {**package, "acme/optics/__pycache__/lens.cpython-311.pyc": ""}, circle)
    install("acme-paint", {"acme/paint/__init__.py": ""})
    for name in ("acme-glass", "acme-old", "acme-docs"):
        install(name, {f"{name.replace('-', '_')}.py": ""})
    monkeypatch.syspath_prepend(site)


def test_what_plugins_require_is_lent_too(requirements_here, tmp_path):
    python, missing = sys.version_info[:2], tuple(lending.NEEDS)
    lent = runtimes.Runtime("executable", tmp_path / "blender", (4, 5, 0), python, missing).lend(tmp_path / "lent")
    _, claims, problems, _ = look_inside(lent)  # the plug-in imports what it requires
    assert claims["acme_needy"] == "acme-needy 0.3"
    assert [text for text in problems if "acme" in text] == []
    assert {path.name for path in lent.glob("acme*")} == {
        *("acme", "acme_needy.py", "acme_glass.py", "acme_optics.libs"),
        *(f"acme_{name}-0.3.dist-info" for name in ("needy", "optics", "glass", "paint")),
    }
    assert {path.name for path in (lent / "acme").iterdir()} == {"optics", "paint"}
    assert (lent / "PIL").is_symlink(), "blendtorch-standard requires Pillow"
    # What it has itself is its own, with what that requires.
    own = runtimes.Runtime("executable", tmp_path / "blender", (4, 5, 0), python, missing, ("acme-optics", "pillow"))
    lent = own.lend(tmp_path / "less")
    assert {path.name for path in lent.glob("acme*")} == {"acme_needy.py", "acme_needy-0.3.dist-info"}
    assert not (lent / "PIL").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("nonsense", None)],
)
def test_a_containers_quota_counts(tmp_path, monkeypatch, content, expected):
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path)
    (tmp_path / "cpu.max").write_text(content)
    assert cpus.allowed_cpus() == (expected or len(os.sched_getaffinity(0)))
