"""Instances that fail, hang or grow are ended and started again.

An instance that is started again goes on where its consumers are: it leaves out what was delivered, and makes what was not
delivered once more, the same.
"""

import contextlib
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import psutil
from blendtorch.btt import processes
from blendtorch.btt.launch_watch import describe_code
from blendtorch.core.errors import BlendtorchError, LaunchError
from blendtorch.core.launch import RECYCLED, InstanceFiles, InstanceSpec, Report, Restarts
from blendtorch.core.status import PublisherStatus, Status

logger = logging.getLogger("blendtorch")

_MAX_PAUSE_S = 30.0
_STEADY_S = 60.0  # who ran so long before it failed is started again after the first pause
_LONGEST_ROUND_S = 1.0  # a launcher that was stopped meanwhile has not watched for so long
_STOPPED = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an instance is ended, and when it is started again.

    Attributes
    ----------
    mode : {'on-failure', 'never'}
        Whether an instance that failed, died or hung is started again.
    limit : int
        Restarts after failures, per instance; then the failure is raised where the stream is read.
    pause_s : float
        Before the first restart, in seconds; doubled for each that follows soon, up to 30.
    recycle_after : int, optional
        Samples after which an instance is exchanged for a fresh process, at the end of an episode. No failure.
    memory_limit_mb : int, optional
        Resident memory of an instance, in MiB, above which it is exchanged, at the end of an episode. No failure. Shared
        memory (libraries, pictures on their way) does not count.
    hung_after_s : float, optional
        An instance that publishes nothing for so long, and does not wait for its consumers, is ended, as a failure. Longer
        than Blender takes to start and to render one sample. None: never.

    Raises
    ------
    LaunchError
        If a field is out of range.

    Examples
    --------
    >>> RestartPolicy(limit=10, memory_limit_mb=8000).restartable
    True
    >>> RestartPolicy(limit=-1)
    Traceback (most recent call last):
    blendtorch.core.errors.LaunchError: limit is -1: expected 0 or more
    """

    mode: Literal["on-failure", "never"] = "on-failure"
    limit: int = 3
    pause_s: float = 1.0
    recycle_after: int | None = None
    memory_limit_mb: int | None = None
    hung_after_s: float | None = 300

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.mode not in ("on-failure", "never"):
            raise LaunchError(f"mode is {self.mode!r}: expected 'on-failure' or 'never'")
        for name, least in (("limit", 0), ("pause_s", 0), ("recycle_after", 1), ("memory_limit_mb", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise LaunchError(f"{name} is {value}: expected {least} or more")
        if self.hung_after_s is not None and self.hung_after_s <= 0:
            raise LaunchError(f"hung_after_s is {self.hung_after_s}: expected more than 0, or None")

    @property
    def restartable(self) -> bool:
        """Whether an instance may be started again, for whatever reason."""
        return self.mode == "on-failure" or self.recycle_after is not None or self.memory_limit_mb is not None


def restart_policy(restart: "str | Mapping[str, Any] | RestartPolicy") -> RestartPolicy:
    """Read the argument `restart` of a launch.

    Parameters
    ----------
    restart : str, mapping or RestartPolicy
        'never': instances are left alone. 'on-failure': `RestartPolicy()`. A mapping has its fields.

    Raises
    ------
    LaunchError
        If it is none of them.
    """
    if isinstance(restart, RestartPolicy):
        return restart
    if restart == "never":
        return RestartPolicy(mode="never", hung_after_s=None)
    if restart == "on-failure":
        return RestartPolicy()
    if isinstance(restart, Mapping):
        try:
            return msgspec.convert(dict(restart), RestartPolicy)
        except msgspec.ValidationError as error:
            raise LaunchError(f"restart: {error}") from None
    raise LaunchError(f"restart is {restart!r}: expected 'never', 'on-failure' or a RestartPolicy")


class Supervisor:
    """Follows one instance: notes how it ends, ends it where it hangs, and starts it again.

    One thread at a time may call it.

    Parameters
    ----------
    spec : InstanceSpec
        Of the first attempt.
    files : InstanceFiles
    policy : RestartPolicy
    start : callable
        Starts a process by a specification.

    Attributes
    ----------
    files : InstanceFiles
    process : subprocess.Popen
        The present one, or the last.
    ended : bool
        Whether it has ended and is not started again; its exit code is in the launch folder then.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        files: InstanceFiles,
        policy: RestartPolicy,
        start: Callable[[InstanceSpec], "subprocess.Popen[bytes]"],
    ) -> None:
        self.files = files
        self.ended = False
        self._spec = spec
        self._started = 0.0
        self._policy = policy
        self._start = start
        self._restarts = Restarts()
        self._pause_s = policy.pause_s
        self._restart_at: float | None = None
        self._failed_before: Report | None = None
        self._hang: HangWatch | None = None
        files.reserve_exit_code()
        self.process = self._begin(spec)

    def look(self, may_restart: bool = True) -> None:
        """Do what is to be done now.

        Parameters
        ----------
        may_restart : bool
            False: the launch ends. A failure is noted as it is.

        Raises
        ------
        OSError
            If the end of the instance cannot be noted: the disk is full. The next look tries again.
        """
        if self.ended:
            return
        code = self.process.poll()
        if code is None:
            if may_restart and self._hang is not None and self._hang.hangs():
                logger.warning("Blender instance %d %s: it is ended", self.files.number, self._hang.verdict)
                processes.end_trees([self.process.pid])
        elif self._restart_at is not None:
            if may_restart and time.monotonic() >= self._restart_at:
                self._begin_again()
        else:
            processes.end_group(self.process.pid)  # what it has started, and left
            self._judge(code, may_restart)

    def _judge(self, code: int, may_restart: bool) -> None:
        report = self.files.read_report()
        if code == RECYCLED and self._spec.restartable and not report.error:
            if may_restart:
                self._restarts = msgspec.structs.replace(self._restarts, recycled=self._restarts.recycled + 1)
                logger.info("Blender instance %d is exchanged for a fresh process", self.files.number)
                self._plan("exchanged for a fresh process", 0.0)
            return
        hung = self._hang.verdict if self._hang is not None else ""
        if hung:
            code = code or -signal.SIGTERM  # psutil has waited for it: nobody else gets its exit code any more
        reason = self._reason_to_give_up(report) if code else ""
        if code == 0 or reason is not None or not may_restart:
            if verdict := "; ".join(text for text in (hung, reason) if text):
                with contextlib.suppress(OSError):  # a full disk: its end counts more
                    self.files.write_restarts(msgspec.structs.replace(self._restarts, verdict=verdict))
            self.files.write_exit_code(code)
            self.ended = True
            return
        self._failed_before = report
        self._restarts = msgspec.structs.replace(self._restarts, failures=self._restarts.failures + 1)
        if time.monotonic() - self._started > _STEADY_S:
            self._pause_s = self._policy.pause_s
        how = hung or (f"failed: {report.error}" if report.error else f"ended with {describe_code(code)}")
        again = f"started again in {self._pause_s:g} s ({self._restarts.failures} of {self._policy.limit})"
        logger.warning("Blender instance %d %s; it is %s. Its log: %s", self.files.number, how, again, self.files.log)
        self._plan(f"{how}; {again}", self._pause_s)
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)

    def _reason_to_give_up(self, report: Report) -> str | None:
        """Say why an instance that failed is not started again, None where it is."""
        before = self._failed_before
        if self._policy.mode == "never" or report.final:
            return ""
        if report.error and before is not None and before.error and before.sequence == report.sequence:
            return f"it failed twice at the same place, at message {report.sequence}, and was not started again"
        if self._restarts.failures >= self._policy.limit:
            return f"it was started again {self._restarts.failures} times, the limit of its RestartPolicy"
        return None

    def _plan(self, what_happened: str, pause_s: float) -> None:
        self._restart_at = time.monotonic() + pause_s
        with contextlib.suppress(OSError):  # a full disk is no reason not to start it again
            with self.files.log.open("a") as log:
                log.write(f"\n--- blendtorch: {what_happened} ---\n")
            self.files.write_restarts(self._restarts)
            # What it had to say still holds, the failure does not.
            report = self.files.read_report()
            self.files.write_report(msgspec.structs.replace(report, error="", traceback="", final=False))

    def _begin_again(self) -> None:
        self.process = self._begin(msgspec.structs.replace(self._spec, attempt=self._spec.attempt + 1))
        self._restart_at = None

    def _begin(self, spec: InstanceSpec) -> "subprocess.Popen[bytes]":
        self._started, began_ns = time.monotonic(), time.monotonic_ns()
        process = self._start(spec)
        self._spec = spec
        if self._policy.hung_after_s is not None:
            self._hang = HangWatch(process.pid, spec, self.files, self._policy.hung_after_s, began_ns)
        return process


