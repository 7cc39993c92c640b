"""What the annotators of blendtorch-standard do with special scenes; how exact they are is in test_accuracy.py."""

import json
import textwrap
import time

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.core import CameraView, geometry
from blendtorch_standard.annotators.boxes import projected_box
from blendtorch_standard.annotators.diameters import diameter
from blendtorch_standard.annotators.instances import Wireframe
from blendtorch_standard.annotators.occlusion import occluded_by_depth
from hypothesis import given
from hypothesis import strategies as st

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
EDGES = np.array([(i, j) for i in range(8) for j in range(i) if np.abs(CORNERS[i] - CORNERS[j]).sum() == 2])


def view_of(projection="perspective", **lens):
    return CameraView(
        name="Camera",
        obj=None,
        lens=geometry.Lens(width=160, height=120, projection=projection, **lens),
        camera_from_world=np.eye(4),
        clip_range=(0.5, 50.0),
    )


@given(
    st.sampled_from(["perspective", "orthographic"]),
    st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 4)).map(lambda place: np.round(place, 5)),
    st.tuples(*[st.floats(0.2, 2)] * 3),
)
def test_the_box_of_a_cut_cube_is_that_of_its_surface(projection, place, size):
    """The surface sampled 81 x 81 on each face: the box encloses the samples in front of the near plane, and is no larger
    than what may lie between two samples."""
    camera = view_of(projection)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 81), np.linspace(-1, 1, 81)), -1).reshape(-1, 2)
    faces = [np.insert(grid, axis, side, axis=1) for axis in range(3) for side in (-1, 1)]
    surface = np.concatenate(faces) * size + place
    xy, depth = camera.project(surface)
    expected = geometry.bounding_box(xy[(depth >= 0.5) & (depth <= 50)])
    found, cut = projected_box(Wireframe(CORNERS * size + place, EDGES), camera)
    assert cut == (place[2] - size[2] < 0.5 or place[2] + size[2] > 50)
    if np.isnan(expected).any():
        return
    # The surface goes on by a step at most beyond the outermost sample, and by one in depth: at the near plane that counts most.
    step, reach = np.max(size) * 2 / 80, (np.abs(place) + size)[:2].max()
    allowed = camera.K[0, 0] * (reach / 0.5 - (reach - step) / (0.5 + step) if projection == "perspective" else step)
    assert (found[:2] <= expected[:2] + 1e-6).all()
    assert (found[2:] >= expected[2:] - 1e-6).all()
    assert (np.abs(found - expected) <= allowed).all()


def test_what_lies_behind_has_no_box():
    box, cut = projected_box(Wireframe(CORNERS - (0, 0, 5), EDGES), view_of())
    assert np.isnan(box).all()
    assert cut


def test_depth_hides_what_lies_behind_all_pixels_around():
    near_left = np.full((4, 6), np.inf, np.float32)
    near_left[:, :3] = 2.0
    xy = np.array([[1.0, 2.0], [1.0, 2.0], [3.2, 2.0], [5.9, 3.9], [0.1, 0.1]])
    depth = np.array([2.001, 3.0, 3.0, 3.0, 3.0])
    hidden = occluded_by_depth(near_left, xy, depth, np.full(5, 0.01))
    # On the surface; behind it; behind its edge, to within a pixel; where nothing is; in the corner.
    np.testing.assert_array_equal(hidden, [False, True, False, False, True])


def test_a_point_of_a_slanted_surface_is_not_hidden_by_it():
    surface = np.tile(2 + (np.arange(160) + 0.5) * 0.05, (120, 1))
    rng = np.random.default_rng(1)
    xy = rng.uniform((0.5, 0.5), (159.5, 119.5), (200, 2))
    depth = 2 + xy[:, 0] * 0.05
    assert not occluded_by_depth(surface, xy, depth, np.zeros(200)).any()
    assert occluded_by_depth(surface, xy, depth + 0.051, np.zeros(200)).all()


