"""What a launcher tells an instance, and what an instance leaves behind: files of one private launch folder.

The launcher writes `instance_00.json` and names it on the command line of the instance. The instance writes its
failure beside it; the launcher writes its exit code. Consumers, in whatever process, read both.
"""

import os
from pathlib import Path

import msgspec
from blendtorch.core.configuration import RunConfiguration
from blendtorch.core.schedule import Share


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A run of plug-ins, in place of a script.

    Attributes
    ----------
    configuration : RunConfiguration
    share : Share
        Which part of the run an instance has.
    installed : dict of str to str
        The distributions that have the trainer's plug-ins, by names of plug-ins.
    """

    configuration: RunConfiguration
    share: Share = Share()
    installed: dict[str, str] = {}


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one Blender instance is to do.

    Attributes
    ----------
    btid : int
    seed : int
        For `random` and `numpy.random`, before the script starts.
    script : str
        Absolute path of the script to run; empty for a run of plug-ins.
    scene : str
        Absolute path of the .blend file, empty for the factory scene.
    opens_scene : bool
        Whether the instance opens the scene itself (the bpy module does; an executable has opened it already).
    arguments : list of str
        What the script finds behind `--` in `sys.argv`.
    threads : int
        How many threads it may render with.
    autoexec : bool
        Whether scripts inside the .blend may run.
    launcher_pid : int
        An instance whose launcher has died ends.
    run : RunSpec or None
    """

    btid: int
    seed: int
    script: str
    scene: str
    opens_scene: bool
    arguments: list[str]
    threads: int
    autoexec: bool
    launcher_pid: int
    run: RunSpec | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance failed, and what it has to say.

    Attributes
    ----------
    error : str
        One line; empty where nothing failed.
    traceback : str
    notices : tuple of str
        What a user should know: scripts inside the .blend that were not run, for example.
    summary : tuple of str
        What a run is about: the table of its objects of interest, the devices of its renderers.
    categories : dict of int to str or None
        Of the objects of interest, once they are known.
    """

    error: str = ""
    traceback: str = ""
    notices: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    categories: dict[int, str] | None = None


class InstanceFiles:
    """The files of one instance in a launch folder.

    Parameters
    ----------
    folder : Path
    number : int
        Of the instance, from 0.
    """

    def __init__(self, folder: Path, number: int) -> None:
        stem = f"instance_{number:02d}"
        self.number = number
        self.spec = folder / f"{stem}.json"
        self.log = folder / f"{stem}.log"
        self.process = folder / f"{stem}.pid"
        self.exit_code = folder / f"{stem}.exit"
        self.report = folder / f"{stem}.report"
        self.finished = folder / f"{stem}.epoch"
        self.epoch = folder / "epoch"  # of the whole launch

    @classmethod
    def of_spec(cls, path: Path) -> "InstanceFiles":
        """Find the files of the instance whose specification lies at `path`."""
        return cls(path.parent, int(path.stem.rpartition("_")[2]))

    def read_report(self) -> Report:
        """Read what the instance reported so far; an empty report where it said nothing."""
        try:
            return msgspec.json.decode(self.report.read_bytes(), type=Report)
        except FileNotFoundError:
            return Report()

    def write_report(self, report: Report) -> None:
        """Write atomically: a reader sees the whole report or the one before."""
        write_atomically(self.report, msgspec.json.encode(report))

    def read_exit_code(self) -> int | None:
        """Read the exit code that the launcher noted, None while the instance runs."""
        try:
            return int(self.exit_code.read_bytes())
        except FileNotFoundError:
            return None

    def ask_for_epoch(self, number: int) -> None:
        """Let the instances of a run that repeats its samples begin an epoch, counted from 0."""
        if number > self.asked_epoch():
            write_atomically(self.epoch, str(number).encode())

    def asked_epoch(self) -> int:
        """Read which epoch was asked for last; -1 for none."""
        return _number(self.epoch)

    def note_finished_epoch(self, number: int) -> None:
        """Say that this instance has delivered its part of an epoch."""
        write_atomically(self.finished, str(number).encode())

    def finished_epoch(self) -> int:
        """Read which epoch this instance has finished last; -1 for none."""
        return _number(self.finished)

    def log_tail(self, lines: int = 20, max_bytes: int = 4000) -> str:
        """Read the end of the log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def epoch_address(address: str, number: int) -> str:
    """Name where an instance publishes an epoch of a run that repeats its samples: each is a stream of its own."""
    return f"{address}.{number}"


def _number(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return -1


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers never see half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")  # workers write some of them at the same time
    draft.write_bytes(content)
    draft.replace(path)
