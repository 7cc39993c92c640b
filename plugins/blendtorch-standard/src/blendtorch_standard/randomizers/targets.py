"""Which objects, cameras and materials a randomizer works on."""

from typing import Any

import numpy as np
from blendtorch.core import SetupContext
from blendtorch.core.assets import ASSET, PLACE, SHOWN
from blendtorch.core.errors import SceneError


def is_asset(obj: Any) -> bool:
    """Whether an object is a copy that the run's `assets` has made."""
    return ASSET in obj


def is_parked(obj: Any) -> bool:
    """Whether an object is a copy that is not there in this episode: nothing is to be placed, nor to be looked at."""
    return not obj.get(SHOWN, 1)


def place(obj: Any, start: Any) -> Any:
    """Return where an object is by itself: where it was when the run began, or where this episode's copy stands."""
    return np.array(obj[PLACE]) if is_asset(obj) else start


def objects(context: SetupContext, pattern: str) -> list[Any]:
    """Find objects by name; by default the roots of the objects of interest, and the distractors of the run's `assets`.

    Raises
    ------
    SceneError
        If there are none, or an object of interest is a collection without one object at its top.
    """
    return [root for root, _ in families(context, pattern)]


def families(context: SetupContext, pattern: str) -> list[tuple[Any, list[Any]]]:
    """Find objects as `objects` does, each with what belongs to it: itself and its descendants.

    Raises
    ------
    SceneError
    """
    from blendtorch.btb import blender

    if pattern:
        found = blender.objects_matching(context.scene, pattern)
    else:
        for each in context.objects:
            if each.root is None:
                raise SceneError(
                    f"the object of interest {each.name!r} is a collection with several objects at its top: "
                    "parent them to one, or name objects with `objects`"
                )
        found = _with_distractors(context, [each.root for each in context.objects])
        if not found:
            raise SceneError("the run has no objects of interest: name objects with `objects`")
    return [(obj, [obj, *sorted(obj.children_recursive, key=lambda child: str(child.name))]) for obj in found]


def with_materials(context: SetupContext, pattern: str) -> list[Any]:
    """Find objects that can have materials: what the pattern matches, or the parts of the objects of interest and distractors.

    Raises
    ------
    SceneError
    """
    from blendtorch.btb import blender

    if pattern:
        return blender.objects_matching(context.scene, pattern)
    found = _with_distractors(context, [part for each in context.objects for part in each.parts])
    if not found:
        raise SceneError("the run has no objects of interest: name objects with `objects`")
    return found


def _with_distractors(context: SetupContext, found: list[Any]) -> list[Any]:
    """Add the copies of the run's `assets` that get no labels: what befalls the others befalls them."""
    others = sorted((obj for obj in context.scene.objects if is_asset(obj)), key=lambda obj: str(obj.name))
    return list({obj.name: obj for obj in (*found, *others)}.values())


def cameras(context: SetupContext, pattern: str) -> list[Any]:
    """Find cameras by name; by default those of the run.

    Raises
    ------
    SceneError
    """
    from blendtorch.btb import blender

    if not pattern:
        return list(context.cameras)
    return blender.matching([obj for obj in context.scene.objects if obj.type == "CAMERA"], pattern, "camera")
