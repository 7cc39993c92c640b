"""Frames between processes of one machine: a ring of slots in a memory file, written by one process and read by others.

The owner copies each array once into a slot, and a consumer lays arrays over that slot. The life of a slot is the life
of this memory: it is given out again when the owner has freed it and no array over it is left in any consumer.

The file has no name and no file system: nothing of it counts against `/dev/shm`, and the kernel takes it away with the last
process that has it, however that one ended. Its pages are taken when they are first written. Others open it through
`/proc/PID/fd/FD`.

It begins with a table, one row of 64 cells for each slot, and with a token that tells it from other rings. The cell
(slot, column) is 1 while the consumer with that column holds the slot. Each consumer writes its own column only, so the table
needs no lock.
"""

import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import RingError

DEFAULT_SLOTS = 32
DEFAULT_SLOT_BYTES = 64 << 20
COLUMNS = 64  # of the table: consumers that can hold slots at the same time
_TOKEN_BYTES = 16
_ALIGNMENT = 64
_NOT_HELD = bytes(COLUMNS)
# From linux/fcntl.h: a Python that was built with a glibc before 2.27 does not have the names, and may still open rings.
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
# SEAL, SHRINK, GROW: nobody can take memory away from under a mapping, which would end its process with SIGBUS.
_SEALS = 0x1 | 0x2 | 0x4


class RingDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer needs to open a ring. It travels in a message.

    Attributes
    ----------
    pid : int
        The process that owns the ring.
    fd : int
        The number of the memory file in that process.
    token : bytes
        Random, and in the file: the numbers may mean another ring by now, or on another machine. Inodes do not tell, machines
        that are copies of each other number their memory files alike.
    slots : int
    slot_bytes : int
        The size of each slot, in whole pages.
    """

    pid: int
    fd: int
    token: bytes
    slots: int
    slot_bytes: int


class Slot:
    """A slot that its owner fills; from `Ring.take`.

    Attributes
    ----------
    number : int
    """

    def __init__(self, number: int, memory: memoryview) -> None:
        self.number = number
        self._memory = memory
        self._spans: list[tuple[int, int]] = []
        self._end = 0

    def allocate(self, nbytes: int) -> memoryview | None:
        """Give out the next stretch of the slot.

        Parameters
        ----------
        nbytes : int

        Returns
        -------
        memoryview or None
            Writable, of format 'B', `nbytes` long, its address a multiple of 64. None where it does not fit.
        """
        end = self._end + nbytes
        if end > len(self._memory):
            return None
        self._spans.append((self._end, nbytes))
        stretch = self._memory[self._end : end]
        self._end = _round_up(end, _ALIGNMENT)
        return stretch

    def spans(self) -> list[tuple[int, int]]:
        """List what was allocated, in order: pairs of the offset in the slot and the size, in bytes."""
        return list(self._spans)


class Ring:
    """The owner's side: a memory file of slots.

    Parameters
    ----------
    slots : int
    slot_bytes : int
        The size of each slot, rounded up to whole pages. Memory is used for what has been written only.

    Attributes
    ----------
    descriptor : RingDescriptor

    Raises
    ------
    RingError
        If the kernel refuses such a file.

    Examples
    --------
    >>> with Ring(slots=2, slot_bytes=4096) as ring:
    ...     slot = ring.take()
    ...     slot.allocate(3)[:] = b"abc"
    ...     view = RingView(ring.descriptor, column=0)
    ...     [array] = view.open(slot.number, slot.spans())
    ...     ring.free(slot)
    ...     held = ring.take().number
    ...     text = bytes(array)
    ...     del array
    ...     text, held, ring.take().number
    (b'abc', 1, 0)
    """

    def __init__(self, slots: int = DEFAULT_SLOTS, slot_bytes: int = DEFAULT_SLOT_BYTES) -> None:
        if slots < 1 or slot_bytes < 1:
            raise RingError(f"a ring has at least one slot of at least one byte, got {slots} of {slot_bytes}")
        self._slots = slots
        self._slot_bytes = _round_up(slot_bytes, mmap.PAGESIZE)
        self._taken: dict[int, Slot] = {}
        size = _file_bytes(slots, self._slot_bytes)
        self._fd = -1
        try:
            self._fd = os.memfd_create("blendtorch-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self._fd, size)
            fcntl.fcntl(self._fd, _F_ADD_SEALS, _SEALS)
            self._table = mmap.mmap(self._fd, size)
        except (OSError, OverflowError, AttributeError) as error:  # such an old Python has no os.memfd_create
            self.close()
            raise RingError(f"cannot make a ring of {size} bytes: {error}; choose fewer or smaller slots, or none") from None
        self._memory = memoryview(self._table)
        token = os.urandom(_TOKEN_BYTES)
        self._memory[slots * COLUMNS : slots * COLUMNS + _TOKEN_BYTES] = token
        self.descriptor = RingDescriptor(pid=os.getpid(), fd=self._fd, token=token, slots=slots, slot_bytes=self._slot_bytes)

    def take(self) -> Slot | None:
        """Take the lowest free slot, which is likely to be in the cache; None where none is free, or the ring is closed."""
        if self._fd < 0:
            return None
        for number in range(self._slots):
            if number not in self._taken and self._table[number * COLUMNS : (number + 1) * COLUMNS] == _NOT_HELD:
                begin = _file_bytes(self._slots, 0) + number * self._slot_bytes
                slot = self._taken[number] = Slot(number, self._memory[begin : begin + self._slot_bytes])
                return slot
        return None

    def free(self, slot: Slot) -> None:
        """Say that the owner needs `slot` no more, once its consumer has opened it, or will not. Twice does nothing."""
        if self._taken.get(slot.number) is slot:
            del self._taken[slot.number]

    def holds(self, column: int) -> bool:
        """Whether the consumer with a column holds a slot.

        Raises
        ------
        RingError
            If the table has no such column.
        """
        _check_column(column)
        return any(self._table[column : self._slots * COLUMNS : COLUMNS])

    def forget(self, column: int) -> None:
        """Clear the cells of a consumer whose process has ended: what it held is free.

        Raises
        ------
        RingError
            If the table has no such column.
        """
        _check_column(column)
        self._table[column : self._slots * COLUMNS : COLUMNS] = bytes(self._slots)

    def close(self) -> None:
        """Close: no other consumer can open the ring. The memory goes with this object and the last view and array.

        Closing twice does nothing.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class RingView:
    """A consumer's side: lays arrays over the slots of somebody else's ring.

    A process that is forked off has to make a view of its own. The arrays that it inherits do not hold their slots: their
    elements may change as soon as the process that opened them lets go of its own.

    Parameters
    ----------
    descriptor : RingDescriptor
    column : int
        Of the table, for this consumer alone; from 0 to 63.

    Raises
    ------
    RingError
        If the ring is out of reach (another machine, container or user; its owner has ended or closed it), or is not what the
        descriptor says. Nothing is mapped then.
    """

    def __init__(self, descriptor: RingDescriptor, column: int) -> None:
        _check_column(column)
        self._descriptor = descriptor
        self._column = column
        self._process = os.getpid()
        self._memory: mmap.mmap | None = _map(descriptor)
        self._address = np.frombuffer(self._memory, np.uint8).ctypes.data

    def open(self, slot: int, spans: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.uint8]]:
        """Lay arrays over a slot, and hold it as long as any array over their memory lives.

        Parameters
        ----------
        slot : int
        spans : sequence of (int, int)
            As `Slot.spans` gives them.

        Returns
        -------
        list of ndarray, dtype uint8
            One for each span, writable.

        Raises
        ------
        RingError
            If there is no such slot, this view holds it already, the spans are not inside it, one behind the other, or the
            view is closed or another process's. The slot is not held then.
        """
        if self._memory is None or os.getpid() != self._process:
            raise RingError("this view of a ring is closed, or belongs to the process that forked this one: open another")
        slots, slot_bytes = self._descriptor.slots, self._descriptor.slot_bytes
        if not 0 <= slot < slots:
            raise RingError(f"a ring of {slots} slots has no slot {slot}")
        end = 0
        for offset, size in spans:
            if offset < end or offset % _ALIGNMENT or size < 0 or offset + size > slot_bytes:
                raise RingError(f"spans {spans} are refused: they overlap, are not aligned, or exceed {slot_bytes} bytes")
            end = offset + size
        cell = slot * COLUMNS + self._column
        if self._memory[cell]:
            raise RingError(f"slot {slot} is still held by arrays of this process: the sender may not fill it again yet")
        address = self._address + _file_bytes(slots, 0) + slot * slot_bytes
        whole = np.asarray(_Hold(self._memory, cell, address, end))
        return [whole[offset : offset + size] for offset, size in spans]

    def close(self) -> None:
        """Open no more slots. Arrays stay valid, and the mapping goes with the last of them. Closing twice does nothing."""
        self._memory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Hold:
    """The base of all arrays over one slot: keeps the mapping, and the cell at 1, until the last of them dies."""

    __slots__ = ("__array_interface__", "_cell", "_memory", "_process")

    def __init__(self, memory: mmap.mmap, cell: int, address: int, size: int) -> None:
        self.__array_interface__: dict[str, Any] = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),  # not read-only
            "version": 3,
        }
        self._memory, self._cell, self._process = memory, cell, os.getpid()
        memory[cell] = 1

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:  # an argument: modules go before the last arrays
        # A fork copies this object: the process that opened the slot still has its arrays.
        if getpid() == self._process:
            self._memory[self._cell] = 0