class HangWatch:
    """Finds out whether a process publishes nothing, and does not wait for its consumers either.

    Parameters
    ----------
    pid : int
    spec : InstanceSpec
    files : InstanceFiles
    limit_s : float
        For how long it may be silent.
    began_ns : int
        When it was started, by CLOCK_MONOTONIC: what publishers said before is of the process before.

    Attributes
    ----------
    verdict : str
        What was found; empty for nothing.
    """

    def __init__(self, pid: int, spec: InstanceSpec, files: InstanceFiles, limit_s: float, began_ns: int) -> None:
        self.verdict = ""
        self._pid = pid
        self._repeats = spec.run is not None and spec.run.configuration.repeat is not None
        self._files = files
        self._limit_s = limit_s
        self._began_ns = began_ns
        self._seen: list[Status] = []
        self._silence_s = self._round_s = 0.0
        self._last_call = time.monotonic()
        self._stop_said = False

    def hangs(self) -> bool:
        """Whether it has been silent for longer than the limit; to be called often."""
        now = time.monotonic()
        self._round_s += min(now - self._last_call, _LONGEST_ROUND_S)
        self._last_call = now
        if self._round_s < min(1.0, self._limit_s / 4):
            return False
        round_s, self._round_s = self._round_s, 0.0
        seen, before = self._read(), self._seen
        self._seen = seen
        stopped = self._stopped()  # is said where it waits for consumers, too: they will wait for it
        # A change is a sign of life: what was read half in the middle of a change is one, too.
        if stopped or seen != before or any(status.waiting_since_ns for status in seen) or self._idle():
            self._silence_s = 0.0
        else:
            self._silence_s += round_s
        if self._silence_s > self._limit_s:
            self.verdict = f"has published nothing for {self._silence_s:.0f} s and does not wait for a consumer: it hangs"
        return bool(self.verdict)

    def _read(self) -> list[Status]:
        """Read what the publishers of this process say; not those of the process before."""
        found = []
        for path in self._files.statuses():
            with contextlib.suppress(BlendtorchError):
                found.append(PublisherStatus.open(path).read())
        return [status for status in found if status.started_ns >= self._began_ns]

    def _idle(self) -> bool:
        """Whether it waits to be asked for an epoch."""
        return self._repeats and self._files.finished_epoch() >= self._files.asked_epoch()

    def _stopped(self) -> bool:
        try:
            stopped = psutil.Process(self._pid).status() in _STOPPED
        except psutil.NoSuchProcess:
            return False
        if stopped and not self._stop_said:
            logger.warning("Blender instance %d is stopped (process %d): kill -CONT %d continues it", *self._names())
        self._stop_said = stopped
        return stopped

    def _names(self) -> tuple[int, int, int]:
        return self._files.number, self._pid, self._pid
