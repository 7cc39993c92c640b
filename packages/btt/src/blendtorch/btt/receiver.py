"""Receiving frames: one process's end of the stream."""

import contextlib
import time
from collections.abc import Sequence

from blendtorch.btt.launch_info import Addresses
from blendtorch.btt.launch_watch import LaunchWatch, describe_failure
from blendtorch.btt.throughput import Tally
from blendtorch.core.errors import InstanceError, StreamTimeoutError
from blendtorch.core.launch import InstanceFiles
from blendtorch.core.messages import Failure, Frame
from blendtorch.core.record import DeliveryRecord
from blendtorch.core.transport import Keys, Pull

_START_S = 60.0  # what an instance of a launch on this machine may take before it connects
_CHECK_S = 0.25  # so often a stream that flows looks after its instances


class Receiver:
    """Takes frames from all instances.

    Parameters
    ----------
    addresses : sequence of str
        `Addresses` of a launch on this machine also tell how its instances end.
    queue_size : int
        Frames queued per instance before it has to wait.
    timeout_s : float
        Longest silence; negative for any.
    epoch : int, optional
        Of a run that repeats its samples: that of the addresses.
    keys : Keys, optional
        Default: those of the launch.
    allow_pickle : bool
        Accept pickled values.
    tally : Tally, optional
        Told of what is taken.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        queue_size: int,
        timeout_s: float,
        epoch: int | None = None,
        keys: Keys | None = None,
        allow_pickle: bool = False,
        tally: Tally | None = None,
    ) -> None:
        folder = addresses.launch_folder if isinstance(addresses, Addresses) else None
        self._watch = None if folder is None else LaunchWatch(folder, len(addresses), epoch)
        self._records: dict[str, DeliveryRecord] = {}
        if folder is not None:
            with contextlib.suppress(FileNotFoundError):  # the launch has ended, as `check` will say
                for number, address in enumerate(addresses):
                    if (record := InstanceFiles(folder, number).open_record(address)) is not None:
                        self._records[address] = record
        keys = keys or (addresses.keys if isinstance(addresses, Addresses) else None)
        self._pull = Pull(addresses, queue_size, keys=keys, allow_pickle=allow_pickle)
        self._tally = tally
        self._addresses = list(addresses)
        self._queue_size = queue_size
        self._timeout_s = timeout_s
        self._held: Frame | None = None
        self._frames = 0
        self._silence_s = self._waited_s = 0.0
        self._next_check = 0.0
        self._frames_before_error = queue_size * len(addresses)
        self._restarts = 0

    def wait(self, timeout_ms: int) -> bool:
        """Wait for a frame, `timeout_ms` at most; return whether `take` has one.

        Raises
        ------
        DecodeError
            If something else than a message arrived.
        InstanceError
            If an instance has failed or died. What it had sent before comes first.
        StreamTimeoutError
            If no instance has given a sign of life for the time-out.
        """
        if self._held is not None:
            return True
        before = time.monotonic()
        connected = len(self._pull.connected)
        arrived = self._pull.wait(timeout_ms)
        self._waited_s += time.monotonic() - before
        if arrived:
            self._receive()
        if arrived or len(self._pull.connected) > connected:
            self._silence_s = 0.0
        else:
            # A process that was stopped meanwhile has not waited so long.
            self._silence_s += min(time.monotonic() - before, 2 * timeout_ms / 1000)
        self.check(arrived)
        return self._held is not None

    def take(self) -> Frame | None:
        """Return the frame that `wait` has found; it counts as delivered. None where another process was faster.

        An instance that was started again may send what a consumer still had, and has yielded since.
        """
        frame, self._held = self._held, None
        if frame is None:
            raise RuntimeError("take() without a frame: wait() says when there is one")
        record = self._records.get(self._pull.origin)
        first = record is None or record.claim(frame.sequence)
        self._pull.acknowledge()
        if not first:
            return None
        if self._tally is not None:
            self._tally.add(self._addresses.index(self._pull.origin), self._pull.nbytes, self._waited_s)
            self._waited_s = 0.0
        return frame

    def ended(self) -> bool:
        """Whether no instance will send anything any more.

        An instance that ends waits until everything is delivered: whoever finds that it has ended has missed nothing.
        """
        if self._held is not None:
            return False
        finished = set() if self._watch is None else self._watch.finished()
        return all(address in self._pull.ended or number in finished for number, address in enumerate(self._addresses))

    def rest(self) -> None:
        """Forget how long it was silent: nobody waited for a frame."""
        self._silence_s = 0.0

    def close(self) -> None:
        """Close the sockets; what is queued is for others."""
        self._held = None  # and the slot that it holds
        self._records.clear()
        self._pull.close()

    def _receive(self) -> None:
        message = self._pull.receive()
        if isinstance(message, Frame):
            self._held = message
            self._frames += 1
        elif isinstance(message, Failure):
            log = None if self._watch is None else self._watch.log_of(message.btid)
            raise InstanceError(describe_failure(message.btid, message.error, message.traceback, log))

    def check(self, arrived: bool = False) -> None:
        """Raise what `wait` raises about instances; `arrived`: while messages still come in."""
        now = time.monotonic()
        if self._watch is not None and now >= self._next_check:
            self._next_check = now + _CHECK_S
            if (restarts := self._watch.restarts()) != self._restarts:
                self._restarts, self._silence_s = restarts, 0.0
            try:
                self._watch.check()
            except InstanceError:
                # The instance's last frames may still be queued among those of others: let so many through first.
                self._next_check = 0.0
                self._frames_before_error -= 1
                if not arrived or self._frames_before_error < 0:
                    raise
        if 0 <= self._silence_limit_s() < self._silence_s:
            raise StreamTimeoutError(self._describe_silence())

    def _silence_limit_s(self) -> float:
        # A Blender that starts gives no sign of life, and that it runs is known: it has longer.
        first = self._restarts > 0 or not self._frames
        starting = self._watch is not None and self._timeout_s >= 0 and first and not self._pull.connected
        return max(self._timeout_s, _START_S) if starting else self._timeout_s

    def _describe_silence(self) -> str:
        limit_ms = round(self._timeout_s * 1000)
        lines = [
            f"No sign of life for {self._silence_s:.1f} s (timeoutms={limit_ms}), after {self._frames} frames.",
            *(
                f"  {address}: {'connected, but nothing published' if address in self._pull.connected else 'not connected'}"
                for address in self._addresses
            ),
        ]
        if self._watch is not None:
            lines.append(self._watch.describe())
        lines.append("If a frame may take so long, pass a larger timeoutms; -1 waits for ever.")
        return "\n".join(lines)
