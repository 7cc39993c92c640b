"""The points of an object that become keypoints, from whichever source.

Each source has the names of its points, known at setup, and places them in the evaluated frame.
"""

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from blendtorch.core import Moment, ObjectOfInterest, geometry
from blendtorch.core.errors import SceneError
from blendtorch.core.geometry import Array
from blendtorch.core.solids import box_corners

from blendtorch_standard.annotators.instances import own_boxes, shown

_NUMBER = re.compile(r"\.\d{3,}$")  # what Blender appends to the names of copies


class Marks(Protocol):
    """Named points of one object."""

    @property
    def names(self) -> Sequence[str]:
        """What they are called."""

    def place(self, moment: Moment, row: int) -> Array:
        """Find the points, shape (len(names), 3), float64, in the world frame; NaN for one that is not there."""


class Empties:
    """The empties that are children of the root or of a part, but for those that carry parts: these only group them."""

    def __init__(self, instance: ObjectOfInterest) -> None:
        parents = dict.fromkeys(each for each in (instance.root, *instance.parts) if each is not None)
        children = [child for parent in parents for child in parent.children if child.type == "EMPTY"]
        empties = [child for child in children if not set(child.children_recursive) & set(instance.parts)]
        self._empties = sorted(empties, key=lambda empty: str(empty.name))
        self.names = _numbered([_NUMBER.sub("", empty.name) for empty in self._empties])

    def place(self, moment: Moment, row: int) -> Array:  # noqa: ARG002
        """Read their places."""
        from blendtorch.btb import blender

        return np.array([blender.world_matrix(empty)[:3, 3] for empty in self._empties])


class Box:
    """The corners of the object's own box, and its centre."""

    names = (*(f"corner{number}" for number in range(8)), "center")

    def place(self, moment: Moment, row: int) -> Array:
        """Compute them; the corners in the order of `boxes3d`."""
        box = own_boxes(moment)[row]
        if box is None:
            return np.full((9, 3), np.nan)
        points = np.concatenate([box_corners(box.low, box.high), [(box.low + box.high) / 2]])
        return geometry.transform(box.world_from_object, points)


class VertexGroups:
    """For each vertex group: the mean of its evaluated vertices, weighted with their weights."""

    def __init__(self, instance: ObjectOfInterest) -> None:
        self._parts = [part for part in instance.parts if part.type == "MESH" and len(part.vertex_groups)]
        self.names = sorted({str(group.name) for part in self._parts for group in part.vertex_groups})

    def place(self, moment: Moment, row: int) -> Array:  # noqa: ARG002
        """Compute the means."""
        sums, weights = np.zeros((len(self.names), 3)), np.zeros((len(self.names), 1))
        for part in self._parts:
            if shown(part):
                vertices, groups, values = _memberships(part)
                columns = np.array([self.names.index(group.name) for group in part.vertex_groups])[groups]
                np.add.at(sums, columns, vertices * values)
                np.add.at(weights, columns, values)
        return np.asarray(sums / np.where(weights > 0, weights, np.nan), np.float64)


class Vertices:
    """All evaluated vertices, part after part."""

    def __init__(self, instance: ObjectOfInterest, limit: int) -> None:
        self._parts, self._name = instance.parts, instance.name
        self._counts = [len(_vertices(part)) for part in instance.parts]
        count = sum(self._counts)
        if count > limit:
            raise SceneError(
                f"object of interest {instance.name!r} has {count} vertices, and `limit` is {limit}: "
                "raise it, or name some in vertex groups and take source='vertex_groups'"
            )
        self.names = [str(number) for number in range(count)]

    def place(self, moment: Moment, row: int) -> Array:  # noqa: ARG002
        """Read them.

        Raises
        ------
        SceneError
            If their number has changed since the start.
        """
        counted = zip(self._parts, self._counts, strict=True)
        points = [_vertices(part) if shown(part) else np.full((count, 3), np.nan) for part, count in counted]
        if [len(each) for each in points] != self._counts:
            raise SceneError(
                f"object of interest {self._name!r} has {sum(map(len, points))} vertices in this frame, {len(self.names)} "
                "at the start: take another source for a mesh whose modifiers change that"
            )
        return np.concatenate(points)


def _vertices(part: Any) -> Array:
    from blendtorch.btb import blender

    return geometry.transform(blender.world_matrix(part), blender.mesh(part).vertices)


def _memberships(part: Any) -> tuple[Array, Any, Array]:
    """List which vertex is in which group: places in the world, shape (M, 3), numbers of groups (M,), weights (M, 1)."""
    from blendtorch.btb import blender

    mesh = part.evaluated_get(blender.depsgraph()).data
    found = [
        (vertex.index, element.group, element.weight)
        for vertex in mesh.vertices
        for element in vertex.groups
        if element.group < len(part.vertex_groups)
    ]
    numbers, groups, weights = (np.array(column) for column in zip(*found, strict=True)) if found else (np.zeros(0, int),) * 3
    points = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", points.ravel())
    return geometry.transform(blender.world_matrix(part), points[numbers]), groups, np.asarray(weights, np.float64)[:, None]


def _numbered(names: Sequence[str]) -> list[str]:
    """Tell equal names apart: Hole, Hole_2, Hole_3."""
    numbered: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in numbered:
            number += 1
            candidate = f"{name}_{number}"
        numbered.append(candidate)
    return numbered