CLOUDS = st.tuples(
    st.integers(0, 10**6),
    st.integers(1, 300),
    st.sampled_from(["cloud", "ball", "circle", "grid", "two heaps", "line"]),
    st.tuples(*[st.sampled_from([1e-6, 0.03, 1.0, 40.0])] * 3),
)


def cloud(seed, count, kind, size):
    points = np.random.default_rng(seed).normal(size=(count, 3))
    if kind in ("ball", "circle"):
        points *= (1, 1, kind == "ball")
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = points.round() if kind == "grid" else points * (1, 0, 0) if kind == "line" else points
    return points * size + (np.arange(count) % 2 * 1e3)[:, None] * (kind == "two heaps")


@given(CLOUDS)
def test_the_diameter_is_the_largest_of_all_distances(what):
    points = cloud(*what)
    expected = np.linalg.norm(points[:, None] - points, axis=2).max()
    assert diameter(points) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("kind", ["cloud", "ball", "circle"])
def test_the_diameter_of_a_large_mesh_takes_no_second_of_the_cpu(kind):
    points = cloud(1, 100_000, kind, (1, 1, 1))
    start = time.thread_time()
    found = diameter(points)
    assert time.thread_time() - start < 1
    farthest = points[:: 1 + (kind != "cloud")]
    assert found >= max(np.linalg.norm(points - each, axis=1).max() for each in farthest[:200])
    if kind != "cloud":
        assert found == pytest.approx(2, abs=1e-4)


SCRIPT = """
import bpy
import numpy as np
from blendtorch import btb
from blendtorch.core.testing import FakePublisher
from mathutils import Matrix, Vector
args, remainder = btb.parse_blendtorch_args()
pub = btb.DataPublisher(args.btsockets["DATA"], args.btid)
DEPTH = {depth!r}
ALL = ["camera", "boxes2d_loose", "boxes3d", "poses", "keypoints"]
scene = bpy.context.scene

def fresh():
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene = bpy.context.scene
    camera, cube = scene.camera, bpy.data.objects["Cube"]
    camera.rotation_euler, camera.location = (np.pi / 2, 0, 0), (0, -10, 0)  # along y, x right, z up
    cube["category_id"] = 1
    return scene, camera, cube

def add(name, kind=None, parent=None, location=(0, 0, 0), **properties):
    data = None
    if kind == "MESH":
        data = bpy.data.objects["Cube"].data.copy()
    obj = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(obj)
    obj.parent, obj.location = parent, location
    for key, value in properties.items():
        setattr(obj, key, value)
    return obj

def run(name, annotators=ALL, **fields):
    samples, said, error = FakePublisher(), [], ""
    try:
        btb.Pipeline(annotators=annotators, resolution=(160, 120), notify=said.append, **{{"count": 1, **fields}}).run(samples)
    except Exception as caught:
        error = f"{{type(caught).__name__}}: {{caught}}"
    pub.publish(case=name, samples=[{{k: v for k, v in s.items() if k != "image"}} for s in samples], error=error, said=said)

"""

