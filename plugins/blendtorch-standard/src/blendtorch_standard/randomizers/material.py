"""Materials: base colour, roughness, metallic."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext, Uniform
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import COLOR, SURFACE

from blendtorch_standard.randomizers import targets
from blendtorch_standard.randomizers.values import check, check_one_of, number, vector

_INPUTS = {"base_color": "Base Color", "roughness": "Roughness", "metallic": "Metallic"}


class MaterialOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `material`.

    Attributes
    ----------
    materials : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: those of the objects of interest; one that has none gets a
        material of its own. A material is drawn once, however many objects share it.
    base_color : distribution of three numbers, or None
        Linear red, green and blue from 0 to 1, as Blender's field of this name; no sRGB. The viewport colour, which Workbench
        shows, becomes the same. None leaves it as it is.
    roughness, metallic : distribution of one number, or None
        From 0 to 1; Workbench does not show them.
    """

    materials: str = ""
    base_color: Distribution | None = Uniform(low=(0.0, 0.0, 0.0), high=(1.0, 1.0, 1.0))
    roughness: Distribution | None = None
    metallic: Distribution | None = None

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that it fits."""
        check_one_of(self, *_INPUTS)
        check(self, base_color=3, roughness=1, metallic=1)


class Material(Randomizer):
    """Changes materials with a Principled BSDF."""

    name = "material"
    interface = 1
    Options = MaterialOptions

    @property
    def changes(self) -> frozenset[str]:  # type: ignore[override]
        """Colours, or surfaces, or both, as the options have it."""
        surface = self.options.roughness is not None or self.options.metallic is not None
        return frozenset({COLOR} if self.options.base_color is not None else set()) | ({SURFACE} if surface else set())

    def setup(self, context: SetupContext) -> None:
        """Find the materials and the inputs of their nodes."""
        from blendtorch.btb import blender

        if self.options.materials:
            used = {slot.material for obj in context.scene.objects for slot in obj.material_slots} - {None}
            self._materials = blender.matching(used, self.options.materials, "material")
        else:
            objects = targets.with_materials(context, "")
            self._materials = list({each.name: each for obj in objects for each in blender.materials_of(obj)}.values())
        self._sockets = {material.name: self._find_sockets(material) for material in self._materials}

    def writes(self) -> Sequence[tuple[Any, str]]:
        """The inputs of the nodes, and the viewport colour."""
        written = [
            (socket.id_data, socket.path_from_id("default_value"))
            for sockets in self._sockets.values()
            for each in sockets.values()
            for socket in each
        ]
        if self.options.base_color is not None:
            written += [(material, "diffuse_color") for material in self._materials]
        return written

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Set each material; the record has what was drawn for it."""
        return {material.name: self._set(material, rng) for material in self._materials}

    def _set(self, material: Any, rng: np.random.Generator) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for option, sockets in self._sockets[material.name].items():
            distribution = getattr(self.options, option)
            drawn[option] = vector(distribution, rng) if option == "base_color" else number(distribution, rng)
            for socket in sockets:
                socket.default_value = (*drawn[option], 1.0) if option == "base_color" else drawn[option]
        if "base_color" in drawn:
            material.diffuse_color = (*drawn["base_color"], material.diffuse_color[3])
        return drawn

    def _find_sockets(self, material: Any) -> dict[str, list[Any]]:
        from blendtorch.btb import blender

        nodes = blender.principled(material)
        found = {
            name: [node.inputs[_INPUTS[name]] for node in nodes] for name in _INPUTS if getattr(self.options, name) is not None
        }
        for name, sockets in found.items():
            if linked := next((socket for socket in sockets if socket.is_linked), None):
                source = linked.links[0].from_node.name
                raise SceneError(
                    f"{name} of the material {material.name!r} comes from its node {source!r}, which would hide what is drawn: "
                    f"disconnect it, leave {name} out, or choose other materials"
                )
        return found
