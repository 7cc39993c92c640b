"""What a randomizer draws from: distributions as data, written in Python, YAML or JSON.

    >>> import numpy as np
    >>> rng = np.random.default_rng(7)
    >>> draw(Uniform(low=1.0, high=2.0), rng)
    1.6250954666046669
    >>> draw(Uniform(low=[0, 0, 0], high=[1, 1, 0]), rng).round(3).tolist()
    [0.897, 0.776, 0.0]
    >>> draw(Choice(values=["steel", "brass"], weights=[1, 3]), rng)
    'brass'
    >>> draw(0.5, rng)
    0.5

In YAML and JSON a distribution is a mapping, `{draw: uniform, low: 0, high: 1}`; a number, text or list by itself is a
constant. Text that reads as a number with an exponent is that number: YAML 1.1 takes 1e-3 for text.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")

Number = int | float
Numbers = Number | tuple[Number, ...]


class _Distribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="draw"):
    """The base of the distributions; lists stand for independent draws of their elements."""


class Constant(_Distribution, frozen=True, kw_only=True, tag="constant"):
    """Always the same value."""

    value: Number | str | tuple[Number, ...]


class Uniform(_Distribution, frozen=True, kw_only=True, tag="uniform"):
    """Between `low` and `high`, each value as likely as any other."""

    low: Numbers
    high: Numbers

    def __post_init__(self) -> None:
        """Check the bounds."""
        _check_bounds(self.low, self.high)


class LogUniform(_Distribution, frozen=True, kw_only=True, tag="log_uniform"):
    """Between `low` and `high`, both over 0, each *factor* as likely as any other."""

    low: Numbers
    high: Numbers

    def __post_init__(self) -> None:
        """Check the bounds."""
        _check_bounds(self.low, self.high)
        if np.any(np.asarray(self.low) <= 0):
            raise ValueError(f"low is {self.low}: a log-uniform distribution is over numbers greater than 0")


class Normal(_Distribution, frozen=True, kw_only=True, tag="normal"):
    """Around `mean`, with the standard deviation `std`; drawn again until within `low` and `high`, where these are given."""

    mean: Numbers
    std: Numbers
    low: Number | None = None
    high: Number | None = None

    def __post_init__(self) -> None:
        """Check the spread, and that the bounds leave something to draw."""
        if np.any(np.asarray(self.std) < 0):
            raise ValueError(f"std is {self.std}: expected 0 or more")
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        for mean, std in np.broadcast(self.mean, self.std):
            # Of fewer, rejection would draw thousands to find one, or never end.
            if _share_between(low, high, float(mean), float(std)) < 1e-3:
                raise ValueError(
                    f"low {self.low} and high {self.high} leave less than 1 in 1000 of a normal distribution "
                    f"around {mean} with std {std}"
                )


class Integer(_Distribution, frozen=True, kw_only=True, tag="integer"):
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the bounds."""
        _check_bounds(self.low, self.high)


class Choice(_Distribution, frozen=True, kw_only=True, tag="choice"):
    """One of `values`, as likely as the others or by `weights`."""

    values: tuple[Number | str | tuple[Number, ...], ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check values and weights."""
        if not self.values:
            raise ValueError("values is empty: there is nothing to choose from")
        if self.weights is not None and (
            len(self.weights) != len(self.values) or min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf
        ):
            raise ValueError(f"weights {self.weights}: expected one for each of {len(self.values)} values, none negative")


Distribution = Number | str | tuple[Number, ...] | Constant | Uniform | LogUniform | Normal | Integer | Choice


def draw(distribution: Distribution, rng: np.random.Generator) -> Any:
    """Draw one value.

    Parameters
    ----------
    distribution : Distribution
        Or a constant: a number, text or tuple of numbers.
    rng : numpy.random.Generator

    Returns
    -------
    float, int, str or ndarray
        An array, float64, where the parameters are lists; a constant as it is, a tuple as an array.
    """
    match distribution:
        case Constant(value=value):
            return _value(value)
        case Uniform(low=low, high=high):
            return _number(rng.uniform(low, high))
        case LogUniform(low=low, high=high):
            return _number(np.clip(np.exp(rng.uniform(np.log(low), np.log(high))), low, high))  # exp(log(3)) is over 3
        case Normal():
            return _normal(distribution, rng)
        case Integer(low=low, high=high):
            return int(rng.integers(low, high, endpoint=True))
        case Choice(values=values, weights=weights):
            shares = None if weights is None else np.asarray(weights) / sum(weights)
            return _value(values[int(rng.choice(len(values), p=shares))])
        case _:
            return _value(distribution)


def draw_vector(distribution: Distribution, rng: np.random.Generator, length: int, path: str) -> np.ndarray[Any, Any]:
    """Draw a vector; one number counts for every element.

    Raises
    ------
    ValueError
        If the distribution gives something else; names `path`.
    """
    value = draw(distribution, rng)
    if isinstance(value, str) or np.shape(value) not in ((), (length,)):
        raise ValueError(f"{path}: expected {length} numbers or one, got {value!r}")
    return np.full(length, value, np.float64) if np.shape(value) == () else np.asarray(value, np.float64)


def _normal(distribution: Normal, rng: np.random.Generator) -> Any:
    low = -math.inf if distribution.low is None else distribution.low
    high = math.inf if distribution.high is None else distribution.high
    value = np.asarray(rng.normal(distribution.mean, distribution.std))
    while np.any(outside := (value < low) | (value > high)):
        value = np.where(outside, rng.normal(distribution.mean, distribution.std), value)
    return _number(value)


def _share_between(low: float, high: float, mean: float, std: float) -> float:
    """Compute how much of a normal distribution lies between two bounds."""
    if std == 0:
        return float(low <= mean <= high)
    return (math.erf((high - mean) / (std * math.sqrt(2))) - math.erf((low - mean) / (std * math.sqrt(2)))) / 2


def _number(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else np.asarray(value, np.float64)


def _value(value: Any) -> Any:
    if isinstance(value, str) and _EXPONENT.fullmatch(value):  # YAML 1.1 takes 1e-3 for text
        return float(value)
    return np.asarray(value, np.float64) if isinstance(value, (tuple, list)) else value


def _check_bounds(low: Numbers, high: Numbers) -> None:
    if isinstance(low, Sequence) and isinstance(high, Sequence) and len(low) != len(high):
        raise ValueError(f"low has {len(low)} numbers and high has {len(high)}: give as many")
    if not np.all(np.isfinite(low)) or not np.all(np.isfinite(high)) or np.any(np.asarray(low) > np.asarray(high)):
        raise ValueError(f"low {low} is over high {high}: expected low <= high, both finite")
