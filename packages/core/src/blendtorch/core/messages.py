"""The messages between the two sides: one frozen Struct each, tagged with its name and its version.

A field may be added with a default without a new version. Anything else is a new version, and the reader keeps
what it needs to accept the older one (see `wire`). `tests/core/golden` holds the bytes of each released version.
"""

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What all messages have in common.

    Attributes
    ----------
    btid : int
        Which Blender instance sent it.
    sequence : int
        Counts the messages of one publisher from 0, without a gap.
    """

    btid: int
    sequence: int


class Frame(Message, frozen=True, kw_only=True, tag="frame/1"):
    """One sample: what a script published for one frame of its animation.

    Attributes
    ----------
    data : dict of str to object
        The fields that were published.
    index : int or None
        The index of the sample in its run, where the sender numbers its samples.
    """

    data: dict[str, Any]
    index: int | None = None


class EndOfStream(Message, frozen=True, kw_only=True, tag="end/1"):
    """The publisher has sent all its frames: `sequence` is their number.

    Attributes
    ----------
    address : str
        Where the publisher listens, for the consumer to know whom to disconnect from.
    """

    address: str


class Failure(Message, frozen=True, kw_only=True, tag="failure/1"):
    """The script of an instance raised.

    Attributes
    ----------
    address : str
        Where the publisher listens.
    error : str
        Type and text of the exception, one line.
    traceback : str
        The formatted traceback.
    """

    address: str
    error: str
    traceback: str
