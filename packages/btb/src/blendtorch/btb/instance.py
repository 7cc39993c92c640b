"""One Blender instance: from the launcher's specification to the end of its script, and how it ends."""

import os
import random
import runpy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bpy
import msgspec
import numpy as np
from blendtorch.btb import blender, publisher
from blendtorch.btb.arguments import parse_blendtorch_args
from blendtorch.core.launch import InstanceFiles, InstanceSpec, Report, RunSpec, epoch_address

_files: InstanceFiles | None = None  # of the instance that runs in this process, once it runs
_report = Report()  # what it has said so far


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
            notify(notice)
        blender.set_render_threads(spec.threads)
        random.seed(spec.seed)
        np.random.seed(spec.seed % 2**32)
        sys.argv = [spec.script, "--", *spec.arguments]
        if spec.run is not None:
            _run_plugins(spec.btid, spec.run, _files)
        else:
            runpy.run_path(spec.script, run_name="__main__")
        if bpy.app.background:
            finish()
            _exit(0)


def notify(text: str) -> None:
    """Say a sentence to the user: here, and through the launcher at the trainer."""
    print(text, file=sys.stderr, flush=True)
    if text not in _report.notices:
        _add_to_report(notices=(*_report.notices, text))


def _run_plugins(btid: int, run: RunSpec, files: InstanceFiles) -> None:
    from blendtorch.btb.pipeline import Pipeline  # it plays by the animation, which reports through this module

    arguments, _ = parse_blendtorch_args()
    address = arguments.btsockets["DATA"]
    repeats = run.configuration.repeat is not None
    first = None if repeats else publisher.DataPublisher(address, btid)  # opened early: it tells consumers what fails
    pipeline = Pipeline(
        run.configuration,
        run.share,
        btid,
        installed=run.installed,
        announce=lambda text: _add_to_report(summary=(*_report.summary, text)),
        notify=notify,
    )
    _add_to_report(categories={each.category_id: each.category_name for each in pipeline.stage.objects})
    if first is not None:
        pipeline.run(first)
        return

    def open_publisher(epoch: int) -> publisher.DataPublisher:
        return publisher.DataPublisher(epoch_address(address, epoch), btid, abandoned=lambda: files.asked_epoch() > epoch)

    pipeline.run_epochs(open_publisher, files.asked_epoch, files.note_finished_epoch)


def _add_to_report(**fields: Any) -> None:
    """Tell the launcher more; a full disk shall not keep what matters from the consumers."""
    global _report
    _report = msgspec.structs.replace(_report, **fields)
    if _files is not None:
        with suppress(OSError):
            _files.write_report(_report)


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
        _add_to_report(error=text, traceback=trace)
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
