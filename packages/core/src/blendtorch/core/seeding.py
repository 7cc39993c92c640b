"""Random numbers that depend on what they are for, and on nothing else.

Which instance draws them, how many there are, what was drawn before and which other randomizers there are makes no difference.
"""

import functools
import hashlib

import numpy as np


def generator(seed: int, name: str, *place: int) -> np.random.Generator:
    """Make the generator of a randomizer.

    Parameters
    ----------
    seed : int
        Of the run, 0 or more.
    name : str
        Of the randomizer.
    *place : int
        Episode; episode and frame; episode, frame and camera. Nothing for what is drawn once per process.

    Returns
    -------
    numpy.random.Generator

    Examples
    --------
    >>> generator(7, "pose", 3).random() == generator(7, "pose", 3).random()
    True
    >>> generator(7, "pose", 3).random() == generator(7, "light", 3).random()
    False
    """
    # SeedSequence(seed, spawn_key=(*place, stable_hash(name))), with the words that it would assemble: a third of its time.
    words = [*_pool(seed), *(word for number in place for word in _words(number)), stable_hash(name)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(np.array(words, np.uint32))))


@functools.cache
def _pool(seed: int) -> list[int]:
    words = _words(seed)
    return words + [0] * (4 - len(words))  # the size of a SeedSequence's pool


def _words(number: int) -> list[int]:
    return [number >> shift & 0xFFFFFFFF for shift in range(0, max(1, number.bit_length()), 32)]


@functools.cache
def stable_hash(text: str) -> int:
    """Hash text to 32 bits, the same in every process: Python's own `hash` is not."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
