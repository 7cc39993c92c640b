"""The door to pyarrow: schemas of parts, and messages as bytes.

It is imported where a recording is opened or written: `import blendtorch.btt` does not wait for it (0.2 s).
"""

import functools
import itertools
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from blendtorch.btt.recording.columns import Column
from blendtorch.core.errors import RecordingError, VersionError
from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    import pyarrow

FORMAT_VERSION = 1  # of what is in a file; in its schema
_VERSION = "blendtorch.recording"
_CHECK = "blendtorch.check"  # of the other metadata
_FIXED = ("index", "btid", "sequence", "time", "checksum", "header", "places", "buffers")


@functools.cache
def _pyarrow() -> Any:
    import pyarrow as pa
    import pyarrow.ipc

    return pa


@functools.cache
def _fixed_fields() -> tuple["pyarrow.Field", ...]:
    pa = _pyarrow()
    types = (
        pa.int64(),
        pa.int32(),
        pa.int64(),
        pa.timestamp("ns", tz="UTC"),
        pa.uint64(),
        pa.binary(),
        pa.list_(pa.uint16()),
        pa.list_(pa.large_binary()),
    )
    return tuple(pa.field(name, kind, nullable=name == "index") for name, kind in zip(_FIXED, types, strict=True))


def schema_of(columns: Sequence[Column], metadata: Mapping[str, str]) -> "pyarrow.Schema":
    """Make the schema of a part."""
    pa = _pyarrow()
    typed = [pa.field(column.name, _types_of(column)[0], nullable=False, metadata=column.metadata()) for column in columns]
    return pa.schema([*_fixed_fields(), *typed], metadata={**metadata, _CHECK: _check(metadata)})


def schema_message(schema: "pyarrow.Schema") -> bytes:
    """Turn a schema into the first message of a stream."""
    content = schema.serialize().to_pybytes()
    if len(content) % 8:
        raise RecordingError(f"pyarrow made a schema message of {len(content)} bytes, expected a multiple of 8")
    return bytes(content)


def read_schema(content: bytes) -> tuple[dict[str, str], list[Column]]:
    """Read the first message of a stream: its metadata and its typed columns.

    The metadata are {} where they are damaged but for the version.

    Raises
    ------
    RecordingError
        If it is not the schema of a recording.
    """
    pa = _pyarrow()
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(content))
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        names = schema.names
    except (pa.ArrowException, UnicodeDecodeError, OSError, ValueError) as error:
        raise RecordingError(f"it does not begin with an Arrow schema: {str(error)[:200]}") from None
    if _VERSION not in metadata:
        raise RecordingError("it is an Arrow stream, but not a recording of blendtorch")
    version = check_version(metadata[_VERSION])
    columns = [Column.from_metadata(name, schema.field(place).metadata) for place, name in enumerate(names)][len(_FIXED) :]
    if not schema.equals(schema_of(columns, {})):
        raise RecordingError("its columns are not those of a recording")
    if metadata.pop(_CHECK, "") != _check(metadata):
        return {_VERSION: version}, columns
    return metadata, columns


def check_version(text: str) -> str:
    """Refuse a recording of a version that is not known.

    Raises
    ------
    VersionError
        If it is newer.
    """
    number = int(text[:9]) if text.isdecimal() else 0
    if number > FORMAT_VERSION:
        raise VersionError(
            f"it is a recording of version {text[:20]}, and this blendtorch knows versions up to {FORMAT_VERSION}: "
            "install the version that recorded it, or a newer one"
        )
    if number < 1:
        raise RecordingError(f"its version is {text[:20]!r}")
    return text


def _check(metadata: Mapping[str, str]) -> str:
    return f"{xxh3_64_intdigest(msgspec.json.encode(sorted(metadata.items()))):016x}"


def batch_message(
    schema: "pyarrow.Schema",
    fixed: tuple[int | None, int, int, int, int, bytes],
    places: Sequence[int],
    buffers: Sequence[Any],
    typed: Sequence[tuple[Column, Any]],
) -> memoryview:
    """Turn a row into a message of a stream.

    Parameters
    ----------
    schema : pyarrow.Schema
    fixed : tuple
        Index, btid, sequence, time, checksum, header.
    places : sequence of int
        The numbers of the arrays that are in typed columns.
    buffers : sequence of bytes-like
        The other arrays.
    typed : sequence of (Column, bytes-like)
    """
    pa = _pyarrow()
    kinds = [field.type for field in _fixed_fields()]
    index, *others, header = fixed
    arrays = [pa.array([index], kinds[0])]
    arrays += [_flat(kind, struct.pack(code, value)) for kind, code, value in zip(kinds[1:5], "iqqQ", others, strict=True)]
    arrays.append(_binary(kinds[5], [header], "i"))
    arrays.append(_list(kinds[6], len(places), _places(tuple(places))))
    arrays.append(_list(kinds[7], len(buffers), _binary(kinds[7].value_type, buffers, "q")))
    arrays += [_nested(column, content) for column, content in typed]
    return memoryview(pa.RecordBatch.from_arrays(arrays, schema=schema).serialize())


def _flat(kind: Any, content: Any, length: int = 1) -> Any:
    pa = _pyarrow()
    return pa.Array.from_buffers(kind, length, [None, pa.py_buffer(content)])


@functools.lru_cache(maxsize=64)
def _places(numbers: tuple[int, ...]) -> Any:
    """Lay out the numbers of arrays, most often those of the message before."""
    return _flat(_pyarrow().uint16(), struct.pack(f"{len(numbers)}H", *numbers), len(numbers))


def _list(kind: Any, length: int, values: Any) -> Any:
    pa = _pyarrow()
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(struct.pack("2i", 0, length))], children=[values])


def _binary(kind: Any, values: Sequence[Any], code: str) -> Any:
    """Lay out values one after the other; a single one is not copied."""
    pa = _pyarrow()
    ends = list(itertools.accumulate((memoryview(value).nbytes for value in values), initial=0))
    content = values[0] if len(values) == 1 else b"".join(values)
    offsets = struct.pack(f"{len(ends)}{code}", *ends)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _nested(column: Column, content: Any) -> Any:
    pa = _pyarrow()
    kinds = _types_of(column)
    length = column.size
    array = pa.Array.from_buffers(kinds[-1], length, [None, pa.py_buffer(content)])
    for kind, size in zip(kinds[-2::-1], column.shape[::-1], strict=True):
        length //= size
        array = pa.Array.from_buffers(kind, length, [None], children=[array])
    return array


@functools.cache
def _types_of(column: Column) -> tuple[Any, ...]:
    """The type of a column, and those inside it: `fixed_size_list<fixed_size_list<uint8>[3]>[640]`, ...

    Not `arrow.fixed_shape_tensor`: Hugging Face `datasets` 5.2 refuses to open it.
    """
    pa = _pyarrow()
    kinds = [pa.from_numpy_dtype(np.dtype(column.stored))]
    for size in column.shape[::-1]:
        kinds.insert(0, pa.list_(kinds[0], size))
    return tuple(kinds)
