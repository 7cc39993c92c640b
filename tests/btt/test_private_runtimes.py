"""Private runtimes: how they are found, named and listed, and what goes wrong. Making one for real: tests/runtimes."""

import fcntl
import json
import sys
import sysconfig
import time
import tomllib
import venv
from pathlib import Path

import pytest
from blendtorch import btt
from blendtorch.btt import private_runtimes, releases, runtimes
from blendtorch.btt.command import main
from blendtorch.btt.releases import Release
from blendtorch.core.errors import BlenderNotFoundError, PrivateRuntimeError

REPOSITORY = Path(__file__).resolve().parents[2]
THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def make(no_private_runtimes):
    """Make an environment that has what this Python has, where private runtimes are."""

    def make(name, added_ns=None):
        folder = no_private_runtimes / name
        venv.create(folder, symlinks=True)
        (site,) = folder.glob("lib/python3.*/site-packages")
        # With the .pth files that lie there: those of editable installations.
        (site / "all.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        if added_ns is not None:
            (folder / private_runtimes._MARKER).write_text(str(added_ns))
        return folder

    return make


@pytest.fixture
def without_bpy(monkeypatch):
    """Leave the trainer without a Blender of its own."""
    monkeypatch.delenv(runtimes.VARIABLE, raising=False)
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")


def refused(name):
    with pytest.raises(BlenderNotFoundError) as error:
        runtimes.find_runtime(name)
    return str(error.value)


def test_a_launch_finds_the_one_that_was_added_last(make, monkeypatch):
    monkeypatch.delenv(runtimes.VARIABLE, raising=False)
    for name, added in (("4.5", 1), ("4.2", 3), ("5.0", None), ("5.2", 2)):
        make(name, added)
    monkeypatch.setenv("PATH", "/nowhere")
    found = runtimes.find_candidates()
    assert [each.origin for each in found] == [
        f"this Python ({sys.executable})",
        *(f"private runtime {name}" for name in ("4.2", "5.2", "4.5", "5.0")),
        "blender on PATH",
    ]
    assert [each.runtime is not None for each in found] == [True, True, True, True, False, False]
    assert "5.0 was not finished: make it with: blendtorch runtime add 5.0" in found[4].reason
    assert found[0].is_default
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    assert runtimes.find_runtime().path == private_runtimes.find("4.2").python
    (private_runtimes.find("4.2").folder / "bin" / "python").unlink()
    assert runtimes.find_runtime().path == private_runtimes.find("5.2").python, "one that does not work is passed over"
    assert "--force 4.2" in refused("4.2")


@pytest.mark.blender
def test_one_is_named_by_its_version_and_streams(make, monkeypatch):
    python = make("5.2", 1) / "bin" / "python"
    monkeypatch.setenv(runtimes.VARIABLE, "5.2")
    assert runtimes.find_runtime().path == python
    assert btt.discover_blender("5.2")["path"] == python
    stream = btt.stream(resolution=(32, 24), count=1, blender="5.2")
    with stream as dataset:
        (sample,) = dataset
        assert stream.launcher.launch_info.commands[0][0] == str(python)
    assert sample["image"].shape == (24, 32, 3)


def test_one_that_is_not_there_is_told_with_the_command(without_bpy, monkeypatch):
    assert "blend_path=5.2: there is no private runtime 5.2: make it with: blendtorch runtime add 5.2" in refused("5.2")
    assert "expected one of 4.2, 4.5, 5.0, 5.2" in refused("4.1")
    assert "neither a file, nor a folder" in refused("./4.5"), "a path says so"
    assert "blend_path is 4.5: expected text, a path or a name such as '4.5'" in refused(4.5), "as YAML reads it"
    assert "with: blendtorch runtime add 4.5\n" in refused(None), "as the way out where there is no Blender at all"
    monkeypatch.setenv(runtimes.VARIABLE, "5.0")
    assert f"{runtimes.VARIABLE}=5.0: there is no private runtime 5.0" in refused(None)
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", classmethod(lambda _: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert "there is no private runtime 4.5" in refused("4.5"), "who has no home has none"


def test_they_are_listed_piped_and_removed(make, no_private_runtimes, capfd):
    assert main(["runtime", "list"]) == 0
    assert capfd.readouterr().out == "No private runtimes: make one with: blendtorch runtime add 4.5\n"
    make("4.2")
    site = next(make("4.5", 1).glob("lib/python3.*/site-packages"))
    for name, version in (("bpy", "4.5.99"), ("blendtorch-core", "0.9")):
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (site / "large").write_bytes(bytes(3_000_000))
    assert main(["runtime", "list"]) == 0
    output = capfd.readouterr().out
    assert f"Python       {THIS} ({no_private_runtimes}/4.5/bin/python)" in output
    assert "0.9, the trainer's is 1.0.0.dev0: run: blendtorch runtime add --force 4.5" in output
    assert "unfinished   make it with: blendtorch runtime add 4.2" in output
    assert main(["runtime", "list", "--json"]) == 0
    whole, half = json.loads(capfd.readouterr().out)
    assert (whole["name"], whole["blender"], whole["blendtorch"], whole["is_current"]) == ("4.5", "4.5.99", "0.9", False)
    assert whole["size_mb"] >= 3
    assert (half["name"], half["is_whole"]) == ("4.2", False)
    assert main(["runtime", "pip", "4.5", "list", "--format=json", "--disable-pip-version-check"]) == 0
    assert {"name": "bpy", "version": "4.5.99"} in json.loads(capfd.readouterr().out)
    assert main(["runtime", "pip", "4.5", "nonsense"]) == 1, "pip's own exit code"
    for name in ("4.5", "4.2"):
        assert main(["runtime", "remove", name]) == 0
    assert [path.name for path in no_private_runtimes.iterdir()] == [".lock"]
    capfd.readouterr()
    assert main(["runtime", "remove", "../../data"]) == 1
    assert "there is no private runtime ../../data in" in capfd.readouterr().err
    assert no_private_runtimes.exists()


@pytest.fixture
def release(monkeypatch):
    """A release without Blender, which this Python is for."""
    monkeypatch.setitem(releases.RELEASES, "9.9", Release(THIS, ("pip",)))
    monkeypatch.setattr(private_runtimes, "our_requirements", list)


def test_what_fails_leaves_what_was_there(make, release, monkeypatch, no_private_runtimes, capfd):
    """With a real venv and a real pip, which is asked for what there is not."""
    (make("9.9", 1) / "mine").touch()
    monkeypatch.setitem(releases.RELEASES, "9.9", Release(THIS, ("/nowhere/at/all",)))
    with pytest.raises(PrivateRuntimeError, match="pip failed with exit code 1; its own words are above"):
        private_runtimes.add("9.9", print)
    assert "/nowhere/at/all" in capfd.readouterr().err
    assert private_runtimes.find("9.9").added_ns == 1
    assert (no_private_runtimes / "9.9" / "mine").exists()
    assert sorted(path.name for path in no_private_runtimes.iterdir()) == [".lock", "9.9"]


def test_an_interruption_leaves_nothing(release, monkeypatch, no_private_runtimes):
    """What venv and pip do is not under test."""
    done = []

    def make_half(command, what):
        if what == "pip":
            raise KeyboardInterrupt
        (no_private_runtimes / "9.9" / "bin").mkdir(parents=True)
        done.append(what)

    monkeypatch.setattr(private_runtimes, "_run", make_half)
    with pytest.raises(KeyboardInterrupt):
        private_runtimes.add("9.9", done.append)
    assert done[-1].startswith("Installing pip and blendtorch")
    assert [path.name for path in no_private_runtimes.iterdir()] == [".lock"]


def test_what_a_killed_add_has_left_makes_room(make, release, monkeypatch, no_private_runtimes):
    (make("9.9") / "half").touch()
    (no_private_runtimes / ".9.9.before").mkdir()
    monkeypatch.setattr(private_runtimes, "_run", lambda _, what: what == "venv" and make("9.9"))
    before = time.time_ns()
    made = private_runtimes.add("9.9", print)
    assert before <= made.added_ns <= time.time_ns()
    assert made == private_runtimes.find("9.9")
    assert not (made.folder / "half").exists()
    assert sorted(path.name for path in no_private_runtimes.iterdir()) == [".lock", "9.9"]


def test_two_do_not_work_at_the_same_time(release, no_private_runtimes):
    no_private_runtimes.mkdir(parents=True)
    with (no_private_runtimes / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PrivateRuntimeError, match="another `blendtorch runtime` is at work"):
            private_runtimes.add("9.9", print)


def test_one_that_is_there_is_not_made_again(make, capfd):
    make("4.5", 1)
    assert main(["runtime", "add", "4.5", "--json"]) == 0
    output, progress = capfd.readouterr()
    assert "The private runtime 4.5 is there already; --force makes it anew" in progress
    assert "Ready: Blender " in progress
    assert json.loads(output)[0]["name"] == "4.5"


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_is_found_wherever_it_is(tmp_path, monkeypatch):
    """Version 3.99, so that the machine has none; each answers as a Python would."""
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/bin:/usr/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert releases.find_python(THIS) == Path(sys.executable)
    assert releases.find_python("3.99") is None
    elsewhere = program(tmp_path / "elsewhere" / "python3.99", "echo 3.99")
    program(tmp_path / "path" / "uv", f'test "$*" = "python find 3.99" && echo {elsewhere}')
    assert releases.find_python("3.99") == elsewhere
    shim = program(tmp_path / "path" / "python3.99", "echo pyenv: not found >&2; exit 127")
    own = program(tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python3.99", "echo 3.99")
    assert releases.find_python("3.99") == own, "the shim fails"
    program(shim, "echo 3.99")
    assert releases.find_python("3.99") == shim


def test_a_python_that_is_missing_is_told_with_how_to_install_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(releases.RELEASES, "4.5", Release("3.99", ()))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["runtime", "add", "4.5"]) == 1
    text = capsys.readouterr().err
    assert "Blender 4.5 needs Python 3.99, and there is none" in text
    for command in ("apt-get install -y python3.99 python3.99-venv ", "uv python install 3.99 ", "pyenv install 3.99 "):
        assert command in text
    with pytest.raises(SystemExit) as ended:
        main(["runtime", "add", "3.4"])
    assert ended.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_what_is_installed_comes_from_where_the_trainer_has_it(tmp_path, monkeypatch):
    site, checkout = tmp_path / "site", tmp_path / "a checkout"
    for folder in ("packages/core", "packages/btb", "plugins/acme"):
        (checkout / folder).mkdir(parents=True)
        (checkout / folder / "pyproject.toml").touch()

    def install(name, version, origin=None):
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[blendtorch]\nx = x\n" if name.startswith("acme") else "")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))

    # What is installed here is not seen; bpy, once a test has imported it, adds folders below it.
    monkeypatch.setattr(sys, "path", [str(site), *(entry for entry in sys.path if "site-packages" not in entry)])
    url = (checkout / "packages" / "core").as_uri()
    install("blendtorch-core", "1.2", {"url": url, "dir_info": {"editable": True}})
    install("acme-local", "0.1", {"url": (checkout / "plugins" / "acme").as_uri(), "dir_info": {}})
    install("acme_gone", "0.2", {"url": "file:///nowhere", "dir_info": {}})
    install("acme-wheel", "0.3", {"url": "file:///acme.whl", "archive_info": {}})
    packages = checkout / "packages"
    assert private_runtimes.our_requirements() == [
        *("--editable", str(packages / "core"), "--editable", str(packages / "btb"), "blendtorch-standard==1.2"),
        *("acme-gone==0.2", str(checkout / "plugins" / "acme"), "acme-wheel==0.3"),
    ]
    install("blendtorch-core", "1.2", {})
    assert private_runtimes.our_requirements()[:2] == ["blendtorch-core==1.2", "blendtorch-btb==1.2"]


def test_the_extra_of_btb_is_of_the_table():
    extra = tomllib.loads((REPOSITORY / "packages/btb/pyproject.toml").read_text())["project"]["optional-dependencies"]["bpy"]
    by_python = {}
    for requirement in extra:
        what, _, python = requirement.partition("; python_version == ")
        by_python.setdefault(python.strip("'"), []).append(what)
    assert {Release(python, tuple(what)) for python, what in by_python.items()} <= set(releases.RELEASES.values())
