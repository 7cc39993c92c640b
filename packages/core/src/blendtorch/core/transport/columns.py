"""Which consumer has which column of a ring's table."""

from collections.abc import Iterable

from blendtorch.core.ring import COLUMNS, Ring
from blendtorch.core.transport.locality import is_alive


class Columns:
    """The columns of one ring: offered to a connection, then a process's.

    A process that lives keeps its column while its arrays hold slots, when its connection has long been closed.

    Parameters
    ----------
    ring : Ring
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._owners: dict[int, bytes | int] = {}

    def offer(self, route: bytes, in_use: Iterable[int | None]) -> int | None:
        """Find a free column for a connection; None where there is none.

        Parameters
        ----------
        route : bytes
        in_use : iterable of (int, or None)
            The columns of all consumers.
        """
        kept = set(in_use)
        for column, owner in list(self._owners.items()):
            if not isinstance(owner, int) or column in kept:
                continue
            if not is_alive(owner):
                self._ring.forget(column)
            elif self._ring.holds(column):
                continue
            del self._owners[column]
        free = next((column for column in range(COLUMNS) if column not in self._owners), None)
        if free is not None:
            self._owners[free] = route
        return free

    def settle(self, route: bytes, column: int, pid: int, others: Iterable[int | None]) -> int | None:
        """Give a consumer the column that it was offered, or had before its connection was lost; None where it may not have it.

        Parameters
        ----------
        route : bytes
        column : int
            What the consumer says.
        pid : int
            Its process.
        others : iterable of (int, or None)
            The columns of the other consumers.
        """
        owner = self._owners.get(column)
        self.withdraw(route)
        if owner != route and (owner != pid or column in set(others)):
            return None
        self._owners[column] = pid
        return column

    def withdraw(self, route: bytes) -> None:
        """Take back what a connection was offered."""
        self._owners = {column: owner for column, owner in self._owners.items() if owner != route}
