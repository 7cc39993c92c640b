"""Annotators of a value per pixel: of the surface that the ray through the pixel's centre meets first."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from blendtorch.core import Annotator, ArraySpec, CameraView, Moment, Options, SetupContext
from blendtorch.core.interfaces import Arrays

from blendtorch_gbuffer.gbuffer import GBuffer, join


class Sharing(Annotator):
    """What all annotators here have in common: one pass for all of them.

    Attributes
    ----------
    outputs : tuple of str
        The maps that they need of it.
    """

    outputs: ClassVar[tuple[str, ...]]
    interface = 1
    _gbuffer: GBuffer | None = None

    def setup(self, context: SetupContext) -> None:
        """Ask for the maps.

        Raises
        ------
        SceneError
            If nothing can be drawn on this machine.
        """
        from blendtorch.btb import blender

        blender.start_gpu()
        self._gbuffer = join(self, context, self.outputs)

    @property
    def gbuffer(self) -> GBuffer:
        """The G-buffer of the run."""
        if self._gbuffer is None:
            raise RuntimeError("setup was not called")
        return self._gbuffer

    def close(self) -> None:
        """Free the memory, where nobody else needs it."""
        if self._gbuffer is not None:
            self._gbuffer.leave(self)
            self._gbuffer = None


class Depth(Sharing):
    """Planar depth: along the camera's axis.

    depth : ndarray, shape (height, width), float32, scene units
        Background inf.
    """

    name = "depth"
    outputs = ("depth",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"depth": ArraySpec("float32", ("height", "width"), unit="scene units")}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Draw, or take what was drawn."""
        return {"depth": self.gbuffer.maps(moment, camera)["depth"]}


class Distance(Sharing):
    """Distance from the camera: along the ray, which starts at the eye; at the camera's plane for an orthographic one.

    distance : ndarray, shape (height, width), float32, scene units
        Background inf.
    """

    name = "distance"
    outputs = ("depth",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"distance": ArraySpec("float32", ("height", "width"), unit="scene units")}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Stretch depths along the rays."""
        depth = self.gbuffer.maps(moment, camera)["depth"]
        if camera.orthographic:
            return {"distance": depth.copy()}
        x, y = _rays(camera)
        return {"distance": depth * np.sqrt(1 + x * x + y**2)}


class NormalsOptions(Options, frozen=True, kw_only=True):
    """Options of `normals`.

    Attributes
    ----------
    frame : {'camera', 'world'}
        In which frame. The camera's: x right, y down, z forward.
    """

    frame: Literal["camera", "world"] = "camera"


class Normals(Sharing):
    """Normals of the surfaces, as they are shaded: smooth, flat or custom; without bump maps. They point to the camera's side.

    normals : ndarray, shape (height, width, 3), float32
        Of length 1. Background 0.
    """

    name = "normals"
    outputs = ("normals",)
    Options = NormalsOptions

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"normals": ArraySpec("float32", ("height", "width", 3))}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Draw, or take what was drawn, and turn it into the world frame where that is asked for."""
        normals = self.gbuffer.maps(moment, camera)["normals"]
        if self.options.frame == "world":
            normals = normals @ camera.camera_from_world[:3, :3].astype(np.float32)
        return {"normals": normals}


class Position(Sharing):
    """Places of the surfaces.

    position : ndarray, shape (height, width, 3), float32, scene units
        In the world frame. Background NaN.
    """

    name = "position"
    outputs = ("depth",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"position": ArraySpec("float32", ("height", "width", 3), unit="scene units")}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Go along the rays as far as the depths say."""
        depth = self.gbuffer.maps(moment, camera)["depth"]
        depth = np.where(np.isinf(depth), np.float32(np.nan), depth)
        x, y = _rays(camera)
        world_from_camera = np.linalg.inv(camera.camera_from_world).astype(np.float32)
        position = np.empty((*depth.shape, 3), np.float32)
        for axis in range(3):  # arrays of (height, width, 3) are slow in numpy
            right, down, forward, origin = world_from_camera[axis]
            aside = x * right + y * down
            plane = aside + depth * forward if camera.orthographic else (aside + forward) * depth
            np.add(plane, origin, out=position[..., axis])
        return {"position": position}


class UV(Sharing):
    """Texture coordinates, of the UV map that renders use.

    uv : ndarray, shape (height, width, 2), float32
        (0, 0) is the lower left of a texture. Background, and what has no UV map, 0.
    """

    name = "uv"
    outputs = ("uv",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"uv": ArraySpec("float32", ("height", "width", 2))}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Draw, or take what was drawn."""
        return {"uv": self.gbuffer.maps(moment, camera)["uv"]}


