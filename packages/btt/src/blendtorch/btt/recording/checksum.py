"""The checksum of a message: xxh3-64 of when it came, its header and its arrays in their order.

In the order of the wire message, wherever the file has them: arrays that have changed places do not fit either.
"""

from collections.abc import Iterable
from typing import Any

from xxhash import xxh3_64


def checksum(time: Any, parts: Iterable[Any]) -> int:
    """Compute the checksum of a message.

    Parameters
    ----------
    time : bytes-like
        When it came, in ns since 1970: 8 bytes, little-endian.
    parts : iterable of bytes-like
        Header and arrays, as `wire.encode` gives them.

    Examples
    --------
    >>> checksum(bytes(8), [b"header", b"array"]) == checksum(bytes(8), [b"header", b"arrax"])
    False
    """
    digest = xxh3_64(time)
    for part in parts:
        digest.update(part)
    return digest.intdigest()
