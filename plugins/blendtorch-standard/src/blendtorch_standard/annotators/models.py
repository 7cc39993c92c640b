"""What objects are copies of: the models of categories, in frames of their own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from blendtorch.core import ObjectOfInterest, geometry
from blendtorch.core.errors import SceneError
from blendtorch.core.geometry import Array

from blendtorch_standard.annotators.diameters import diameter
from blendtorch_standard.annotators.instances import own_box, shown, wireframe

_ALIKE = 1e-5  # of a size: copies are placed with float32


@dataclass(frozen=True, eq=False)
class Model:
    """A shape in the frame of its root: rigid, with the scale in its points.

    Attributes
    ----------
    points : ndarray, shape (V, 3), float64
        In scene units.
    mirrored : bool
        The root has a negative scale.
    diameter : float
        The largest distance of two of its points; NaN as long as nobody knows.
    """

    points: Array
    mirrored: bool
    diameter: float = np.nan

    @property
    def box(self) -> Array:
        """The ends of its box, shape (2, 3)."""
        return np.array([self.points.min(axis=0), self.points.max(axis=0)])

    def like(self, other: "Model") -> bool:
        """Whether no size tells them apart, nor their points, where the diameter of this one is not known."""
        allowed = _ALIKE * float(np.ptp(other.box, axis=0).max())
        if self.mirrored != other.mirrored or np.abs(self.box - other.box).max() > allowed:
            return False
        if np.isfinite(self.diameter):
            return abs(self.diameter - other.diameter) <= allowed
        return self.points.shape == other.points.shape and bool(np.abs(self.points - other.points).max() <= allowed)

    def describe(self) -> dict[str, Any]:
        """Write it down."""
        low, high = self.box.tolist()
        return {"diameter": self.diameter, "low": low, "high": high, "mirrored": self.mirrored}


def models_of(objects: Sequence[ObjectOfInterest]) -> dict[int, list[Model]]:
    """List the models of each category; one for all objects that no size tells apart.

    Parameters
    ----------
    objects : sequence of ObjectOfInterest
        Those without a category, without geometry, or without a pose are left out. What is hidden is shown meanwhile.
    """
    found: dict[int, list[Model]] = {}
    with _showing([part for each in objects if not any(map(shown, each.parts)) for part in each.parts]):
        for instance in objects:
            if instance.category_id > 0 and (model := _model(instance)) is not None:
                known = found.setdefault(instance.category_id, [])
                if not any(model.like(other) for other in known):
                    model = replace(model, diameter=diameter(model.points))
                    if not any(model.like(other) for other in known):
                        known.append(model)
    return found


@contextmanager
def _showing(hidden: Sequence[Any]) -> Iterator[None]:
    """Show hidden objects: Blender evaluates neither their modifiers nor their place. An episode may begin with few copies."""
    from blendtorch.btb import blender

    switches = [(part, part.hide_render, part.hide_viewport) for part in hidden]
    try:
        for part in hidden:
            part.hide_render = part.hide_viewport = False
        blender.depsgraph()
        yield
    finally:
        for part, in_renders, in_viewport in switches:
            part.hide_render, part.hide_viewport = in_renders, in_viewport
        if switches:
            blender.depsgraph()


def _model(instance: ObjectOfInterest) -> Model | None:
    seen = wireframe([part for part in instance.parts if shown(part)])
    if seen is None:
        return None
    try:
        box = own_box(instance, seen)
    except SceneError:
        return None  # `annotate` says it, if it is still so then
    return Model(geometry.transform(np.linalg.inv(box.world_from_object), seen.points), bool(box.scale[0] < 0))
