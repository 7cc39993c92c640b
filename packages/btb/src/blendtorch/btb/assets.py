"""Models in the scene: as many copies as an episode may need, made once; which of them are there is drawn per episode.

Copies share their mesh, so that a hundred of them cost little more than one.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import mathutils
import numpy as np
import numpy.typing as npt
from blendtorch.btb import blender, studio
from blendtorch.btb.blender import versions
from blendtorch.core.assets import ASSET, METRES, SHOWN, Asset, Model, models, resolve, size_notice
from blendtorch.core.errors import SceneError

_SPACING = 2.2  # of the grid that copies stand on before anything places them, in radii of the largest


@dataclass(frozen=True)
class Imported:
    """A model that was read.

    Attributes
    ----------
    model : Model
    data : bpy.types.Mesh
        In metres, its origin where the model wants it.
    low, high : ndarray, shape (3,), float64
        Its box, in metres.
    radius : float
        Of the sphere about the origin that holds it.
    """

    model: Model
    data: Any
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    radius: float
    notices: tuple[str, ...] = ()

    @property
    def colored(self) -> bool:
        """Whether its colours come from images, or from its vertices."""
        nodes = [node for material in self.data.materials if material for node in blender.node_tree(material).nodes]
        return any(node.type in {"TEX_IMAGE", "VERTEX_COLOR"} for node in nodes)

    def __str__(self) -> str:
        category = f"category {self.model.category}" if self.model.category else "distractor"
        return f"{studio.described(self.model.path, self.high - self.low)}, {category}, {len(self.data.polygons)} faces"


def load(model: Model) -> Imported:
    """Read a model.

    Raises
    ------
    SceneError
        If the file cannot be read, or has no extent.
    """
    data = blender.import_mesh(model.path)
    data.name = model.name
    data.transform(mathutils.Matrix.Scale(METRES[model.unit], 4))
    points = versions.vertices(data)[np.unique(versions.corner_vertices(data))].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    if not (high > low).any():
        raise SceneError(f"{model.path}: all its vertices are at one place; is the file whole?")
    notices = [size_notice(model.path, (high - low).tolist(), model.unit)]
    outside = bool(((low > 0) | (high < 0)).any())
    if model.origin == "center" or (model.origin == "auto" and outside):
        center = (low + high) / 2
        data.transform(mathutils.Matrix.Translation((-center).tolist()))
        low, high, points = low - center, high - center, points - center
        if model.origin == "auto":
            notices.append(
                f"{model.path}: its origin lies outside of it, so that its frame is put at the centre of its box: "
                "origin: file keeps it, origin: center says that this is meant"
            )
    radius = float(np.linalg.norm(points, axis=1).max())
    return Imported(model, data, low, high, radius, tuple(filter(None, notices)))


def spawn(scene: Any, assets: Sequence[Asset]) -> list[Imported]:
    """Put copies of models into the scene, for the randomizer `assets` to choose from.

    They stand on a grid about the origin, on the ground; what is more than an episode may have is hidden.

    Parameters
    ----------
    scene : bpy.types.Scene
        A studio is fitted to them.
    assets : sequence of Asset

    Returns
    -------
    list of Imported
        Each file once.

    Raises
    ------
    ConfigurationError, SceneError
        If a file is not there, or cannot be read.
    """
    if not assets:
        return []
    assets = resolve(assets)
    collection = bpy.data.collections.new("Assets")
    scene.collection.children.link(collection)
    loaded: list[Imported] = []
    shown: list[tuple[Any, Imported]] = []
    for number, (asset, files) in enumerate(zip(assets, models(assets), strict=True)):
        imported = [load(model) for model in files]
        most = asset.counts[1]
        pool = [(_copy(collection, each, number), each) for each in imported for _ in range(math.ceil(most / len(imported)))]
        # The largest that may be together: where they find room, all others do.
        shown += sorted(pool, key=lambda entry: -entry[1].radius)[:most]
        loaded += imported
    _line_up(shown)
    if studio.is_studio(scene):
        widest = max(math.hypot(*obj.location[:2]) + each.radius for obj, each in shown)
        studio.fit(scene, widest, max(float(each.high[2] - each.low[2]) for _, each in shown) / 2)
    return loaded


def _copy(collection: Any, imported: Imported, number: int) -> Any:
    obj = bpy.data.objects.new(imported.model.name, imported.data)
    collection.objects.link(obj)
    obj[ASSET], obj[SHOWN] = number, 0
    obj.hide_render = obj.hide_viewport = True
    if imported.model.category:
        obj["category_name"] = imported.model.category
        if imported.model.category_id:
            obj["category_id"] = imported.model.category_id
    return obj


def _line_up(shown: list[tuple[Any, Imported]]) -> None:
    """Show copies on a square grid, none in another, from the middle outwards."""
    spacing = _SPACING * max(each.radius for _, each in shown)
    side = range(-math.ceil(math.sqrt(len(shown)) / 2), math.ceil(math.sqrt(len(shown)) / 2) + 1)
    cells = sorted(itertools.product(side, side), key=lambda cell: (math.hypot(*cell), math.atan2(*cell)))
    for (x, y), (obj, each) in zip(cells, shown, strict=False):
        obj.location = (x * spacing, y * spacing, -each.low[2])
        obj.hide_render = obj.hide_viewport = False
        obj[SHOWN] = 1
