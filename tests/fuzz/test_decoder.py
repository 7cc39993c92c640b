"""Whatever arrives, the decoder gives a message or a DecodeError (of which VersionError is one), and does nothing else.

python3 noxfile.py -s fuzz
python3 noxfile.py -s fuzz -- --fuzz-messages 100000 --fuzz-seed 1
"""

import importlib.util
import random
import time
from pathlib import Path

import hypothesis
import msgspec
import pytest
from blendtorch.core.transport import control
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)

pytestmark = pytest.mark.timeout(1200)

CONTROL = [
    control.Welcome(session=1),
    control.Hello(session=1, consumer="c", machine="m", pid=1, credit=9, column=-1, yielded=[1, 2, 2**40]),
    control.Delivery(number=1, sequence=2, slot=3, spans=[(0, 64), None]),
    control.Acknowledgement(sequences=[1, 2]),
    control.Goodbye(),
]


@pytest.fixture
def say(capsys):
    """Print at once, past pytest."""

    def say(text):
        with capsys.disabled():
            print(f"\n{text}", end="", flush=True)

    return say


@pytest.fixture(scope="module")
def chosen_seed(request):
    given = request.config.getoption("--fuzz-seed")
    return random.SystemRandom().randrange(2**32) if given is None else given


@pytest.fixture
def seed(chosen_seed, say):
    say(f"  --fuzz-seed {chosen_seed}")
    return chosen_seed


def report(checker, say):
    for kind in sorted({kind for kind, _ in checker.outcomes}):
        say(f"  {kind:12} {checker.outcomes[kind, 'decoded']:9} decoded {checker.outcomes[kind, 'refused']:9} refused")
    say(f"  {checker.outcomes.total()} messages; the slowest took {checker.slowest * 1000:.1f} ms of processor time\n")


def fuzz(make, checker, count, say):
    begin = time.monotonic()
    for number in range(1, count + 1):
        checker.check(*make(), number)
        if number % max(1, count // 10) == 0:
            say(f"  {number:9} of {count} messages, {time.monotonic() - begin:4.0f} s")
    report(checker, say)


def test_mutated_messages(request, seed, say):
    generator, checker = hostile.Generator(random.Random(seed)), hostile.Checker()
    fuzz(generator.make, checker, request.config.getoption("--fuzz-messages"), say)
    assert checker.outcomes.total() == request.config.getoption("--fuzz-messages")


@pytest.mark.parametrize("side", ["consumer", "publisher"])
def test_mutated_control_messages(request, seed, say, side):
    """What the two ends of the transport say to each other beside the messages."""
    valid = [[control.encode(message)] for message in CONTROL]
    generator = hostile.Generator(random.Random(seed), valid)
    decode = getattr(control, f"decode_from_{side}")
    checker = hostile.Checker(lambda parts: decode(bytes(parts[0]) if parts else b""), control._Control)
    fuzz(generator.make, checker, request.config.getoption("--fuzz-messages") // 20, say)


EXTENSIONS = st.builds(msgspec.msgpack.Ext, st.integers(-128, 127) | st.integers(0, 12), st.binary(max_size=64))
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary() | EXTENSIONS
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DESCRIPTIONS = st.tuples(
    st.sampled_from(hostile.DTYPES) | TEXT,
    st.lists(st.sampled_from(hostile.SIZES) | st.integers(0, 9), max_size=5),
    st.integers(0, 2) | st.binary(max_size=16),
)


def extended(inner):
    """Extensions around what may stand in them, and around what may not."""
    content = st.lists(inner, max_size=3) | st.lists(st.tuples(inner, inner), max_size=3) | DESCRIPTIONS | inner
    return st.builds(lambda code, value: msgspec.msgpack.Ext(code, msgspec.msgpack.encode(value)), st.integers(1, 12), content)


VALUES = st.recursive(
    LEAVES.filter(lambda value: not isinstance(value, str) or value.isprintable()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers(0, 9), inner, max_size=4) | extended(inner),
    max_leaves=12,
)
FRAMES = st.fixed_dictionaries(
    {
        "type": st.just("frame/1"),
        "btid": st.integers(0, 9),
        "sequence": st.integers(0, 9),
        "data": st.dictionaries(TEXT, VALUES, max_size=3),
    }
)
ANY = st.integers(0, 9) | TEXT | VALUES
HEADERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["frame/1", "end/1", "failure/1", "frame/2", "x/1"]) | TEXT, "btid": ANY, "sequence": ANY},
    optional=dict.fromkeys(("data", "index", "address", "error", "traceback", "more"), ANY),
)


def test_composed_messages(request, seed, say):
    """Messages that hypothesis composes; it finds the smallest one that fails."""
    checker = hostile.Checker()

    def check(header, buffers):
        checker.check("composed", [msgspec.msgpack.encode(header), *buffers])

    given = hypothesis.given(FRAMES | HEADERS, st.lists(st.binary(max_size=64), max_size=3))
    limits = hypothesis.settings(
        max_examples=request.config.getoption("--fuzz-examples"),
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(seed)(limits(given(check)))()
    report(checker, say)
    assert checker.outcomes["composed", "decoded"]
