"""What can be said of a data set by looking at all of it: how much there is of what, and what cannot be right."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.btt.auditing.facts import PictureFacts, SampleFacts

TINY = 1e-3  # of the picture
HIDDEN = 0.5  # less is visible
_IMBALANCE = 10.0  # the most frequent class has so many times the objects of the rarest
_NEAR = 1.0  # levels: the root of the mean square between thumbnails of pictures that are nearly the same
_BLOCK = 2048  # pictures that are compared at once

UNREADABLE = "samples that cannot be read"
SAME, NEARLY, LEAKS = "pictures that are there twice", "pictures that are nearly the same", "the same picture in two splits"
EPISODES, UNKNOWN_EPISODES = "episodes in two splits", "episodes are not known"


class Finding(msgspec.Struct, frozen=True):
    """Something that a look at the data has found.

    Attributes
    ----------
    what : str
        In words, as the title of a list.
    where : list of str
        Each place.
    wrong : bool
        It cannot be right; else it may be meant so.
    """

    what: str
    where: list[str]
    wrong: bool


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is of what.

    Attributes
    ----------
    samples, pictures, objects : int
    empty : int
        Pictures without an object.
    splits : dict of str to int
        Pictures of each part; empty where there are no parts.
    classes : dict of str to int
        Objects of each category, those without any too.
    tiny, truncated : int
        Objects smaller than 1/1000 of their picture, cut by its border.
    hidden : int or None
        Objects that are less than half visible; None where the format does not say.
    ignored, left_out : dict of str to int
        Objects by the reason.
    findings : list of Finding
    """

    samples: int
    pictures: int
    objects: int
    empty: int
    splits: dict[str, int]
    classes: dict[str, int]
    tiny: int
    truncated: int
    hidden: int | None
    ignored: dict[str, int]
    left_out: dict[str, int]
    findings: list[Finding]


def statistics(samples: Sequence[SampleFacts], categories: Mapping[int, str], frames_per_episode: int | None) -> Statistics:
    """Count, and find what cannot be right.

    Parameters
    ----------
    samples : sequence of SampleFacts
    categories : mapping of int to str
        The names of all categories, by their ids.
    frames_per_episode : int or None
        None where nobody knows: then no episode is looked for in two splits, and that is told.
    """
    pictures = [picture for sample in samples for picture in sample.pictures]
    objects = [each for picture in pictures for each in picture.objects]
    seen = [each.visibility for each in objects if isfinite(each.visibility)]
    counted = Counter(each.category_id for each in objects)
    classes = {name: counted.pop(number, 0) for number, name in sorted(categories.items())}
    unknown = set(counted)
    classes |= {f"category {number}" if number else "no category": count for number, count in sorted(counted.items())}
    return Statistics(
        samples=len(samples),
        pictures=len(pictures),
        objects=len(objects),
        empty=sum(not picture.objects for picture in pictures),
        splits=dict(sorted(Counter(picture.split for picture in pictures if picture.split).items())),
        classes=classes,
        tiny=sum(each.share < TINY for each in objects),
        truncated=sum(each.truncated for each in objects),
        hidden=sum(each < HIDDEN for each in seen) if seen else None,
        ignored=dict(Counter(each.ignored for each in objects if each.ignored)),
        left_out=dict(sum((Counter(picture.left_out) for picture in pictures), Counter())),
        findings=[
            each
            for each in (
                Finding(UNREADABLE, [f"sample {sample.index}: {sample.error}" for sample in samples if sample.error], True),
                *_wrong_objects(pictures, unknown - {0} if categories else set()),
                *_leaking(pictures, frames_per_episode),
                *_twice(pictures),
                Finding("pictures that show nothing", [f"{each.name}: {each.bad}" for each in pictures if each.bad], False),
                Finding("classes", _rare(classes), False),
            )
            if each.where
        ],
    )


