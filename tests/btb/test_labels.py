"""Labels against pictures: the projected corners of a cube, and the silhouette that Blender draws of it.

The silhouette is judged pixel by pixel. A pixel is drawn where its centre lies inside the outline, and the outline of a
convex body is the convex hull of its projected corners. So every pixel that is drawn on one side of the hull's edge and
should be on the other lies within the tolerance of that edge, and the centre of mass of the drawn pixels is that of the
pixels whose centres the hull contains.

Tolerances: 0.5 px for each edge (and 0.05 px for the median over views), 0.1 px for the signed mean on each axis.
"""

import numpy as np
import pytest

pytestmark = pytest.mark.blender

SCRIPT = """
from blendtorch.core.geometry import Lens
scene, camera, cube = bpy.context.scene, bpy.context.scene.camera, bpy.data.objects["Cube"]
render, data = scene.render, scene.camera.data
render.engine, scene.display.viewport_aa = "BLENDER_WORKBENCH", "OFF"
scene.view_settings.view_transform = "Standard"
scene.display.shading.light, scene.display.shading.color_type = "FLAT", "MATERIAL"
scene.world.color = (0, 0, 0)
cube.active_material.diffuse_color = (1, 1, 1, 1)
render.resolution_x, render.resolution_y = 320, 240

parent = bpy.data.objects.new("Parent", None)
scene.collection.objects.link(parent)
if {scaled!r}:
    parent.location, parent.rotation_euler, parent.scale = (1, -2, 0.5), (0.3, 0.1, -0.4), (2, 2, 2)
    camera.parent, camera.scale = parent, (0.5, 3, 1.7)

def setup(rng):
    data.type = {kind!r}
    data.lens, data.ortho_scale = rng.uniform(25, 80), rng.uniform(7, 12)
    data.sensor_fit, data.sensor_width, data.sensor_height = {fit!r}, 36, 30
    data.shift_x, data.shift_y = rng.uniform(-0.2, 0.2, 2) if {shift!r} else (0, 0)
    render.pixel_aspect_x, render.pixel_aspect_y = {aspect!r}
    render.resolution_x, render.resolution_y, render.resolution_percentage = {resolution!r}
    cube.rotation_euler, cube.location = rng.uniform(-3, 3, 3), rng.uniform(-1, 1, 3)
    cube.scale = rng.uniform(0.3, 1.2, 3)

off = btb.OffScreenRenderer(mode="rgb")
rng = np.random.default_rng(args.btseed)
anim = btb.AnimationController()
anim.pre_frame.add(lambda: setup(rng))
anim.post_frame.add(lambda: pub.publish(
    image=off.render(),
    xy=btb.camera.project_points(cube, camera=camera),
    box=btb.Camera(camera).bbox_object_to_pixel(cube),
    low=btb.Camera(camera).world_to_pixel(btb.world_coordinates(cube), origin="lower-left")[0],
))
anim.play((1, 25), 1)
"""

# A camera far enough to see the cube whole, most of the time: the factory scene's.
CASES = {
    "perspective": {},
    "shift": {"shift": True},
    "portrait": {"resolution": (240, 320, 100)},
    "vertical-fit": {"fit": "VERTICAL", "shift": True},
    "horizontal-fit": {"fit": "HORIZONTAL", "resolution": (240, 320, 100), "shift": True},
    "pixel-aspect": {"aspect": (1.0, 1.6), "shift": True},
    "pixel-aspect-wide": {"aspect": (1.5, 1.0), "resolution": (240, 320, 100)},
    "percentage": {"resolution": (631, 477, 47)},
    "scaled-and-parented": {"scaled": True},
    "orthographic": {"kind": "ORTHO"},
    "orthographic-shift-aspect": {"kind": "ORTHO", "shift": True, "aspect": (1.0, 1.3), "fit": "VERTICAL"},
}
DEFAULTS = {
    "kind": "PERSP",
    "fit": "AUTO",
    "shift": False,
    "aspect": (1.0, 1.0),
    "resolution": (320, 240, 100),
    "scaled": False,
}


def hull_of(points):
    """The convex hull, counter-clockwise in mathematical axes (Andrew's monotone chain)."""
    points = sorted(map(tuple, points))

    def half(points):
        chain = []
        for point in points:
            while len(chain) > 1 and np.cross(np.subtract(chain[-1], chain[-2]), np.subtract(point, chain[-2])) <= 0:
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


def compare(items, shift=(0.0, 0.0)):
    """Edge errors per view in pixels, and signed shifts of the labels against the pictures."""
    edges, shifts = [], []
    for item in items:
        drawn = item["image"].min(axis=-1) > 127
        height, width = drawn.shape
        xy = item["xy"] + shift
        if not ((xy > 1) & (xy < (width - 1, height - 1))).all() or drawn.sum() < 200:
            continue
        inside = inside_by(hull_of(xy), drawn.shape)
        wrong = drawn != (inside > 0)
        edges.append(np.abs(inside[wrong]).max(initial=0))
        y, x = np.mgrid[:height, :width]
        shifts.append([np.mean(axis[inside > 0]) - np.mean(axis[drawn]) for axis in (x, y)])
    return np.array(edges), np.array(shifts)


