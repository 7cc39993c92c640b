"""The checksum of a message: xxh3-64 of when it came, its header and its arrays in their order.

In the order of the wire message, wherever the file has them: arrays that have changed places do not fit either.
"""

import struct
from collections.abc import Iterable
from typing import Any

from xxhash import xxh3_64


def checksum(time_ns: int, parts: Iterable[Any]) -> int:
    """Compute the checksum of a message.

    Parameters
    ----------
    time_ns : int
    parts : iterable of bytes-like
        Header and arrays, as `wire.encode` gives them.

    Examples
    --------
    >>> checksum(0, [b"header", b"array"]) == checksum(0, [b"header", b"arrax"])
    False
    """
    digest = xxh3_64(struct.pack("<q", time_ns))
    for part in parts:
        digest.update(part)
    return digest.intdigest()
