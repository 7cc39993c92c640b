"""Which objects of a scene get labels: the objects of interest, their ids and categories."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from blendtorch.btb import blender
from blendtorch.core.assets import ASSET
from blendtorch.core.configuration import ObjectRule
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import ObjectOfInterest

GEOMETRY_TYPES = ("MESH", "CURVE", "SURFACE", "FONT", "META", "CURVES")
_NUMBER = re.compile(r"\.\d{3,}$")  # what Blender appends to the names of copies


def objects_of_interest(scene: Any, rules: Sequence[ObjectRule] = ()) -> tuple[ObjectOfInterest, ...]:
    """Find what gets labels, in a fixed order.

    With rules: what they match, in their order, then by name; an object belongs to the first rule that matches it. Copies of
    `assets` that have a category and no rule matches come behind them. Without rules: the
    objects that have a custom property `category_id` or `category_name`, each with its children that have none of their own.
    Else: every mesh that a render shows.

    Parameters
    ----------
    scene : bpy.types.Scene
    rules : sequence of ObjectRule

    Raises
    ------
    SceneError
        If a rule matches nothing or what has no geometry, or two categories have one id.
    """
    carriers = sorted((obj for obj in scene.objects if _has_category(obj)), key=lambda obj: str(obj.name))
    if rules:
        return _with_assets(_by_rules(scene, rules), carriers)
    if carriers:
        return _by_properties(carriers)
    meshes = [obj for obj in _rendered(scene) if obj.type == "MESH"]
    categories = {name: number for number, name in enumerate(sorted({base_name(obj.name) for obj in meshes}), 1)}
    return tuple(
        ObjectOfInterest(number, obj.name, categories[base_name(obj.name)], base_name(obj.name), obj, (obj,))
        for number, obj in enumerate(sorted(meshes, key=lambda obj: str(obj.name)), 1)
    )


def base_name(name: str) -> str:
    """Take off what Blender appends to the names of copies: Cube.001 is a Cube."""
    return _NUMBER.sub("", name)


def table(objects: Sequence[ObjectOfInterest]) -> str:
    """Show categories, with how many instances and objects with geometry each has."""
    rows = [("id", "category", "instances", "meshes")]
    of_category: dict[tuple[int, str], list[ObjectOfInterest]] = {}
    for each in objects:
        of_category.setdefault((each.category_id, each.category_name), []).append(each)
    for (identity, name), members in sorted(of_category.items()):
        rows.append((str(identity), name, str(len(members)), str(sum(len(each.parts) for each in members))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"  {row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}" for row in rows
    )


def _rendered(scene: Any) -> list[Any]:
    """List the objects of the view layer that neither they themselves nor all of their collections keep from renders."""

    def shown(collection: Any) -> Iterator[Any]:
        if not collection.hide_render:
            yield from collection.objects
            for child in collection.children:
                yield from shown(child)

    layer = scene.view_layers[0]
    layer.update()  # else it has holes where objects were removed
    names = {obj.name for obj in shown(scene.collection)}
    return [obj for obj in layer.objects if obj.name in names and not obj.hide_render]


def _by_rules(scene: Any, rules: Sequence[ObjectRule]) -> tuple[ObjectOfInterest, ...]:
    found: list[ObjectOfInterest] = []
    taken: set[str] = set()
    categories: dict[str, int] = {}
    for number, rule in enumerate(rules):
        path = f"objects[{number}].match"
        try:
            groups = list(_groups(scene, rule))
        except SceneError as error:
            raise SceneError(f"{path}: {error}") from None
        before = len(found)
        for name, root, members in groups:
            parts = tuple(obj for obj in members if obj.type in GEOMETRY_TYPES and obj.name not in taken)
            if not parts:
                continue
            taken.update(obj.name for obj in parts)
            category = rule.category or base_name(name)
            identity = categories.setdefault(category, len(categories) + 1)
            found.append(ObjectOfInterest(len(found) + 1, name, identity, category, root, parts))
        if len(found) == before:
            raise SceneError(f"{path}: nothing that {rule.match!r} matches has geometry that no rule before it took")
    return tuple(found)


def _groups(scene: Any, rule: ObjectRule) -> Iterator[tuple[str, Any, list[Any]]]:
    """Name the instances of a rule, with the object whose frame counts and the objects that belong to it."""
    if rule.instance == "collection":
        for collection in blender.matching(scene.collection.children_recursive, rule.match, "collection"):
            members = sorted(collection.all_objects, key=lambda obj: str(obj.name))
            tops = [obj for obj in members if obj.parent is None or obj.parent not in members]
            yield collection.name, tops[0] if len(tops) == 1 else None, members
        return
    for obj in blender.objects_matching(scene, rule.match):
        children = obj.children_recursive if rule.instance == "root" else ()
        yield obj.name, obj, [obj, *sorted(children, key=lambda child: str(child.name))]


def _by_properties(carriers: Sequence[Any]) -> tuple[ObjectOfInterest, ...]:
    names: dict[int, str] = {}
    for obj in carriers:
        identity = obj.get("category_id")
        if identity is not None:
            name = str(obj.get("category_name", names.get(int(identity), f"category_{int(identity)}")))
            if names.setdefault(int(identity), name) != name:
                raise SceneError(
                    f"object {obj.name!r}: category_id {identity} is {name!r} here and {names[int(identity)]!r} elsewhere"
                )
    identities = {name: identity for identity, name in names.items()}
    for name in sorted({str(obj["category_name"]) for obj in carriers if "category_id" not in obj}):
        identities.setdefault(name, max([0, *identities.values()]) + 1)
    found: list[ObjectOfInterest] = []
    for obj in carriers:
        name = names[int(obj["category_id"])] if "category_id" in obj else str(obj["category_name"])
        parts = tuple(part for part in _family(obj) if part.type in GEOMETRY_TYPES)
        if identities[name] > 0 and parts:
            found.append(ObjectOfInterest(len(found) + 1, obj.name, identities[name], name, obj, parts))
    return tuple(found)


def _with_assets(found: tuple[ObjectOfInterest, ...], carriers: Sequence[Any]) -> tuple[ObjectOfInterest, ...]:
    """Add the copies of assets that no rule has taken; a category of the same name is the same."""
    taken = {part.name for each in found for part in each.parts}
    identities = {each.category_name: each.category_id for each in found}
    rest = _by_properties([obj for obj in carriers if ASSET in obj and obj.name not in taken])
    for each in rest:
        identity = each.category_id if each.category_id not in identities.values() else max(identities.values()) + 1
        identities.setdefault(each.category_name, identity)
    numbered = enumerate(rest, len(found) + 1)
    return found + tuple(replace(each, id=n, category_id=identities[each.category_name]) for n, each in numbered)


def _has_category(obj: Any) -> bool:
    return "category_id" in obj or "category_name" in obj


def _family(obj: Any) -> list[Any]:
    """An object, and those of its descendants that inherit its category."""
    children = [child for child in sorted(obj.children, key=lambda child: str(child.name)) if not _has_category(child)]
    return [obj, *(member for child in children for member in _family(child))]
