"""How exact labels are: boxes, poses and keypoints of random scenes against what Blender draws and computes by itself.

Nothing of what the labels are compared with goes through our projection. A plug-in of these tests makes it, in the same run:

- masks: each object drawn alone by Workbench, flat, without anti-aliasing; a pixel is drawn where its centre is covered
- places in the picture by Blender's own matrices (`calc_matrix_camera`, `Matrix.inverted`)
- boxes of the faces, each cut as a polygon at the near plane (Sutherland and Hodgman), in Blender's clip space
- rays of pixels from `camera.view_frame`
- occlusion by `mathutils.bvhtree`, from the point towards the camera; a ray that starts 0.05 % of the object's diagonal
  before the point and one that starts 3 % before it agree, but for points that are too close to call; the annotator's tolerance of
  0.1 % lies between

Tolerances: 0.01 px between matrices in float32 and ours; for silhouettes 0.5 px for each pixel near the edge, and 0.1 px for the
mean signed difference on each axis; every state that can be called agrees.
"""

import textwrap

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.core import geometry

pytestmark = pytest.mark.blender

PLUGIN = """
import numpy as np
from blendtorch.core import Annotator, ArraySpec, Randomizer, geometry, hookimpl
from blendtorch.core.interfaces import GEOMETRY

VERTICES = 84


class Shuffle(Randomizer):
    name = "shuffle"
    interface = 1
    changes = frozenset({GEOMETRY})

    def randomize(self, moment, rng):
        import bpy
        from mathutils import Matrix

        objects = bpy.data.objects
        for name, reach in (("Stone", 1.2), ("Crate", 1.2), ("Ring", 1.2), ("Wall", 1.5)):
            obj = objects[name]
            obj.location, obj.rotation_euler = rng.uniform(-reach, reach, 3), rng.uniform(-3, 3, 3)
            obj.scale = rng.uniform(0.3, 0.8, 3) * rng.choice([-1, 1], 3)
        objects["Lid"].location, objects["Lid"].rotation_euler = rng.uniform(-1, 1, 3), rng.uniform(-3, 3, 3)
        cart = objects["Cart"]
        cart.location, cart.rotation_euler = rng.uniform(-3, 3, 3), rng.uniform(-3, 3, 3)
        bpy.context.view_layer.update()
        near = moment.scene["near"]
        for name in ("Main", "Rider"):
            camera = objects[name]
            direction = rng.normal(size=3)
            eye = direction / np.linalg.norm(direction) * rng.uniform(*((1.0, 2.5) if near else (6, 10)))
            camera.matrix_world = Matrix(geometry.look_at(eye, rng.uniform(-0.6, 0.6, 3), up=rng.normal(size=3)))
            camera.data.lens, camera.data.ortho_scale = rng.uniform(25, 45), rng.uniform(5, 8)
            if moment.scene["shift"]:
                camera.data.shift_x, camera.data.shift_y = rng.uniform(-0.15, 0.15, 2)
        return {}


class Truth(Annotator):
    name = "truth"
    interface = 1

    @property
    def emits(self):
        return {
            "masks": ArraySpec("bool", ("objects", "height", "width")),
            "xy": ArraySpec("float64", ("objects", VERTICES, 2)),
            "boxes": ArraySpec("float64", ("objects", 4)),
            "hidden": ArraySpec("int8", ("objects", VERTICES)),
            "local": ArraySpec("float64", ("objects", VERTICES, 3)),
            "rays": ArraySpec("float64", ("height", "width", 2, 3)),
        }

    def setup(self, context):
        from blendtorch.btb import blender

        self.viewport = blender.Viewport()

    def close(self):
        self.viewport.close()

    def annotate(self, moment, camera, inputs):
        from blendtorch.btb import blender

        graph = blender.depsgraph()
        height, width = camera.shape
        evaluated = camera.obj.evaluated_get(graph)
        projection = evaluated.calc_matrix_camera(graph, x=width, y=height)
        clip = np.array(projection @ evaluated.matrix_world.normalized().inverted())
        count = len(moment.objects)
        found = {"xy": np.full((count, VERTICES, 2), np.nan), "local": np.full((count, VERTICES, 3), np.nan)}
        found["hidden"] = np.full((count, VERTICES), -1, np.int8)
        found["boxes"] = np.full((count, 4), np.nan)
        trees = {obj.name: tree_of(obj) for obj in moment.scene.objects if obj.type == "MESH"}
        for row, instance in enumerate(moment.objects):
            vertices = [(part, vertex) for part in instance.parts for vertex in part.data.vertices]
            world = np.array([part.evaluated_get(graph).matrix_world @ vertex.co for part, vertex in vertices])
            own = [vertex.co for part, vertex in vertices if part == instance.root]
            found["local"][row, : len(own)] = own
            found["xy"][row, : len(world)] = to_pixels(np.column_stack([world, np.ones(len(world))]) @ clip.T, camera.shape)
            found["boxes"][row] = box_of_faces(instance.parts, clip, camera.shape)
            found["hidden"][row, : len(world)] = [hidden(point, np.ptp(world, axis=0), evaluated, trees) for point in world]
        found["rays"] = rays_of(evaluated, moment.scene, camera.shape)
        found["masks"] = self.masks(moment, camera)
        return found

    def masks(self, moment, camera):
        meshes = [obj for obj in moment.scene.objects if obj.type == "MESH"]
        masks = []
        for instance in moment.objects:
            for obj in meshes:
                obj.hide_viewport = obj not in instance.parts
            masks.append(self.viewport.draw(camera).max(axis=-1) > 127)
        for obj in meshes:
            obj.hide_viewport = False
        return np.array(masks)


def to_pixels(clip, shape):
    w = np.where(clip[:, 3:] > 0, clip[:, 3:], np.nan)
    return (clip[:, :2] / w * (0.5, -0.5) + 0.5) * shape[::-1]


def box_of_faces(parts, clip, shape):
    corners = []
    for part in parts:
        world = np.array([part.matrix_world @ vertex.co for vertex in part.data.vertices])
        points = np.column_stack([world, np.ones(len(world))]) @ clip.T
        for face in part.data.polygons:
            polygon = points[list(face.vertices)]
            inside = polygon[:, 2] + polygon[:, 3] > 0  # OpenGL's near plane
            for this, after, a, b in zip(polygon, np.roll(polygon, -1, 0), inside, np.roll(inside, -1)):
                if a:
                    corners.append(this)
                if a != b:
                    t = (this[2] + this[3]) / ((this[2] + this[3]) - (after[2] + after[3]))
                    corners.append(this + t * (after - this))
    if not corners:
        return np.full(4, np.nan)
    xy = to_pixels(np.array(corners), shape)
    return np.concatenate([xy.min(0), xy.max(0)])


def tree_of(obj):
    from mathutils.bvhtree import BVHTree

    world = [obj.matrix_world @ vertex.co for vertex in obj.data.vertices]
    return BVHTree.FromPolygons(world, [list(face.vertices) for face in obj.data.polygons])


def hidden(point, extent, camera, trees):
    pose = np.array(camera.matrix_world.normalized())
    eye, backward = pose[:3, 3], pose[:3, 2]
    depth = (eye - point) @ backward
    if camera.data.type == "ORTHO":
        ray = backward
        length = depth - camera.data.clip_start
    else:
        ray = (eye - point) / np.linalg.norm(eye - point)
        length = np.linalg.norm(eye - point) * (1 - camera.data.clip_start / depth)
    answers = set()
    for part in (0.0005, 0.03):
        start = point + ray * part * np.linalg.norm(extent)
        left = length - part * np.linalg.norm(extent)
        answers.add(left > 0 and any(tree.ray_cast(start, ray, left)[0] is not None for tree in trees.values()))
    return answers.pop() if len(answers) == 1 else -1


def rays_of(camera, scene, shape):
    top_right, bottom_right, bottom_left, top_left = (np.array(corner) for corner in camera.data.view_frame(scene=scene))
    y, x = (np.mgrid[: shape[0], : shape[1]] + 0.5) / np.array(shape)[:, None, None]
    frame = top_left + x[..., None] * (top_right - top_left) + y[..., None] * (bottom_left - top_left)
    pose = np.array(camera.matrix_world.normalized())
    ends = frame @ pose[:3, :3].T + pose[:3, 3]
    if camera.data.type == "ORTHO":
        return np.stack([ends, np.broadcast_to(-pose[:3, 2], ends.shape)], 2)
    return np.stack([np.broadcast_to(pose[:3, 3], ends.shape), ends - pose[:3, 3]], 2)


@hookimpl
def blendtorch_register_annotators():
    return Truth


@hookimpl
def blendtorch_register_randomizers():
    return Shuffle
"""

