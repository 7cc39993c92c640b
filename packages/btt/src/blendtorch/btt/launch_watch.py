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
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._instances = [InstanceFiles(folder, number) for number in range(len(list(folder.glob("instance_*.json"))))]
        self._finished = False

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
        if not self._folder.is_dir():
            raise InstanceError("the launch has ended: its `with` block was left, or the process that launched it died")

    def finished(self) -> bool:
        """Whether every instance has come to the end of its script."""
        self._finished = self._finished or all(files.read_exit_code() == 0 for files in self._instances)
        return self._finished

    def describe(self) -> str:
        """Say of each instance whether it runs, one line each."""
        return "\n".join(
            f"  instance {files.number}: "
            + ("running" if (code := files.read_exit_code()) is None else f"ended with exit code {code}")
            + f", log {files.log}"
            for files in self._instances
        )


def describe_end(files: InstanceFiles) -> str:
    """Say how an instance ended, with everything that helps to find out why."""
    code, report = files.read_exit_code(), files.read_report()
    if report.error:
        return f"Blender instance {files.number} failed: {report.error}\n\n{report.traceback.rstrip()}\n\nIts log: {files.log}"
    tail = files.log_tail()
    return f"Blender instance {files.number} ended with {_describe_code(code)}. The end of its log, {files.log}:\n\n{tail}"


def _describe_code(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
