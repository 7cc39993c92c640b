"""Laws of the wire: what goes in comes out, and nothing else comes in."""

import gc
import importlib.util
import mmap
import os
import random
import weakref
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import hypothesis.extra.numpy as hnp
import msgspec
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


class Memory:
    """Gives 64-byte aligned stretches of shared memory, and notes them."""

    def __init__(self, size=1 << 16, gives=bool):
        self._view, self._end, self._gives, self.given = memoryview(mmap.mmap(-1, size)), 0, gives, []

    def __call__(self, nbytes):
        assert nbytes > 0
        if not self._gives(nbytes):
            return None
        begin, self._end = self._end, self._end + -(-nbytes // 64) * 64
        self.given.append(self._view[begin : begin + nbytes])
        return self.given[-1]


@given(st.dictionaries(TEXT, VALUES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_arrays_go_into_memory_that_is_given(data):
    memory = Memory(1 << 20, lambda nbytes: nbytes % 3)
    frame = Frame(btid=1, sequence=2, data=data)
    header, *buffers = wire.encode(frame, allocate=memory)
    given = [part for part in buffers if any(part is stretch for stretch in memory.given)]
    assert len(given) == len(memory.given)
    assert [bytes(part) for part in (header, *buffers)] == [bytes(part) for part in wire.encode(frame)]
    assert same(data, wire.decode([header, *buffers]).data)


def test_the_memory_given_is_the_part_itself():
    image = np.arange(5 * 6 * 4, dtype=np.uint8).reshape(5, 6, 4)
    data = {"flipped": image[::-1], "rgb": image[..., :3], "swapped": np.arange(3.0).astype(">f8"), "empty": np.zeros((0, 3))}
    memory = Memory()
    header, *buffers = wire.encode(Frame(btid=0, sequence=0, data=data), allocate=memory)
    assert [part.nbytes for part in memory.given] == [120, 90, 24]
    assert [part is stretch for part, stretch in zip(buffers, [*memory.given, None], strict=True)] == [True, True, True, False]
    for name, array in wire.decode([header, *buffers]).data.items():
        np.testing.assert_array_equal(array, data[name])


def test_arrays_lie_over_writable_memory_of_any_kind_and_keep_it():
    header, raw = wire.encode(Frame(btid=0, sequence=0, data={"a": np.arange(10.0).reshape(2, 5)}))

    class Holder:
        """Memory whose end can be noticed, as numpy sees it."""

        def __init__(self):
            self.memory = np.frombuffer(mmap.mmap(-1, 4096), np.uint8)
            self.__array_interface__ = self.memory.__array_interface__

    holder = Holder()
    buffer = np.asarray(holder)[64 : 64 + len(raw)]
    buffer[:] = np.frombuffer(raw, np.uint8)
    array = wire.decode([header, buffer]).data["a"]
    assert array.flags.writeable
    assert np.shares_memory(array, buffer)
    end = weakref.ref(holder)
    del holder, buffer
    gc.collect()
    assert end() is not None
    np.testing.assert_array_equal(array, np.arange(10.0).reshape(2, 5))
    del array
    gc.collect()
    assert end() is None


class Foreign:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Foreign(), "x: cannot send a .*Foreign.*or pass allow_pickle=True on both ends"),
        ([1, {"q": Foreign()}], r"x\[1\]\.q: cannot send a .*Foreign"),
        ({(1, 2): Foreign()}, r"x\[\(1, 2\)\]: cannot send"),
        (np.array([None]), "x: cannot send an array of dtype object.*allow_pickle=True"),
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


def test_a_header_that_is_a_pickle_is_not_read():
    import pickle

    with pytest.raises(DecodeError):
        wire.decode([pickle.dumps({"image": np.zeros(3), "btid": 0})], allow_pickle=True)


PICKLED = {
    "number": Decimal("0.1"),
    "long": Decimal(10**5000),  # in a buffer of its own
    "inside": [(1, {"q": Path})],
    "objects": np.array([None, Decimal(1)]),
    "fields": np.ones(2, [("a", "i4")]),
    "row": np.ones(2, [("a", "i4")])[0],
    "array": np.arange(3.0),
}


def test_other_objects_travel_where_both_ends_allow_pickles():
    parts = wire.encode(Frame(btid=0, sequence=0, data=PICKLED), allow_pickle=True)
    assert len(parts) == 3
    for name, value in wire.decode(parts, allow_pickle=True).data.items():
        assert type(value) is type(PICKLED[name])
        np.testing.assert_array_equal(value, PICKLED[name])
    masked = wire.encode(Frame(btid=0, sequence=0, data={"m": np.ma.masked_array([1, 2], [True, False])}), allow_pickle=True)
    assert wire.decode(masked, allow_pickle=True).data["m"].mask.tolist() == [True, False]


def test_conversion_comes_before_pickling():
    convert = {Decimal: float}
    frame = Frame(btid=0, sequence=0, data={"x": Decimal("0.5")})
    parts = wire.encode(frame, lambda value: convert.get(type(value), lambda same: same)(value), allow_pickle=True)
    assert same(wire.decode(parts).data["x"], 0.5)


@pytest.mark.parametrize("name", ["number", "long", "objects"])
def test_pickles_are_loaded_by_consent_only(name, monkeypatch):
    import pickle

    parts = wire.encode(Frame(btid=0, sequence=0, data={"x": PICKLED[name]}), allow_pickle=True)
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    with pytest.raises(DecodeError, match="a pickled value, which is not loaded.*allow_pickle=True on both ends"):
        wire.decode(parts)


class Unloadable:
    def __reduce__(self):
        return int, ("x",)


class Undumpable:
    def __reduce__(self):
        raise KeyError("no")


def test_pickles_that_cannot_be_loaded_or_made_are_named():
    parts = wire.encode(Frame(btid=0, sequence=0, data={"x": Unloadable()}), allow_pickle=True)
    with pytest.raises(DecodeError, match="a pickled value cannot be loaded: ValueError: invalid literal for int"):
        wire.decode(parts, allow_pickle=True)
    with pytest.raises(EncodeError, match=r"x\[0\]: cannot pickle a .*Undumpable: KeyError: 'no'"):
        wire.encode(Frame(btid=0, sequence=0, data={"x": [Undumpable()]}), allow_pickle=True)
    with pytest.raises(EncodeError, match="x: cannot pickle a builtins.function: .*lambda"):
        wire.encode(Frame(btid=0, sequence=0, data={"x": lambda: None}), allow_pickle=True)


def extension(code, *content):
    """A frame whose one field is an extension, as msgpack."""
    field = msgspec.msgpack.Ext(code, msgspec.msgpack.encode(*content))
    return msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": field}})


@pytest.mark.parametrize(
    ("content", "text"), [("x", "malformed extension 11"), (1, "names buffer 1"), (b"", "cannot be loaded")]
)
def test_wrong_pickle_extensions_are_refused(content, text):
    with pytest.raises(DecodeError, match=text):
        wire.decode([extension(11, content), b""], allow_pickle=True)


@pytest.mark.parametrize(
    ("dtype", "shape", "text"),
    [
        ("|O", [1], "refused"),
        ("|V8", [1], "refused"),
        ("nonsense", [1], "no dtype"),
        ("|S0", [2**46], "no size"),
        ("(2,)f8", [1], "no dtype"),  # numpy's parser would compile the (2,)
        ("|S9999999999", [0], "no dtype"),  # numpy 1 makes |S1410065407 of it
        ("<U999999999", [0], "refused|no dtype"),  # and a dtype of negative size of this
        ("<M8[0s]", [1], "no dtype"),
        ("<U2", [1], "no text"),
        ("f8,f8" * 10**5, [1], "no dtype"),
        ("<f8", [2], "has 16 bytes, got 8"),
        ("<f8", [-1], "none negative"),
        ("<f8", [2**62, 2**62], "got 8"),
        ("<f8", [1] * 40, "at most 32"),
    ],
)
def test_array_descriptions_are_checked(dtype, shape, text):
    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode([dtype, shape, 0]))
    header = msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": array}})
    with pytest.raises(DecodeError, match=text):
        wire.decode([header, bytearray(b"\xff" * 8)])


def test_buffers_belong_to_one_array_each():
    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(["<f8", [1], 0]))
    header = msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": array, "b": array}})
    with pytest.raises(DecodeError, match="names buffer 0, expected 1"):
        wire.decode([header, bytearray(8)])
    with pytest.raises(DecodeError, match="describes 0 buffers, got 1"):
        wire.decode([*wire.encode(Frame(btid=0, sequence=0, data={})), b"more"])


