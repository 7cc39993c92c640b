"""What surrounds the scene: a colour, or images of an environment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.interfaces import WORLD_COLOR, WORLD_IMAGE

from blendtorch_standard.randomizers.folder import ImageFolder
from blendtorch_standard.randomizers.values import check, number, vector


class WorldOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `world`: a colour, or a folder of images.

    Attributes
    ----------
    color : distribution of three numbers, or None
        Linear red, green and blue, as Blender's field of this name; no sRGB.
    folder : str
        Of image files, equirectangular (HDRI). All are decoded before the first frame: what cannot be is an error.
    strength : distribution of one number
        By which the light is multiplied; for Workbench, which shows a colour from 0 to 1, it is clipped.
    rotation_deg : distribution of one number
        Degrees about z, of images.
    keep : int
        How many images stay decoded in memory; one of 4096 x 2048 pixels takes 134 MB.
    """

    color: Distribution | None = None
    folder: str = ""
    strength: Distribution = 1.0
    rotation_deg: Distribution = 0.0
    keep: int = 8

    def __post_init__(self) -> None:
        """Check that it is one of the two, and that it fits."""
        if (self.color is None) == (not self.folder):
            raise ValueError("give color, or folder, and not both")
        check(self, color=3, strength=1, rotation_deg=1)
        if self.keep < 1:
            raise ValueError(f"keep is {self.keep}: expected 1 or more")


class World(Randomizer):
    """Surrounds the scene with a colour or an image, which is seen and which shines.

    It has nodes of its own for that; those that the world has are disconnected. A scene without a world gets one.
    """

    name = "world"
    interface = 1
    Options = WorldOptions
    _folder: ImageFolder | None = None

    @property
    def changes(self) -> frozenset[str]:  # type: ignore[override]
        """A colour, or an image."""
        return frozenset({WORLD_IMAGE if self.options.folder else WORLD_COLOR})

    def setup(self, context: SetupContext) -> None:
        """Decode the images, and connect nodes to the world."""
        import bpy
        from blendtorch.btb import blender

        if self.options.folder:
            self._folder = ImageFolder(self.options.folder, self.options.keep)
        if context.scene.world is None:
            context.scene.world = bpy.data.worlds.new("World")
        self._world = context.scene.world
        surface = blender.surface_input(self._world)
        tree = self._world.node_tree
        self._background = tree.nodes.new("ShaderNodeBackground")
        tree.links.new(self._background.outputs["Background"], surface)
        if self._folder is not None:
            self._image, self._mapping = tree.nodes.new("ShaderNodeTexEnvironment"), tree.nodes.new("ShaderNodeMapping")
            coordinates = tree.nodes.new("ShaderNodeTexCoord")
            tree.links.new(coordinates.outputs["Generated"], self._mapping.inputs["Vector"])
            tree.links.new(self._mapping.outputs["Vector"], self._image.inputs["Vector"])
            tree.links.new(self._image.outputs["Color"], self._background.inputs["Color"])

    def writes(self) -> Sequence[tuple[Any, str]]:
        """The colour that Workbench shows; the nodes are its own."""
        return [] if self.options.color is None else [(self._world, "color")]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Set the surroundings; the record has colour or file and rotation, and strength."""
        drawn: dict[str, Any] = {"strength": number(self.options.strength, rng)}
        self._background.inputs["Strength"].default_value = drawn["strength"]
        if self.options.color is not None:
            drawn["color"] = vector(self.options.color, rng)
            self._background.inputs["Color"].default_value = (*drawn["color"], 1.0)
            self._world.color = np.clip(drawn["color"] * drawn["strength"], 0, 1)
        if self._folder is not None:
            drawn["rotation_deg"] = number(self.options.rotation_deg, rng)
            drawn["file"], self._image.image = self._folder.draw(rng)
            self._mapping.inputs["Rotation"].default_value = (0, 0, np.radians(drawn["rotation_deg"]))
        return drawn

    def close(self) -> None:
        """Remove the images."""
        if self._folder is not None:
            self._folder.close()