SCRIPT = """
import bpy
import numpy as np
from blendtorch import btb
from blendtorch.core.testing import FakePublisher
args, remainder = btb.parse_blendtorch_args()
pub = btb.DataPublisher(args.btsockets["DATA"], args.btid)
scene = bpy.context.scene
shading = scene.display.shading
shading.light, shading.color_type, shading.show_cavity = "FLAT", "OBJECT", False
shading.show_object_outline = shading.show_shadows = False
scene.display.viewport_aa = "OFF"
scene.view_settings.view_transform, scene.world.color = "Standard", (0, 0, 0)
for name in ("Cube", "Light"):
    bpy.data.objects.remove(bpy.data.objects[name])

def made(name, color, category, **properties):
    obj = bpy.context.object
    obj.name, obj.color = name, color
    if category:
        obj["category_id"] = category
    for key, value in properties.items():
        setattr(obj, key, value)
    return obj

bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=2, radius=1.3)
made("Stone", (1, 0, 0, 1), 1)
bpy.ops.mesh.primitive_cube_add(size=2)
crate = made("Crate", (0, 1, 0, 1), 2)
bpy.ops.mesh.primitive_cylinder_add(vertices=12, radius=0.8, depth=2)
made("Lid", (0, 1, 0, 1), 0, parent=crate)
bpy.ops.mesh.primitive_torus_add(major_segments=14, minor_segments=6, major_radius=1.3, minor_radius=0.5)
made("Ring", (0, 0, 1, 1), 3)
bpy.ops.mesh.primitive_plane_add(size=2)
made("Wall", (1, 1, 1, 1), 0)  # gets no labels, and hides what is behind it
cart = bpy.data.objects.new("Cart", None)
scene.collection.objects.link(cart)
cart.scale = (2, 2, 2)
main = scene.camera
main.name = "Main"
rider = bpy.data.objects.new("Rider", bpy.data.cameras.new("Rider"))
scene.collection.objects.link(rider)
rider.parent, rider.scale = cart, (0.5, 3, 1.7)

class Publisher(FakePublisher):
    def publish_sample(self, sample, index):
        first = {{key: value for key, value in sample.items() if key not in ("Rider", "objects", "meta")}}
        for view in (first, sample["Rider"]):
            pub.publish(case=case, **view)

for seed, (case, kind, shift, near) in enumerate({cases!r}):
    scene["shift"], scene["near"] = shift, near
    for camera in (main, rider):
        camera.data.type, camera.data.clip_start = kind, 0.8
        camera.data.shift_x = camera.data.shift_y = 0
    btb.Pipeline(
        renderers=["workbench"],
        annotators=["camera", "boxes2d_loose", "boxes3d", "poses", {{"name": "keypoints", "source": "vertices"}},
                    {{"name": "keypoints", "as": "corners", "source": "box"}}, "truth"],
        randomizers=["shuffle"], cameras=["Main", "Rider"], resolution=(160, 120), plugins=[{plugin!r}], seed=seed, count=12,
    ).run(Publisher())
"""

