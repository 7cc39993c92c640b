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
dataset, which refuses what another publisher sent it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from blendtorch.core.errors import PayloadError


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
        A `msgspec.Struct`; its array fields are `Annotated[np.ndarray, ArraySpec(...)]`, the others any type that
        msgspec can check.

    Raises
    ------
    PayloadError
        If it is no Struct type, or an array field has no ArraySpec.
    """

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
            raise PayloadError(f"a payload type is a msgspec.Struct, got {struct!r}")
        self._name = struct.__name__
        self._arrays: dict[str, ArraySpec] = {}
        self._others: dict[str, Any] = {}
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            hint = hints[field.name]
            specs = [extra for extra in get_args(hint)[1:] if isinstance(extra, ArraySpec)]
            if get_origin(hint) is Annotated and specs:
                self._arrays[field.name] = specs[0]
            elif hint is np.ndarray or get_origin(hint) is np.ndarray:
                raise PayloadError(
                    f"{self._name}.{field.name}: say what the array holds, Annotated[np.ndarray, ArraySpec(...)]"
                )
            else:
                self._others[field.name] = hint
        self._required = [field.name for field in msgspec.structs.fields(struct) if field.required]

    def check(self, data: Mapping[str, object]) -> None:
        """Refuse data that does not fit.

        Raises
        ------
        PayloadError
            Names the field, what was expected and what came.
        """
        if missing := [name for name in self._required if name not in data]:
            raise PayloadError(f"{self._name}.{missing[0]}: missing; got the fields {list(data)}")
        sizes: dict[str, int] = {}
        for name, value in data.items():
            if name in self._arrays:
                if not self._arrays[name].fits(value, sizes):
                    raise PayloadError(f"{self._name}.{name}: expected {self._arrays[name]}, got {describe(value)}")
            elif name in self._others:
                try:
                    msgspec.convert(value, self._others[name])
                except msgspec.ValidationError as error:
                    raise PayloadError(f"{self._name}.{name}: {error}") from None
            else:
                known = ", ".join([*self._arrays, *self._others])
                raise PayloadError(f"{self._name}: unknown field {name!r}; it has {known}")


def describe(value: object) -> str:
    """Name dtype and shape of an array, or the type of something else."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