CASES = """
scene, camera, cube = fresh()
run("plain")
cube.location.x = 100
run("outside")
cube.location.x, camera.data.clip_end = 0, 5
run("beyond the far plane")
camera.data.clip_end = 100
cube.scale.x = -2
run("mirrored")
cube.scale.x = 0
run("flat", ["poses"])
cube.scale.x = 1
cube.hide_render = True
run("hidden in renders")
cube.hide_render, cube.hide_viewport = False, True
run("hidden in the viewport")

scene, camera, cube = fresh()
other = add("Other", "MESH", location=(2.5, 0, 0))
other["category_id"] = 1
cube.hide_render = cube.hide_viewport = True
run("one of two hidden", count=2)

scene, camera, cube = fresh()
parent = add("Parent", scale=(1, 3, 1))
cube.parent, cube.rotation_euler = parent, (0.5, 0, 0)
run("sheared", ["poses"])
run("sheared box", ["boxes3d"])
run("sheared corners", ["keypoints"])
run("sheared is fine for", ["boxes2d_loose"])

scene, camera, cube = fresh()
parent = add("Parent", scale=(1, 3, 1), rotation_euler=(0, 0, 0.4))
camera.parent, camera.rotation_euler = parent, (1.3, 0.2, 0.3)
run("sheared camera", ["poses"])

scene, camera, cube = fresh()
lid = add("Lid", "MESH", cube, (0, 0, 1.5), scale=(0.5, 0.5, 0.5))
run("parts")
lid.hide_render = lid.hide_viewport = True
run("parts, one hidden")

scene, camera, cube = fresh()
cube.modifiers.new("Shift", "DISPLACE").direction = "X"
cube.modifiers["Shift"].strength, cube.modifiers["Shift"].mid_level = 0.5, 0.0
cube.scale, cube.rotation_euler = (2, 1, 1), (0.3, 0.4, 0.5)
copy = cube.copy()
scene.collection.objects.link(copy)
copy.location, copy.rotation_euler = (900, 7, -1000), (2, 1, 0)
hidden = cube.copy()
scene.collection.objects.link(hidden)
hidden.hide_render = hidden.hide_viewport = True
large = add("Large", "MESH", scale=(3, 3, -3))
large["category_id"] = 2
add("Lid", "MESH", large, (0, 0, 1.5), scale=(0.5, 0.5, 0.5))
small = add("Small", "MESH")
small["category_id"] = 2
camera.data.type = "ORTHO"
run("models", ["poses", "camera"])

scene, camera, cube = fresh()
other = add("Other", "MESH", location=(2.5, 0, 0))
collection = bpy.data.collections.new("Pair")
scene.collection.children.link(collection)
collection.objects.link(cube)
collection.objects.link(other)
rule = [{"match": "Pair", "category": "pair", "instance": "collection"}]
run("no frame, poses", ["poses"], objects=rule)
run("no frame, boxes3d", ["boxes3d"], objects=rule)
run("no frame, keypoints", ["keypoints"], objects=rule)
run("no frame is fine for", ["boxes2d_loose", {"name": "keypoints", "source": "vertices"}], objects=rule)

scene, camera, cube = fresh()
add("Tip", None, cube, (0, -1, 0))
add("Base", None, cube, (0, 1, 0))
other = add("Other", "MESH", location=(2.5, 0, 0))
other["category_id"] = 2
add("Tip", None, other, (0, -1, 0))  # Tip.001
add("Hook", None, other, (5, -1, 0))
group = add("Group", None, other)
add("Part", "MESH", group, (0, 0, 1), scale=(0.1, 0.1, 0.1))
run("empties")
run("chosen", [{"name": "keypoints", "names": ["Hook", "Tip"], "skeleton": [["Tip", "Hook"]], "flip_pairs": [["Tip", "Hook"]]}])
run("misspelt", [{"name": "keypoints", "names": ["Tipp"]}])
run("bone of nothing", [{"name": "keypoints", "names": ["Tip"], "skeleton": [["Tip", "Hook"]]}])
run("no such source", [{"name": "keypoints", "source": "vertex_groups"}])
run("box", [{"name": "keypoints", "source": "box"}, "boxes3d"])

scene, camera, cube = fresh()
low, high = ([v.index for v in cube.data.vertices if (v.co.z > 0) == up] for up in (False, True))
cube.vertex_groups.new(name="low").add(low, 1.0, "ADD")
cube.vertex_groups.new(name="high").add(high, 0.25, "ADD")
cube.vertex_groups["high"].add(high[:1], 0.75, "REPLACE")
cube.vertex_groups.new(name="empty")
cube.modifiers.new("Shift", "DISPLACE").direction = "X"
cube.modifiers["Shift"].strength, cube.modifiers["Shift"].mid_level = 0.5, 0.0
run("vertex groups", [{"name": "keypoints", "source": "vertex_groups"}])
run("vertices", [{"name": "keypoints", "source": "vertices"}])
run("limit", [{"name": "keypoints", "source": "vertices", "limit": 7}])
pub.publish(case="first of high", co=list(cube.data.vertices[high[0]].co))

# What stands in front of the mark on the cube's front.
scene, camera, cube = fresh()
add("Front", None, cube, (0, -1, 0))
add("Under", None, cube, (0, -0.999, 0))
add("Deep", None, cube, (0, -0.9, 0))
add("Back", None, cube, (0, 1, 0))
add("Aside", None, cube, (4.5, 5, 0))
add("Out", None, cube, (9, 0, 0))
add("Near", None, cube, (0, -9.95, 0))
wall = add("Wall", "MESH", None, (0, -5, 0), scale=(1, 0.1, 1))
names = ["Front", "Under", "Deep", "Back", "Aside", "Out", "Near"]
marks = [{"name": "keypoints", "names": names}]
for kind in ("PERSP", "ORTHO"):
    camera.data.type, camera.data.ortho_scale = kind, 12
    wall.hide_render = wall.hide_viewport = True
    run(f"{kind} free", marks)
    run(f"{kind} free, by depth", marks, renderers=["workbench", "planes"], plugins=[DEPTH])
    wall.hide_viewport = False
    run(f"{kind} wall that renders hide", marks)
    wall.hide_render = False
    run(f"{kind} wall", marks)
    run(f"{kind} wall, by depth", marks, renderers=["workbench", "planes"], plugins=[DEPTH])
    camera.data.clip_start = 6
    run(f"{kind} wall before the near plane", marks)
    camera.data.clip_start = 0.1
"""

