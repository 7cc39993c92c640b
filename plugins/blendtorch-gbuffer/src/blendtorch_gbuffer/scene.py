"""What one frame draws: instances in groups of one mesh, each with the id of its object of interest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, ObjectOfInterest

from blendtorch_gbuffer.meshes import MeshStore, UploadedMesh
from blendtorch_gbuffer.shaders import PAGE, Column

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Instances of one mesh, or of one pair of meshes, one behind the other."""

    mesh: Any
    first: int
    count: int


@dataclass(frozen=True)
class Drawn:
    """The instances of one frame.

    Attributes
    ----------
    instances : list of blendtorch.btb.blender.Instance
    meshes : list of UploadedMesh
        Of each.
    groups : list of Group
    ids : ndarray, shape (I,), int64
        Of the objects of interest; 0 for none.
    world_from_object : ndarray, shape (I, 4, 4), float64
    holdouts : ndarray, shape (I,), bool
    """

    instances: list[Any]
    meshes: list[UploadedMesh]
    groups: list[Group]
    ids: npt.NDArray[np.int64]
    world_from_object: Array
    holdouts: npt.NDArray[np.bool_]


def owners(objects: tuple[ObjectOfInterest, ...]) -> dict[int, int]:
    """Map the pointers of parts to the ids of their objects of interest."""
    return {part.as_pointer(): each.id for each in objects for part in each.parts}


def drawn(store: MeshStore, ids: Mapping[int, int]) -> Drawn:
    """List what a frame draws.

    A copy that an instancer makes belongs to the instancer's object of interest, or, where that is none, to that of what is
    copied.
    """
    from blendtorch.btb import blender

    store.begin()
    found = [(store.find(each), each) for each in blender.instances()]
    found = [(mesh, each) for mesh, each in found if mesh.batch is not None]

    def id_of(each: Any) -> int:
        of_instancer = 0 if each.instancer is None else ids.get(each.instancer.as_pointer(), 0)
        return of_instancer or ids.get(each.obj.as_pointer(), 0)

    order, groups = grouped([mesh for mesh, _ in found])
    instances = [found[number][1] for number in order]
    return Drawn(
        instances,
        [found[number][0] for number in order],
        groups,
        np.array([id_of(each) for each in instances], np.int64),
        np.array([each.world_from_object for each in instances], np.float64).reshape(-1, 4, 4),
        np.array([each.holdout for each in instances], bool),
    )


def grouped(things: Sequence[Any]) -> tuple[list[int], list[Group]]:
    """Put what is the same side by side: an order of the numbers of things, and the groups in that order."""
    members: dict[int, list[int]] = {}
    for number, thing in enumerate(things):
        members.setdefault(id(thing), []).append(number)
    order: list[int] = []
    groups = []
    for numbers in members.values():
        groups.append(Group(things[numbers[0]], len(order), len(numbers)))
        order += numbers
    return order, groups


def instance_texture(what: Drawn, camera: CameraView, more: Array | None = None) -> Any:
    """Make the texture that tells the shaders of each instance; see `shaders.Column`.

    Parameters
    ----------
    what : Drawn
    camera : CameraView
    more : ndarray, shape (I, 3, 4), float64, optional
        Rows of another matrix for each instance, for the columns behind.
    """
    import gpu

    count = len(what.instances)
    height = max(1, min(count, PAGE))
    pages = max(1, -(-count // PAGE))
    table = np.zeros((pages * height, Column.COUNT, 4), np.float32)
    camera_from_object = camera.camera_from_world @ what.world_from_object
    table[:count, Column.CAMERA_FROM_OBJECT : Column.ABOUT] = camera_from_object[:, :3]
    about = table[:, Column.ABOUT]
    about[:count, 0] = np.where(what.holdouts, 0, what.ids)
    about[:count, 1] = np.where(np.linalg.det(camera_from_object[:, :3, :3]) < 0, -1, 1)
    about[:count, 2] = what.holdouts
    about[:count, 3] = np.arange(count)
    if more is not None:
        table[:count, Column.COORDINATES_FROM_OBJECT :] = more
    # Pages lie beside each other.
    texels = np.ascontiguousarray(table.reshape(pages, height, -1).transpose(1, 0, 2))
    data = gpu.types.Buffer("FLOAT", texels.size, texels.ravel())
    return gpu.types.GPUTexture((pages * Column.COUNT, height), format="RGBA32F", data=data)
