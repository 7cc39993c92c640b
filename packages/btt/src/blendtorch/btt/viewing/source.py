"""Where samples to look at come from, and what is known of it."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import msgspec


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one Blender does, or has done.

    Attributes
    ----------
    number : int
    state : str
        'starting', 'running', 'starting again', 'ended' or 'failed'; 'recorded' where only its samples are known.
    samples : int
        That came from it.
    per_s : float
        Samples per second, lately.
    device : str
        What it renders on; empty where nobody knows.
    restarts : int
        After it had failed, died or hung.
    """

    number: int
    state: str
    samples: int
    per_s: float
    device: str = ""
    restarts: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far a source is.

    Attributes
    ----------
    state : str
        'waiting' for the first sample, 'live', 'recorded', 'ended' or 'failed'.
    first, end : int
        Numbers of the samples that can be had: `first` up to `end - 1`.
    total : int
        Samples that came, with those that cannot be had any more.
    per_s : float
    bottleneck : str
        Who keeps the other waiting, in words; empty where nobody knows.
    problem : str
        What ended it, or is in the way.
    instances : tuple of InstanceStatus
    """

    state: Literal["waiting", "live", "recorded", "ended", "failed"]
    first: int
    end: int
    total: int
    per_s: float
    bottleneck: str = ""
    problem: str = ""
    instances: tuple[InstanceStatus, ...] = ()


class Source(ABC):
    """Numbered samples. Its methods are called from several threads.

    Attributes
    ----------
    title : str
        What is looked at.
    notice : str
        What a viewer should know; empty for nothing.
    """

    title: str
    notice: str = ""

    @abstractmethod
    def status(self) -> Status:
        """Look how far it is.

        Raises
        ------
        BlendtorchError, OSError
            If it cannot be told, for now or for ever: the files are gone, or others.
        """

    @abstractmethod
    def sample(self, number: int) -> dict[str, Any]:
        """Give a sample.

        Raises
        ------
        LookupError
            If it is not there, or not any more.
        BlendtorchError, OSError
            If it cannot be read.
        """

    @property
    @abstractmethod
    def categories(self) -> dict[int, str]:
        """The names of the categories, by their ids; empty while nobody knows them."""
