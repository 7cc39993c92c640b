"""Meshes in the memory of the GPU: uploaded once, and again only when the dependency graph says that they changed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_FIELDS = {"position": ("positions", 3), "normal": ("normals", 3), "uv": ("uv", 2), "material": ("materials", 1)}
_KEPT = 100  # draws for which a mesh stays that is not drawn


@dataclass(eq=False)
class UploadedMesh:
    """A mesh in the memory of the GPU.

    Attributes
    ----------
    surface : blendtorch.btb.blender.Triangles
        What was uploaded.
    batch : gpu.types.GPUBatch or None
        None where there is nothing to draw.
    elements : gpu.types.GPUIndexBuf or None
    low, high : ndarray, shape (3,), float64
        The ends of the box around it, in the frame of the object; NaN where there is nothing to draw.
    used, read : int
        In which draw it was used last, and read from Blender.
    """

    surface: Any
    batch: Any
    elements: Any
    low: npt.NDArray[np.float64] = field(init=False)
    high: npt.NDArray[np.float64] = field(init=False)
    used: int = 0
    read: int = 0

    def __post_init__(self) -> None:
        vertices = self.surface.vertices if self.batch is not None else np.full((1, 3), np.nan)
        self.low, self.high = vertices.min(axis=0).astype(np.float64), vertices.max(axis=0).astype(np.float64)


class MeshStore:
    """Uploads meshes.

    Parameters
    ----------
    attributes : sequence of str
        Which vertex attributes the shaders read.
    """

    def __init__(self, attributes: Sequence[str]) -> None:
        from blendtorch.btb import blender

        self._attributes = tuple(attributes)
        self._changes = blender.GeometryChanges()
        self._uploaded: dict[int, UploadedMesh] = {}
        self._last: dict[tuple[int, ...], int] = {}  # which one an object had
        self._draws = 0
        self._changed: set[int] = set()

    def begin(self) -> None:
        """Begin a draw: learn what has changed since the last one."""
        self._draws += 1
        self._changed = self._changes.take()
        for key, mesh in list(self._uploaded.items()):
            if self._draws - mesh.used > _KEPT:
                del self._uploaded[key]
        if len(self._last) > 2 * len(self._uploaded) + _KEPT:
            self._last = {owner: key for owner, key in self._last.items() if key in self._uploaded}

    def find(self, instance: Any) -> UploadedMesh:
        """Return the mesh of an instance, as it is now."""
        # Evaluated meshes are shared by all objects that draw the same; where one of these changes, it is read anew.
        key = instance.data.as_pointer()
        mesh = self._uploaded.get(key)
        if mesh is None or (mesh.read != self._draws and self._has_changed(instance)):
            # An object that deforms has another evaluated mesh each time.
            owner = instance.key[:2]
            last = self._last.get(owner, key)
            before = self._uploaded.get(last)
            if before is not None and before.used < self._draws:
                del self._uploaded[last]
            mesh = self._uploaded[key] = self._upload(instance.data, before)
            mesh.read, self._last[owner] = self._draws, key
        mesh.used = self._draws
        return mesh

    def close(self) -> None:
        """Free the memory."""
        self._changes.close()
        self._uploaded.clear()
        self._last.clear()

    def _has_changed(self, instance: Any) -> bool:
        if not self._changed:
            return False
        owners: Collection[Any] = (instance.obj, instance.instancer, instance.data.original)
        return any(owner is not None and owner.as_pointer() in self._changed for owner in owners)

    def _upload(self, data: Any, before: UploadedMesh | None) -> UploadedMesh:
        import gpu
        from blendtorch.btb import blender

        surface = blender.triangles(data)
        if not len(surface.indices):
            return UploadedMesh(surface, None, None)
        layout = gpu.types.GPUVertFormat()
        for name in self._attributes:
            layout.attr_add(id=name, comp_type="F32", len=_FIELDS[name][1], fetch_mode="FLOAT")
        vertices = gpu.types.GPUVertBuf(layout, len(surface.positions))
        for name in self._attributes:
            array = getattr(surface, _FIELDS[name][0])
            vertices.attr_fill(name, np.ascontiguousarray(array, np.float32).reshape(-1, _FIELDS[name][1]))
        if before is not None and before.elements is not None and np.array_equal(before.surface.indices, surface.indices):
            elements = before.elements
        else:
            elements = gpu.types.GPUIndexBuf(type="TRIS", seq=surface.indices)
        batch = gpu.types.GPUBatch(type="TRIS", buf=vertices, elem=elements)
        return UploadedMesh(surface, batch, elements)
