"""What all tests share: the Blender under test, scripts for it, and a look at what they leave behind."""

import shutil
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from blendtorch import btt

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--blender", help="blender executable or Python with bpy to test with (default: this Python)")
    parser.addoption("--update-pictures", action="store_true", help="write the pictures of the documentation anew")


@pytest.fixture(scope="session")
def blender(request):
    """The Blender under test, for `blend_path`."""
    return request.config.getoption("--blender")


@pytest.fixture
def short_tmp(monkeypatch, tmp_path_factory):
    """A temporary folder, also for tempfile, whose path is short enough for sockets."""
    tmp_path_factory.getbasetemp()  # pytest's own folder is made before tempfile looks here
    folder = Path(tempfile.mkdtemp(prefix="bt", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def leaves_nothing(short_tmp):
    """Fail a test that leaves a process, or a file in the temporary folder (its own are in tmp_path)."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    deadline = time.monotonic() + 5
    while left := [process for process in psutil.Process().children(recursive=True) if process.pid not in before]:
        left = [process for process in left if "resource_tracker" not in _command_line(process)]  # multiprocessing's own
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert not left, f"processes left: {left}"
    # The logs of failed instances are kept on purpose, and nothing else.
    files = [path for path in short_tmp.glob("blend*/*") if path.suffix not in (".log", ".exit", ".report")]
    files += short_tmp.glob("blender_*")
    assert not files, f"files left: {files}"


def _command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ends just now
        return ""


@pytest.fixture(autouse=True)
def no_private_runtimes(monkeypatch, tmp_path):
    """Hide those of who runs the tests; returns the folder where a test may have its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "blendtorch" / "runtimes"


@pytest.fixture
def error_of():
    """Return the exception that a call raises, without the traceback that would keep a DataLoader and its workers alive."""

    def error_of(call):
        try:
            call()
        except Exception as error:
            return error.with_traceback(None)
        pytest.fail("nothing was raised")

    return error_of


@pytest.fixture
def write_script(tmp_path):
    """Write a script for Blender: the given lines, with `btb`, `bpy`, `np`, `args` and a publisher `pub` at hand."""
    head = """\
    import bpy
    import numpy as np
    from blendtorch import btb
    args, remainder = btb.parse_blendtorch_args()
    pub = btb.DataPublisher(args.btsockets["DATA"], args.btid)
    """

    def write(text, name="script.blend.py", head=head):
        path = tmp_path / name
        path.write_text(textwrap.dedent(head) + textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def launch(blender, write_script):
    """Launch instances that run the given lines; see `write_script`."""

    def launch(text, scene="", **arguments):
        return btt.BlenderLauncher(
            scene=scene, script=write_script(text), named_sockets=["DATA"], blend_path=blender, **arguments
        )

    return launch


@pytest.fixture
def items_of(launch):
    """Run the given lines in one instance until they end; return what they published."""

    def items_of(text, scene="", **arguments):
        with launch(text, scene, **arguments) as launcher:
            return list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))

    return items_of
