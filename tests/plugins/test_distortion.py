"""Lens distortion in pictures and in every label, against OpenCV's formula written out here, and Blender's own matrices.

- bright balls: where the middle of their light is, in a picture of Cycles 0.25 px for each (without a lens, too: its noise), 0.05 px on
  average and 1 % of what the lens moves; of Workbench 0.15 px on average: with 32 samples its pictures are 0.1 px too high, without
  a lens, too; where keypoints say that they are, 0.01 px
- a slanted plane: what rays meet that were undistorted here (by OpenCV's iteration) and cut with the plane by hand; depth,
  distance and position 0.005 %, normals 0.1 degrees, texture and object coordinates 0.0001, flow 0.02 px; passes of Cycles, which
  are of the nearest pixel of the pinhole camera, as much as they change over a pixel
- random scenes: loose boxes and silhouettes 1.5 px, tight boxes and the pixels of ids equal, ids and pictures 0.5 % of the pixels
"""

import numpy as np
import pytest

pytestmark = pytest.mark.blender

LENSES = {
    "none": {},
    "barrel": {"k1": -0.32, "k2": 0.12, "p1": 0.004, "p2": -0.003, "k3": -0.01},
    "pincushion": {"k1": 0.3, "k2": 0.1, "p1": -0.002, "p2": 0.005},
}

HEAD = (
    f"""
from mathutils import Matrix, Vector
from blendtorch.core.errors import BlendtorchError
from blendtorch.core.testing import FakePublisher

LENSES = {LENSES!r}
CYCLES = {{"name": "cycles", "device": "cpu", "samples": 64}}
"""
    """
def fresh():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(scene.camera)
    scene.camera.matrix_world = Matrix.Translation((0, -9, 0)) @ Matrix.Rotation(np.pi / 2, 4, "X")
    scene.camera.data.lens = 24
    shading = scene.display.shading
    shading.light, shading.color_type = "FLAT", "OBJECT"
    shading.show_cavity = shading.show_object_outline = shading.show_shadows = shading.show_specular_highlight = False
    scene.world = bpy.data.worlds.new("World")
    scene.world.color, scene.view_settings.view_transform = (0, 0, 0), "Raw"
    return scene

def add(kind, name="", **where):
    getattr(bpy.ops.mesh, f"primitive_{kind}_add")(**where)
    bpy.context.object.name = name or kind
    return bpy.context.object

def run(annotators, renderers=("workbench",), size=(160, 120), **fields):
    taken = FakePublisher()
    btb.Pipeline(renderers=list(renderers), annotators=annotators, resolution=size, notify=lambda text: None,
                 announce=lambda text: None, **{"count": 1, **fields}).run(taken)
    return taken

def matrices(camera, size):
    "Into normalised coordinates: the camera's frame and its clip space, by Blender."
    graph = bpy.context.evaluated_depsgraph_get()
    evaluated = camera.evaluated_get(graph)
    render = bpy.context.scene.render
    return {
        "camera_from_world": np.diag([1, -1, -1, 1]) @ np.array(evaluated.matrix_world.normalized().inverted()),
        "clip_from_camera": np.array(evaluated.calc_matrix_camera(graph, x=size[0], y=size[1], scale_x=render.pixel_aspect_x,
                                                                  scale_y=render.pixel_aspect_y)) @ np.diag([1, -1, -1, 1]),
    }
"""
)


def opencv(xy, k1=0.0, k2=0.0, p1=0.0, p2=0.0, k3=0.0):
    """Distort as OpenCV's documentation says."""
    x, y = xy[..., 0], xy[..., 1]
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y], -1
    )


def opencv_undone(xy, **lens):
    """Undistort by the iteration of `cv2.undistortPoints`, many times."""
    found = xy
    for _ in range(300):
        found = found + 0.7 * (xy - opencv(found, **lens))
    return found


