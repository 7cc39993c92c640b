"""Alpha as the viewport has it, and as pictures have it."""

import numpy as np
import numpy.typing as npt

_LEVELS = np.arange(256) / 255.0
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1


def straight(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Take the alpha out of the colours, as F12 does for a PNG.

    The viewport multiplies linear colours with the alpha, and encodes them after that: half covered by white is 188, not 128.
    So they are decoded, divided and encoded again. The curve is that of sRGB: exact to the rounding for the view
    transform Standard, and close for AgX and Filmic, whose inverse has no formula.

    Parameters
    ----------
    image : ndarray, shape (height, width, 4), uint8
        Changed in place.

    Returns
    -------
    ndarray, shape (height, width, 4), uint8
        The same array.
    """
    alpha = image[..., 3]
    alpha[alpha >= 252] = 255  # 16 and 32 samples of Workbench add up to 252 or 253 where objects cover a pixel
    partly = (alpha > 0) & (alpha < 255)
    linear = np.minimum(_LINEAR[image[partly, :3]] * 255.0 / alpha[partly, None], 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    image[partly, :3] = np.rint(encoded * 255)
    return image