def _map(descriptor: RingDescriptor) -> mmap.mmap:
    """Open the file of a ring and map it, once it has proved to be that."""
    slots, slot_bytes = descriptor.slots, descriptor.slot_bytes
    if slots < 1 or slot_bytes < 1:
        raise RingError(f"a ring has at least one slot of at least one byte, was announced with {slots} of {slot_bytes}")
    path, size = Path(f"/proc/{descriptor.pid}/fd/{descriptor.fd}"), _file_bytes(slots, slot_bytes)
    try:
        status = path.stat()
        # Asked before it is opened, which may wait, or do something, where it is a pipe or a device.
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise _other_file(descriptor)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if fcntl.fcntl(fd, _F_GET_SEALS) & _SEALS != _SEALS:
                raise RingError(f"{path} is not sealed: its owner could take the memory away")
            if os.fstat(fd).st_size != size or os.pread(fd, _TOKEN_BYTES, slots * COLUMNS) != descriptor.token:
                raise _other_file(descriptor)
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)
    except (OSError, ValueError, OverflowError) as error:
        raise RingError(
            f"the ring of process {descriptor.pid} is out of reach: {error}; it can be shared by processes of one user on one "
            "machine, in one container"
        ) from None


def _other_file(descriptor: RingDescriptor) -> RingError:
    return RingError(
        f"file {descriptor.fd} of process {descriptor.pid} is not the ring that was announced: its owner has closed it, or "
        "runs on another machine"
    )


def _check_column(column: int) -> None:
    if not 0 <= column < COLUMNS:
        raise RingError(f"the table of a ring has no column {column}: expected 0 to {COLUMNS - 1}")


def _file_bytes(slots: int, slot_bytes: int) -> int:
    return _round_up(slots * COLUMNS + _TOKEN_BYTES, mmap.PAGESIZE) + slots * slot_bytes


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