class Camera:
    """Blender's matrices of a camera, and a lens before it."""

    def __init__(self, item, lens, size):
        self.camera_from_world = item["camera_from_world"]
        self.lens = lens
        clip, (width, height) = item["clip_from_camera"], size
        # clip = (a x + b z, c y + d z, ..., z), and pixels are ((1 + x) width, (1 - y) height) / 2.
        assert np.allclose(clip[3], [0, 0, 1, 0])
        self.scale = np.array([clip[0, 0] * width / 2, -clip[1, 1] * height / 2])
        self.center = np.array([(1 + clip[0, 2]) * width / 2, (1 - clip[1, 2]) * height / 2])
        self.size = size

    def to_camera(self, world):
        return (np.append(world, np.ones((*world.shape[:-1], 1)), -1) @ self.camera_from_world.T)[..., :3]

    def project(self, world):
        return self.project_from_camera(self.to_camera(world))

    def project_from_camera(self, seen):
        return opencv(seen[..., :2] / seen[..., 2:3], **self.lens) * self.scale + self.center

    def rays(self):
        """Rays of the centres of pixels in the camera frame, at depth 1: shape (height, width, 3)."""
        x, y = np.meshgrid(np.arange(self.size[0]) + 0.5, np.arange(self.size[1]) + 0.5)
        plane = opencv_undone((np.stack([x, y], -1) - self.center) / self.scale, **self.lens)
        return np.append(plane, np.ones((*plane.shape[:-1], 1)), -1)


def outlines(centers, radius):
    """Where the rays that touch balls do so, in the camera frame: shape (N, 200, 3)."""
    away = np.linalg.norm(centers, axis=-1, keepdims=True)
    axis = centers / away
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)[:, None]
    turned = np.cos(angle) * side[:, None] + np.sin(angle) * np.cross(axis, side)[:, None]
    return (
        centers[:, None] * (1 - (radius / away) ** 2)[:, None] + turned * (radius * np.sqrt(1 - (radius / away) ** 2))[:, None]
    )


def centroids(polygons):
    """Of areas, shape (N, 2), by the corners of polygons, shape (N, C, 2)."""
    middle = polygons.mean(axis=1, keepdims=True)
    one, two = polygons - middle, np.roll(polygons, -1, axis=1) - middle
    area = one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]
    return middle[:, 0] + ((one + two) * area[..., None]).sum(axis=1) / (3 * area.sum(axis=1, keepdims=True))


BALLS = """
SIZE = (240, 180)
for lens in ("barrel", "pincushion", "none"):
    scene = fresh()
    scene.render.pixel_aspect_x, scene.camera.data.shift_x, scene.camera.data.shift_y = 1.2, 0.06, -0.04
    scene.camera.matrix_world = scene.camera.matrix_world @ Matrix.Rotation(0.3, 4, "Z") @ Matrix.Rotation(0.1, 4, "X")
    scene.camera.scale = (1, 2, 1)
    light = bpy.data.materials.new("Light")
    light.use_nodes = True
    nodes = light.node_tree.nodes
    nodes.clear()
    light.node_tree.links.new(nodes.new("ShaderNodeEmission").outputs[0], nodes.new("ShaderNodeOutputMaterial").inputs[0])
    nodes["Emission"].inputs["Color"].default_value = (1, 1, 1, 1)
    places = [(x, y, z) for x in np.linspace(-5.2, 4, 5) for z in np.linspace(-3.2, 3.6, 5) for y in [0.3 * x]]
    mesh = None
    for number, place in enumerate(places):
        ball = add("ico_sphere", f"Ball{number:02}", subdivisions=3, radius=0.25, location=place)
        mesh = mesh or ball.data
        ball.data, ball.color = mesh, (1, 1, 1, 1)
    mesh.materials.append(light)
    bpy.context.view_layer.update()
    before = [scene.camera.data.sensor_width, scene.camera.data.shift_x, scene.camera.data.sensor_fit]
    labels = ["instance_ids", "boxes2d_tight", {"name": "keypoints", "source": "box"}, "boxes2d_loose", "camera"]
    (sample,) = run(labels, [{"name": "workbench", "antialiasing": "32"}, CYCLES], SIZE, distortion=LENSES[lens])
    after = [scene.camera.data.sensor_width, scene.camera.data.shift_x, scene.camera.data.sensor_fit]
    assert (before, tuple(SIZE)) == (after, (scene.render.resolution_x, scene.render.resolution_y))
    pub.publish(lens=lens, places=np.array(places), workbench=sample["image"], cycles=sample["cycles"]["image"],
                **matrices(scene.camera, SIZE), **{each if isinstance(each, str) else each["name"]: sample[each if isinstance(each, str) else each["name"]] for each in labels})
"""


