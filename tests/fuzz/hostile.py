"""Messages that nobody honest sends, and what the decoder owes us for each of them."""

import pickle
import sys
import time
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from blendtorch.core import Frame, wire
from blendtorch.core.errors import DecodeError
from blendtorch.core.messages import Message

MAX_SECONDS = 1.0  # of processor time for one message; those made here have less than 100 kB
MEMORY_FACTOR = 128  # an empty dict of 1 byte takes 80 bytes here, a set of 3 bytes takes 232
MEMORY_FLOOR = 1 << 16
_MEASURE_EVERY = 500  # tracing memory costs more than decoding

_encode = msgspec.msgpack.encode
_EXECUTED = []
_GOLDEN = Path(__file__).parents[1] / "core" / "golden"

_VALUES = [
    {},
    {"image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[::-1], "xy": np.zeros((8, 2)), "frameid": 3},
    {"t": (1, {2, (3, "x")}), "m": {1: "a", (1, 2): [None, True]}, "c": 1 + 2j, "big": -(2**90)},
    {"when": datetime(2026, 1, 2, tzinfo=UTC), "p": Path("a/b"), "s": np.float32(1), "d": np.datetime64("2026", "s")},
    {"raw": bytes(range(256)) * 20, "u": np.array(["ab", ""]), "empty": np.zeros((0, 3)), "zero": np.zeros(())},
    {"deep": [[[{"a": [(((1,),),)]}]]], "text": "\0\u20ac", "f": float("nan"), "b": b"\xff"},
]
DTYPES = ["<f8", ">i4", "|u1", "|b1", "|O", "|O8", "|V8", "|S0", "<U1", "<U999999999", "|S99999999999999", "<U-1", "<M8[s]", "<M8",
           "<m8[0s]", "<M8[99999999s]", "f8,f8", "(9,9)f8", "(99999999,)u1", "f8" * 99, "", "\0", "\u20ac", "c", "e", "<f16", "<c32",
           "{'names': ['a'], 'formats': ['O']}", "object", "<M8[s][s]", "|a1", "|T", "<T16", "|i1|", "[('a','O')]"]  # fmt: skip
SIZES = [0, 1, 2, 3, 8, -1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, -(2**63), 2**64 - 1]
# Each claims what does not follow: text, bytes, lists, dicts and extensions of up to 4 GiB.
_CLAIMS = [
    bytes([token]) + size + b"\x01"
    for token in b"\xc6\xc9\xdb\xdd\xdf"
    for size in (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x10\x00\x00")
] + [b"\xdc\xff\xff", b"\xde\xff\xff", b"\xc8\xff\xff\x0b", b"\xc5\xff\xff", b"\xda\xff\xff"]
_TOKENS = [*(bytes([token]) for token in (0xC0, 0xC1, 0xC3, 0x80, 0x81, 0x90, 0x91, 0xA0, 0xA1, 0xFF, 0x7F)),
           b"\xcb\x7f\xf0" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xa4type", b"\xa7frame/1", b"\xa7frame/9",
           b"\xd6\xff\xff\xff\xff\xff", b"\xd7\xff" + b"\xff" * 8, b"\xc7\x0c\xff" + b"\xff" * 12, b"\xa4data", b"\xa4btid"]  # fmt: skip


class Bomb:
    """Says so where it is unpickled."""

    def __reduce__(self):
        return _EXECUTED.append, ("unpickled",)


_PICKLES = [
    pickle.dumps(Bomb()),
    b"cos\nsystem\n(S'exit 1'\ntR.",
    pickle.dumps([1, 2]),
    pickle.dumps(np.zeros(3)),
    pickle.dumps({"a": Bomb()}, 0),
]


def valid_messages():
    """Give messages that are fine: what the mutations start from."""
    golden = [msgspec.msgpack.decode(path.read_bytes(), type=list[bytes]) for path in sorted(_GOLDEN.glob("*.bin"))]
    ours = [wire.encode(Frame(btid=1, sequence=number, data=data)) for number, data in enumerate(_VALUES)]
    return golden + [[bytes(part) for part in parts] for parts in ours]


def frame(data, buffers=()):
    """Put encoded msgpack where the fields of a frame are."""
    start = b"\x84\xa4type\xa7frame/1\xa4btid\x00\xa8sequence\x00\xa4data"
    return [start + data, *buffers]


class Generator:
    """Makes hostile messages without end, the same ones for the same `random.Random`."""

    def __init__(self, random, valid=None):
        self._random = random
        self._valid = valid or valid_messages()
        self._kinds = [self.noise, self.flipped, self.cut, self.spliced, self.claim, self.fields, self.deep, self.pickled]

    def make(self):
        """Return the kind of the message, and its parts."""
        kind = self._random.choice(self._kinds)
        return kind.__name__, kind()

    def noise(self):
        return [self._bytes(64) for _ in range(self._random.randint(0, 3))]

    def flipped(self):
        """Change some bytes of a header, rarely of a buffer."""
        parts = self._any()
        for _ in range(self._random.randint(1, 4)):
            part = parts[0] if self._random.random() < 0.9 else self._random.choice(parts)
            if part:
                place = self._random.randrange(len(part))
                part[place] = (
                    self._random.randrange(256) if self._random.random() < 0.5 else part[place] ^ (1 << self._place(8))
                )
        return parts

    def cut(self):
        """Lose, repeat, exchange or shorten parts."""
        parts = self._any()
        number = self._place(len(parts))
        match self._place(5):
            case 0:
                del parts[number]
            case 1:
                parts.insert(number, parts[self._place(len(parts))])
            case 2:
                self._random.shuffle(parts)
            case 3:
                parts[number] = parts[number][: self._place(len(parts[number]) + 1)]
            case 4:
                parts[number] += self._bytes(16)
        return parts

    def spliced(self):
        """Put bytes of one header, or tokens of msgpack, into another."""
        parts, other = self._any(), self._any()[0]
        begin = self._place(len(other))
        piece = other[begin : begin + self._place(40)] if self._random.random() < 0.5 else self._random.choice(_TOKENS)
        self._insert(parts[0], piece)
        return parts

    def claim(self):
        """Claim up to 4 GiB that do not follow."""
        claim = self._random.choice(_CLAIMS)
        if self._random.random() < 0.3:
            return frame(b"\x81\xa1a" + claim)
        parts = self._any()
        self._insert(parts[0], claim)
        return parts

    def fields(self):
        """Build a frame from extensions that are right and wrong."""
        buffers = [self._bytes(32) for _ in range(self._place(3))]
        data = b"\x81\xa1a" + self._value(0)
        return frame(data, buffers)

    def deep(self):
        """Nest lists, dicts and extensions, deeper than Python goes at times."""
        depth = self._random.choice([1, 5, 31, 32, 33, 34, 100, 900, 1100, 3000])
        if self._random.random() < 0.5:
            return frame(b"\x81\xa1a" + self._random.choice([b"\x91", b"\x81\xa0", b"\x81"]) * depth + b"\xc0" * (depth + 1))
        data, code = b"\x90", self._random.choice([3, 4, 9])
        for _ in range(min(depth, 100)):
            data = _encode(msgspec.msgpack.Ext(code, data))
            data = b"\x91\x92" + data + b"\xc0" if code == 9 else b"\x91" + data
        return frame(b"\x81\xa1a" + data)

    def pickled(self):
        """Bring pickles: as extensions, as headers, as buffers."""
        content = self._random.choice(_PICKLES)
        match self._place(4):
            case 0:
                return frame(b"\x81\xa1a" + _encode(msgspec.msgpack.Ext(11, _encode(content))))
            case 1:
                return frame(b"\x81\xa1a" + _encode(msgspec.msgpack.Ext(11, _encode(0))), [content])
            case 2:
                return [content, content]
            case _:
                description = _encode([self._random.choice(["|O", "object", "|V8", "|u1"]), [len(content)], 0])
                return frame(b"\x81\xa1a" + _encode(msgspec.msgpack.Ext(1, description)), [content])

    def _value(self, depth):
        random = self._random
        if depth < 4 and random.random() < 0.4:
            inner = [self._value(depth + 1) for _ in range(self._place(4))]
            return random.choice([bytes([0x90 + len(inner)]), bytes([0x80 + len(inner) // 2])]) + b"".join(inner)
        code = random.choice([-1, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 127, -128])
        return _encode(msgspec.msgpack.Ext(code, self._content(code, depth)))

    def _content(self, code, depth):
        random, choice = self._random, self._random.choice
        if random.random() < 0.2:
            return self._bytes(16)
        number = choice([0, 0, 1, 1, 2, -1, 2**63])
        match code:
            case 1:
                return _encode([choice(DTYPES), [choice(SIZES) for _ in range(choice([0, 1, 1, 2, 3, 33]))], number])
            case 2:
                return _encode([choice(DTYPES), self._bytes(16)])
            case 3 | 4 | 9 if depth < 6:
                return b"\x92" + self._value(depth + 1) + self._value(depth + 1)
            case 5:
                return _encode([choice([0.0, float("inf"), "x", 2**63]), choice([1.5, None])])
            case 6:
                return self._bytes(2000)
            case 7 | 8:
                return choice([b"2026-01-02T03:04:05+25:00", b"9999-12-31T23:59:59.999999-23:59", b"\xff\0", b"", b"/" * 99])
            case 10 | 11:
                return _encode(choice([number, b"x", "x", None]))
        return self._bytes(16)

    def _any(self):
        return [bytearray(part) for part in self._random.choice(self._valid)]

    def _insert(self, part, piece):
        place = self._place(len(part) + 1)
        part[place : place + self._random.choice([0, len(piece)])] = piece

    def _place(self, end):
        return int(self._random.random() * end)

    def _bytes(self, longest):
        return bytearray(self._random.randbytes(self._place(longest + 1)))


class _Watch:
    """Notes what Python reports to audit hooks (imports, files, processes, unpickling, compiling) while it is told to look."""

    def __init__(self):
        self.events = []
        self.looks = False
        sys.addaudithook(self._note)  # for the rest of the process: there is no way to remove one

    def _note(self, event, arguments):
        if self.looks:
            self.events.append((event, repr(arguments)[:100]))


_watch = _Watch()


class Checker:
    """Hands messages to a decoder, and fails with the message that got more out of it than a message or a refusal.

    `decode` takes the parts and returns one of `types`.
    """

    def __init__(self, decode=wire.decode, types=Message):
        self._decode = decode
        self._types = types
        self.outcomes = Counter()
        self.slowest = 0.0  # seconds
        self.worst_memory = 0.0  # bytes taken for each byte that came in, over the floor
        for parts in valid_messages():  # what numpy and msgspec import at their first use is not the sender's doing
            wire.decode(parts)

    def check(self, kind, parts, number=1):
        """Decode one message; the `number` says when to measure memory too."""
        measure = number % _MEASURE_EVERY == 0
        if measure:
            tracemalloc.start()
        _watch.events.clear()
        _EXECUTED.clear()
        begin = time.thread_time()
        _watch.looks = True
        try:
            outcome = "decoded" if isinstance(self._decode(parts), self._types) else "neither"
        except DecodeError:
            outcome = "refused"
        except BaseException as error:
            raise AssertionError(f"{kind}: {type(error).__name__}: {error}\n{shown(parts)}") from error
        finally:
            _watch.looks = False
            seconds = time.thread_time() - begin
            memory = tracemalloc.get_traced_memory()[1] if measure else 0
            if measure:
                tracemalloc.stop()
        self.slowest = max(self.slowest, seconds)
        came = sum(map(len, parts)) or 1
        self.worst_memory = max(self.worst_memory, (memory - MEMORY_FLOOR) / came)
        assert outcome != "neither", f"{kind}: gave no message\n{shown(parts)}"
        assert measure or seconds < MAX_SECONDS, f"{kind}: took {seconds:.1f} s\n{shown(parts)}"
        assert memory < MEMORY_FLOOR + MEMORY_FACTOR * came, f"{kind}: took {memory} bytes for {came}\n{shown(parts)}"
        assert not _watch.events, f"{kind}: did {_watch.events}\n{shown(parts)}"
        assert not _EXECUTED, f"{kind}: executed what came\n{shown(parts)}"
        self.outcomes[kind, outcome] += 1


def shown(parts):
    """Write a message so that it can be decoded again, in a debugger."""
    text = f"wire.decode([{', '.join(f'bytes.fromhex({bytes(part).hex()!r})' for part in parts)}])"
    return text if len(text) < 20_000 else f"{text[:1000]} ... ({sum(map(len, parts))} bytes)"
