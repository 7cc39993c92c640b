"""Rotation matrices, in float64."""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def from_degrees(angles: npt.ArrayLike) -> Matrix:
    """Rotate about x, then y, then z, all of the parent's frame: Blender's XYZ Euler angles, in degrees."""
    (cx, cy, cz), (sx, sy, sz) = (function(np.radians(np.asarray(angles, np.float64))) for function in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def from_quaternion(quaternion: npt.ArrayLike) -> Matrix:
    """Make the matrix of a quaternion w, x, y, z of length 1."""
    w, x, y, z = np.asarray(quaternion, np.float64)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def any_quaternion(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a rotation, each as likely as any other (uniform over SO(3)), as a quaternion w, x, y, z with w >= 0.

    Four normal numbers point into every direction alike; see Muller, "A note on a method for generating points uniformly on
    n-dimensional spheres", 1959.
    """
    quaternion = rng.normal(size=4)
    quaternion /= np.linalg.norm(quaternion)
    return quaternion if quaternion[0] >= 0 else -quaternion
