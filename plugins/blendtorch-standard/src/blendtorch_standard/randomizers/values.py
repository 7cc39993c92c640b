"""Numbers and vectors out of options: checked when the options are read, drawn later."""

import math

import numpy as np
import numpy.typing as npt
from blendtorch.core import Choice, Distribution, Normal, RandomizerOptions, draw_vector
from blendtorch.core.distributions import Constant

Vector = npt.NDArray[np.float64]


def check(options: RandomizerOptions, **lengths: int) -> None:
    """Refuse a distribution that gives text, or a wrong number of numbers: before the first frame, not when it is drawn.

    Parameters
    ----------
    options : RandomizerOptions
    **lengths : int
        For each field that is a distribution, how many numbers it has to give. Fields that are None are not checked.

    Raises
    ------
    ValueError
        Names the field.
    """
    for name, length in lengths.items():
        distribution: Distribution | None = getattr(options, name)
        if distribution is not None:
            for each in distribution.values if isinstance(distribution, Choice) else (distribution,):
                draw_vector(each, np.random.default_rng(0), length, name)


def check_range(options: RandomizerOptions, low: float, high: float, *names: str) -> None:
    """Refuse distributions of one number that give numbers outside a range: before the first frame, not when one is drawn.

    Parameters
    ----------
    options : RandomizerOptions
    low, high : float
        Both allowed.
    *names : str
        Fields that are distributions; those that are None are not checked.

    Raises
    ------
    ValueError
        Names the field, and the number that it may give.
    """
    check(options, **dict.fromkeys(names, 1))
    for name in names:
        distribution: Distribution | None = getattr(options, name)
        if distribution is not None:
            for value in _extremes(distribution):
                if not low <= value <= high:
                    raise ValueError(f"{name} may be {value:g}: expected {low:g} to {high:g}")


def _extremes(distribution: Distribution) -> list[float]:
    """The least and the greatest number that a distribution of one number gives; all of a choice."""
    match distribution:
        case Choice(values=values):
            return [extreme for each in values for extreme in _extremes(each)]
        case Normal(mean=mean, std=std, low=low, high=high):
            # Ten standard deviations: beyond lies 1 in 10^23.
            spread = 10 * np.asarray(std, np.float64)
            least, greatest = float(np.min(mean - spread)), float(np.max(mean + spread))
            return [max(least, -math.inf if low is None else low), min(greatest, math.inf if high is None else high)]
        case Constant() | int() | float() | str() | tuple():
            return [number(distribution, np.random.default_rng(0))]
        case _:
            return [float(np.min(distribution.low)), float(np.max(distribution.high))]


def check_one_of(options: RandomizerOptions, *names: str) -> None:
    """Refuse options that leave a randomizer nothing to do.

    Raises
    ------
    ValueError
        If all these fields are None, or False.
    """
    values = [getattr(options, name) for name in names]
    if all(value is None or value is False or value == "" for value in values):  # 0 is a value
        raise ValueError(f"nothing is randomized: give {' or '.join(names)}")


def check_box(low: tuple[float, ...], high: tuple[float, ...]) -> None:
    """Refuse a box that is inside out.

    Raises
    ------
    ValueError
    """
    if any(lowest > highest for lowest, highest in zip(low, high, strict=True)):
        raise ValueError(f"low {low} is over high {high}: expected low <= high for x, y and z")


def number(distribution: Distribution, rng: np.random.Generator) -> float:
    """Draw one number from a distribution that was checked."""
    return float(draw_vector(distribution, rng, 1, "")[0])


def vector(distribution: Distribution, rng: np.random.Generator) -> Vector:
    """Draw three numbers from a distribution that was checked; one counts for all three."""
    return draw_vector(distribution, rng, 3, "")
