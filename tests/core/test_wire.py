"""Laws of the wire: what goes in comes out, and nothing else comes in."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from blendtorch.core import EndOfStream, Failure, Frame, wire
from blendtorch.core.errors import DecodeError, EncodeError, VersionError
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(endianness="="),
    hnp.timedelta64_dtypes(endianness="="),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(min_len=1, endianness="="),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    TEXT,
    st.binary(),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])),
    TEXT.filter(lambda text: "\0" not in text).map(Path),
)
HASHABLE = st.one_of(st.booleans(), st.integers(), TEXT, st.binary(), st.tuples(st.integers(), TEXT))
VALUES = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXT, inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
    ),
    max_leaves=8,
)


def same(a, b):
    """Equal in value and in type, NaN equal to itself, arrays bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        native = a.astype(a.dtype.newbyteorder("="))
        return native.dtype == b.dtype and a.shape == b.shape and native.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    return a == b or (a != a and b != b)


def through(data):
    # As the socket hands parts over: writable memory.
    parts = [bytearray(part) for part in wire.encode(Frame(btid=1, sequence=2, data=data, index=3))]
    return wire.decode(parts)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_goes_in_comes_out(data):
    frame = through(data)
    assert (frame.btid, frame.sequence, frame.index) == (1, 2, 3)
    assert same(data, frame.data)


@given(ARRAYS)
def test_arrays_arrive_as_the_callers_own(array):
    result = through({"a": array}).data["a"]
    assert result.flags.writeable
    assert result.flags.aligned
    assert result.flags.c_contiguous
    assert result.dtype.isnative


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float16, np.float32, np.longdouble, np.complex64])
def test_numpy_scalars_keep_their_type(dtype):
    value = through({"x": dtype(1)}).data["x"]
    assert type(value) is dtype
    assert value == dtype(1)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: a[:, ::2],
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[0], (5, 6)),
    ],
)
def test_views_arrive_as_what_they_show(view):
    array = view(np.arange(30.0).reshape(5, 6))
    np.testing.assert_array_equal(through({"a": array}).data["a"], array)


def test_empty_texts_of_numpy_travel():
    data = through({"a": np.array(["", "b"])[0], "b": np.bytes_(b""), "c": np.zeros(2, "U0")}).data
    assert (data["a"], data["b"], data["c"].tolist()) == ("", b"", ["", ""])


def test_what_is_too_large_is_named_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr(wire, "MAX_PART_BYTES", 1000)
    for value in (np.zeros(1001, np.uint8), bytes(1001)):
        with pytest.raises(EncodeError, match=r"x\[0\]: 1001 bytes are too many for one message"):
            wire.encode(Frame(btid=0, sequence=0, data={"x": [value]}))
    with pytest.raises(EncodeError, match="the fields without arrays, together"):
        wire.encode(Frame(btid=0, sequence=0, data={"x": "a" * 1001}))


def test_the_message_is_a_snapshot():
    array = np.zeros(1000)
    parts = wire.encode(Frame(btid=0, sequence=0, data={"a": array}))
    array[:] = 1
    assert not wire.decode(parts).data["a"].any()


def test_unaligned_memory_is_copied_and_aligned_memory_is_not():
    parts = wire.encode(Frame(btid=0, sequence=0, data={"a": np.arange(10.0)}))
    memory = np.zeros(88, np.uint8)
    offset = -memory.ctypes.data % 8
    for shift, shared in ((0, True), (1, False)):
        buffer = memory[offset + shift : offset + shift + 80]
        buffer[:] = np.frombuffer(parts[1], np.uint8)
        array = wire.decode([parts[0], memoryview(buffer)]).data["a"]
        np.testing.assert_array_equal(array, np.arange(10.0))
        assert np.shares_memory(array, memory) == shared
        assert array.flags.aligned


class Foreign:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Foreign(), "x: cannot send a .*Foreign"),
        ([1, {"q": Foreign()}], r"x\[1\]\.q: cannot send a .*Foreign"),
        ({(1, 2): Foreign()}, r"x\[\(1, 2\)\]: cannot send"),
        (np.array([None]), "x: cannot send an array of dtype object"),
        (np.zeros(2, [("a", "i4")]), "x: cannot send an array of dtype .*: structured"),
        (np.ma.masked_array([1, 2], [True, False]), "x: a masked array would lose its mask"),
        (lambda: None, "x: cannot send a builtins.function"),
        ("\ud800", "surrogate"),
        (("\ud800",), "surrogate"),
    ],
)
def test_what_cannot_travel_is_named(value, text):
    with pytest.raises(EncodeError, match=text):
        wire.encode(Frame(btid=0, sequence=0, data={"x": value}))