CASES = [
    ("perspective", "PERSP", False, False),
    ("shifted", "PERSP", True, False),
    ("orthographic", "ORTHO", True, False),
    ("near", "PERSP", False, True),
    ("near orthographic", "ORTHO", False, True),
]
FAR = ["perspective", "shifted", "orthographic"]
CRATE, RING, STONE = range(3)  # rows: the objects by name


@pytest.fixture(scope="module")
def views(blender, tmp_path_factory):
    """12 random scenes of each case, through two cameras, from one Blender."""
    folder = tmp_path_factory.mktemp("views")
    (folder / "truth.py").write_text(textwrap.dedent(PLUGIN))
    script = folder / "views.blend.py"
    script.write_text(SCRIPT.format(cases=CASES, plugin=str(folder / "truth.py")))
    with btt.BlenderLauncher(scene="", script=script, named_sockets=["DATA"], blend_path=blender) as launcher:
        items = list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))
    found = {case: [item for item in items if item["case"] == case] for case, *_ in CASES}
    assert all(len(each) == 24 for each in found.values())
    return found


def hull_of(points):
    """The convex hull, counter-clockwise in mathematical axes (Andrew's monotone chain)."""
    points = sorted(map(tuple, points))

    def half(points):
        chain = []
        for point in points:
            while len(chain) > 1:
                (ax, ay), (bx, by) = np.subtract(chain[-1], chain[-2]), np.subtract(point, chain[-2])
                if ax * by - ay * bx > 0:
                    break
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return np.array(half(points) + half(points[::-1]))


