"""A sample taken apart: what JSON holds of it, and its arrays by their places, which are JSON pointers (RFC 6901)."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from blendtorch.core.errors import PluginError

from blendtorch_webdataset.array_members import Array

# Kinds of dtypes that can be kept: all but objects, and records of several fields.
_KINDS = "biufcUSmM"
Place = tuple[str | int, ...]


def pointer(place: Iterable[str | int]) -> str:
    """Write a place; what is at the top has no slash.

    Examples
    --------
    >>> pointer(("boxes2d_tight", "xyxy")), pointer(("a/b", 0))
    ('boxes2d_tight/xyxy', 'a~1b/0')
    """
    return "/".join(str(key).replace("~", "~0").replace("/", "~1") for key in place)


def take_apart(value: Any, arrays: dict[Place, Array], place: Place = ()) -> Any:
    """Return what JSON holds of a value, and add the arrays in it to `arrays`.

    Raises
    ------
    PluginError
        If it holds what cannot be kept; names the place.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if type(value) is int and -(2**63) <= value < 2**64:
        return value
    if type(value) is float and isfinite(value):
        return value
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise PluginError(f"/{pointer(place)}: its key {strange[0]!r} is no text")
        kept = {key: take_apart(value[key], arrays, (*place, key)) for key in sorted(value)}
        return {key: each for key, each in kept.items() if (*place, key) not in arrays}
    if hasattr(value, "__array__") or type(value) is float:  # JSON has no NaN and no infinity
        array = np.asarray(value)
        if array.dtype.kind not in _KINDS:
            raise PluginError(f"/{pointer(place)}: an array of {array.dtype} cannot be kept")
        arrays[place] = array
        return None
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [take_apart(each, arrays, (*place, number)) for number, each in enumerate(value)]
    raise PluginError(f"/{pointer(place)}: {value!r:.50} cannot be kept: expected arrays, text, lists, numbers of 64 bits")


def put_back(kept: dict[str, Any], place: str, array: Array) -> None:
    """Put an array to its place again.

    Raises
    ------
    LookupError, ValueError, TypeError
        If there is no such place.
    """
    *way, last = (key.replace("~1", "/").replace("~0", "~") for key in place.split("/"))
    holder: Any = kept
    for key in way:
        holder = holder[int(key)] if isinstance(holder, list) else holder.setdefault(key, {})
    if isinstance(holder, list):
        holder[int(last)] = array
    else:
        holder[last] = array