class ObjectCoordinates(Sharing):
    """Where a surface is on its object: normalised object coordinates (NOCS).

    In the instance's own frame, that of its root object without its scale, about the centre of the box along its axes, and in
    lengths of the box's diagonal: `0.5 + (point - center) / diagonal`.

    object_coordinates : ndarray, shape (height, width, 3), float32
        From 0 to 1. NaN for background and for everything that is no object of interest.

    References
    ----------
    Wang et al., Normalized Object Coordinate Space, CVPR 2019.
    """

    name = "object_coordinates"
    outputs = ("object_coordinates",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"object_coordinates": ArraySpec("float32", ("height", "width", 3))}

    def setup(self, context: SetupContext) -> None:
        """Refuse instances without a frame."""
        for each in context.objects:
            each.require_frame()
        super().setup(context)

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Draw, or take what was drawn."""
        return {"object_coordinates": self.gbuffer.maps(moment, camera)["object_coordinates"]}


class InstanceIds(Sharing):
    """Which object of interest a pixel shows.

    instance_ids : ndarray, shape (height, width), int32
        Ids from 1, as in `objects` of the sample. Background, and every other object, 0.
    exact : ndarray, shape (N,), bool
        False for an object that not every renderer shows as it is drawn here: it is transparent, has hair, ...
    valid : ndarray, shape (N,), bool
        At least one pixel shows it.
    """

    name = "instance_ids"
    outputs = ("instance_ids",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "instance_ids": ArraySpec("int32", ("height", "width")),
            "exact": ArraySpec("bool", ("objects",)),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Draw, or take what was drawn."""
        ids = self.gbuffer.instance_ids(moment, camera)
        valid = self.gbuffer.visible_pixels(moment, camera) > 0
        return {"instance_ids": ids, "exact": self.gbuffer.exact.copy(), "valid": valid}


class CategoryIds(Sharing):
    """Which category a pixel shows. The names are said at the start of a run.

    category_ids : ndarray, shape (height, width), int32
        As in `objects` of the sample. Background, and everything without a category, 0.
    """

    name = "category_ids"
    outputs = ("instance_ids",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"category_ids": ArraySpec("int32", ("height", "width"))}

    def setup(self, context: SetupContext) -> None:
        """Say the names of the categories."""
        super().setup(context)
        names = {each.category_id: each.category_name for each in context.objects}
        context.notify("categories: " + ", ".join(f"{number} {names[number]}" for number in sorted(names)))

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Look the categories of the ids up."""
        categories = np.array([0, *(each.category_id for each in moment.objects)], np.int32)
        return {"category_ids": categories[self.gbuffer.instance_ids(moment, camera)]}


class MaterialIds(Sharing):
    """Which material a pixel shows. The names are said at the start of a run.

    material_ids : ndarray, shape (height, width), int32
        From 1, by name. Background, and what has no material or one that came later, 0.
    """

    name = "material_ids"
    outputs = ("materials",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {"material_ids": ArraySpec("int32", ("height", "width"))}

    def setup(self, context: SetupContext) -> None:
        """Number the materials."""
        import bpy  # not there at the training side

        super().setup(context)
        self.names = sorted(material.name for material in bpy.data.materials)
        self._numbers = {name: number for number, name in enumerate(self.names, 1)}
        context.notify("materials: " + ", ".join(f"{number} {name}" for name, number in self._numbers.items()))

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Look the materials of the slots up."""
        drawn = self.gbuffer.maps(moment, camera)["materials"]
        slots = [self._slots(each) for each in self.gbuffer.drawn(moment).instances]
        table = np.zeros((len(slots) + 1, max([1, *map(len, slots)])), np.int32)
        for row, numbers in enumerate(slots, 1):
            table[row, : len(numbers)] = numbers
        places = drawn[..., 0] * table.shape[1] + np.minimum(drawn[..., 1], table.shape[1] - 1)
        return {"material_ids": table.ravel().take(places.astype(np.int32))}

    def _slots(self, instance: Any) -> list[int]:
        materials = list(instance.data.materials)
        for number, slot in enumerate(instance.obj.material_slots[: len(materials)]):
            if slot.link == "OBJECT":
                materials[number] = slot.material
        return [0 if material is None else self._numbers.get(material.name, 0) for material in materials]


def _rays(camera: CameraView) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Compute x and y of the rays of pixels at depth 1; of an orthographic camera, at any depth.

    Of shape (1, width) and (height, 1), or both (height, width) where the lens distorts.
    """
    if camera.resampling is not None:
        return camera.resampling.rays[..., 0], camera.resampling.rays[..., 1]
    (height, width), K = camera.shape, camera.K
    x = (np.arange(width) + 0.5 - K[0, 2]) / K[0, 0]
    y = (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]
    return x.astype(np.float32)[None], y.astype(np.float32)[:, None]
