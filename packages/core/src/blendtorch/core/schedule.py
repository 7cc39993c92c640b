"""Which episodes an instance plays, and which of their frames become samples.

The samples of a run are numbered: `index = episode * frames_per_episode + frame`. Episodes are dealt to the ranks of a
distributed training first, and each rank's to its instances: no two make the same sample, whatever their number. A run that
goes on leaves out the samples that are there, and deals the episodes that are left.
"""

import operator
from collections.abc import Iterable, Iterator

import msgspec

Ranges = tuple[tuple[int, int], ...]  # of indexes, each without its end


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

    def has(self, position: int) -> bool:
        """Whether an episode is for this instance, by its number among those that are dealt."""
        return position % self.world == self.rank and position // self.world % self.instances == self.instance


class Episode(msgspec.Struct, frozen=True):
    """An episode to play.

    Attributes
    ----------
    number : int
    frames : tuple of int
        Those of its frames that become samples, in order. Others before the last of them are only simulated.
    """

    number: int
    frames: tuple[int, ...]


def episodes(start: int, count: int | None, frames_per_episode: int, share: Share, exclude: Ranges = ()) -> Iterator[Episode]:
    """List the episodes of an instance.

    Episodes of which no sample is wanted are not dealt: what is left of a run that goes on is spread evenly.

    Parameters
    ----------
    start : int
        Index of the first sample of the run.
    count : int or None
        Samples of the run, over all ranks and instances; None for no end.
    frames_per_episode : int
    share : Share
    exclude : tuple of (int, int)
        Indexes of samples that are not wanted again, as `ranges_of` gives them: the same for each share. `count` has them.

    Examples
    --------
    >>> list(episodes(start=2, count=4, frames_per_episode=3, share=Share()))
    [Episode(number=0, frames=(2,)), Episode(number=1, frames=(0, 1, 2))]
    >>> list(episodes(start=2, count=4, frames_per_episode=3, share=Share(), exclude=((2, 3), (4, 5))))
    [Episode(number=1, frames=(0, 2))]
    """
    if count == 0:  # which may begin in the middle of an episode
        return
    end = None if count is None else start + count
    number = position = start // frames_per_episode
    passed = 0  # ranges that lie before the episode
    while end is None or number * frames_per_episode < end:
        begin = number * frames_per_episode
        low, high = max(start, begin), begin + frames_per_episode
        high = high if end is None else min(high, end)
        while passed < len(exclude) and exclude[passed][1] <= low:
            passed += 1
        if passed < len(exclude) and exclude[passed][0] <= low and high <= exclude[passed][1]:
            number = max(number + 1, exclude[passed][1] // frames_per_episode)  # there may be a million in one range
            continue
        if share.has(position):
            yield Episode(number, tuple(index - begin for index in _without(low, high, exclude, passed)))
        position += 1
        number += 1


def _without(low: int, high: int, exclude: Ranges, passed: int) -> Iterator[int]:
    while passed < len(exclude) and exclude[passed][0] < high:
        yield from range(low, exclude[passed][0])
        low = exclude[passed][1]
        passed += 1
    yield from range(low, high)


def size(start: int, count: int, frames_per_episode: int, rank: int, world: int, exclude: Ranges = ()) -> int:
    """Count the samples of a rank."""
    share = Share(rank=rank, world=world)
    return sum(len(each.frames) for each in episodes(start, count, frames_per_episode, share, exclude))


def ranges_of(indexes: Iterable[int | range]) -> Ranges:
    """Write indexes as ranges: sorted, apart from each other, without their ends.

    Raises
    ------
    TypeError, ValueError
        If something is no index.

    Examples
    --------
    >>> ranges_of([7, range(3), 3, 9, 8])
    ((0, 4), (7, 10))
    """
    found: list[tuple[int, int]] = []
    for each in indexes:
        if isinstance(each, range) and each.step == 1:
            found += [(each.start, each.stop)] if each else []
        else:
            found += [(index, index + 1) for index in map(operator.index, each if isinstance(each, range) else (each,))]
    found.sort()
    if found and found[0][0] < 0:
        raise ValueError(f"{found[0][0]} is no index of a sample: expected 0 or more")
    merged: list[tuple[int, int]] = []
    for begin, end in found:
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return tuple(merged)
