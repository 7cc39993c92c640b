"""Textures: images of a folder on the surfaces of objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import TEXTURE

from blendtorch_standard.randomizers import targets
from blendtorch_standard.randomizers.folder import ImageFolder


class TextureOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `texture`.

    Attributes
    ----------
    folder : str
        Of image files. All are decoded before the first frame: what cannot be is an error.
    objects : str
        Names of meshes, with the wildcards `*`, `?` and `[]`. Default: the objects of interest. All their materials get
        textures; one that has none gets a material of its own, one without a UV map a projection onto the sides of a box.
    keep : int
        How many images stay decoded in memory.
    """

    folder: str
    objects: str = ""
    keep: int = 64

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.keep < 1:
            raise ValueError(f"keep is {self.keep}: expected 1 or more")


class Texture(Randomizer):
    """Puts images onto materials, as their base colour; `workbench` shows them with `color="texture"`.

    A material is drawn once, however many objects share it. What its base colour was connected to is disconnected.
    """

    name = "texture"
    interface = 1
    Options = TextureOptions
    changes = frozenset({TEXTURE})
    _folder: ImageFolder | None = None

    def setup(self, context: SetupContext) -> None:
        """Decode the images, and give each material a node for them."""
        from blendtorch.btb import blender

        objects = targets.with_materials(context, self.options.objects)
        for obj in objects:
            if obj.type != "MESH":
                raise SceneError(f"object {obj.name!r} of type {obj.type} has no UV map for a texture: expected a mesh")
            if not obj.data.uv_layers:
                context.notify(f"object {obj.name!r} has no UV map: it gets one, projected onto the sides of a box")
                project_onto_box(obj.data)
        self._folder = ImageFolder(self.options.folder, self.options.keep)
        materials = {each.name: each for obj in objects for each in blender.materials_of(obj)}
        self._nodes = {name: self._make_node(material) for name, material in materials.items()}

    def writes(self) -> Sequence[tuple[Any, str]]:
        """The image of each node."""
        return [(node.id_data, node.path_from_id("image")) for node in self._nodes.values()]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Draw an image for each material; the record has the names of the files."""
        drawn = {}
        if self._folder is not None:
            for material, node in self._nodes.items():
                drawn[material], node.image = self._folder.draw(rng)
        return drawn

    def close(self) -> None:
        """Remove the images."""
        if self._folder is not None:
            self._folder.close()

    def _make_node(self, material: Any) -> Any:
        from blendtorch.btb import blender

        surfaces = blender.principled(material)
        tree = material.node_tree
        node = tree.nodes.new("ShaderNodeTexImage")
        for surface in surfaces:
            tree.links.new(node.outputs["Color"], surface.inputs["Base Color"])
        tree.nodes.active = node  # the texture that Workbench shows
        return node


def project_onto_box(mesh: Any) -> None:
    """Give a mesh a UV map: each face onto the side of its bounding box that it faces most, the longest side from 0 to 1.

    Parameters
    ----------
    mesh : bpy.types.Mesh
    """
    points = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", points.ravel())
    corners, sizes = np.empty(len(mesh.loops), np.int32), np.empty(len(mesh.polygons), np.int32)
    normals = np.empty((len(mesh.polygons), 3), np.float32)
    mesh.loops.foreach_get("vertex_index", corners)
    mesh.polygons.foreach_get("loop_total", sizes)
    mesh.polygons.foreach_get("normal", normals.ravel())
    low, high = points.min(axis=0, initial=np.inf), points.max(axis=0, initial=-np.inf)
    unit = (points - low) / max(float((high - low).max(initial=0)), 1e-12)
    facing = np.repeat(np.abs(normals).argmax(axis=1), sizes)  # polygons follow each other in the list of corners
    across = np.array([[1, 2], [0, 2], [0, 1]])[facing]
    coordinates = np.take_along_axis(unit[corners], across, axis=1)
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", coordinates.astype(np.float32).ravel())