def inside_by(hull, shape):
    """How far each pixel centre lies inside the hull, in pixels; negative outside."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    edges = np.roll(hull, -1, axis=0) - hull
    normals = np.stack([-edges[:, 1], edges[:, 0]], 1) / np.linalg.norm(edges, axis=1)[:, None]
    return np.min([(x - px) * nx + (y - py) * ny for (px, py), (nx, ny) in zip(hull, normals, strict=True)], axis=0)


def silhouettes(views, points_of):
    """Compare the hull of the stone's projected vertices with what is drawn of it, where the picture has all of it.

    Returns the largest error of a pixel at the edge, and the shift of the centre of mass, for each view.
    """
    edges, shifts = [], []
    for view in views:
        drawn, xy = view["truth"]["masks"][STONE], points_of(view)
        height, width = drawn.shape
        if not ((xy > 1) & (xy < (width - 1, height - 1))).all() or (view["keypoints"]["depth"][STONE, :42] < 0.8).any():
            continue
        inside = inside_by(hull_of(xy), drawn.shape)
        edges.append(np.abs(inside[drawn != (inside > 0)]).max(initial=0))
        y, x = np.mgrid[:height, :width]
        shifts.append([axis[inside > 0].mean() - axis[drawn].mean() for axis in (x, y)])
    assert len(edges) >= 15, "too few views show the stone whole to say anything"
    return np.array(edges), np.array(shifts)


def keypoints_of(view):
    return view["keypoints"]["xy"][STONE, :42]


def posed(view):
    """The stone's own vertices, carried by pose and scale."""
    pose, local = view["poses"], view["truth"]["local"][STONE, :42]
    points = geometry.transform(pose["camera_from_object"][STONE], local * pose["scale"][STONE])
    return geometry.project(points, view["camera"]["K"], view["case"] == "orthographic")[0]


@pytest.mark.parametrize("points_of", [keypoints_of, posed])
@pytest.mark.parametrize("case", FAR)
def test_keypoints_and_poses_agree_with_silhouettes(views, case, points_of):
    edges, shifts = silhouettes(views[case], points_of)
    assert edges.max() < 0.5
    assert np.median(edges) < 0.05
    assert (np.abs(shifts.mean(axis=0)) < 0.1).all()


def test_the_silhouettes_see_half_a_pixel(views):
    edges, shifts = silhouettes(views["perspective"], lambda view: keypoints_of(view) - 0.5)
    assert np.median(edges) > 0.3
    assert (shifts.mean(axis=0) < -0.3).all()


