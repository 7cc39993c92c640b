"""Which objects, cameras and materials a randomizer works on."""

from typing import Any

from blendtorch.core import SetupContext
from blendtorch.core.errors import SceneError


def objects(context: SetupContext, pattern: str) -> list[Any]:
    """Find objects by name; by default the roots of the objects of interest.

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
        found = [each.root for each in context.objects]
        if not found:
            raise SceneError("the run has no objects of interest: name objects with `objects`")
    return [(obj, [obj, *sorted(obj.children_recursive, key=lambda child: str(child.name))]) for obj in found]


def with_materials(context: SetupContext, pattern: str) -> list[Any]:
    """Find objects that can have materials: what the pattern matches, or the parts of the objects of interest.

    Raises
    ------
    SceneError
    """
    from blendtorch.btb import blender

    if pattern:
        return blender.objects_matching(context.scene, pattern)
    found = {part.name: part for each in context.objects for part in each.parts}
    if not found:
        raise SceneError("the run has no objects of interest: name objects with `objects`")
    return list(found.values())


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
