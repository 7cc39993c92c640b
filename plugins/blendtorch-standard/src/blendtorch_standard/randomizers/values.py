"""Numbers and vectors out of options: checked when the options are read, drawn later."""

import numpy as np
import numpy.typing as npt
from blendtorch.core import Choice, Distribution, RandomizerOptions, draw_vector

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