def boxes_against_masks(views, move=0.0):
    """For what the picture has all of: by how much the boxes exceed the drawn pixels on each side, shape (M, 4)."""
    found = []
    for view in views:
        loose = view["boxes2d_loose"]
        for row in np.flatnonzero(loose["valid"] & ~loose["truncated"]):
            drawn, box = drawn_box(view["truth"]["masks"][row]), loose["clipped"][row] + move
            found.append(np.concatenate([drawn[:2] - box[:2], box[2:] - drawn[2:]]))
    return np.array(found)


def drawn_box(mask):
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@pytest.mark.parametrize("case", [case for case, *_ in CASES])
def test_boxes_agree_with_masks(views, case):
    """A side lies at most half a pixel inside of the pixels drawn (their centres are covered), and at most one outside: a corner
    thinner than a pixel covers no centre."""
    exceeds = boxes_against_masks(views[case])
    assert len(exceeds) >= 5
    assert exceeds.min() > -0.51
    assert exceeds.max() < 1


def test_boxes_have_no_half_pixel_shift(views):
    everything = [view for case in FAR for view in views[case]]

    def shift(move):
        left, top, right, bottom = boxes_against_masks(everything, move).T
        return np.array([(right - left).mean(), (bottom - top).mean()]) / 2

    assert (np.abs(shift(0.0)) < 0.1).all()
    assert (np.abs(shift(0.5)) > 0.3).all()


@pytest.mark.parametrize("case", [case for case, *_ in CASES])
def test_boxes_are_those_of_the_polygons_cut_at_the_near_plane(views, case):
    """Within 0.01 px, or 1e-5 of the coordinates: points on the near plane can be far outside of the picture."""
    cut = 0
    for view in views[case]:
        loose, expected, masks = view["boxes2d_loose"], view["truth"]["boxes"], view["truth"]["masks"]
        valid = loose["valid"]
        np.testing.assert_allclose(loose["unclipped"][valid], expected[valid], rtol=1e-5, atol=0.01)
        np.testing.assert_allclose(loose["clipped"][valid], np.clip(expected[valid], 0, [160, 120] * 2), rtol=1e-5, atol=0.01)
        assert not masks[~valid].any(), "what is drawn has a box"
        depth = view["keypoints"]["depth"]
        crosses = (depth < 0.8).any(axis=1)
        border = (expected < 0).any(axis=1) | (expected > [160, 120] * 2).any(axis=1)
        np.testing.assert_array_equal(loose["truncated"], valid & (crosses | border))
        cut += (crosses & valid).sum()
        for mask, box in zip(masks, loose["clipped"], strict=True):
            if mask.any():
                drawn = drawn_box(mask)
                assert (box[:2] < drawn[:2] + 0.51).all()
                assert (box[2:] > drawn[2:] - 0.51).all()
    assert cut >= 10 or not case.startswith("near"), "too little crosses the near plane to say anything"


@pytest.mark.parametrize("case", [case for case, *_ in CASES])
def test_keypoints_are_where_blenders_matrices_put_them(views, case):
    for view in views[case]:
        xy, expected, depth = view["keypoints"]["xy"], view["truth"]["xy"], view["keypoints"]["depth"]
        np.testing.assert_array_equal(np.isnan(xy), np.isnan(expected))
        seen = depth > 0.1
        np.testing.assert_allclose(xy[seen], expected[seen], rtol=1e-5, atol=0.01)


@pytest.mark.parametrize("case", FAR)
def test_rays_of_pixels_meet_the_keypoints(views, case):
    """The ray through a keypoint's place in the picture passes within 0.01 pixels of its place in space."""
    for view in views[case]:
        keypoints, rays = view["keypoints"], view["truth"]["rays"]
        inside = keypoints["state"] > 0
        world = geometry.transform(np.linalg.inv(view["camera"]["camera_from_world"]), keypoints["xyz"][inside])
        x, y = (keypoints["xy"][inside] - 0.5).T
        # Rays are linear in the pixel: from the first pixel along rows and columns.
        first, right, down = rays[0, 0], rays[0, 1] - rays[0, 0], rays[1, 0] - rays[0, 0]
        start, direction = (first + x[:, None, None] * right + y[:, None, None] * down).swapaxes(0, 1)
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        miss = np.linalg.norm(np.cross(world - start, direction), axis=1)
        scale = view["camera"]["K"][0, 0] / (1 if case == "orthographic" else keypoints["depth"][inside])
        assert (miss * scale < 0.01).all()


