"""One Blender instance: from the launcher's specification to the end of its script, and how it ends."""

import os
import random
import runpy
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bpy
import msgspec
import numpy as np
from blendtorch.btb import blender, episodes, publisher, randomness, studio
from blendtorch.btb.arguments import parse_blendtorch_args
from blendtorch.btb.log import forgive_full_disks
from blendtorch.core.errors import ConfigurationError, PluginError, SceneError
from blendtorch.core.launch import RECYCLED, InstanceFiles, InstanceSpec, Report, RunSpec, epoch_address
from blendtorch.core.status import PublisherStatus

_DRAIN_S = 5.0  # how long an instance that is started again waits for its consumers to read what it had sent

_files: InstanceFiles | None = None  # of the instance that runs in this process, once it runs
_spec: InstanceSpec | None = None
_report = Report()  # what it has said so far
_frames_before = 0  # that processes before this one have published


class Exchange(SystemExit):
    """The rest is for a fresh process."""


def run(spec_path: str) -> None:
    """Do what a launcher's specification says: open the scene, seed, run the script, report.

    In background the process ends here, with the script's exit code. In a window it stays.

    Parameters
    ----------
    spec_path : str
        Of an `InstanceSpec` in a launch folder.
    """
    global _files, _frames_before, _report, _spec
    _files = publisher.instance_files = InstanceFiles.of_spec(Path(spec_path))
    _spec = spec = _files.read_spec()
    _report = msgspec.structs.replace(_files.read_report(), error="", traceback="")  # it holds what was said before
    _frames_before = _frames()
    _end_without_launcher(spec.launcher_pid)
    forgive_full_disks()
    with reporting():
        _open_scene(spec)
        if not spec.autoexec and (notice := blender.scripts_not_run()):
            notify(notice)
        blender.set_render_threads(spec.threads)
        random.seed(spec.seed)
        np.random.seed(spec.seed % 2**32)
        randomness.begin(spec.seed)
        if spec.restartable and spec.run is None:
            episodes.begin(_files)
            publisher.before_first_message = randomness.check_used
        sys.argv = [spec.script, "--", *spec.arguments]
        if spec.run is not None:
            _run_plugins(spec.btid, spec.run, _files)
        else:
            runpy.run_path(spec.script, run_name="__main__")
        if bpy.app.background:
            finish()
            _exit(0)


def _open_scene(spec: InstanceSpec) -> None:
    """Open the scene of an instance, or make one for the mesh or the assets that it has."""
    if spec.opens_scene:
        blender.open_scene(spec.blend, spec.autoexec)
    else:
        blender.check_scene(spec.blend)
    if spec.scene != spec.blend:
        size, notice = studio.open_model(spec.scene, spec.unit)
        _announce(f"The scene is {size}")
        if notice:
            notify(notice)
    elif not spec.scene and spec.run is not None and spec.run.configuration.assets:
        studio.build()


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
        announce=_announce,
        notify=notify,
    )
    _add_to_report(categories={each.category_id: each.category_name for each in pipeline.stage.objects})
    if first is not None:
        pipeline.run(first)
        return

    def open_publisher(epoch: int) -> publisher.DataPublisher:
        files.record(epoch_address(address, epoch - 2)).unlink(missing_ok=True)  # nobody is there any more
        return publisher.DataPublisher(epoch_address(address, epoch), btid, abandoned=lambda: files.asked_epoch() > epoch)

    pipeline.run_epochs(open_publisher, files.asked_epoch, files.note_finished_epoch, files.finished_epoch() + 1)


def _announce(text: str) -> None:
    if text not in _report.summary:
        _add_to_report(summary=(*_report.summary, text))


def _add_to_report(**fields: Any) -> None:
    """Tell the launcher more; a full disk shall not keep what matters from the consumers."""
    global _report
    _report = msgspec.structs.replace(_report, **fields)
    if _files is not None:
        with suppress(OSError):
            _files.write_report(_report)


def finish() -> None:
    """Close the publishers that the script has left open: their consumers have everything then."""
    publisher.close_all(list(publisher.open_publishers))


def exchange_when_due() -> None:
    """End an episode, as far as this process goes: where it has made enough samples, or is too large, raise `Exchange`."""
    if _spec is None or (_spec.recycle_after is None and _spec.memory_limit_mb is None):
        return
    if (made := _frames() - _frames_before) == 0:
        return
    enough = _spec.recycle_after is not None and made >= _spec.recycle_after
    if enough or (_spec.memory_limit_mb is not None and _own_bytes() > _spec.memory_limit_mb << 20):
        raise Exchange(RECYCLED)


def _frames() -> int:
    """Count what was published in this launch, by this process and by those before it."""
    return 0 if _files is None else sum(PublisherStatus.open(path).read().frames for path in _files.statuses())


def _own_bytes() -> int:
    """Read how much memory is resident and of this process alone: the ring and the libraries are shared."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


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
        if isinstance(error, Exchange):
            _leave_publishers()
            _exit(RECYCLED)
        text, trace = "".join(traceback.format_exception_only(error)).strip(), traceback.format_exc()
        print(trace, file=sys.stderr, flush=True)
        final = isinstance(error, (ConfigurationError, PluginError, SceneError)) and _frames() == 0
        sequence = sum(each.sequence for each in publisher.open_publishers)
        _add_to_report(error=text, traceback=trace, final=final, sequence=sequence)
        if _spec is not None and _spec.restartable and not final:
            _leave_publishers()  # the launcher decides; its verdict is for the consumers
        publisher.fail_all(list(publisher.open_publishers), text, trace)
        _exit(code if isinstance(code, int) else 1)


def _leave_publishers() -> None:
    """Let another process go on: what is not delivered in time, that makes again."""
    deadline = time.monotonic() + _DRAIN_S
    waiting = list(publisher.open_publishers)
    while waiting and time.monotonic() < deadline:
        waiting = [each for each in waiting if not each.drain(10)]
    for open_publisher in list(publisher.open_publishers):
        open_publisher.abandon()


def _exit(code: int) -> None:
    """End without tearing Blender down: everything worth keeping has left, and a window would ask what to do."""
    for stream in (sys.stdout, sys.stderr):
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