def test_light_is_where_the_formula_puts_it(items_of):
    items = items_of(HEAD + BALLS)
    assert len(items) == 3
    for item in items:
        size, lens = (240, 180), LENSES[item["lens"]]
        camera = Camera(item, lens, size)
        expected = camera.project(item["places"])
        straight = Camera(item, {}, size).project(item["places"])
        seen = ((expected > 12) & (expected < np.array(size) - 12)).all(axis=1)
        assert seen.sum() >= 15
        assert (np.linalg.norm(expected - straight, axis=1)[seen].max() > 5) == bool(lens)
        keypoints = item["keypoints"]
        assert np.abs(keypoints["xy"][:, 8] - expected).max() < 0.01
        lights = centroids(camera.project_from_camera(outlines(camera.to_camera(item["places"]), 0.25)))
        columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
        ids = item["instance_ids"]["instance_ids"]
        for renderer, tolerance in (("workbench", 0.15), ("cycles", 0.05)):
            picture = item[renderer].astype(float).mean(axis=-1)
            assert np.count_nonzero((picture > 127) != (ids > 0)) <= 0.005 * ids.size
            errors = []
            for row in np.flatnonzero(seen):
                window = (np.abs(columns - expected[row, 0]) < 11) & (np.abs(rows - expected[row, 1]) < 11)
                weight = np.where(window, picture, 0)
                found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                errors.append(found - lights[row])
            assert np.abs(errors).max() < 0.25
            assert np.abs(np.mean(errors, axis=0)).max() < tolerance, np.mean(errors, axis=0)
            if lens:  # as a part of what the lens moves
                moved = (expected - straight)[seen]
                assert abs((errors * moved).sum() / (moved**2).sum()) < 0.01
        for row in np.flatnonzero(seen):
            y, x = np.nonzero(ids == row + 1)
            assert item["boxes2d_tight"]["xyxy"][row].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            # The loose box has the pixels whose centres it encloses.
            assert np.abs(item["boxes2d_loose"]["clipped"][row] - item["boxes2d_tight"]["xyxy"][row]).max() < 1
        assert item["camera"]["distortion"].tolist() == [lens.get(name, 0) for name in ("k1", "k2", "p1", "p2", "k3")]
        K = item["camera"]["K"]
        assert np.allclose([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], [*camera.scale, *camera.center], atol=1e-3)


PLANE = """
SIZE = (160, 120)
scene = fresh()
scene.frame_start, scene.frame_end = 1, 2
plane = add("plane", "Plane", size=60, rotation=(1.1, 0.2, 0.1), location=(0, 3, 0))
# A camera that moves and zooms.
for frame, place, lens in ((1, (0, -9, 0), 26), (2, (0.3, -8.8, 0.1), 27)):
    scene.camera.location, scene.camera.data.lens = place, lens
    scene.camera.keyframe_insert("location", frame=frame)
    scene.camera.data.keyframe_insert("lens", frame=frame)
for lens in ("barrel", "pincushion"):
    labels = ["depth", "distance", "position", {"name": "normals", "frame": "world"}, "uv", "object_coordinates", "flow", "camera"]
    passes = {"name": "cycles", "device": "cpu", "passes": ["depth", "position"]}
    samples = run(labels, ["workbench", passes], SIZE, distortion=LENSES[lens], frames_per_episode=2, count=2)
    frames = []
    for frame, sample in zip((1, 2), samples):
        scene.frame_set(frame)
        frames.append({**matrices(scene.camera, SIZE), **{name: sample[name] for name in sample if name not in ("meta", "objects")}})
    pub.publish(lens=lens, frames=frames, plane=np.array(plane.matrix_world))
"""


