"""One Blender instance: from the launcher's specification to the end of its script, and how it ends."""

import os
import random
import runpy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import bpy
import msgspec
import numpy as np
from blendtorch.btb import blender, publisher
from blendtorch.core.launch import InstanceFiles, InstanceSpec, Report

_files: InstanceFiles | None = None  # of the instance that runs in this process, once it runs


def run(spec_path: str) -> None:
    """Do what a launcher's specification says: open the scene, seed, run the script, report.

    In background the process ends here, with the script's exit code. In a window it stays.

    Parameters
    ----------
    spec_path : str
        Of an `InstanceSpec` in a launch folder.
    """
    global _files
    spec = msgspec.json.decode(Path(spec_path).read_bytes(), type=InstanceSpec)
    _files = InstanceFiles.of_spec(Path(spec_path))
    _end_without_launcher(spec.launcher_pid)
    with reporting():
        if spec.opens_scene:
            blender.open_scene(spec.scene, spec.autoexec)
        else:
            blender.check_scene(spec.scene)
        if not spec.autoexec and (notice := blender.scripts_not_run()):
            print(notice, file=sys.stderr)
            _files.write_report(Report(notice=notice))
        blender.set_render_threads(spec.threads)
        random.seed(spec.seed)
        np.random.seed(spec.seed % 2**32)
        sys.argv = [spec.script, "--", *spec.arguments]
        runpy.run_path(spec.script, run_name="__main__")
        if bpy.app.background:
            finish()
            _exit(0)


def finish() -> None:
    """Close the publishers that the script has left open: their consumers have everything then."""
    for open_publisher in list(publisher.open_publishers):
        open_publisher.close()


@contextmanager
def reporting() -> Iterator[None]:
    """End the process when what runs inside raises, and say why to the launcher and to the consumers."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - a KeyboardInterrupt too ends the instance, and is said
        code = error.code if isinstance(error, SystemExit) else 1
        if not code:
            finish()
            _exit(0)
        text, trace = "".join(traceback.format_exception_only(error)).strip(), traceback.format_exc()
        with suppress(OSError):  # a full disk shall not keep the error from the consumers
            print(trace, file=sys.stderr, flush=True)
        if _files is not None:
            with suppress(OSError):
                _files.write_report(Report(error=text, traceback=trace))
        for open_publisher in list(publisher.open_publishers):
            open_publisher.fail(text, trace)
        _exit(code if isinstance(code, int) else 1)


def _exit(code: int) -> None:
    """End without tearing Blender down: everything worth keeping has left, and a window would ask what to do."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _end_without_launcher(pid: int) -> None:
    """End if the launcher died while this instance started: its guard may not have known of it yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        os._exit(1)
    except PermissionError:
        pass
