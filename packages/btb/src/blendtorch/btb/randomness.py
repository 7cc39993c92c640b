"""`btb.rng`: random numbers for scripts, the same for a frame of an episode in whatever process it is played.

An instance that is started again goes on at the episode where its consumers are. What that draws must not depend on what
was drawn before.
"""

import numpy as np
from blendtorch.core import seeding
from blendtorch.core.errors import SceneError

_NAME = "script"

_rng = seeding.generator(0, _NAME, 0)  # one object for the whole process: scripts keep it
_seed = 0
_used = False


def use() -> np.random.Generator:
    """Return the generator, and remember that it was asked for."""
    global _used
    _used = True
    return _rng


def begin(seed: int) -> None:
    """Seed it for an instance."""
    global _seed
    _seed = seed
    reseed(0)


def reseed(*place: int) -> None:
    """Let it draw what belongs to a place: how many plays are over; or play, episode, rewinds and frame."""
    seeding.reseed(_rng, _seed, _NAME, *place)


def check_used() -> None:
    """Refuse a script that never asked for it.

    Raises
    ------
    SceneError
        Says what to do.
    """
    if not _used:
        raise SceneError(
            "this launch may start instances again, and this script publishes without having used btb.rng: "
            "draw its random numbers from btb.rng (a numpy Generator that repeats with each episode), or pass restart='never'"
        )