# A map of depths by rays of mathutils: not those of the annotator.
DEPTH = """
import numpy as np
from blendtorch.core import ArraySpec, Renderer, geometry, hookimpl

class Planes(Renderer):
    name = "planes"
    interface = 1

    @property
    def emits(self):
        return {"depth": ArraySpec("float32", ("height", "width"))}

    def render(self, moment, camera):
        from blendtorch.btb import blender
        from mathutils.bvhtree import BVHTree

        graph = blender.depsgraph()
        trees = []
        for obj in moment.scene.objects:
            if obj.type == "MESH" and obj.visible_get() and not obj.hide_render:
                mesh = obj.evaluated_get(graph).data
                world = [obj.matrix_world @ vertex.co for vertex in mesh.vertices]
                trees.append(BVHTree.FromPolygons(world, [list(face.vertices) for face in mesh.polygons]))
        height, width = camera.shape
        y, x = np.mgrid[:height, :width] + 0.5
        xy = np.stack([x.ravel(), y.ravel()], 1)
        near, far = camera.clip_range
        back = np.linalg.inv(camera.camera_from_world)
        start, end = (
            geometry.transform(back, geometry.unproject(xy, np.full(len(xy), z), camera.K, camera.orthographic)) for z in (near, far)
        )
        depth = np.full(len(xy), np.inf)
        for row, (first, last) in enumerate(zip(start, end)):
            for tree in trees:
                place, *_ = tree.ray_cast(first, last - first)
                if place is not None:
                    depth[row] = min(depth[row], geometry.transform(camera.camera_from_world, [place])[0, 2])
        return {"depth": depth.astype(np.float32).reshape(height, width)}

@hookimpl
def blendtorch_register_renderers():
    return Planes
"""


@pytest.fixture(scope="module")
def cases(blender, tmp_path_factory):
    """All special scenes, in one Blender."""
    folder = tmp_path_factory.mktemp("cases")
    (folder / "planes.py").write_text(textwrap.dedent(DEPTH))
    script = folder / "cases.blend.py"
    script.write_text(SCRIPT.format(depth=str(folder / "planes.py")) + CASES)
    with btt.BlenderLauncher(scene="", script=script, named_sockets=["DATA"], blend_path=blender) as launcher:
        items = list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))
    return {item["case"]: item for item in items}


