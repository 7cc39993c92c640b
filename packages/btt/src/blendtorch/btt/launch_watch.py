"""How the instances of a launch fare, read from its folder: works in every process of the machine."""

import signal
from pathlib import Path

from blendtorch.core.errors import InstanceError
from blendtorch.core.launch import InstanceFiles


class LaunchWatch:
    """Follows the instances of a launch.

    Parameters
    ----------
    folder : Path
        The launch folder.
    count : int
        How many instances it has.
    epoch : int, optional
        Of a run that repeats its samples: which one has to be finished.
    """

    def __init__(self, folder: Path, count: int, epoch: int | None = None) -> None:
        self._folder = folder
        self._epoch = epoch
        self._instances = [InstanceFiles(folder, number) for number in range(count)]
        self._finished: set[int] = set()

    def check(self) -> None:
        """Raise if an instance has failed or died.

        Raises
        ------
        InstanceError
            Which one, with its traceback, or its exit code and the end of its log.
        """
        for files in self._instances:
            if files.read_exit_code():
                raise InstanceError(describe_end(files))
        if not self._instances[0].spec.exists():
            raise InstanceError("the launch has ended: its `with` block was left, or the process that launched it died")

    def finished(self) -> set[int]:
        """Find the instances that have come to the end of their scripts, or of the epoch."""
        self._finished |= {
            files.number for files in self._instances if files.number not in self._finished and self._has_finished(files)
        }
        return self._finished

    def _has_finished(self, files: InstanceFiles) -> bool:
        return files.read_exit_code() == 0 or (self._epoch is not None and files.finished_epoch() >= self._epoch)

    def restarts(self) -> int:
        """Count how often instances were started again; one more is a sign of life."""
        counts = [files.read_restarts() for files in self._instances]
        return sum(each.failures + each.recycled for each in counts)

    def log_of(self, number: int) -> Path:
        """Find the log of an instance."""
        return InstanceFiles(self._folder, number).log

    def describe(self) -> str:
        """Say of each instance whether it runs, one line each."""
        return "\n".join(
            f"  instance {files.number}: "
            + ("running" if (code := files.read_exit_code()) is None else f"ended with exit code {code}")
            + (f", started again {count} times" if (count := files.read_restarts().failures) else "")
            + f", log {files.log}"
            for files in self._instances
        )


def describe_end(files: InstanceFiles) -> str:
    """Say how an instance ended, with everything that helps to find out why."""
    code, report, verdict = files.read_exit_code(), files.read_report(), files.read_restarts().verdict
    more = f"\n\nBlender instance {files.number}: {verdict}." if verdict else ""
    if report.error:
        return describe_failure(files.number, report.error, report.traceback, files.log) + more
    tail = files.log_tail()
    end = f"Blender instance {files.number} ended with {describe_code(code)}"
    return f"{end}. The end of its log, {files.log}:\n\n{tail}{more}"


def describe_failure(number: int, error: str, traceback: str, log: Path | None) -> str:
    """Say how the script of an instance failed."""
    where = f"\n\nIts log: {log}" if log else ""
    return f"Blender instance {number} failed: {error}\n\n{traceback.rstrip()}{where}"


def describe_code(code: int | None) -> str:
    """Say what an exit code of a process means."""
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
