"""Random numbers that depend on what they are for, and on nothing else.

Which instance draws them, how many there are, what was drawn before and which other randomizers there are makes no difference.
"""

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
    return reseed(np.random.Generator(np.random.PCG64(0)), seed, name, *place)


def reseed(rng: np.random.Generator, seed: int, name: str, *place: int) -> np.random.Generator:
    """Make a generator of `generator` draw what another place draws, and return it: a fifth of the time of a new one.

    Notes
    -----
    A 256-bit hash of seed, place and name is the state and the stream of a PCG64, for which all states and all odd increments
    are equally good (M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms", 2014).
    """
    digest = hashlib.blake2b(f"{seed} {place} {name}".encode(), digest_size=32).digest()
    state, increment = int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little") | 1
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": 0,
        "uinteger": 0,
    }
    return rng


def stable_hash(text: str) -> int:
    """Hash text to 32 bits, the same in every process: Python's own `hash` is not."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
