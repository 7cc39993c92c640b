"""Which part of a run a training process has, so that no two get the same samples."""

import os
from typing import Literal

import torch.distributed
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.schedule import Share


def share_of(shard: Literal["auto"] | tuple[int, int]) -> Share:
    """Find the part of this process.

    Parameters
    ----------
    shard : 'auto' or tuple of int
        `(rank, world size)`. 'auto' asks `torch.distributed`, or the variables RANK and WORLD_SIZE that torchrun sets; a
        process that knows of neither has everything.

    Raises
    ------
    ConfigurationError
        If the rank is not below the world size.
    """
    if shard == "auto":
        shard = _current()
    rank, world = shard
    if not 0 <= rank < world:
        raise ConfigurationError(f"shard is {shard}: expected (rank, world size) with 0 <= rank < world size")
    return Share(rank=rank, world=world)


def _current() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