@pytest.mark.parametrize("case", CASES)
def test_corners_agree_with_the_silhouette(items_of, case):
    items = items_of(SCRIPT.format(**{**DEFAULTS, **CASES[case]}), seed=list(CASES).index(case))
    edges, shifts = compare(items)
    assert len(edges) >= 8, "too few views show the whole cube to say anything"
    assert edges.max() < 0.5
    assert np.median(edges) < 0.05
    assert (np.abs(shifts.mean(axis=0)) < 0.1).all()
    for item in items:
        height = item["image"].shape[0]
        np.testing.assert_allclose(sorted(item["box"].tolist()), sorted(item["xy"].tolist()), atol=1e-3)
        np.testing.assert_allclose(item["low"], item["xy"] * (1, -1) + (0, height), atol=1e-9)


def test_this_comparison_sees_half_a_pixel(items_of):
    """The tolerances above mean something: labels that count from pixel centres would not pass."""
    items = items_of(SCRIPT.format(**DEFAULTS), seed=1)
    edges, shifts = compare(items, shift=(-0.5, -0.5))
    assert np.median(edges) > 0.3
    assert (shifts.mean(axis=0) < -0.3).all()


def test_projection_agrees_with_blenders_own_matrices(items_of):
    items = items_of(
        SCRIPT.format(**{**DEFAULTS, "shift": True, "aspect": (1.0, 1.5), "scaled": True}).replace(
            "anim.play",
            """
def matrices():
    view = btb.Camera(camera)
    world = btb.world_coordinates(cube)
    clip = np.column_stack([world, np.ones(8)]) @ np.array(view.proj_matrix @ view.view_matrix).T
    ndc, depth = view.world_to_ndc(world, return_depth=True)
    behind = camera.matrix_world.normalized().inverted() @ cube.matrix_world
    pub.publish(ours=ndc, blenders=clip[:, :3] / clip[:, 3:], depth=depth, w=clip[:, 3], pixels=view.ndc_to_pixel(ndc),
                projected=btb.camera.project_points(cube, camera=view))
anim.post_frame.slots.clear()
anim.post_frame.add(matrices)
anim.play""",
        )
    )
    assert len(items) == 25
    for item in items:
        np.testing.assert_allclose(item["ours"], item["blenders"], atol=2e-6)
        np.testing.assert_allclose(item["depth"], item["w"], rtol=1e-6)
        np.testing.assert_allclose(item["pixels"], item["projected"], atol=1e-9)


def test_modifiers_curves_and_animated_cameras_count(items_of):
    (item,) = items_of(
        """
cube, camera, scene = bpy.data.objects["Cube"], bpy.context.scene.camera, bpy.context.scene
array = cube.modifiers.new("Array", "ARRAY")
array.count = 3
bpy.ops.curve.primitive_bezier_circle_add()
circle = bpy.context.object
camera.keyframe_insert("location", frame=1)
camera.location.x += 3
camera.keyframe_insert("location", frame=2)
scene.frame_set(2)
empty = bpy.data.objects.new("Empty", None)
scene.collection.objects.link(empty)
try:
    btb.camera.project_points(empty)
except ValueError as error:
    refused = str(error)
camera.data.type = "PANO"
try:
    btb.camera.project_points(cube)
except ValueError as error:
    panoramic = str(error)
camera.data.type = "PERSP"
cube.location = (1, 2, 3)
pub.publish(
    cube=btb.object_coordinates(cube), both=btb.camera.project_points(cube, circle), circle=btb.world_coordinates(circle),
    box=btb.bbox_world_coordinates(cube), eye=-btb.Camera().camera_from_world()[:3, :3].T @ btb.Camera().camera_from_world()[:3, 3],
    wanted=camera.location, world=btb.world_coordinates(cube), refused=refused, panoramic=panoramic,
    seen=btb.utils.compute_object_visibility(cube, btb.Camera()),
)
"""
    )
    assert item["cube"].shape == (24, 3)
    assert len(item["both"]) == 24 + len(item["circle"])
    assert len(item["circle"]) > 8
    np.testing.assert_allclose(item["eye"], item["wanted"], atol=1e-6)
    np.testing.assert_allclose(item["world"], item["cube"] + (1, 2, 3), atol=1e-6)  # set just now: no stale matrix
    np.testing.assert_allclose(item["box"].max(axis=0), item["world"].max(axis=0), atol=1e-6)
    assert "has no vertices" in item["refused"]
    assert "is of type PANO" in item["panoramic"]
    assert 0 < item["seen"] <= 1


def test_look_at(items_of):
    (item,) = items_of(
        """
camera = btb.Camera()
camera.look_at(look_at=(1, 2, 3), look_from=(7, -6, 5))
xy, depth = camera.world_to_pixel([(1, 2, 3), (1, 2, 4)])
pub.publish(xy=xy, depth=depth, shape=camera.shape, type=camera.type, clip=camera.clip_range)
"""
    )
    height, width = item["shape"]
    np.testing.assert_allclose(item["xy"][0], (width / 2, height / 2), atol=1e-2)
    assert item["xy"][1, 1] < item["xy"][0, 1]
    assert item["depth"][0] == pytest.approx(np.linalg.norm([6, -8, 2]), rel=1e-6)
    assert item["type"] == "PERSP"