def test_a_cycle_is_refused():
    cycle = []
    cycle.append(cycle)
    with pytest.raises(EncodeError, match="contains itself"):
        wire.encode(Frame(btid=0, sequence=0, data={"x": cycle}))


@given(st.binary(), st.lists(st.binary(), max_size=2))
def test_noise_is_refused(header, buffers):
    with pytest.raises(DecodeError):
        wire.decode([header, *buffers])


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_message_is_decoded_or_refused(data):
    """Any byte may be wrong: the answer is a message or a DecodeError, never another exception."""
    value = {"a": np.arange(6.0).reshape(2, 3), "t": (1, {2, 3}), "d": datetime(2026, 1, 1), "m": {1: "x"}, "s": np.float32(1)}
    parts = [bytearray(part) for part in wire.encode(Frame(btid=0, sequence=0, data=value))]
    position = data.draw(st.integers(0, len(parts[0]) - 1))
    parts[0][position] = data.draw(st.integers(0, 255))
    try:
        wire.decode(parts)
    except DecodeError:
        pass


def test_pickles_are_not_read():
    import pickle

    with pytest.raises(DecodeError):
        wire.decode([pickle.dumps({"image": np.zeros(3), "btid": 0})])


@pytest.mark.parametrize(
    ("dtype", "shape", "text"),
    [
        ("|O", [1], "refused"),
        ("|V8", [1], "refused"),
        ("nonsense", [1], "no dtype"),
        ("|S0", [2**46], "no size"),
        ("<f8", [2], "has 16 bytes, got 8"),
        ("<f8", [-1], "none negative"),
        ("<f8", [2**62, 2**62], "got 8"),
        ("<f8", [1] * 40, "at most 32"),
    ],
)
def test_array_descriptions_are_checked(dtype, shape, text):
    import msgspec

    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode([dtype, shape, 0]))
    header = msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": array}})
    with pytest.raises(DecodeError, match=text):
        wire.decode([header, bytearray(8)])


def test_buffers_belong_to_one_array_each():
    import msgspec

    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(["<f8", [1], 0]))
    header = msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": array, "b": array}})
    with pytest.raises(DecodeError, match="names buffer 0, expected 1"):
        wire.decode([header, bytearray(8)])
    with pytest.raises(DecodeError, match="describes 0 buffers, got 1"):
        wire.decode([*wire.encode(Frame(btid=0, sequence=0, data={})), b"more"])


def test_nested_bombs_are_refused():
    import msgspec

    data = b"\xc0"
    for _ in range(100):
        data = msgspec.msgpack.encode([msgspec.msgpack.Ext(3, data)])
    header = msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": msgspec.msgpack.Ext(3, data)}})
    with pytest.raises(DecodeError, match="nested deeper"):
        wire.decode([header])


def test_newer_versions_are_refused_with_both_numbers():
    header = wire.encode(EndOfStream(btid=0, sequence=7, address="x"))[0].replace(b"end/1", b"end/9")
    with pytest.raises(VersionError, match="version 9 of message 'end', and know versions up to 1"):
        wire.decode([header])


GOLDEN = Path(__file__).parent / "golden"
# Written once for each released version, and never again: see CONTRIBUTING.md.
MESSAGES = {
    "frame-1": Frame(
        btid=3,
        sequence=12,
        index=40,
        data={
            "image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
            "xy": np.linspace(0, 1, 4).reshape(2, 2),
            "meta": {"name": "cube", "ids": (1, 2), "kinds": {5}, "z": 1 + 2j, "big": 2**80, 7: None},
            "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "file": Path("a/b.png"),
            "scale": np.float32(0.5),
            "raw": bytes(5000),
        },
    ),
    "end-1": EndOfStream(btid=3, sequence=13, address="tcp://127.0.0.1:11000"),
    "failure-1": Failure(
        btid=3,
        sequence=13,
        address="ipc:///tmp/DATA-3",
        error="ValueError: no",
        traceback="Traceback ...\nValueError: no",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes(name):
    """Bytes of each released version are read for ever, and what we write today is what we wrote then."""
    import msgspec

    recorded = msgspec.msgpack.decode((GOLDEN / f"{name}.bin").read_bytes(), type=list[bytes])
    assert [bytes(part) for part in wire.encode(MESSAGES[name])] == recorded
    message, expected = wire.decode(recorded), MESSAGES[name]
    assert type(message) is type(expected)
    assert all(same(getattr(message, field), getattr(expected, field)) for field in message.__struct_fields__)
