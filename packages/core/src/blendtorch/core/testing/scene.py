"""A scene without Blender: objects with a place and vertices, cameras, a lamp, and a stand-in for `blendtorch.btb.blender`.

Attributes are called as Blender's, as far as there are any. What is missing says that it needs Blender.
"""

import fnmatch
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from blendtorch.core import geometry
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import CameraView

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64) / 2


class NeedsBlender(AttributeError):  # noqa: N818 - it reads as a sentence
    """Something of a scene that the fakes do not have."""


def _missing(what: str, name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    raise NeedsBlender(f"{what} has no {name!r}: this needs a real Blender")


@dataclass(eq=False)
class FakeObject:
    """An object of a fake scene.

    Attributes
    ----------
    name : str
    location, rotation_euler, scale : ndarray, shape (3,), float64
        In scene units; radians, about x, then y, then z, as Blender's XYZ; factors.
    vertices : ndarray, shape (V, 3), float64
        In its own frame.
    type : str
    data : object
        Of a lamp: with `name` and `energy`. Of a camera: its `geometry.Lens`.
    """

    name: str
    location: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    rotation_euler: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    scale: npt.NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    vertices: npt.NDArray[np.float64] = field(default_factory=CUBE.copy)
    type: str = "MESH"
    data: Any = None
    hide_render: bool = False

    def __getattr__(self, name: str) -> Any:
        _missing("a fake object", name)

    @property
    def matrix_world(self) -> npt.NDArray[np.float64]:
        """`world_from_object`, shape (4, 4)."""
        matrix = np.eye(4)
        for axis, angle in enumerate(self.rotation_euler):
            turn, (first, second) = np.eye(3), ((1, 2), (2, 0), (0, 1))[axis]
            turn[[first, second], [first, second]] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            matrix[:3, :3] = turn @ matrix[:3, :3]
        matrix[:3, :3] *= np.asarray(self.scale)
        matrix[:3, 3] = self.location
        return matrix

    def path_resolve(self, path: str) -> Any:
        """Read a property, as Blender's datablocks do."""
        return getattr(self, path)


class FakeScene:
    """A scene: objects by their names, and the frame that it is at.

    Parameters
    ----------
    objects : sequence of FakeObject
    """

    def __init__(self, objects: Sequence[FakeObject]) -> None:
        self.objects = _Objects(objects)
        self.frame_current = 1

    def __getattr__(self, name: str) -> Any:
        _missing("a fake scene", name)

    def frame_set(self, frame: int) -> None:
        """Go to a frame. Nothing moves by itself."""
        self.frame_current = frame


class _Objects(list[FakeObject]):
    """A list that also knows its elements by name, as Blender's collections do."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return {obj.name: obj for obj in self}[key]
        return super().__getitem__(key)

    def get(self, name: str, default: Any = None) -> Any:
        return {obj.name: obj for obj in self}.get(name, default)


def default_objects() -> list[FakeObject]:
    """Make what a fake scene has: two cubes, a third behind the first camera, two cameras and a lamp."""
    lens = geometry.Lens(width=64, height=48, focal_length_mm=35.0)
    right = np.pi / 2
    return [
        FakeObject("Cube"),
        FakeObject("Cube.001", np.array([1.0, 0.5, 0.3]), np.array([0.2, 0.0, 0.7])),
        FakeObject("Behind", np.array([0.0, -9.0, 0.0])),
        FakeObject("Camera", np.array([0.0, -6.0, 0.0]), np.array([right, 0.0, 0.0]), type="CAMERA", data=lens),
        FakeObject("Side", np.array([6.0, 0.0, 0.0]), np.array([right, 0.0, right]), type="CAMERA", data=lens),
        FakeObject("Sun", np.array([0.0, 0.0, 5.0]), type="LIGHT", data=FakeLamp("Sun")),
    ]


@dataclass(eq=False)
class FakeLamp:
    """The data of a lamp."""

    name: str
    energy: float = 1.0

    def path_resolve(self, path: str) -> Any:
        """Read a property, as Blender's datablocks do."""
        return getattr(self, path)


def look(camera: FakeObject) -> CameraView:
    """Look through a camera of a fake scene."""
    return CameraView(camera.name, camera, camera.data, geometry.camera_from_world(camera.matrix_world))


def draw(objects: Sequence[Any], camera: CameraView, channels: int = 3) -> dict[str, npt.NDArray[Any]]:
    """Draw a square where each object is, its grey by its number, before a black or transparent background.

    Returns
    -------
    dict
        `image`, shape (height, width, channels), uint8, and `depth`, shape (height, width), float32, inf for background.
    """
    image = np.zeros((*camera.shape, channels), np.uint8)
    depth = np.full(camera.shape, np.inf, np.float32)
    for number, obj in enumerate(objects, 1):
        (xy,), (distance,) = camera.project(np.array(obj.matrix_world, np.float64)[None, :3, 3])
        if np.isfinite(xy).all():
            (left, top), half = np.clip(xy - 3, 0, camera.shape[::-1]).astype(int), 6
            square = np.s_[top : top + half, left : left + half]
            nearer = depth[square] > distance
            depth[square][nearer] = distance
            image[square][nearer] = 255
            image[square][nearer, :3] = 40 + 50 * number % 200
    return {"image": image, "depth": depth}


@contextmanager
def facade(scene: FakeScene) -> Iterator[None]:
    """Let `from blendtorch.btb import blender`, inside functions, find a stand-in that knows a fake scene."""

    def matching(named: Any, pattern: str, what: str) -> list[Any]:
        found = sorted((each for each in named if fnmatch.fnmatchcase(each.name, pattern)), key=lambda each: each.name)
        if not found:
            raise SceneError(f"no {what} is called {pattern!r}: there are {', '.join(each.name for each in named)}")
        return found

    class Viewport:
        def __init__(self, shading: str = "RENDERED", overlays: bool = False, alpha: bool = False) -> None:
            del shading, overlays
            self.channels = 4 if alpha else 3

        def draw(self, camera: CameraView) -> npt.NDArray[np.uint8]:
            return draw([obj for obj in scene.objects if obj.type == "MESH"], camera, self.channels)["image"]

        def close(self) -> None:
            pass

    blender = ModuleType("blendtorch.btb.blender")
    vars(blender).update(
        depsgraph=lambda: None,
        matching=matching,
        mesh=lambda obj, graph=None: SimpleNamespace(vertices=obj.vertices.copy(), edges=np.empty((0, 2), np.int32)),  # noqa: ARG005
        objects_matching=lambda scene, pattern: matching(scene.objects, pattern, "object"),
        view=lambda camera, shape=None: look(camera),  # noqa: ARG005
        world_matrix=lambda obj: obj.matrix_world,
        Viewport=Viewport,
        __getattr__=lambda name: _missing("the stand-in for blendtorch.btb.blender", name),
    )
    package = ModuleType("blendtorch.btb")
    vars(package).update(blender=blender, __path__=[])
    fakes = {"blendtorch.btb": package, "blendtorch.btb.blender": blender}
    real = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield
    finally:
        for name, module in real.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
