"""Callbacks, called in the order in which they were added."""

from collections.abc import Callable
from functools import partial
from typing import Any


class Signal:
    """A list of callbacks.

    Examples
    --------
    >>> signal = Signal()
    >>> handle = signal.add(print, "frame", sep=" number ")
    >>> signal.invoke(1)
    frame number 1
    >>> signal.remove(handle)
    >>> signal.invoke(2)
    """

    def __init__(self) -> None:
        self.slots: list[partial[Any]] = []

    def add(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> partial[Any]:
        """Append a callback.

        Parameters
        ----------
        fn : callable
            Called with `args`, then the arguments of `invoke`, and with `kwargs`.

        Returns
        -------
        handle
            For `remove`.
        """
        handle = partial(fn, *args, **kwargs)
        self.slots.append(handle)
        return handle

    def remove(self, handle: partial[Any]) -> None:
        """Take a callback out again.

        Raises
        ------
        ValueError
            If `handle` is not from `add` of this signal, or was removed already.
        """
        self.slots.remove(handle)

    def invoke(self, *args: Any, **kwargs: Any) -> None:
        """Call all callbacks; one may add and remove callbacks, which takes effect from the next call on."""
        for slot in tuple(self.slots):
            slot(*args, **kwargs)

    __call__ = invoke
