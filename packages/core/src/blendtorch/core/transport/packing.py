"""Putting the arrays of one message into a slot of the ring."""

from blendtorch.core import wire
from blendtorch.core.ring import Ring, Slot
from blendtorch.core.transport.outbox import Parcel

_SMALL_BYTES = 4096  # arrays from this size on are worth a slot


class Packing:
    """Puts the arrays of one message into a slot, from the first that is worth it on.

    Parameters
    ----------
    ring : Ring or None

    Attributes
    ----------
    missed : int
        1 where no slot was free.
    """

    def __init__(self, ring: Ring | None) -> None:
        self._ring = ring
        self._slot: Slot | None = None
        self._places: dict[int, tuple[int, int]] = {}
        self.missed = 0

    def allocate(self, nbytes: int) -> memoryview | None:
        """Find memory for an array."""
        if self._ring is None or self.missed:
            return None
        if self._slot is None:
            if nbytes < _SMALL_BYTES:
                return None
            self._slot = self._ring.take()
            if self._slot is None:
                self.missed = 1
                return None
        memory = self._slot.allocate(nbytes)
        if memory is not None:
            self._places[id(memory)] = self._slot.spans()[-1]
        return memory

    def cancel(self) -> None:
        """Give the slot back."""
        if self._slot is not None and self._ring is not None:
            self._ring.free(self._slot)

    def parcel(self, sequence: int, parts: list[wire.Part]) -> Parcel:
        """Note which parts lie in the slot."""
        spans = [self._places.get(id(part)) for part in parts[1:]]
        return Parcel(sequence, parts, spans, self._slot, sum(memoryview(part).nbytes for part in parts))
