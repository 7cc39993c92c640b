"""Keypoints: named points of objects, where they are in the picture, and whether they can be seen."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core import Annotator, ArraySpec, CameraView, Moment, ObjectOfInterest, Options, SetupContext, geometry
from blendtorch.core.errors import ConfigurationError, SceneError
from blendtorch.core.geometry import Array
from blendtorch.core.interfaces import Arrays

from blendtorch_standard.annotators.instances import shown, wireframes
from blendtorch_standard.annotators.marks import Box, Empties, Marks, VertexGroups, Vertices
from blendtorch_standard.annotators.occlusion import occluded_by_depth, occluded_by_rays

OUTSIDE, OCCLUDED, VISIBLE = 0, 1, 2


class KeypointsOptions(Options, frozen=True, kw_only=True):
    """Options of `keypoints`.

    Attributes
    ----------
    source : {'auto', 'empties', 'box', 'vertex_groups', 'vertices'}
        What becomes a keypoint. 'empties': the empties that are children of the object or of its parts, by name without
        Blender's numbers (`.001`); equal names are told apart as Hole, Hole_2. 'box': the corners of its box along its own
        axes, corner0 to corner7 in the order of `boxes3d`, and center. 'auto': its empties where it has any, else its box.
        'vertex_groups': for each group, the mean of its vertices, weighted with their weights. 'vertices': all, called 0, 1, 2
        and so on. Vertices are those after modifiers.
    names : list of str
        Which, and in which order. Default: all that some object has, object after object, each by name.
    skeleton : list of pairs of str
        The names that a bone joins.
    flip_pairs : list of pairs of str
        The names that change places in a mirrored picture.
    limit : int
        How many vertices an object may have, for 'vertices'.
    tolerance : float
        What is in front of a keypoint by less does not hide it; in lengths of the diagonal of the object's box. So a mark that
        was set by hand a little under a surface counts as on it.
    """

    source: Literal["auto", "empties", "box", "vertex_groups", "vertices"] = "auto"
    names: tuple[str, ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] = ()
    limit: Annotated[int, msgspec.Meta(ge=1)] = 1000
    tolerance: Annotated[float, msgspec.Meta(ge=0)] = 1e-3


class Keypoints(Annotator):
    """Named points of objects, in the picture and in space. Column k is the same name for every object.

    xy : ndarray, shape (N, K, 2), float64, px
        From the corner of the image, also outside of it. NaN for a keypoint that the object does not have, or that a
        perspective camera has behind it.
    depth : ndarray, shape (N, K), float64
        Planar z in scene units, negative behind the camera.
    xyz : ndarray, shape (N, K, 3), float64
        In the camera frame x right, y down, z forward, in scene units.
    state : ndarray, shape (N, K), int8
        COCO's v. 0: outside of the picture or of the camera's clip range, or the object does not have it. 1: something is in
        front of it, the object itself perhaps. 2: visible. By the array `depth` where a renderer or an annotator of the run has
        it (to within a pixel at outlines, two where the lens distorts), else by ray casts, which see neither holdouts nor
        through transparent materials.
    valid : ndarray, shape (N,), bool
        The object is shown. Else the rest of its row is NaN, and the state 0.
    skeleton : ndarray, shape (B, 2), int64
        Columns that a bone joins. Where the option is given.
    flip : ndarray, shape (K,), int64
        In a mirrored picture, column k is what was column `flip[k]`. Where the option `flip_pairs` is given.

    K and the names are known after `setup`, which says them; the names are in each sample's `meta["legend"]` too.
    """

    name = "keypoints"
    interface = 1
    Options = KeypointsOptions
    uses = ("depth",)

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        specs = {
            "xy": ArraySpec("float64", ("objects", "keypoints", 2), unit="px"),
            "depth": ArraySpec("float64", ("objects", "keypoints"), unit="scene units"),
            "xyz": ArraySpec("float64", ("objects", "keypoints", 3), unit="scene units"),
            "state": ArraySpec("int8", ("objects", "keypoints")),
            "valid": ArraySpec("bool", ("objects",)),
        }
        if self.options.skeleton:
            specs["skeleton"] = ArraySpec("int64", (len(self.options.skeleton), 2))
        if self.options.flip_pairs:
            specs["flip"] = ArraySpec("int64", ("keypoints",))
        return specs

    def setup(self, context: SetupContext) -> None:
        """Find the keypoints of every object, and give each name its column.

        Raises
        ------
        SceneError
            If no object has any, or an object without a frame of its own would need one.
        ConfigurationError
            If an option names a keypoint that no object has.
        """
        self._marks = [self._marks_of(each) for each in context.objects]
        found = list(dict.fromkeys(name for marks in self._marks for name in marks.names))
        if context.objects and not found:
            way_out = {"empties": "parent empties to them", "vertex_groups": "make vertex groups"}.get(self.options.source, "")
            raise SceneError(f"no object of interest has keypoints of the source {self.options.source!r}: {way_out}")
        if context.objects:
            _check_names(self.options.names, found, "names")
        self.names = self.options.names or tuple(found)
        column = {name: number for number, name in enumerate(self.names)}
        self._columns = [np.array([column.get(name, -1) for name in marks.names], np.int64) for marks in self._marks]
        self._pairs = self._read_pairs(column)
        if self.options.source != "vertices":
            context.notify(f"{len(self.names)} per object: {', '.join(self.names)}")

    def legend(self) -> Mapping[str, Any]:
        """Name the columns."""
        return {"names": list(self.names)}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:
        """Place, project, and look whether they are hidden."""
        world = np.full((len(moment.objects), len(self.names), 3), np.nan)
        valid = np.array([any(map(shown, each.parts)) for each in moment.objects], bool)
        for row, (marks, columns) in enumerate(zip(self._marks, self._columns, strict=True)):
            if valid[row] and len(columns):
                world[row, columns[columns >= 0]] = marks.place(moment, row)[columns >= 0]
        xyz = geometry.transform(camera.camera_from_world, world.reshape(-1, 3))
        xy, depth = camera.project_from_camera(xyz)
        state = self._states(moment, camera, inputs, xy, xyz)
        return {
            "xy": xy.reshape(*world.shape[:2], 2),
            "depth": depth.reshape(world.shape[:2]),
            "xyz": xyz.reshape(world.shape),
            "state": state.reshape(world.shape[:2]),
            "valid": valid,
            **self._pairs,
        }

    def _states(
        self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays], xy: Array, xyz: Array
    ) -> npt.NDArray[np.int8]:
        height, width = camera.shape
        near, far = camera.clip_range
        inside = ((xy >= 0) & (xy < (width, height))).all(axis=1) & (xyz[:, 2] >= near) & (xyz[:, 2] <= far)
        lengths = [0.0 if each is None else np.ptp(each.points, axis=0) for each in wireframes(moment)]
        diagonals = np.array([np.linalg.norm(each) for each in lengths])
        tolerance = np.repeat(self.options.tolerance * diagonals, len(self.names))[inside]
        if "depth" in inputs:
            # A renderer's depths are those of the nearest pixel where the lens distorts.
            reach = 0 if camera.lens.distortion is None else 1
            hidden = occluded_by_depth(inputs["depth"]["depth"], xy[inside], xyz[inside, 2], tolerance, reach)
        else:
            hidden = occluded_by_rays(moment.scene, camera, xyz[inside], tolerance)
        state = np.full(len(xy), OUTSIDE, np.int8)
        state[inside] = np.where(hidden, OCCLUDED, VISIBLE)
        return state

    def _marks_of(self, instance: ObjectOfInterest) -> Marks:
        source = self.options.source
        if source == "vertices":
            return Vertices(instance, self.options.limit)
        if source == "vertex_groups":
            return VertexGroups(instance)
        empties = Empties(instance)
        if source == "empties" or (source == "auto" and empties.names):
            return empties
        instance.require_frame()
        return Box()

    def _read_pairs(self, column: Mapping[str, int]) -> dict[str, npt.NDArray[np.int64]]:
        pairs = {}
        for option in ("skeleton", "flip_pairs"):
            named = getattr(self.options, option)
            _check_names([name for pair in named for name in pair], self.names, option)
            pairs[option] = np.array([[column[name] for name in pair] for pair in named], np.int64).reshape(-1, 2)
        flip = np.arange(len(column))
        flip[pairs["flip_pairs"]] = pairs["flip_pairs"][:, ::-1]
        emitted = {"skeleton": pairs["skeleton"], "flip": flip}
        return {name: array for name, array in emitted.items() if name in self.emits}


def _check_names(wanted: Sequence[str], known: Sequence[str], option: str) -> None:
    for name in wanted:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(known[:20])}"
            raise ConfigurationError(f"{option}: no keypoint is called {name!r}: {hint}")