def test_nested_bombs_are_refused():
    data = b"\xc0"
    for _ in range(100):
        data = msgspec.msgpack.encode([msgspec.msgpack.Ext(3, data)])
    header = msgspec.msgpack.encode({"type": "frame/1", "btid": 0, "sequence": 0, "data": {"a": msgspec.msgpack.Ext(3, data)}})
    with pytest.raises(DecodeError, match="nested deeper"):
        wire.decode([header])


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("hostile", Path(__file__).parents[1] / "fuzz" / "hostile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_hostile_messages_get_a_refusal_and_nothing_else(fuzz):
    """A share of what `nox -s fuzz` does at length."""
    generator, checker = fuzz.Generator(random.Random(1)), fuzz.Checker()
    for number in range(20_000):
        checker.check(*generator.make(), number)
    kinds = {kind for kind, _ in checker.outcomes}
    assert all(checker.outcomes[kind, "refused"] > 1000 for kind in kinds)
    assert sum(checker.outcomes[kind, "decoded"] > 0 for kind in kinds) >= 6


@pytest.mark.parametrize(
    ("text", "act", "number"),
    [
        ("KeyError", lambda _: {}["no"], 1),
        ("did .*os.system", lambda _: os.system("true"), 1),
        ("did .*exec", lambda _: exec("pass"), 1),
        ("executed", lambda fuzz: fuzz._EXECUTED.append("x"), 1),
        ("took .* bytes", lambda _: bytes(1 << 20), 500),
        ("took .* s\n", lambda _: [sum(range(10**6)) for _ in range(200)], 1),
    ],
)
def test_the_check_of_hostile_messages_notices(fuzz, text, act, number):
    """The fuzzing would find what it looks for."""
    parts = fuzz.valid_messages()[0]
    fuzz.Checker().check("valid", parts, number)
    with pytest.raises(AssertionError, match=text):
        fuzz.Checker(lambda parts: [act(fuzz), wire.decode(parts)][1]).check("valid", parts, number)


@pytest.mark.parametrize(
    "unit", [b"\x80", b"\x90", b"\xd4\x04\x90", b"\xd4\x09\x90", b"\x81\xa0\x80", b"\xd4\x03\x90", b"\xa1a"]
)
def test_memory_stays_in_proportion(fuzz, unit):
    """Plenty of the values that take most memory for their bytes."""
    count = 90_000 // len(unit)
    checker = fuzz.Checker()
    checker.check("many", fuzz.frame(b"\x81\xa1a\xdd" + count.to_bytes(4, "big") + unit * count), 500)
    assert checker.outcomes["many", "decoded"] == 1


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
    recorded = msgspec.msgpack.decode((GOLDEN / f"{name}.bin").read_bytes(), type=list[bytes])
    assert [bytes(part) for part in wire.encode(MESSAGES[name])] == recorded
    message, expected = wire.decode(recorded), MESSAGES[name]
    assert type(message) is type(expected)
    assert all(same(getattr(message, field), getattr(expected, field)) for field in message.__struct_fields__)
