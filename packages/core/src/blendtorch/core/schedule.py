"""Which episodes an instance plays, and which of their frames become samples.

The samples of a run are numbered: `index = episode * frames_per_episode + frame`. Episodes are dealt to the ranks of a
distributed training first, and each rank's to its instances: no two make the same sample, whatever their number.
"""

import itertools
from collections.abc import Iterator

import msgspec


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Whose part of a run it is: an instance of a rank.

    Attributes
    ----------
    rank, world : int
        Of the training process, from 0, and how many there are.
    instance, instances : int
        Of the Blender process, from 0, and how many this rank has.
    """

    rank: int = 0
    world: int = 1
    instance: int = 0
    instances: int = 1

    def has(self, episode: int) -> bool:
        """Whether an episode is for this instance."""
        return episode % self.world == self.rank and episode // self.world % self.instances == self.instance


class Episode(msgspec.Struct, frozen=True):
    """An episode to play.

    Attributes
    ----------
    number : int
    first, last : int
        Its frames from `first` to `last`, both included, become samples; those before `first` are only simulated.
    """

    number: int
    first: int
    last: int


def episodes(start: int, count: int | None, frames_per_episode: int, share: Share) -> Iterator[Episode]:
    """List the episodes of an instance.

    Parameters
    ----------
    start : int
        Index of the first sample of the run.
    count : int or None
        Samples of the run, over all ranks and instances; None for no end.

    Examples
    --------
    >>> list(episodes(start=2, count=4, frames_per_episode=3, share=Share()))
    [Episode(number=0, first=2, last=2), Episode(number=1, first=0, last=2)]
    """
    end = None if count is None else start + count
    for number in itertools.count(start // frames_per_episode):
        begin = number * frames_per_episode
        if end is not None and begin >= end:
            return
        if share.has(number):
            last = frames_per_episode if end is None else min(frames_per_episode, end - begin)
            yield Episode(number, max(0, start - begin), last - 1)


def size(start: int, count: int, frames_per_episode: int, rank: int, world: int) -> int:
    """Count the samples of a rank."""
    share = Share(rank=rank, world=world)
    return sum(each.last - each.first + 1 for each in episodes(start, count, frames_per_episode, share))
