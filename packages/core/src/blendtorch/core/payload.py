"""Payloads with declared arrays: a Struct whose array fields state dtype, shape and unit.

    >>> import msgspec, numpy as np
    >>> from typing import Annotated
    >>> from blendtorch.core import ArraySpec, Payload
    >>> class Sample(msgspec.Struct):
    ...     image: Annotated[np.ndarray, ArraySpec("uint8", ("height", "width", 3))]
    ...     xy: Annotated[np.ndarray, ArraySpec("float64", ("points", 2), unit="px")]
    ...     frameid: int
    >>> payload = Payload(Sample)
    >>> payload.check({"image": np.zeros((4, 6, 3), np.uint8), "xy": np.zeros((8, 2)), "frameid": 1})
    >>> payload.check({"image": np.zeros((4, 6), np.uint8), "xy": np.zeros((8, 2)), "frameid": 1})
    Traceback (most recent call last):
    blendtorch.core.errors.PayloadError: Sample.image: expected uint8 (height, width, 3), got uint8 (4, 6)

The same Struct is given to the publisher, which refuses a frame that does not fit before it is sent, and to the
dataset, which refuses what another publisher sent it. Frames stay dicts on both sides: the Struct only describes them.
"""

from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from blendtorch.core.errors import PayloadError

_Check = Callable[[object, str, dict[str, int]], None]  # a value, its path, the named sizes seen so far


class ArraySpec(msgspec.Struct, frozen=True):
    """What an array field holds.

    Attributes
    ----------
    dtype : str
        Name of the dtype, as numpy has it.
    shape : tuple of int, str or None
        A size; a name, which stands for the same size wherever one payload uses it; or None for any size.
    unit : str
        Of the elements, for people: "px", "m", "rad". Empty for none.
    """

    dtype: str
    shape: tuple[int | str | None, ...]
    unit: str = ""

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} ({sizes}{',' if len(self.shape) == 1 else ''})" + (f" in {self.unit}" if self.unit else "")

    def fits(self, value: object, sizes: dict[str, int]) -> bool:
        """Compare an array with this; `sizes` holds the named sizes seen so far in the payload and is added to."""
        if not isinstance(value, np.ndarray) or value.dtype != np.dtype(self.dtype) or value.ndim != len(self.shape):
            return False
        for size, declared in zip(value.shape, self.shape, strict=True):
            expected = sizes.setdefault(declared, size) if isinstance(declared, str) else declared
            if expected is not None and size != expected:
                return False
        return True


class Payload:
    """Checks frames against a Struct type.

    Parameters
    ----------
    struct : type
        A `msgspec.Struct`. Its array fields are `Annotated[np.ndarray, ArraySpec(...)]`, its other fields any type that
        msgspec can check. Arrays may also be optional (`... | None`), in `list[...]`, in `dict[str, ...]` and in fields that
        are Structs themselves. A field with a default may be left out of a frame.

    Raises
    ------
    PayloadError
        If it is no Struct type, an array field has no ArraySpec, or a type is not understood.
    """

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        if not _is_struct(struct):
            raise PayloadError(f"a payload type is a msgspec.Struct, got {struct!r}")
        self._name = struct.__name__
        self._check = _fields_check(struct, self._name, ())

    def check(self, data: Mapping[str, object]) -> None:
        """Refuse data that does not fit.

        Raises
        ------
        PayloadError
            Names the field, what was expected and what came.
        """
        self._check(data, self._name, {})


