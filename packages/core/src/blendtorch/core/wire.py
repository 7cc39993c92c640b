"""From a message to bytes and back: one msgpack header, and the arrays as raw buffers outside it.

`encode` takes a snapshot: whoever publishes may change the arrays as soon as it returns. `decode` lays arrays over
the received memory. Nothing that arrives is executed: what the schema does not know is refused with the path to it.

The header is the msgpack map of a message Struct. What msgpack has no type for, and what it would turn into
another type (a tuple into a list), travels as a msgpack extension; `_Code` lists them. Only where both ends say
`allow_pickle=True` do other Python objects travel, and only then is a pickle loaded, which may execute anything.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path, PurePath
from typing import Any

import msgspec
import numpy as np
from blendtorch.core import arrays
from blendtorch.core.arrays import Buffer
from blendtorch.core.errors import DecodeError, EncodeError, VersionError
from blendtorch.core.messages import EndOfStream, Failure, Frame, Message

Part = bytes | memoryview
Convert = Callable[[object], object]
Allocate = Callable[[int], memoryview | None]

_TYPES: dict[str, type[Message]] = {str(struct.__struct_config__.tag): struct for struct in (Frame, EndOfStream, Failure)}
MAX_PART_BYTES = 1 << 30  # of the header, or of one array
_MAX_DEPTH = 32
_OUTSIDE_BYTES = 4096  # bytes objects and pickles from this length on get a buffer of their own
_PICKLE_PROTOCOL = 5  # of Python 3.8 and later; not the sender's highest, which the reader may not know


class _Code(IntEnum):
    """Extension types. A code is never given another meaning."""

    ARRAY = 1  # [dtype, shape, number of its buffer]
    SCALAR = 2  # [dtype, bytes of a numpy scalar]
    TUPLE = 3  # [items...]
    SET = 4  # [items...]
    COMPLEX = 5  # [real, imaginary]
    INTEGER = 6  # two's complement, little-endian: what does not fit 64 bits
    DATETIME = 7  # ISO 8601
    PATH = 8  # text
    MAPPING = 9  # [[key, value]...]: dicts whose keys are not all text
    BYTES = 10  # number of its buffer
    PICKLE = 11  # the pickle, or the number of its buffer


class _Envelope(msgspec.Struct):
    type: str


class ArrayField(msgspec.Struct, frozen=True):
    """An array of a frame, as its header describes it.

    Attributes
    ----------
    dtype : str
        As `numpy.dtype.str` gives it.
    shape : tuple of int
    number : int
        Of its buffer, from 0: the part `1 + number` of the message.
    """

    dtype: str
    shape: tuple[int, ...]
    number: int


_encoder = msgspec.msgpack.Encoder()
_envelopes = msgspec.msgpack.Decoder(_Envelope)
_array_descriptions = msgspec.msgpack.Decoder(tuple[str, tuple[int, ...], int])  # made once: it took as long as the array


def encode(
    message: Message, convert: Convert | None = None, *, allow_pickle: bool = False, allocate: Allocate | None = None
) -> list[Part]:
    """Turn a message into the parts of a multipart socket message.

    Parameters
    ----------
    message : Message
    convert : callable, optional
        Turns objects of foreign types (mathutils vectors) into something that travels; returns its argument
        unchanged where it does not know the type. An EncodeError that it raises gets the path put in front.
    allow_pickle : bool
        Pickle the values that could not travel otherwise. They are read only by who passes the same to `decode`.
    allocate : callable, optional
        Called with the size of each array in bytes, never 0. Gives writable memory of exactly that size, aligned to 64 bytes,
        which the array is copied into and which then is the part (the same object), or None: the array gets memory of its own.

    Returns
    -------
    list of bytes-like
        The header, then one part per array. The parts own their memory, but for what `allocate` gave.

    Raises
    ------
    EncodeError
        If a value cannot travel; names its path in the message, its type and what to do.
    """
    packer = _Packer(convert, allow_pickle, allocate)
    if isinstance(message, Frame):
        data = {name: packer.pack(value, name, 0) for name, value in message.data.items()}
        message = msgspec.structs.replace(message, data=data)
    try:
        header = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise EncodeError(f"text with a lone surrogate cannot be sent: {error}") from None
    _check_size(len(header), "the fields without arrays, together")
    return [header, *packer.buffers]


def decode(parts: Sequence[Buffer], *, allow_pickle: bool = False) -> Message:
    """Turn the parts of a multipart socket message into a message.

    Parameters
    ----------
    parts : sequence of bytes-like
        Header and buffers. Arrays of the message lie over the buffers where these are writable and aligned, and keep them
        alive.
    allow_pickle : bool
        Load the pickles in it. Whoever can send a message can then execute anything here.

    Raises
    ------
    VersionError
        If the message is newer than this side.
    DecodeError
        If the bytes are no message or do not fit its schema, or a value came as a pickle that may not or cannot be loaded.
    """
    if not parts:
        raise DecodeError("an empty message has no header")
    header: Any = parts[0]  # typed so that numpy's arrays count as buffers, which their stubs do not say
    buffers = parts[1:]
    try:
        tag = _envelopes.decode(header).type
        struct = _TYPES.get(tag)
        if struct is None:
            raise _unknown(tag)
        unpacker = _Unpacker(buffers, allow_pickle)
        message = msgspec.msgpack.decode(header, type=struct, ext_hook=unpacker.unpack)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"received bytes are no valid message: {str(error)[:200]}") from None
    if unpacker.used != len(buffers):
        raise DecodeError(f"the header of a {tag} message describes {unpacker.used} buffers, got {len(buffers)}")
    return message


def array_fields(header: Part) -> dict[tuple[str, ...], ArrayField]:
    """Find the arrays that a header describes, by the keys that lead to them in the frame's data.

    Arrays in lists, tuples and sets are left out, and those under keys that are no text.

    Parameters
    ----------
    header : bytes-like
        The first part of a frame, of which the others are not needed.

    Raises
    ------
    DecodeError
        If it is no header of a frame.

    Examples
    --------
    >>> frame = Frame(btid=0, sequence=0, data={"image": np.zeros((4, 6, 3), np.uint8), "boxes": {"xyxy": np.zeros((2, 4))}})
    >>> for path, field in array_fields(encode(frame)[0]).items():
    ...     print(path, field.dtype, field.shape, field.number)
    ('image',) |u1 (4, 6, 3) 0
    ('boxes', 'xyxy') <f8 (2, 4) 1
    """
    try:
        frame = msgspec.msgpack.decode(header, type=Frame, ext_hook=_array_field)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"these bytes are no header of a frame: {str(error)[:200]}") from None
    return dict(_fields_in(frame.data, ()))


def _array_field(code: int, data: memoryview) -> ArrayField | None:
    if code != _Code.ARRAY:
        return None
    return ArrayField(*_array_descriptions.decode(data))


def _fields_in(data: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ArrayField]]:
    for key, value in data.items():
        if type(value) is ArrayField:
            yield (*path, key), value
        elif type(value) is dict:
            yield from _fields_in(value, (*path, key))


def _unknown(tag: str) -> DecodeError:
    name, _, version = tag.partition("/")
    known = [int(other.partition("/")[2]) for other in _TYPES if other.partition("/")[0] == name]
    if known and version.isdigit():
        return VersionError(
            f"received version {version[:20]} of message {name!r}, and know versions up to {max(known)}: "
            "install the same version of blendtorch on both sides"
        )
    return DecodeError(f"received a message of unknown type {tag[:50]!r}")


class _Packer:
    """Turns the data of one frame into what msgpack can carry, and collects the buffers."""

    def __init__(self, convert: Convert | None, allow_pickle: bool, allocate: Allocate | None) -> None:
        self._convert = convert
        self._allow_pickle = allow_pickle
        self._allocate = allocate
        self.buffers: list[Part] = []

    def pack(self, value: Any, path: str, depth: int) -> Any:
        if value is None or type(value) in (bool, float, str):
            return value
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        if type(value) is int:
            return value if -(2**63) <= value < 2**64 else _extension(_Code.INTEGER, _integer_bytes(value))
        if isinstance(value, np.generic):
            return self._scalar(value, path)
        if depth > _MAX_DEPTH:
            raise EncodeError(f"{path}: nested deeper than {_MAX_DEPTH} levels, or contains itself")
        if isinstance(value, (list, tuple, set)):
            items = [self.pack(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(value)]
            if isinstance(value, list):
                return items
            return _extension(_Code.TUPLE if isinstance(value, tuple) else _Code.SET, _encode(items, path))
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth)
        return self._other(value, path, depth)

    def _array(self, array: np.ndarray[Any, Any], path: str) -> msgspec.msgpack.Ext:
        if isinstance(array, np.ma.MaskedArray):
            return self._pickled(array, path, "a masked array would lose its mask: publish .data and .mask")
        if reason := arrays.refusal(array.dtype):
            return self._pickled(array, path, f"cannot send an array of dtype {array.dtype}: {reason}")
        _check_size(array.nbytes, path)
        memory = self._allocate(array.nbytes) if self._allocate is not None and array.nbytes else None
        copy = arrays.snapshot(array, memory)
        number = self._outside(_bytes_of(copy) if memory is None else memory)
        return _extension(_Code.ARRAY, _encoder.encode((copy.dtype.str, copy.shape, number)))

    def _scalar(self, value: np.generic, path: str) -> msgspec.msgpack.Ext:
        if reason := arrays.refusal(value.dtype):
            return self._pickled(value, path, f"cannot send a numpy scalar of dtype {value.dtype}: {reason}")
        copy = arrays.snapshot(np.asarray(value))
        return _extension(_Code.SCALAR, _encoder.encode((copy.dtype.str, copy.tobytes())))

    def _pickled(self, value: object, path: str, refusal: str) -> msgspec.msgpack.Ext:
        if not self._allow_pickle:
            raise EncodeError(f"{path}: {refusal}, or pass allow_pickle=True on both ends")
        try:
            raw = pickle.dumps(value, _PICKLE_PROTOCOL)
        except Exception as error:  # whatever a foreign __reduce__ raises
            raise EncodeError(f"{path}: cannot pickle a {_type_of(value)}: {type(error).__name__}: {error}") from error
        _check_size(len(raw), path)
        return _extension(_Code.PICKLE, _encoder.encode(raw if len(raw) < _OUTSIDE_BYTES else self._outside(raw)))

    def _outside(self, part: Part) -> int:
        """Add a part, and return its number."""
        self.buffers.append(part)
        return len(self.buffers) - 1

    def _mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> Any:
        if all(type(key) is str for key in value):
            return {key: self.pack(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        pairs = [
            (self.pack(key, f"{path}.keys()", depth + 1), self.pack(item, f"{path}[{key!r}]", depth + 1))
            for key, item in value.items()
        ]
        return _extension(_Code.MAPPING, _encode(pairs, path))

    def _other(self, value: object, path: str, depth: int) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            _check_size(memoryview(value).nbytes, path)
            raw = bytes(value)
            if len(raw) < _OUTSIDE_BYTES:
                return raw
            return _extension(_Code.BYTES, _encoder.encode(self._outside(raw)))
        if isinstance(value, complex):
            return _extension(_Code.COMPLEX, _encoder.encode((value.real, value.imag)))
        if isinstance(value, datetime):
            return _extension(_Code.DATETIME, value.isoformat().encode())
        if isinstance(value, PurePath):
            return _extension(_Code.PATH, str(value).encode(errors="surrogateescape"))
        for base in (bool, int, float, str):  # enums and other subclasses travel as what they are underneath
            if isinstance(value, base):
                return self.pack(base(value), path, depth)
        try:
            converted = value if self._convert is None else self._convert(value)
        except EncodeError as error:  # says why, and cannot know where
            return self._pickled(value, path, str(error))
        if converted is value:
            return self._pickled(
                value,
                path,
                f"cannot send a {_type_of(value)}: publish numbers, text, bytes, lists, tuples, dicts, sets, dates, paths "
                "or numpy arrays made from it",
            )
        return self.pack(converted, path, depth + 1)


class _Unpacker:
    """Turns the extensions of one header back, over the buffers of its message."""

    def __init__(self, buffers: Sequence[Buffer], allow_pickle: bool) -> None:
        self._buffers = buffers
        self._allow_pickle = allow_pickle
        self._depth = 0
        self.used = 0

    def unpack(self, code: int, data: memoryview) -> Any:
        if self._depth > _MAX_DEPTH:
            raise DecodeError(f"received data is nested deeper than {_MAX_DEPTH} levels")
        self._depth += 1
        try:
            return self._unpack(code, data)
        except (msgspec.DecodeError, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, DecodeError):
                raise
            raise DecodeError(f"received a malformed extension {code}: {error}") from None
        finally:
            self._depth -= 1

    def _unpack(self, code: int, data: memoryview) -> Any:
        match code:
            case _Code.ARRAY:
                dtype, shape, number = _array_descriptions.decode(data)
                return arrays.restore(dtype, shape, self._buffer(number))
            case _Code.SCALAR:
                dtype, raw = msgspec.msgpack.decode(data, type=tuple[str, bytes])
                return arrays.restore(dtype, (), raw)[()]
            case _Code.TUPLE:
                return tuple(self._decode(data, list[Any]))
            case _Code.SET:
                return set(self._decode(data, list[Any]))
            case _Code.COMPLEX:
                return complex(*msgspec.msgpack.decode(data, type=tuple[float, float]))
            case _Code.INTEGER:
                return int.from_bytes(data, "little", signed=True)
            case _Code.DATETIME:
                return datetime.fromisoformat(bytes(data).decode())
            case _Code.PATH:
                return Path(bytes(data).decode(errors="surrogateescape"))
            case _Code.MAPPING:
                return dict(self._decode(data, list[tuple[Any, Any]]))
            case _Code.BYTES:
                return bytes(self._buffer(msgspec.msgpack.decode(data, type=int)))
            case _Code.PICKLE:
                return self._unpickle(msgspec.msgpack.decode(data, type=bytes | int))
        raise DecodeError(f"received an unknown extension {code}")

    def _decode(self, data: memoryview, expected: Any) -> Any:
        return msgspec.msgpack.decode(data, type=expected, ext_hook=self.unpack)

    def _unpickle(self, content: bytes | int) -> Any:
        if not self._allow_pickle:
            raise DecodeError(
                "received a pickled value, which is not loaded: that may execute anything. "
                "Where you trust the sender, pass allow_pickle=True on both ends"
            )
        raw: Any = self._buffer(content) if isinstance(content, int) else content
        try:
            return pickle.loads(raw)  # noqa: S301 - the user said so
        except Exception as error:  # whatever a foreign constructor raises
            raise DecodeError(f"a pickled value cannot be loaded: {type(error).__name__}: {error}") from error

    def _buffer(self, number: int) -> Buffer:
        # Each buffer belongs to one field, in order: two arrays over one memory would not be the caller's own.
        if number != self.used or number >= len(self._buffers):
            raise DecodeError(f"the header names buffer {number}, expected {self.used} of {len(self._buffers)}")
        self.used += 1
        return self._buffers[number]


def _check_size(size: int, path: str) -> None:
    if size > MAX_PART_BYTES:
        raise EncodeError(f"{path}: {size} bytes are too many for one message, at most {MAX_PART_BYTES}: publish it in parts")


def _type_of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _extension(code: _Code, data: bytes) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(int(code), data)


def _encode(items: list[Any], path: str) -> bytes:
    try:
        return _encoder.encode(items)
    except UnicodeEncodeError as error:
        raise EncodeError(f"{path}: text with a lone surrogate cannot be sent: {error}") from None


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """View the elements of a contiguous array as bytes, whatever its dtype: some have no buffer format."""
    return array.reshape(-1).view(np.uint8).data if array.size and array.itemsize else memoryview(b"")


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
