"""Laws of the distributions: what is drawn lies where it is said, and a description survives JSON."""

import math

import msgspec
import numpy as np
import pytest
from blendtorch.core import Choice, Constant, Distribution, Integer, LogUniform, Normal, Uniform, draw, draw_vector
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-1e9, 1e9, allow_subnormal=False)
POSITIVE = st.floats(1e-9, 1e9)
SEEDS = st.integers(0, 2**32 - 1)


def ordered(elements):
    return st.tuples(elements, elements).map(sorted)


@st.composite
def bounds(draw, elements=NUMBERS):
    """Two numbers in order, or two tuples of as many."""
    pairs = draw(st.one_of(ordered(elements), st.lists(ordered(elements), min_size=1, max_size=4)))
    if not isinstance(pairs[0], list):
        return tuple(pairs)
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


VALUES = st.one_of(NUMBERS, st.text(max_size=5), st.lists(NUMBERS, min_size=1, max_size=3).map(tuple))
DISTRIBUTIONS = st.one_of(
    VALUES,
    VALUES.map(lambda value: Constant(value=value)),
    bounds().map(lambda pair: Uniform(low=pair[0], high=pair[1])),
    bounds(POSITIVE).map(lambda pair: LogUniform(low=pair[0], high=pair[1])),
    st.tuples(NUMBERS, POSITIVE).map(lambda pair: Normal(mean=pair[0], std=pair[1])),
    ordered(st.integers(-(2**31), 2**31)).map(lambda pair: Integer(low=pair[0], high=pair[1])),
    st.lists(VALUES, min_size=1, max_size=4).map(lambda values: Choice(values=tuple(values))),
)


@given(DISTRIBUTIONS)
def test_a_distribution_survives_json(distribution):
    encoded = msgspec.json.encode(distribution)
    decoded = msgspec.json.decode(encoded, type=Distribution)
    assert decoded == distribution
    assert type(decoded) is type(distribution)


@given(DISTRIBUTIONS, SEEDS)
def test_the_same_generator_draws_the_same(distribution, seed):
    one, two = (draw(distribution, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one, two)


@given(bounds(), SEEDS)
def test_uniform_stays_within(pair, seed):
    value = draw(Uniform(low=pair[0], high=pair[1]), np.random.default_rng(seed))
    assert np.all(np.asarray(pair[0]) <= value)
    assert np.all(value <= np.asarray(pair[1]))
    assert np.shape(value) == np.shape(pair[0])


@given(bounds(POSITIVE), SEEDS)
def test_log_uniform_stays_within(pair, seed):
    value = draw(LogUniform(low=pair[0], high=pair[1]), np.random.default_rng(seed))
    assert np.all(np.asarray(pair[0]) <= value)
    assert np.all(value <= np.asarray(pair[1]))


def test_log_uniform_gives_each_factor_the_same_chance():
    rng = np.random.default_rng(7)
    values = np.array([draw(LogUniform(low=0.01, high=100.0), rng) for _ in range(4000)])
    # Half are below the geometric middle; 4 standard deviations of a fair coin.
    assert abs(np.mean(values < 1) - 0.5) < 4 * 0.5 / math.sqrt(4000)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(0, 5), st.floats(0.5, 5), SEEDS)
def test_normal_stays_within(mean, std, below, above, seed):
    distribution = Normal(mean=(mean, mean), std=std, low=mean - below, high=mean + above)
    value = draw(distribution, np.random.default_rng(seed))
    assert value.shape == (2,)
    assert np.all((distribution.low <= value) & (value <= distribution.high))


def test_normal_has_its_mean_and_spread():
    rng = np.random.default_rng(7)
    values = np.array([draw(Normal(mean=(5, -5), std=(1, 2)), rng) for _ in range(4000)])
    assert np.allclose(values.mean(axis=0), (5, -5), atol=4 * 2 / math.sqrt(4000))
    assert np.allclose(values.std(axis=0), (1, 2), rtol=0.05)


@given(ordered(st.integers(-20, 20)), SEEDS)
def test_integer_includes_both_ends(pair, seed):
    low, high = pair
    rng = np.random.default_rng(seed)
    values = {draw(Integer(low=low, high=low + min(high - low, 2)), rng) for _ in range(60)}
    # Each of at most 3 numbers is missed 60 times in a row with probability 3e-11.
    assert values == set(range(low, low + min(high - low, 2) + 1))


def test_choice_counts_by_its_weights():
    rng = np.random.default_rng(7)
    values = [draw(Choice(values=["a", "b", "c"], weights=[1, 3, 0]), rng) for _ in range(2000)]
    assert "c" not in values
    assert abs(values.count("b") / 2000 - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 2000)
    assert draw(Choice(values=[(1, 2)]), rng).tolist() == [1.0, 2.0]


def test_a_constant_is_what_it_says():
    rng = np.random.default_rng(7)
    assert draw("steel", rng) == draw(Constant(value="steel"), rng) == "steel"
    assert draw((1, 2), rng).dtype == np.float64
    assert draw("1e-3", rng) == 0.001, "YAML 1.1 takes it for text"
    assert draw("e3", rng) == "e3"


def test_a_vector_has_its_length():
    rng = np.random.default_rng(7)
    assert draw_vector(2, rng, 3, "scale").tolist() == [2, 2, 2]
    assert draw_vector(Uniform(low=(0, 0), high=(1, 1)), rng, 2, "size").shape == (2,)
    for wrong in ((1, 2), "steel"):
        with pytest.raises(ValueError, match=r"scale: expected 3 numbers or one, got"):
            draw_vector(wrong, rng, 3, "scale")


WRONG = {
    "order": ({"draw": "uniform", "low": 2, "high": 1}, "low 2 is over high 1: expected low <= high, both finite"),
    "lengths": ({"draw": "uniform", "low": [0, 0], "high": [1]}, "low has 2 numbers and high has 1"),
    "log-of-zero": ({"draw": "log_uniform", "low": 0, "high": 1}, "a log-uniform distribution is over numbers greater than 0"),
    "spread": ({"draw": "normal", "mean": 0, "std": -1}, "std is -1: expected 0 or more"),
    "far-tail": ({"draw": "normal", "mean": 0, "std": 1, "low": 5}, "leave less than 1 in 1000"),
    "no-width": ({"draw": "normal", "mean": 0, "std": 1, "low": 1, "high": 1}, "leave less than 1 in 1000"),
    "no-choice": ({"draw": "choice", "values": []}, "there is nothing to choose from"),
    "weights": ({"draw": "choice", "values": [1, 2], "weights": [1]}, "expected one for each of 2 values"),
    "no-weight": ({"draw": "choice", "values": [1, 2], "weights": [0, 0]}, "expected one for each of 2 values"),
    "unknown": ({"draw": "gauss"}, "Invalid value 'gauss' - at `$.draw`"),
    "missing": ({"draw": "uniform", "low": 1}, "missing required field `high`"),
    "field": ({"draw": "uniform", "low": 0, "high": 1, "hi": 2}, "unknown field `hi`"),
    "type": ({"draw": "uniform", "low": None, "high": 1}, "got `null` - at `$.low`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_distribution_is_refused(case):
    description, reason = WRONG[case]
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(description, Distribution)
    assert reason in str(caught.value)