def test_labels_of_pixels_are_those_of_their_rays(items_of):
    items = items_of(HEAD + PLANE)
    assert len(items) == 2
    size = (160, 120)
    for item in items:
        world_from_plane = item["plane"]
        normal, origin = world_from_plane[:3, 2], world_from_plane[:3, 3]
        cameras = [Camera(frame, LENSES[item["lens"]], size) for frame in item["frames"]]
        points = []
        for frame, camera in zip(item["frames"], cameras, strict=True):
            world_from_camera = np.linalg.inv(camera.camera_from_world)
            rays = camera.rays()
            ways, eye = rays @ world_from_camera[:3, :3].T, world_from_camera[:3, 3]
            depth = (origin - eye) @ normal / (ways @ normal)
            place = eye + depth[..., None] * ways
            local = np.append(place, np.ones((*depth.shape, 1)), -1) @ np.linalg.inv(world_from_plane).T
            inside = (np.abs(local[..., :2]) < 29.5).all(axis=-1) & (depth > 0.2) & (depth < 90)
            assert inside.mean() > 0.9
            points.append((place, inside))
            given = {
                name: frame[name][name][inside]
                for name in ("depth", "distance", "position", "normals", "uv", "object_coordinates")
            }
            assert np.abs(given["depth"] / depth[inside] - 1).max() < 5e-5
            distance = np.linalg.norm(place - eye, axis=-1)[inside]
            assert np.abs(given["distance"] / distance - 1).max() < 5e-5
            assert (np.linalg.norm(given["position"] - place[inside], axis=-1) / distance).max() < 5e-5
            assert np.abs(np.abs(given["normals"] @ normal) - 1).max() < 1e-6
            assert np.abs(given["uv"] - (local[inside][:, :2] / 60 + 0.5)).max() < 1e-4
            expected = 0.5 + local[inside][:, :3] / (60 * np.sqrt(2))
            assert np.abs(given["object_coordinates"] - expected).max() < 1e-4
            # Cycles' passes: of a place that is at most 0.71 pixels of the pinhole camera away.
            steepest = np.maximum(*np.abs(np.gradient(depth)))
            far_off = np.abs(frame["cycles"]["depth"] - depth)[inside]
            assert (far_off <= 1.2 * steepest[inside] + 1e-4 * depth[inside]).all()
            assert far_off.max() > 1e-3
        flow, left = item["frames"][1]["flow"], 0
        for direction, this, other in (("backward", 1, 0), ("forward", 0, 1)):
            place, inside = points[this]
            centers = np.stack(np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5), -1)
            target = cameras[other].project(place)
            assert np.abs(flow[direction] - (target - centers))[inside].max() < 0.02, direction
            outside = ((target < 0) | (target > size)).any(axis=-1)
            clear = inside & (np.minimum(np.abs(target), np.abs(target - size)) > 0.1).all(axis=-1)
            assert (flow[f"{direction}_occluded"] == outside)[clear].all()
            left += (outside & clear).sum()
        assert left > 20  # the camera zooms in


