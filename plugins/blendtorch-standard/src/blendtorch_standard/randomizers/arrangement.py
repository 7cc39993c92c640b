"""Places for several spheres in a box, so that no two touch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import SceneError

from blendtorch_standard.randomizers import targets

Point = tuple[float, float, float]
Points = npt.NDArray[np.float64]


def arrange(
    radii: Mapping[str, float], low: Point, high: Point, gap: float, tries: int, rng: np.random.Generator
) -> dict[str, Points]:
    """Draw a centre for each sphere, uniform over the box as long as it touches none that was placed before.

    The largest come first: they find no room later.

    Parameters
    ----------
    radii : mapping of str to float
        By name, in scene units.
    low, high : tuple of float
        The box of the centres.
    gap : float
        What is to be left between two spheres.
    tries : int
        For each sphere.

    Raises
    ------
    SceneError
        If one finds no place.
    """
    placed: dict[str, Points] = {}
    for name in sorted(radii, key=lambda each: (-radii[each], each)):
        for _ in range(tries):
            place = rng.uniform(low, high)
            if all(np.linalg.norm(place - other) > radii[name] + radii[there] + gap for there, other in placed.items()):
                placed[name] = place
                break
        else:
            raise SceneError(
                f"{name!r} (radius {radii[name]:.3g}) found no place without overlap in {tries} tries, with {len(placed)} of "
                f"{len(radii)} objects placed between low {tuple(low)} and high {tuple(high)}: give a larger region, fewer "
                "or smaller objects, or more tries"
            )
    return {name: placed[name] for name in radii}


def radius(root: Any, parts: list[Any]) -> float:
    """Compute the radius of the sphere about an object's origin that holds all its geometry, however it is rotated.

    Parameters
    ----------
    root : bpy.types.Object
    parts : list of bpy.types.Object
        It, and what is parented to it. What has no geometry, or is rendered never, does not count.

    Returns
    -------
    float
        In the frame of the parent of `root`, with its present scale.
    """
    from blendtorch.btb import blender

    root_from_world = np.linalg.inv(blender.world_matrix(root))
    farthest = 0.0
    for part in parts:
        never = part.hide_render and not targets.is_asset(part)
        if part.type not in {"MESH", "CURVE", "SURFACE", "FONT", "META", "CURVES"} or never:
            continue
        root_from_part = root_from_world @ blender.world_matrix(part)
        points = blender.mesh(part).vertices @ root_from_part[:3, :3].T + root_from_part[:3, 3]
        farthest = max(farthest, np.linalg.norm(points * np.array(root.scale), axis=1).max(initial=0.0))
    return float(farthest)