def labels(cases, case, annotator):
    assert not cases[case]["error"]
    return cases[case]["samples"][0][annotator]


@pytest.mark.blender
def test_a_plain_cube(cases):
    camera = labels(cases, "plain", "camera")
    np.testing.assert_allclose(camera["K"], [[160 * 50 / 36, 0, 80], [0, 160 * 50 / 36, 60], [0, 0, 1]])
    np.testing.assert_allclose(camera["K_opencv"][:2, 2], [79.5, 59.5])
    np.testing.assert_array_equal(camera["resolution"], [160, 120])
    np.testing.assert_allclose(camera["camera_from_world"] @ [1, 2, 3, 1], [1, -3, 12, 1], atol=1e-5)
    half = 160 * 50 / 36 / 9  # the front face is 9 units away, and 2 wide
    box = labels(cases, "plain", "boxes2d_loose")
    np.testing.assert_allclose(box["clipped"], [[80 - half, 60 - half, 80 + half, 60 + half]], atol=1e-4)
    np.testing.assert_array_equal(box["clipped"], box["unclipped"])
    assert box["valid"].all()
    assert not box["truncated"].any()
    solid = labels(cases, "plain", "boxes3d")
    np.testing.assert_allclose(solid["center"], [[0, 0, 10]], atol=1e-5)
    np.testing.assert_allclose(solid["size"], [[2, 2, 2]], atol=1e-5)
    np.testing.assert_allclose(solid["rotation"], [[[1, 0, 0], [0, 0, -1], [0, 1, 0]]], atol=1e-6)
    np.testing.assert_allclose(solid["corners"][0, 1], [1, 1, 9], atol=1e-5)  # high x, low y and z of the object
    pose = labels(cases, "plain", "poses")
    np.testing.assert_allclose(pose["camera_from_object"][0, :3, 3], [0, 0, 10], atol=1e-5)
    np.testing.assert_allclose(pose["scale"], [[1, 1, 1]], atol=1e-6)


@pytest.mark.blender
def test_outside_of_the_picture_objects_have_a_pose_and_no_box(cases):
    for case in ("outside", "beyond the far plane"):
        box = labels(cases, case, "boxes2d_loose")
        assert not box["valid"].any()
        assert not box["truncated"].any()
        assert np.isnan(box["clipped"]).all()
        assert np.isnan(box["unclipped"]).all()
        assert labels(cases, case, "poses")["valid"].all()
        assert (labels(cases, case, "keypoints")["state"] == 0).all()


@pytest.mark.blender
def test_mirrored_objects_have_negative_scales(cases):
    pose = labels(cases, "mirrored", "poses")
    np.testing.assert_allclose(pose["scale"], [[-2, -1, -1]], atol=1e-6)
    np.testing.assert_allclose(pose["size"], [[4, 2, 2]], atol=1e-5)
    assert np.linalg.det(pose["camera_from_object"][0, :3, :3]) == pytest.approx(1, abs=1e-12)
    # A vertex of the mesh is at camera_from_object @ (scale * v): x is mirrored.
    place = pose["camera_from_object"][0, :3] @ [*(pose["scale"][0] * (1, 1, 1)), 1]
    np.testing.assert_allclose(place, [-2, -1, 11], atol=1e-5)