RANDOM = """
SIZE = (200, 150)
for seed in range(4):
    scene, rng = fresh(), np.random.default_rng(seed)
    for number in range(5):
        obj = add(("monkey", "cube", "torus", "cube", "cone")[number], f"Thing{number}", location=rng.uniform(-3.5, 3.5, 3), rotation=rng.uniform(-3, 3, 3))
        obj.scale = rng.uniform(0.5, 2, 3) * rng.choice([-1, 1], 3)
        obj.color = (number / 5, 1 - number / 5, 1, 1)
    if seed == 3:  # the camera stands among them
        scene.camera.matrix_world.translation *= 0.2
        scene.camera.data.clip_start = 0.5
    bpy.context.view_layer.update()
    labels = ["visibility", "masks_amodal", "boxes2d_tight", "boxes2d_amodal", "instance_ids", "boxes2d_loose", "depth"]
    lens = ("barrel", "pincushion")[seed % 2]
    (sample,) = run(labels, [{"name": "workbench", "antialiasing": "off"}], SIZE, distortion=LENSES[lens])
    pub.publish(image=sample["image"], **{label: sample[label] for label in labels})
    if seed == 0:  # what was lent is given back: a run without a lens is as before
        (one,), (two,) = run(["instance_ids", "depth"], size=SIZE), run(["instance_ids", "depth"], size=SIZE, distortion={})
        assert (one["depth"]["depth"] == two["depth"]["depth"]).all()
        assert one["depth"]["depth"].shape == (150, 200)
"""


def test_boxes_and_silhouettes_fit_each_other_and_the_picture(items_of):
    items = items_of(HEAD + RANDOM)
    assert len(items) == 4
    whole = 0
    for item in items:
        visibility, masks, ids = item["visibility"], item["masks_amodal"]["masks"], item["instance_ids"]["instance_ids"]
        assert np.count_nonzero((item["image"].max(axis=-1) > 127) != (ids > 0)) <= 0.005 * ids.size
        assert (np.isfinite(item["depth"]["depth"]) == (ids > 0)).all()
        amodal, loose = item["boxes2d_amodal"], item["boxes2d_loose"]
        for row in range(5):
            assert masks[row][ids == row + 1].all()
            assert visibility["visible"][row] == (ids == row + 1).sum()
            assert visibility["amodal"][row] == masks[row].sum()
            for name, mask in (("boxes2d_tight", ids == row + 1), ("boxes2d_amodal", masks[row])):
                box, valid = item[name]["xyxy"][row], item[name]["valid"][row]
                assert valid == mask.any() == np.isfinite(box).all()
                if valid:
                    y, x = np.nonzero(mask)
                    assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        seen = amodal["valid"] & loose["valid"]
        assert (amodal["truncated"] == loose["truncated"])[seen].all()
        inside = ~loose["truncated"] & seen
        whole += inside.sum()
        assert np.abs(amodal["xyxy"] - loose["clipped"])[inside].max(initial=0) < 1.5
        # Cut by the border or the near plane: never smaller than what is seen.
        assert (loose["clipped"][seen, :2] <= amodal["xyxy"][seen, :2] + 1).all()
        assert (loose["clipped"][seen, 2:] >= amodal["xyxy"][seen, 2:] - 1).all()
    assert whole >= 6


def test_what_a_distortion_cannot_be_is_refused_before_the_first_frame(items_of):
    (item,) = items_of(
        HEAD
        + """
def error_of(change, **lens):
    scene = fresh()
    add("cube")
    change(scene)
    try:
        run(["depth"], distortion={"k1": -0.3, **lens})
    except BlendtorchError as error:
        return f"{type(error).__name__}: {error}"

def orthographic(scene):
    scene.camera.data.type = "ORTHO"

def shifted(scene):
    scene.camera.data.keyframe_insert("shift_x", frame=1)

def wide(scene):
    scene.camera.data.lens = 12

pub.publish(errors=[error_of(orthographic), error_of(shifted), error_of(wide), error_of(lambda scene: None, k4=1)])
"""
    )
    texts = [
        "CameraError: camera 'Camera' is orthographic, and `distortion` is that of a perspective lens",
        "SceneError: `distortion` needs a camera whose sensor and shift can be set for each picture, and an F-curve sets shift_x",
        "the model gives",
        "ConfigurationError: wrong configuration: Object contains unknown field `k4` - at `$.distortion`",
    ]
    assert all(text in error for text, error in zip(texts, item["errors"], strict=True)), item["errors"]
