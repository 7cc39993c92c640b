"""Colours of pictures that come linear."""

from typing import Any

import numpy as np
import numpy.typing as npt


def gamma(x: npt.NDArray[Any], coeff: float = 2.2) -> npt.NDArray[np.uint8]:
    """Apply a gamma curve to linear pictures, as scripts for 0.4 do; pictures of this version are sRGB already.

    Parameters
    ----------
    x : ndarray, shape (..., 3 or 4), uint8
        Linear; a fourth channel is alpha and stays as it is.
    coeff : float

    Returns
    -------
    ndarray, shape (..., 3 or 4), uint8

    Examples
    --------
    >>> gamma(np.array([[0, 55, 255]], np.uint8)).tolist()
    [[0, 126, 255]]
    """
    out = np.array(x, np.uint8)
    out[..., :3] = (255.0 * (out[..., :3] / 255.0) ** (1.0 / coeff)).astype(np.uint8)
    return out