@pytest.mark.parametrize("case", [case for case, *_ in CASES])
def test_states_agree_with_rays_of_another_kind(views, case):
    called = places = 0
    for view in views[case]:
        keypoints, hidden = view["keypoints"], view["truth"]["hidden"]
        xy, state, depth = keypoints["xy"], keypoints["state"], keypoints["depth"]
        inside = ((xy >= 0) & (xy < (160, 120))).all(axis=-1) & (depth >= 0.8)
        np.testing.assert_array_equal(state > 0, inside)
        clear = inside & (hidden >= 0)
        np.testing.assert_array_equal(state[clear], np.where(hidden[clear] == 1, 1, 2))
        called, places = called + clear.sum(), places + inside.sum()
    assert called > 0.95 * places


@pytest.mark.parametrize("case", FAR)
def test_where_a_keypoint_is_visible_its_object_is_drawn(views, case):
    """In the picture of all objects, in one of the 3 x 3 pixels around; but for 1 %, in slivers that cover no pixel's centre."""
    colors = {CRATE: (0, 1, 0), RING: (0, 0, 1), STONE: (1, 0, 0)}
    visible = missed = 0
    for view in views[case]:
        for row, color in colors.items():
            drawn = ((view["image"] > 127) == np.array(color, bool)).all(axis=-1)
            padded = np.pad(drawn, 1)
            around = np.any([padded[i : i + 120, j : j + 160] for i in range(3) for j in range(3)], axis=0)
            seen = view["keypoints"]["state"][row] == 2
            x, y = np.floor(view["keypoints"]["xy"][row][seen]).astype(int).T
            visible, missed = visible + len(x), missed + (~around[y, x]).sum()
    assert visible > 500
    assert missed < 0.01 * visible


@pytest.mark.parametrize("case", [case for case, *_ in CASES])
def test_poses_and_solid_boxes_enclose_the_vertices(views, case):
    """A vertex is where its pose puts it, and the box along the axes of its object touches the outermost ones. In scene units, 1e-4."""
    for view in views[case]:
        poses, boxes, keypoints = view["poses"], view["boxes3d"], view["keypoints"]
        for row in range(3):
            pose, scale = poses["camera_from_object"][row], poses["scale"][row]
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1, abs=1e-12)
            assert (scale > 0).all() or (scale < 0).all()
            local = view["truth"]["local"][row]
            local = local[~np.isnan(local[:, 0])]
            placed = geometry.transform(pose, local * scale)
            np.testing.assert_allclose(placed, keypoints["xyz"][row, : len(local)], atol=1e-4)
            points = keypoints["xyz"][row]
            points = points[~np.isnan(points[:, 0])]
            along = (points - boxes["center"][row]) @ boxes["rotation"][row]
            np.testing.assert_allclose(along.max(axis=0), boxes["size"][row] / 2, atol=1e-4)
            np.testing.assert_allclose(along.min(axis=0), -boxes["size"][row] / 2, atol=1e-4)
            np.testing.assert_allclose(boxes["size"][row], poses["size"][row], atol=1e-12)
            corners = (boxes["corners"][row] - boxes["center"][row]) @ boxes["rotation"][row]
            np.testing.assert_allclose(np.abs(corners), np.tile(boxes["size"][row] / 2, (8, 1)), atol=1e-9)
            np.testing.assert_allclose(view["corners"]["xyz"][row, :8], boxes["corners"][row], rtol=0, atol=1e-6)
        if case != "near":
            assert poses["valid"].all()