@pytest.mark.blender
def test_the_legend_describes_the_models_of_categories(cases):
    assert "camera" not in json.loads(cases["plain"]["samples"][0]["meta"]["legend"])
    legend = json.loads(cases["models"]["samples"][0]["meta"]["legend"])
    assert legend["camera"] == {"orthographic": ["Camera"]}
    assert list(legend["poses"]["models"]) == ["1", "2"]
    (cube,), (large, small) = legend["poses"]["models"].values()  # a copy far away is the same, and a hidden one
    np.testing.assert_allclose([cube["low"], cube["high"]], [[-1, -1, -1], [3, 1, 1]], atol=1e-5)  # shifted, then scaled
    assert cube["diameter"] == pytest.approx(np.sqrt(16 + 4 + 4), rel=1e-6)
    assert [each["mirrored"] for each in (cube, large, small)] == [False, True, False]
    # All axes are mirrored, as `scale` has it, and a half turn is in the pose; the lid is farthest out in z.
    np.testing.assert_allclose([large["low"], large["high"]], [[-3, -3, -6], [3, 3, 3]], atol=1e-4)
    assert large["diameter"] == pytest.approx(np.sqrt(4.5**2 + 4.5**2 + 9**2), rel=1e-6)
    np.testing.assert_allclose([small["low"], small["high"]], [[-1] * 3, [1] * 3], atol=1e-6)
    pose = labels(cases, "models", "poses")
    for row, model in ((0, cube), (1, cube), (3, large), (4, small)):
        np.testing.assert_allclose(pose["size"][row], np.subtract(model["high"], model["low"]), rtol=1e-5)
    assert pose["valid"].tolist() == [True, True, False, True, True]  # and is hidden again


@pytest.mark.blender
@pytest.mark.parametrize("case", ["hidden in renders", "hidden in the viewport"])
def test_hidden_objects_keep_their_row(cases, case):
    for annotator in ("boxes2d_loose", "boxes3d", "poses", "keypoints"):
        for field, array in labels(cases, case, annotator).items():
            assert len(array) == 1
            if array.dtype == np.float64:
                assert np.isnan(array).all(), (annotator, field)
            else:
                assert not array.any(), (annotator, field)


@pytest.mark.blender
def test_rows_follow_the_objects(cases):
    first, second = cases["one of two hidden"]["samples"]
    for sample in (first, second):
        for annotator in ("boxes2d_loose", "boxes3d", "poses", "keypoints"):
            np.testing.assert_array_equal(sample[annotator]["valid"], [False, True])
        np.testing.assert_allclose(sample["boxes3d"]["center"][1], [2.5, 0, 10], atol=1e-5)


@pytest.mark.blender
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("flat", ["SceneError", "'Cube'", "scale of zero"]),
        ("sheared", ["SceneError", "poses", "'Cube'", "sheared", "Apply the scale of its parents"]),
        ("sheared box", ["SceneError", "'Cube'", "sheared"]),
        ("sheared corners", ["SceneError", "'Cube'", "sheared"]),
        ("sheared camera", ["CameraError", "'Camera'", "sheared"]),
        ("no frame, poses", ["SceneError", "'Pair'", "parent them to one empty"]),
        ("no frame, boxes3d", ["SceneError", "'Pair'", "parent them to one empty"]),
        ("no frame, keypoints", ["SceneError", "'Pair'", "parent them to one empty"]),
        ("misspelt", ["ConfigurationError", "names", "'Tipp'", "did you mean 'Tip'?"]),
        ("bone of nothing", ["ConfigurationError", "skeleton", "'Hook'"]),
        ("no such source", ["SceneError", "vertex_groups", "make vertex groups"]),
        ("limit", ["SceneError", "'Cube' has 8 vertices", "`limit` is 7"]),
    ],
)
def test_what_has_no_answer_is_refused(cases, case, words):
    assert not cases[case]["samples"]
    for word in words:
        assert word in cases[case]["error"]


@pytest.mark.blender
def test_what_needs_no_frame_works_without(cases):
    assert labels(cases, "sheared is fine for", "boxes2d_loose")["valid"].all()
    box = labels(cases, "no frame is fine for", "boxes2d_loose")["unclipped"]
    xy = labels(cases, "no frame is fine for", "keypoints")["xy"]
    assert xy.shape == (1, 16, 2)
    np.testing.assert_allclose(box[0], geometry.bounding_box(xy[0]), atol=1e-9)


