"""Parquet files of rows, with the features that `datasets` reads, a hundred rows at a time."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

_ROWS = 100  # of a row group: readers hold one in memory
_BYTES = 2**26
Row = dict[str, Any]


def features_of(described: Mapping[str, Any], categories: Mapping[int, str]) -> Any:
    """Make the features of a table: what its samples say of their columns, and the categories as a ClassLabel."""
    from datasets import ClassLabel, Features, List

    features = Features.from_dict(dict(described))
    if "objects" in features:
        classes = List(ClassLabel(names=class_names(categories)))
        features["objects"] = {"id": features["objects"]["id"], "category": classes, **features["objects"]}
    return features


def class_names(categories: Mapping[int, str]) -> list[str]:
    """Name the classes in the order of their ids; two of one name are told apart by them.

    Examples
    --------
    >>> class_names({7: "bolt", 2: "nut", 3: "bolt"})
    ['nut', 'bolt 3', 'bolt 7']
    """
    names = list(categories.values())
    return [name if names.count(name) == 1 else f"{name} {number}" for number, name in sorted(categories.items())]


def write_table(path: Path, rows: Iterable[Row], features: Any, categories: Mapping[int, str]) -> None:
    """Write a file of rows; the classes of their objects are made of `category_id`."""
    import pyarrow as pa
    from pyarrow import parquet

    classes = {number: place for place, number in enumerate(sorted(categories))}
    schema = features.arrow_schema
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for some in _batches(rows):
            for row in some:
                if objects := row.get("objects"):
                    objects["category"] = [classes.get(each) for each in objects["category_id"]]
            writer.write_table(pa.Table.from_pylist(some, schema=schema), row_group_size=_ROWS)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    some: list[Row] = []
    taken = 0
    for row in rows:
        if objects := row.get("objects"):
            objects.pop("category", None)  # of a file that was read: batches are the same with it and without
        some.append(row)
        taken += _size(row)
        if len(some) == _ROWS or taken > _BYTES:
            yield some
            some, taken = [], 0
    if some:
        yield some


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list):
        return sum(map(_size, value))
    return 0 if value is None else len(value) if isinstance(value, (bytes, str)) else 8


def read_table(path: Path, limit_bytes: int, index: int | None = None) -> Iterator[Row]:
    """Go through the rows of a file, or through those of one sample.

    Raises
    ------
    ValueError
        If a row group takes more than allowed, by what the file says of it, or once it is read.
    """
    import pyarrow.compute as pc
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            _check_size(_said_bytes(file.metadata.row_group(number)), limit_bytes)
            if index is not None and pc.index(file.read_row_group(number, columns=["index"])["index"], index).as_py() < 0:
                continue
            table = file.read_row_group(number)
            _check_size(table.nbytes, limit_bytes)  # its file may have said less
            if index is not None:
                table = table.filter(pc.field("index") == index)
            yield from table.to_pylist()


def _said_bytes(group: Any) -> int:
    """Return what a row group takes, as its file says: equal values are few bytes there, and as many as others in memory."""
    values = sum(group.column(number).num_values for number in range(group.num_columns))
    return int(max(group.total_byte_size, 8 * max(values, group.num_rows)))


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise ValueError(f"a row group of {size} bytes, and {limit_bytes} are allowed")


def described(path: Path) -> bytes:
    """Return what a file says of its features."""
    from pyarrow import parquet

    metadata = parquet.read_schema(path).metadata or {}
    return bytes(metadata.get(b"huggingface", b""))


def rows_in(document: Path) -> Iterator[Row]:
    """Read the rows of a sample that waits."""
    yield from msgspec.msgpack.decode(document.read_bytes(), type=list[Row])
