"""What a launcher tells an instance, and what an instance leaves behind: files of one private launch folder.

The launcher writes `instance_00.json` and names it on the command line of the instance. The instance writes its
failure beside it; the launcher writes its exit code. Consumers, in whatever process, read both.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec
from blendtorch.core.assets import Unit, is_mesh
from blendtorch.core.atomic import write_atomically
from blendtorch.core.configuration import RunConfiguration
from blendtorch.core.record import DeliveryRecord
from blendtorch.core.schedule import Share
from blendtorch.core.transport import Keys

RECYCLED = 75  # the exit code of an instance that asks for a fresh process; EX_TEMPFAIL of sysexits.h

KEYS = "keys.json"  # in the launch folder, for tcp
_EXIT_CODE_BYTES = 16


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
        Absolute path of the .blend file, or of a mesh, which gets a studio around it; empty for the factory scene, or for a
        studio where the run has assets.
    unit : {'m', 'cm', 'mm', 'in'}
        Of the numbers in a mesh.
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
    restartable : bool
        Whether the launcher starts it again, and it goes on where its consumers are.
    attempt : int
        How often it was started before.
    recycle_after : int or None
        Samples after which it asks for a fresh process.
    memory_limit_mb : int or None
        Resident memory of its own above which it asks for a fresh process, in MiB.
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
    unit: Unit = "m"
    run: RunSpec | None = None
    restartable: bool = False
    attempt: int = 0
    recycle_after: int | None = None
    memory_limit_mb: int | None = None

    @property
    def blend(self) -> str:
        """The scene where it is a .blend file, which a blender executable opens itself; else empty."""
        return "" if is_mesh(self.scene) else self.scene


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
    final : bool
        Whether the failure would come again in a fresh process: the run is described wrongly.
    sequence : int
        How many messages its publishers had numbered when it failed.
    """

    error: str = ""
    traceback: str = ""
    notices: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    categories: dict[int, str] | None = None
    final: bool = False
    sequence: int = 0


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    """How often an instance was started again.

    Attributes
    ----------
    failures : int
        After it had failed, died or hung.
    recycled : int
        Because it asked for a fresh process.
    verdict : str
        Why it is not started again; empty while it may be.
    """

    failures: int = 0
    recycled: int = 0
    verdict: str = ""


class EpisodeStart(msgspec.Struct, frozen=True, kw_only=True):
    """Where the messages of an episode of a script begin.

    Attributes
    ----------
    play, episode : int
        Which call of `AnimationController.play` of the script it was, and which episode of that, both from 0.
    sequences : dict of str to int
        The first sequence number of each publisher, by its address.
    """

    play: int
    episode: int
    sequences: dict[str, int]


class InstanceFiles:
    """The files of one instance in a launch folder.

    Parameters
    ----------
    folder : Path
    number : int
        Of the instance, from 0.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._stem = stem = f"instance_{number:02d}"
        self.folder = folder
        self.number = number
        self.spec = folder / f"{stem}.json"
        self.log = folder / f"{stem}.log"
        self.process = folder / f"{stem}.pid"
        self.exit_code = folder / f"{stem}.exit"
        self.report = folder / f"{stem}.report"
        self.finished = folder / f"{stem}.epoch"
        self.restarts = folder / f"{stem}.restarts"
        self.episodes = folder / f"{stem}.episodes"
        self.epoch = folder / "epoch"  # of the whole launch
        self.keys = folder / KEYS  # of the whole launch

    @classmethod
    def of_spec(cls, path: Path) -> "InstanceFiles":
        """Find the files of the instance whose specification lies at `path`."""
        return cls(path.parent, int(path.stem.rpartition("_")[2]))

    def read_spec(self) -> InstanceSpec:
        """Read what the instance is to do.

        Raises
        ------
        FileNotFoundError
            If the launch has ended.
        """
        return msgspec.json.decode(self.spec.read_bytes(), type=InstanceSpec)

    def record(self, address: str) -> Path:
        """Name the file of the `DeliveryRecord` of one of its publishers."""
        return self.folder / f"{self._stem}.{_label(address)}.delivered"

    def load_keys(self) -> Keys | None:
        """Read the keys of the launch; None where it has no socket that needs them."""
        return Keys.load(self.keys) if self.keys.exists() else None

    def open_record(self, address: str) -> DeliveryRecord | None:
        """Open the record of what a publisher has delivered; None where the launch starts nothing again, and needs none."""
        return DeliveryRecord(self.record(address)) if self.read_spec().restartable else None

    def status(self, address: str) -> Path:
        """Name the file of the `PublisherStatus` of one of its publishers; the epochs of a run share one."""
        label = _label(address)
        return self.folder / f"{self._stem}.{label.partition('.')[0] if address.startswith('ipc:') else label}.status"

    def statuses(self) -> list[Path]:
        """Find the files of `PublisherStatus` that its publishers have made."""
        return sorted(self.folder.glob(f"{self._stem}.*.status"))

    def read_restarts(self) -> Restarts:
        """Read how often the instance was started again."""
        try:
            return msgspec.json.decode(self.restarts.read_bytes(), type=Restarts)
        except FileNotFoundError:
            return Restarts()

    def write_restarts(self, restarts: Restarts) -> None:
        """Write it, atomically."""
        write_atomically(self.restarts, msgspec.json.encode(restarts))

    def note_episode(self, start: EpisodeStart) -> None:
        """Write down where the messages of an episode begin, behind those before."""
        with self.episodes.open("ab") as file:
            # The newline first: half a line of an instance that died stays alone.
            file.write(b"\n" + msgspec.json.encode(start))

    def write_episodes(self, starts: list[EpisodeStart]) -> None:
        """Write down these instead of all before."""
        write_atomically(self.episodes, b"".join(b"\n" + msgspec.json.encode(start) for start in starts))

    def read_episodes(self) -> list[EpisodeStart]:
        """Read where episodes begin, as they were played; a line that a killed instance wrote by half is left out."""
        starts = []
        with suppress(FileNotFoundError):
            for line in self.episodes.read_bytes().splitlines():
                with suppress(msgspec.DecodeError):
                    starts.append(msgspec.json.decode(line, type=EpisodeStart))
        return starts

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
            return int(self.exit_code.read_bytes().strip(b"\0"))
        except (FileNotFoundError, ValueError):  # or it is empty so far
            return None

    def reserve_exit_code(self) -> None:
        """Take the room for it, before the disk is full.

        Raises
        ------
        OSError
            If it is full already.
        """
        with self.exit_code.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _EXIT_CODE_BYTES)

    def write_exit_code(self, code: int) -> None:
        """Note how the instance has ended, for its consumers."""
        with self.exit_code.open("r+b", buffering=0) as file:
            file.write(str(code).encode().ljust(_EXIT_CODE_BYTES, b"\0"))

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


def _label(address: str) -> str:
    """Make an address part of a file name; one launch has no two that differ only before the last slash."""
    return re.sub(r"[^\w.-]", "_", address.rpartition("/")[2])


def _number(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return -1
