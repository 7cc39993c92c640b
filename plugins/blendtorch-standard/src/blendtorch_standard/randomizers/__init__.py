"""Randomizers of poses, cameras, lamps, materials, surroundings, of the start of simulations and of finished pictures."""

from blendtorch.core import hookimpl

from blendtorch_standard.randomizers.assets import Assets
from blendtorch_standard.randomizers.backdrop import Backdrop
from blendtorch_standard.randomizers.camera_box import CameraBox
from blendtorch_standard.randomizers.camera_shell import CameraShell
from blendtorch_standard.randomizers.lens import Lens
from blendtorch_standard.randomizers.lights import Lights
from blendtorch_standard.randomizers.material import Material
from blendtorch_standard.randomizers.physics_drop import PhysicsDrop
from blendtorch_standard.randomizers.pose import Pose
from blendtorch_standard.randomizers.scatter import Scatter
from blendtorch_standard.randomizers.sensor import Sensor
from blendtorch_standard.randomizers.texture import Texture
from blendtorch_standard.randomizers.visibility import Visibility
from blendtorch_standard.randomizers.world import World

__all__ = [
    "Assets",
    "Backdrop",
    "CameraBox",
    "CameraShell",
    "Lens",
    "Lights",
    "Material",
    "PhysicsDrop",
    "Pose",
    "Scatter",
    "Sensor",
    "Texture",
    "Visibility",
    "World",
]


@hookimpl
def blendtorch_register_randomizers() -> list[type]:
    """Register all of them."""
    return [
        Pose,
        Scatter,
        CameraShell,
        CameraBox,
        Lens,
        Lights,
        Material,
        Texture,
        World,
        Backdrop,
        Visibility,
        PhysicsDrop,
        Assets,
        Sensor,
    ]
