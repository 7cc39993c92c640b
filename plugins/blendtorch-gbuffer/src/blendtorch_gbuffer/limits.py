"""What the G-buffer does not draw as every renderer shows it: found out, said once, and flagged for each object."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import ObjectOfInterest

_COARSER = "it has another resolution in the viewport than in renders, and the viewport's is drawn: make them equal"
_OTHER_MODIFIER = "a modifier is another one in the viewport than in renders, and the viewport's is drawn: make them equal"
_OPAQUE = "a transparent material is drawn opaque"
_NO_VOLUME = "volumes are not drawn"
_TYPES = {
    "VOLUME": _NO_VOLUME,
    "CURVES": "hair curves are not drawn",
    "POINTCLOUD": "point clouds are not drawn",
    "GPENCIL": "grease pencils are not drawn",
    "GREASEPENCIL": "grease pencils are not drawn",
}
_SHOWN = 5  # names in one sentence


def exact(objects: tuple[ObjectOfInterest, ...], scene: Any, notify: Callable[[str], None]) -> npt.NDArray[np.bool_]:
    """Find the objects whose labels are right in every renderer, and say what is wrong with the others.

    Returns
    -------
    ndarray, shape (N,), bool
    """
    named: dict[str, list[str]] = {}
    reasons = {}
    for obj in scene.objects:
        if not obj.hide_render:
            reasons[obj.name] = list(dict.fromkeys(_reasons(obj)))
            for reason in reasons[obj.name]:
                named.setdefault(reason, []).append(obj.name)
    for reason, names in named.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        notify(f"{', '.join(names[:_SHOWN])}{more}: {reason}. Labels of what is in these places are not exact: see `exact`")
    return np.array([not any(reasons.get(part.name) for part in each.parts) for each in objects], bool)


def _reasons(obj: Any) -> Iterator[str]:
    if obj.type in _TYPES:
        yield _TYPES[obj.type]
    for system in getattr(obj, "particle_systems", ()):
        if system.settings.type == "HAIR" and system.settings.render_type == "PATH":
            yield "hair is not drawn"
    for modifier in getattr(obj, "modifiers", ()):
        if modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN" and modifier.domain_settings.domain_type == "GAS":
            yield _NO_VOLUME
        if modifier.show_viewport != modifier.show_render or (
            modifier.type in {"SUBSURF", "MULTIRES"} and modifier.levels != modifier.render_levels
        ):
            yield _OTHER_MODIFIER
    if obj.type in {"CURVE", "SURFACE", "FONT"} and any(
        getattr(obj.data, f"render_{name}") not in {0, getattr(obj.data, name)} for name in ("resolution_u", "resolution_v")
    ):
        yield _COARSER
    if obj.type == "META" and obj.data.resolution != obj.data.render_resolution:
        yield _COARSER
    if obj.type in {"MESH", "CURVE", "SURFACE", "FONT", "META"}:
        if not getattr(obj, "visible_camera", True):
            yield "some renderers hide it from the camera (its ray visibility), and it is drawn"
        for slot in obj.material_slots:
            if slot.material is not None:
                yield from _reasons_of_material(slot.material)


def _reasons_of_material(material: Any) -> Iterator[str]:
    if material.diffuse_color[3] < 1:
        yield _OPAQUE
    if not material.use_nodes or material.node_tree is None:
        return
    for node in _nodes(material.node_tree):
        if node.type in {"BSDF_TRANSPARENT", "HOLDOUT"} and any(each.is_linked for each in node.outputs):
            yield _OPAQUE
        alpha = node.inputs.get("Alpha") if node.type == "BSDF_PRINCIPLED" else None
        if alpha is not None and (alpha.is_linked or alpha.default_value < 1):
            yield _OPAQUE
        if node.type == "OUTPUT_MATERIAL" and node.inputs["Volume"].is_linked:
            yield _NO_VOLUME
        if node.type == "OUTPUT_MATERIAL" and node.inputs["Displacement"].is_linked and _displaces(material):
            yield "displacement by a material is not drawn"


def _displaces(material: Any) -> bool:
    """Whether displacement moves the surface, and is not mere bumps."""
    method = getattr(material, "displacement_method", None) or getattr(
        getattr(material, "cycles", None), "displacement_method", "BUMP"
    )
    return bool(method != "BUMP")


def _nodes(tree: Any) -> Iterator[Any]:
    for node in tree.nodes:
        yield node
        if node.type == "GROUP" and node.node_tree is not None:
            yield from _nodes(node.node_tree)