@pytest.mark.blender
def test_the_parts_of_an_instance_share_a_box(cases):
    np.testing.assert_allclose(labels(cases, "parts", "boxes3d")["size"], [[2, 2, 3]], atol=1e-5)
    np.testing.assert_allclose(labels(cases, "parts", "poses")["size"], [[2, 2, 3]], atol=1e-5)
    np.testing.assert_allclose(labels(cases, "parts", "boxes3d")["center"], [[0, -0.5, 10]], atol=1e-5)
    np.testing.assert_allclose(labels(cases, "parts, one hidden", "boxes3d")["size"], [[2, 2, 2]], atol=1e-5)
    both, one = (labels(cases, case, "boxes2d_loose")["clipped"][0] for case in ("parts", "parts, one hidden"))
    assert both[1] < one[1]
    np.testing.assert_array_equal(both[[0, 2, 3]], one[[0, 2, 3]])


@pytest.mark.blender
def test_empties_become_keypoints_by_name(cases):
    assert cases["empties"]["said"][-1].endswith("3 per object: Base, Tip, Hook")
    found = labels(cases, "empties", "keypoints")
    np.testing.assert_allclose(
        found["xyz"], [[[0, 0, 11], [0, 0, 9], [np.nan] * 3], [[np.nan] * 3, [2.5, 0, 9], [7.5, 0, 9]]], atol=1e-5
    )
    np.testing.assert_array_equal(found["depth"], found["xyz"][..., 2])
    np.testing.assert_array_equal(found["state"], [[1, 2, 0], [0, 2, 0]])
    assert found["valid"].all()
    chosen = labels(cases, "chosen", "keypoints")
    np.testing.assert_array_equal(chosen["xyz"], found["xyz"][:, [2, 1]])
    np.testing.assert_array_equal(chosen["skeleton"], [[1, 0]])
    np.testing.assert_array_equal(chosen["flip"], [1, 0])


@pytest.mark.blender
def test_without_empties_the_box_gives_keypoints(cases):
    found, box = labels(cases, "box", "keypoints"), labels(cases, "box", "boxes3d")
    np.testing.assert_allclose(found["xyz"][:, :8], box["corners"], atol=1e-9)
    np.testing.assert_allclose(found["xyz"][:, 8], box["center"], atol=1e-9)
    np.testing.assert_array_equal(found["state"][0], [1 if i == 8 or i & 2 else 2 for i in range(9)])


@pytest.mark.blender
def test_vertices_count_after_modifiers(cases):
    found = labels(cases, "vertex groups", "keypoints")
    (empty, high, low) = found["xyz"][0]
    assert cases["vertex groups"]["said"][-1].endswith("empty, high, low")
    assert np.isnan(empty).all()
    np.testing.assert_allclose(low, [0.5, 1, 10], atol=1e-5)
    x, y, _ = cases["first of high"]["co"]  # weighs 0.75, the three others 0.25 each: a third of the total more than they
    np.testing.assert_allclose(high, [0.5 + x / 3, -1, 10 + y / 3], atol=1e-5)
    vertices = labels(cases, "vertices", "keypoints")["xyz"][0]
    np.testing.assert_allclose(vertices.mean(axis=0), [0.5, 0, 10], atol=1e-5)
    assert len(np.unique(vertices.round(3), axis=0)) == 8


@pytest.mark.blender
@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
@pytest.mark.parametrize("by", ["", ", by depth"])
def test_what_stands_in_front_hides(cases, kind, by):
    def state(case):
        return labels(cases, f"{kind} {case}", "keypoints")["state"][0].tolist()

    # Front, Under (within the tolerance), Deep, Back, Aside, Out, Near (before the near plane)
    assert state(f"free{by}") == [2, 2, 1, 1, 2, 0, 0]
    assert state(f"wall{by}") == [1, 1, 1, 1, 2, 0, 0]


@pytest.mark.blender
@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
def test_what_pictures_do_not_show_hides_nothing(cases, kind):
    for case in ("wall that renders hide", "wall before the near plane"):
        assert labels(cases, f"{kind} {case}", "keypoints")["state"][0].tolist() == [2, 2, 1, 1, 2, 0, 0]
