"""Ending processes with everything they started; run as a file, this is the guard of a launch.

The guard is a small process that ends the instances when their launcher dies. It watches from outside: an instance
cannot do it while it holds Python's lock in a long render, and the signal that Linux sends to children whose parent dies
goes by the thread that started them. As a file it imports neither torch nor the rest of this package:

    python processes.py LAUNCHER_PID LAUNCH_FOLDER
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_POLL_S = 0.2


def end_trees(pids: Sequence[int], grace_s: float = 1.0) -> None:
    """End processes, their descendants and their process groups.

    Parameters
    ----------
    pids : sequence of int
        Each the leader of a process group of its own.
    grace_s : float
        Between asking (SIGTERM) and killing (SIGKILL).
    """
    trees = [process for pid in pids for process in _tree(pid)]
    for process in trees:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(trees, timeout=grace_s)
    for pid in pids:
        end_group(pid)
    for process in trees:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(trees, timeout=grace_s)


def end_group(pid: int) -> None:
    """Kill what is left of a process group: what was started late, or lost its parent."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def note_process(file: Path, pid: int) -> None:
    """Write down which process to end, for the guard: its number, and when it started, for numbers come again."""
    with contextlib.suppress(psutil.NoSuchProcess):
        draft = file.with_suffix(".part")  # the guard sees the whole note, or none
        draft.write_text(f"{pid} {psutil.Process(pid).create_time()}")
        draft.replace(file)


def guard(launcher_pid: int, folder: Path) -> None:
    """Wait until the launcher is gone, then end the processes that it noted and remove its folder."""
    notes: dict[Path, str] = {}  # kept in memory: files in a temporary folder may be cleaned away in a long run
    while os.getppid() == launcher_pid:
        _read_notes(folder, notes)
        time.sleep(_POLL_S)
    _read_notes(folder, notes)
    end_trees([pid for note in notes.values() if (pid := _noted_process(note)) is not None])
    shutil.rmtree(folder, ignore_errors=True)


def _read_notes(folder: Path, notes: dict[Path, str]) -> None:
    with contextlib.suppress(OSError):
        notes.update({file: file.read_text() for file in folder.glob("*.pid")})  # again: an instance may be started again


def _noted_process(note: str) -> int | None:
    pid, started = note.split()
    try:
        same = abs(psutil.Process(int(pid)).create_time() - float(started)) < 1
    except psutil.NoSuchProcess:
        return None
    return int(pid) if same else None


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    guard(int(sys.argv[1]), Path(sys.argv[2]))
