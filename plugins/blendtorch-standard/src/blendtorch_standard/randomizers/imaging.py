"""What a camera makes of light: pictures in, pictures out.

Light is linear and goes from 0 to 1, where the sensor saturates. It is got out of a finished picture by the sRGB curve
(IEC 61966-2-1): where a view transform such as AgX or Filmic has bent it before, it is that of the display, not of the scene.
"""

import io
import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Light = npt.NDArray[np.float32]

_BAND = 32  # rows worked on at a time: what is computed of them stays in the cache, which saves a quarter of the time
_STEPS = 65535  # of light when it is encoded: 20 for the narrowest level, so that what was decoded comes back as it was


def _decode(encoded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encode(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


_LIGHT = _decode(np.arange(256) / 255).astype(np.float32)
_LEVELS = np.rint(255 * _encode(np.arange(_STEPS + 1) / _STEPS)).astype(np.uint8)


def expose(
    image: Picture,
    rng: np.random.Generator,
    *,
    blur: float = 0,
    vignetting: float = 0,
    exposure: float = 0,
    shot_noise: float = 0,
    read_noise: float = 0,
) -> Picture:
    """Let the light of a picture pass optics and a sensor.

    Parameters
    ----------
    image : ndarray, shape (height, width, 3), uint8
        sRGB.
    rng : numpy.random.Generator
        For the noise.
    blur : float
        Standard deviation of a Gaussian, in pixels. Beyond its border the picture goes on as its border is.
    vignetting : float
        Which share of the light is missing in the corners, 0 or more and less than 1: see `falloff`.
    exposure : float
        In stops: one more doubles the light.
    shot_noise : float
        Variance of the light where it is 1; the variance goes with the light. 1 / n where n electrons saturate a pixel.
    read_noise : float
        Standard deviation of the light where there is none.

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
        sRGB. Light over 1 is 1, as a sensor saturates.

    Notes
    -----
    The noise is normal, each value for itself, with the variance shot_noise * light + read_noise ** 2 (A. Foi and others,
    "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008).
    """
    height, width = image.shape[:2]
    weights = gaussian(blur)
    reach = len(weights) - 1
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge").reshape(height + 2 * reach, -1)
    gain = np.float32(2.0**exposure)
    noisy = bool(shot_noise or read_noise)
    chances = rng.integers(0, len(_normal()), (height, width * 3), np.uint16) if noisy else np.empty((height, 0), np.uint16)
    rows = np.empty((height, width * 3), np.uint8)
    for top in range(0, height, _BAND):
        band = slice(top, top + _BAND)
        light = _LIGHT.take(padded[top : top + _BAND + 2 * reach])
        light = smooth(smooth(light, weights).T, weights, stride=3).T
        light *= gain
        if vignetting:
            light *= falloff(height, width, vignetting, band)
        if noisy:
            spread = light * np.float32(shot_noise)
            spread += np.float32(read_noise**2)
            np.sqrt(spread, out=spread)
            spread *= _normal().take(chances[band])
            light += spread
        np.clip(light, 0, 1, out=light)
        light *= np.float32(_STEPS)
        light += np.float32(0.5)
        rows[band] = _LEVELS.take(light.astype(np.uint16))
    return rows.reshape(height, width, 3)


def gaussian(sigma: float) -> Light:
    """Compute the weights of a Gaussian blur: of the pixel itself, of its neighbours, of theirs, up to four sigma.

    Parameters
    ----------
    sigma : float
        In pixels, 0 or more.

    Notes
    -----
    The discrete Gaussian, whose variance is sigma ** 2 for a sigma of less than a pixel too, which that of samples of the bell
    curve is not (T. Lindeberg, "Scale-space for discrete signals", IEEE PAMI 1990). It is made of its Fourier transform; what
    is cut off is up to 2 % of the variance.

    Examples
    --------
    >>> gaussian(0.0).tolist()
    [1.0]
    >>> [round(float(weight), 3) for weight in gaussian(0.5)]
    [0.791, 0.098, 0.006]
    """
    reach = math.ceil(4 * sigma)
    frequencies = np.linspace(0, np.pi, 2 * reach + 5)
    weights = np.fft.irfft(np.exp(sigma**2 * (np.cos(frequencies) - 1)))[: reach + 1]
    normalized: Light = (weights / (weights[0] + 2 * weights[1:].sum())).astype(np.float32)
    return normalized


def smooth(values: Light, weights: Light, stride: int = 1) -> Light:
    """Blur along the first axis, where neighbours are `stride` apart; the result has no border.

    Parameters
    ----------
    values : ndarray, shape (N, M), float32
    weights : ndarray, shape (K + 1,), float32
        Of `gaussian`.
    stride : int

    Returns
    -------
    ndarray, shape (N - 2 * K * stride, M), float32
    """
    border = (len(weights) - 1) * stride
    count = len(values) - 2 * border
    total: Light = values[border : border + count] * weights[0]
    pair = np.empty_like(total)
    for distance, weight in enumerate(weights[1:], 1):
        before, after = border - distance * stride, border + distance * stride
        np.add(values[before : before + count], values[after : after + count], out=pair)
        pair *= weight
        total += pair
    return total


def falloff(height: int, width: int, strength: float, rows: slice) -> Light:
    """Compute which share of the light a lens lets through: 1 in the middle of the picture, 1 - `strength` in its corners.

    Returns
    -------
    ndarray, shape (rows, 3 * width), float32

    Notes
    -----
    The law of the fourth power of the cosine of the angle to the optical axis, which is that of a lens without any other
    vignetting: with r, the distance from the middle as a share of that of the corners, cos ** 4 = (1 + k * r ** 2) ** -2. The
    angle of view, tan ** 2 = k in the corners, is that which gives `strength` there; the lens of the camera does not count.
    """
    through: Light = _squared_radius(height, width)[rows] * np.float32((1 - strength) ** -0.5 - 1)
    through += np.float32(1)
    through *= through
    np.reciprocal(through, out=through)
    return through


@lru_cache(maxsize=4)  # sizes of pictures
def _squared_radius(height: int, width: int) -> Light:
    x, y = np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2
    radius = (x**2 + y[:, None] ** 2) / ((width**2 + height**2) / 4)
    return np.repeat(radius, 3, axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def _normal() -> Light:
    """Give equally likely numbers of a normal distribution, with mean 0 and variance 1; the greatest is 4.3.

    Chosen from at random they are noise in a third of the time that normal numbers take.
    """
    size = 1 << 16
    upper = np.array([NormalDist().inv_cdf((number + 0.5) / size) for number in range(size // 2, size)])
    numbers = np.concatenate([-upper[::-1], upper])
    scaled: Light = (numbers / numbers.std()).astype(np.float32)
    return scaled


def compress(image: Picture, quality: int) -> Picture:
    """Write a picture as a JPEG file in memory, and read it again.

    Parameters
    ----------
    image : ndarray, shape (height, width, 3), uint8
    quality : int
        From 1 to 100, as libjpeg counts. The colours have half the resolution (4:2:0).

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.array(read)