def _check_for(hint: Any, path: str, outer: tuple[Any, ...]) -> _Check:
    """Make the check of one type; `outer` are the Structs around it."""
    origin, arguments = get_origin(hint), get_args(hint)
    spec = next((extra for extra in arguments[1:] if isinstance(extra, ArraySpec)), None) if origin is Annotated else None
    if spec is not None:
        return _array_check(spec, path, optional=NoneType in get_args(arguments[0]))
    if _is_array(hint):
        raise PayloadError(f"{path}: say what the array holds, Annotated[np.ndarray, ArraySpec(...)]")
    if _is_struct(hint):
        return _fields_check(hint, path, outer)
    if not any(_is_array(leaf) or _is_struct(leaf) for leaf in _leaves(hint)):
        return _value_check(hint, path)
    if origin in (Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
        return _optional_check(_check_for(arguments[arguments[0] is NoneType], path, outer))
    if origin is list:
        return _items_check(_check_for(arguments[0], path, outer))
    if origin is dict and arguments[0] is str:
        return _values_check(_check_for(arguments[1], path, outer))
    raise PayloadError(f"{path}: {hint} is not understood: arrays and Structs go optional, in list[...] and in dict[str, ...]")


def _fields_check(struct: type[msgspec.Struct], path: str, outer: tuple[Any, ...]) -> _Check:
    if struct in outer:
        raise PayloadError(f"{path}: {struct.__name__} contains itself, which a payload cannot")
    hints, fields = get_type_hints(struct, include_extras=True), msgspec.structs.fields(struct)
    checks = {field.name: _check_for(hints[field.name], f"{path}.{field.name}", (*outer, struct)) for field in fields}
    required = [field.name for field in fields if field.required]

    def check(value: object, path: str, sizes: dict[str, int]) -> None:
        if not isinstance(value, Mapping):
            raise PayloadError(f"{path}: expected a dict with the fields {list(checks)}, got {describe(value)}")
        for name in required:
            if name not in value:
                raise PayloadError(f"{path}.{name}: missing; got the fields {list(value)}")
        for name, item in value.items():
            if name not in checks:
                raise PayloadError(f"{path}: unknown field {name!r}; it has {', '.join(checks)}")
            checks[name](item, f"{path}.{name}", sizes)

    return check


def _array_check(spec: ArraySpec, path: str, *, optional: bool) -> _Check:
    try:
        np.dtype(spec.dtype)
    except (TypeError, ValueError) as error:
        raise PayloadError(f"{path}: {spec.dtype!r} is no dtype: {error}") from None

    def check(value: object, path: str, sizes: dict[str, int]) -> None:
        if not spec.fits(value, sizes):
            raise PayloadError(f"{path}: expected {spec}{_conflicts(spec, value, sizes)}, got {describe(value)}")

    return _optional_check(check) if optional else check


def _conflicts(spec: ArraySpec, value: object, sizes: dict[str, int]) -> str:
    """Say which named sizes the fields before had settled otherwise."""
    if not isinstance(value, np.ndarray) or value.ndim != len(spec.shape):
        return ""
    named = [(name, size) for name, size in zip(spec.shape, value.shape, strict=True) if isinstance(name, str)]
    settled = [f"{name} {sizes[name]}" for name, size in named if sizes.get(name, size) != size]
    return f" with {', '.join(settled)}" if settled else ""


def _value_check(hint: Any, path: str) -> _Check:
    try:
        msgspec.msgpack.Decoder(hint)  # the only way to hear at once of a type that msgspec cannot check
    except TypeError as error:
        raise PayloadError(f"{path}: {error}") from None

    def check(value: object, path: str, sizes: dict[str, int]) -> None:  # noqa: ARG001 - it has no arrays
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            raise PayloadError(f"{path}: {error}") from None

    return check


def _optional_check(inner: _Check) -> _Check:
    def check(value: object, path: str, sizes: dict[str, int]) -> None:
        if value is not None:
            inner(value, path, sizes)

    return check


def _items_check(inner: _Check) -> _Check:
    def check(value: object, path: str, sizes: dict[str, int]) -> None:
        if not isinstance(value, list):
            raise PayloadError(f"{path}: expected a list, got {describe(value)}")
        for number, item in enumerate(value):
            inner(item, f"{path}[{number}]", sizes)

    return check


def _values_check(inner: _Check) -> _Check:
    def check(value: object, path: str, sizes: dict[str, int]) -> None:
        if not isinstance(value, Mapping):
            raise PayloadError(f"{path}: expected a dict, got {describe(value)}")
        for key, item in value.items():
            inner(item, f"{path}[{key!r}]", sizes)

    return check


def _leaves(hint: Any) -> Iterator[Any]:
    """Give a type and all the types that it is made of."""
    yield hint
    for argument in () if _is_array(hint) else get_args(hint):
        yield from _leaves(argument)


def _is_array(hint: Any) -> bool:
    return hint is np.ndarray or get_origin(hint) is np.ndarray


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def describe(value: object) -> str:
    """Name dtype and shape of an array, or the type of something else."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