def nearest_before(thumbnails: npt.NDArray[np.float32], limit: float = _NEAR) -> npt.NDArray[np.int64]:
    """Find for each picture the first one before it that is nearly the same.

    All pairs are compared, as one product of matrices: 20 000 pictures take some seconds, and a hash would call two pictures
    of plain surfaces the same.

    Parameters
    ----------
    thumbnails : ndarray, shape (N, C), float32
    limit : float
        Root of the mean square of differences, in their unit.

    Returns
    -------
    ndarray, shape (N,), int64
        -1 where there is none.

    Examples
    --------
    >>> nearest_before(np.float32([[0, 0], [9, 9], [0, 1], [9, 9]])).tolist()
    [-1, -1, 0, 1]
    """
    found = np.full(len(thumbnails), -1)
    if not len(thumbnails):
        return found
    centred = thumbnails - thumbnails.mean(axis=0)  # small numbers lose less in float32
    squares = np.einsum("nc,nc->n", centred, centred)
    for begin in range(0, len(centred), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        for earlier in range(0, begin + 1, _BLOCK):
            other = slice(earlier, earlier + _BLOCK)
            distances = squares[block, None] + squares[other] - 2 * centred[block] @ centred[other].T
            near = distances <= limit**2 * thumbnails.shape[1]
            if earlier == begin:
                near &= np.tri(len(near), near.shape[1], k=-1, dtype=bool)
            rows = near.any(axis=1) & (found[block] < 0)
            found[block] = np.where(rows, near.argmax(axis=1) + earlier, found[block])
    return found


def _wrong_objects(pictures: Sequence[PictureFacts], unknown: set[int]) -> list[Finding]:
    where: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        for each in picture.objects:
            for kind, text in each.wrong.items():
                where[kind].append(f"{picture.name}, {each.name}: {text}")
            if each.category_id in unknown:
                where["objects of unknown categories"].append(f"{picture.name}, {each.name}: category {each.category_id}")
    return [Finding(kind, places, True) for kind, places in where.items()]


def _leaking(pictures: Sequence[PictureFacts], frames_per_episode: int | None) -> list[Finding]:
    if frames_per_episode is None:
        splits = sorted({picture.split for picture in pictures})
        text = f"whether one is in several of {', '.join(splits)} cannot be told without the configuration of the run"
        return [Finding(UNKNOWN_EPISODES, [text] if len(splits) > 1 else [], False)]
    first: dict[int, PictureFacts] = {}
    episodes = {}
    for picture in pictures:
        episode = picture.index // frames_per_episode
        other = first.setdefault(episode, picture)
        if other.split != picture.split:
            episodes[episode] = f"episode {episode}: {other.name} is in {other.split!r}, {picture.name} in {picture.split!r}"
    return [Finding(EPISODES, list(episodes.values()), True)]


def _twice(pictures: Sequence[PictureFacts]) -> list[Finding]:
    """Find pictures that are there twice; wrong are those that are the same to the bit, and in two splits."""
    shown = [picture for picture in pictures if not picture.bad]
    thumbnails = np.array([np.frombuffer(picture.thumbnail, np.float32) for picture in shown], np.float32)
    before = nearest_before(thumbnails) if shown else np.zeros(0, np.int64)
    where: dict[str, list[str]] = {LEAKS: [], SAME: [], NEARLY: []}
    seen: dict[bytes, PictureFacts] = {}
    for picture, place in zip(shown, before.tolist(), strict=True):
        same = seen.setdefault(picture.digest, picture)
        if same is picture and place < 0:
            continue
        other, like = (shown[place], "is nearly") if same is picture else (same, "is")
        splits = f" ({picture.split!r} and {other.split!r})" if other.split != picture.split else ""
        kind = NEARLY if same is picture else LEAKS if splits else SAME
        where[kind].append(f"{picture.name} {like} {other.name}{splits}")
    return [Finding(kind, places, kind == LEAKS) for kind, places in where.items()]


def _rare(classes: Mapping[str, int]) -> list[str]:
    if len(classes) < 2:
        return []
    (most, many), (least, few) = (choose(classes.items(), key=lambda item: item[1]) for choose in (max, min))
    if few and many < _IMBALANCE * few:
        return []
    return [f"{most} has {many} objects, {least} has {few}"]
