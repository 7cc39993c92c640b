"""Receiving frames: one process's end of the stream."""

import time
from collections.abc import Sequence

from blendtorch.btt.launch_info import Addresses
from blendtorch.btt.launch_watch import LaunchWatch, describe_failure
from blendtorch.core.errors import AddressError, InstanceError, StreamTimeoutError
from blendtorch.core.messages import EndOfStream, Failure, Frame
from blendtorch.core.transport import Pull

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
    """

    def __init__(self, addresses: Sequence[str], queue_size: int, timeout_s: float, epoch: int | None = None) -> None:
        folder = addresses.launch_folder if isinstance(addresses, Addresses) else None
        self._watch = None if folder is None else LaunchWatch(folder, len(addresses), epoch)
        self._pull = Pull(addresses, queue_size)
        self._addresses = list(addresses)
        self._queue_size = queue_size
        self._timeout_s = timeout_s
        self._held: Frame | None = None
        self._ended: set[str] = set()
        self._farewells: set[str] = set()
        self._frames = 0
        self._silence_s = 0.0
        self._next_check = 0.0
        self._frames_before_error = queue_size * len(addresses)

    def wait(self, timeout_ms: int) -> bool:
        """Wait for a frame, `timeout_ms` at most; return whether `take` has one.

        Raises
        ------
        DecodeError
            If something else than a message arrived.
        AddressError
            If a publisher has ended and it cannot be told which one.
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
        if arrived:
            self._receive()
        if arrived or len(self._pull.connected) > connected:
            self._silence_s = 0.0
        else:
            # A process that was stopped meanwhile has not waited so long.
            self._silence_s += min(time.monotonic() - before, 2 * timeout_ms / 1000)
        self.check(arrived)
        return self._held is not None

    def take(self) -> Frame:
        """Return the frame that `wait` has found."""
        frame, self._held = self._held, None
        if frame is None:
            raise RuntimeError("take() without a frame: wait() says when there is one")
        return frame

    def ended(self) -> bool:
        """Whether no instance will send anything any more.

        An instance that ends waits until its consumers have read its last message: whoever has not, and finds that it has
        ended, was not connected to it, and has missed nothing.
        """
        finished = set() if self._watch is None else self._watch.finished()
        return all(address in self._ended or number in finished for number, address in enumerate(self._addresses))

    def rest(self) -> None:
        """Forget how long it was silent: nobody waited for a frame."""
        self._silence_s = 0.0

    def close(self) -> None:
        """Close the sockets; what is queued is lost."""
        self._pull.close()

    def _receive(self) -> None:
        message = self._pull.receive()
        if isinstance(message, Frame):
            self._held = message
            self._frames += 1
        elif isinstance(message, EndOfStream):
            self._disconnect(message)
        elif isinstance(message, Failure):
            self._disconnect(message)
            log = None if self._watch is None else self._watch.log_of(message.btid)
            raise InstanceError(describe_failure(message.btid, message.error, message.traceback, log))

    def _disconnect(self, last: EndOfStream | Failure) -> None:
        if last.address in self._farewells:  # it is repeated until we are gone
            return
        address = self._pull.disconnect(last.address)
        if address is None:
            raise AddressError(
                f"the publisher that listens on {last.address} has ended, and it cannot be told which of "
                f"{', '.join(self._addresses)} it is: give its address as it knows it, or different ports"
            )
        self._farewells.add(last.address)
        self._ended.add(address)

    def check(self, arrived: bool = False) -> None:
        """Raise what `wait` raises about instances; `arrived`: while messages still come in."""
        now = time.monotonic()
        if self._watch is not None and now >= self._next_check:
            self._next_check = now + _CHECK_S
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
        starting = self._watch is not None and self._timeout_s >= 0 and not (self._pull.connected or self._frames)
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
