"""The renderer `cycles`: its pictures against F12's, its passes against ray casts, against Workbench, and against each other."""

import numpy as np
import pytest
from blendtorch.core.configuration import read_options
from blendtorch.core.errors import BlendtorchError, ConfigurationError
from blendtorch_cycles import Cycles
from matplotlib.image import imread

# Three objects of interest on a floor that is none: flat and round, in front of each other, cut by the border of the picture.
SCENE = """
from blendtorch.btb import blender
from blendtorch.core import Moment, ObjectOfInterest, SetupContext
from blendtorch_cycles import Cycles, CyclesOptions, doors
from blendtorch.core.testing import FakePublisher

scene, camera = bpy.context.scene, bpy.context.scene.camera
render = scene.render
cube = bpy.data.objects["Cube"]
cube.location, cube.rotation_euler = (0.7, 0, 0), (0.3, 0.2, 0.5)
bpy.ops.mesh.primitive_plane_add(size=12, location=(0, 0, -1.5))
bpy.context.object.pass_index = 77
bpy.ops.mesh.primitive_uv_sphere_add(segments=64, ring_count=32, location=(-1.5, -1, 0.2))
sphere = bpy.context.object
bpy.ops.mesh.primitive_cone_add(location=(0, 3, 0), rotation=(1, 0, 0))
objects = tuple(ObjectOfInterest(n, o.name, 1, "thing", o, (o,)) for n, o in enumerate((cube, sphere, bpy.context.object), 1))
render.resolution_x, render.resolution_y, render.resolution_percentage = 96, 72, 100
notes = []

def renderer(transparent=False, **options):
    made = Cycles(CyclesOptions(**options))
    made.transparent = transparent
    made.setup(SetupContext(scene=scene, seed=7, notify=notes.append))
    return made

def shoot(cycles, view=None, index=0):
    return dict(cycles.render(Moment(scene, index, 0, index, objects), view or blender.view(scene.camera)))
"""

GEOMETRY = ("depth", "normals", "position", "uv", "instance_ids")


@pytest.mark.blender
def test_the_image_is_what_f12_saves(items_of, tmp_path):
    """Under every view transform, within one level; dithering is part of it."""
    items = items_of(
        SCENE
        + f"""
scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = False, False
shader = cube.active_material.node_tree.nodes["Principled BSDF"]
shader.inputs["Base Color"].default_value = (0.9, 0.1, 0.02, 1)
looks = {{"AgX": "AgX - High Contrast", "Filmic": "High Contrast", "Standard": "None"}}
cases = [("Standard", False), ("Standard", True), ("AgX", False), ("Filmic", False), ("Filmic", True)]
for number, (transform, transparent) in enumerate(cases):
    render.film_transparent = number == 3  # the file's film; without an alpha channel F12 saves what that leaves
    try:
        scene.view_settings.view_transform = transform
    except TypeError:
        continue  # 3.4 has no AgX
    for look in (looks[transform], "Filmic - " + looks[transform]):
        try:
            scene.view_settings.look = look
        except TypeError:
            pass  # its name in another version
    scene.view_settings.exposure, scene.view_settings.gamma = 0.3 * number, 1 + 0.1 * number
    seeds = []
    remember = lambda scene, *_: seeds.append(scene.cycles.seed)
    bpy.app.handlers.render_pre.append(remember)
    cycles = renderer(transparent, samples=4)
    image = shoot(cycles, index=number)["image"]
    cycles.close()
    bpy.app.handlers.render_pre.remove(remember)

    before = scene.cycles.samples, scene.cycles.seed, render.film_transparent, render.engine
    film = render.film_transparent or transparent
    scene.cycles.samples, scene.cycles.seed, render.film_transparent, render.engine = 4, seeds[0], film, "CYCLES"
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGBA" if transparent else "RGB"
    render.filepath = {str(tmp_path)!r} + f"/{{number}}.png"
    bpy.ops.render.render(write_still=True)
    scene.cycles.samples, scene.cycles.seed, render.film_transparent, render.engine = before
    pub.publish(image=image, png=render.filepath, case=f"{{transform}} {{scene.view_settings.look}} {{transparent}}")
"""
    )
    assert len(items) in (4, 5)
    for item in items:
        saved = np.rint(imread(item["png"]) * 255).astype(int)
        assert item["image"].shape == saved.shape == (72, 96, 4 if "True" in item["case"] else 3), item["case"]
        assert np.ptp(item["image"]) > 50
        assert np.abs(item["image"][..., 0].astype(int) - item["image"][..., 2]).max() > 50, "red is not blue"
        difference = np.abs(item["image"].astype(int) - saved)
        assert difference.max() <= 1, (item["case"], difference.max())
        if item["image"].shape[2] == 4:
            alpha = item["image"][..., 3]
            assert (alpha == 0).mean() > 0.02
            assert (alpha == 255).mean() > 0.2


# The scene's camera: perspective; with shift; orthographic; an odd size by the percentage; oblong pixels; out of focus.
VIEWS = """
def views():
    data = camera.data
    for case in ("perspective", "shift", "orthographic", "percentage", "pixel-aspect", "focus"):
        data.type, data.ortho_scale = "ORTHO" if case == "orthographic" else "PERSP", 8
        data.shift_x, data.shift_y = (0.12, -0.07) if case in ("shift", "orthographic") else (0, 0)
        render.resolution_x, render.resolution_y = (631, 477) if case == "percentage" else (160, 120)
        render.resolution_percentage = 23 if case == "percentage" else 100
        render.pixel_aspect_x = 1.6 if case == "pixel-aspect" else 1
        data.dof.use_dof, data.dof.focus_distance, data.dof.aperture_fstop = case == "focus", 1, 0.1
        yield case
"""


@pytest.mark.blender
def test_geometry_agrees_with_ray_casts(items_of):
    """Through the centres of 1500 pixels per view, away from edges: within 1e-5 of the depth, with every kind of camera.

    An edge is where, among a pixel and its 8 neighbours, ids differ or depths by more than 30 %.
    """
    items = items_of(
        SCENE
        + VIEWS
        + f"""
cycles = renderer(passes={GEOMETRY})
for case in views():
    view = blender.view(camera)
    passes = shoot(cycles, view)
    rng = np.random.default_rng(1)
    height, width = view.shape
    pixels = np.column_stack([rng.integers(1, width - 1, 1500), rng.integers(1, height - 1, 1500)])
    world_from_camera = np.linalg.inv(view.camera_from_world)
    rows = []
    for x, y in pixels:
        point = np.linalg.inv(view.K) @ (x + 0.5, y + 0.5, 1)
        begin, along = ((*point[:2], 0), (0, 0, 1)) if view.orthographic else ((0, 0, 0), point)
        begin = world_from_camera[:3, :3] @ begin + world_from_camera[:3, 3]
        hit, place, normal, _, obj, _ = scene.ray_cast(blender.depsgraph(), begin, world_from_camera[:3, :3] @ along)
        identity = next((each.id for each in objects if obj and each.name == obj.name), 0)
        z = (view.camera_from_world @ (*place, 1))[2] if hit else np.inf
        rows.append([z, *place, *normal, identity])
    pub.publish(case=case, pixels=pixels, rays=np.array(rows, np.float64), index=bpy.data.objects["Plane"].pass_index, **passes)
"""
    )
    assert len(items) == 6
    for item in items:
        x, y = item["pixels"].T
        rays, depth, ids = item["rays"], item["depth"], item["instance_ids"]
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        near = np.stack([depth[place] for place in around])
        same = np.stack([ids[place] for place in around])
        inner = np.isfinite(near).all(0) & (np.ptp(same, axis=0) == 0)
        inner &= np.where(np.isfinite(near), near, 1e9).max(0) < 1.3 * near.min(0)
        outer = ~np.isfinite(near).any(0)
        assert inner.sum() > 500, item["case"]
        assert set(ids[y, x][inner]) == {0, 1, 2, 3}
        x, y, rays_outside = x[inner], y[inner], rays[outer]
        rays = rays[inner]
        assert (np.abs(depth[y, x] / rays[:, 0] - 1) < 1e-5).all(), item["case"]
        assert (np.abs(item["position"][y, x] - rays[:, 1:4]) < 2e-4).all()
        # Every object is shaded flat here; 1 % may lie so near an edge between two faces that the other one was hit.
        assert np.quantile(np.linalg.norm(item["normals"][y, x] - rays[:, 4:7], axis=1), 0.99) < 1e-3
        assert (ids[y, x] == rays[:, 7]).all()
        assert np.isinf(rays_outside[:, 0]).all()
        # The background.
        assert np.isnan(item["position"][np.isinf(depth)]).all()
        assert (item["normals"][np.isinf(depth)] == 0).all()
        assert (ids[np.isinf(depth)] == 0).all()
        assert item["uv"].min() >= 0
        assert item["uv"].max() <= 1
        assert item["uv"].std() > 0.1
        assert item["index"] == 77, "the index of an object is set back"


@pytest.mark.blender
def test_what_goes_through_a_file_equals_what_is_read_in_memory(items_of):
    items = items_of(
        SCENE
        + f"""
for transparent in (False, True):
    options = dict(passes=("linear", *{GEOMETRY}), samples=2)
    in_memory = renderer(transparent, **options)
    before = len(notes)
    works = doors.works_in_memory
    doors.works_in_memory = lambda: False
    by_file = renderer(transparent, **options)
    doors.works_in_memory = works
    pub.publish(memory=shoot(in_memory), file=shoot(by_file), says=notes[before:], said=notes[:before], version=bpy.app.version[:2])
    notes.clear()
"""
    )
    for item, channels in zip(items, (3, 4), strict=True):
        refusal = "this Blender does not hand out passes in memory, they go through OpenEXR"
        assert item["says"] == [refusal]
        assert item["said"] == ([refusal] if tuple(item["version"]) < (4, 2) else [])
        assert item["memory"]["linear"].shape == (72, 96, channels)
        for name, array in item["memory"].items():
            other = item["file"][name]
            assert array.dtype == other.dtype
            np.testing.assert_allclose(array, other, rtol=0, atol=1e-6, err_msg=name)
            assert np.std(array, where=np.isfinite(array)) > 0


def edge(mask):
    """Pixels with a neighbour, of the 8, on the other side."""
    padded = np.pad(mask, 1, mode="edge")
    height, width = mask.shape
    around = np.stack([padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)])
    return around.any(0) & ~around.all(0)


@pytest.mark.blender
def test_a_picture_of_workbench_agrees_with_passes_of_cycles(items_of):
    """In one run: where Workbench without anti-aliasing draws, depth is finite, and nowhere else.

    At least 99.95 % of the pixels are equal, and all others lie on an edge of the silhouette. (Here, on 3.4 to 5.2, all are.)
    """
    items = items_of(
        SCENE
        + VIEWS
        + """
bpy.data.objects.remove(bpy.data.objects["Plane"])
scene.display.shading.light, scene.display.shading.color_type = "FLAT", "SINGLE"
scene.display.shading.single_color, scene.world.color = (1, 1, 1), (0, 0, 0)
scene.view_settings.view_transform = "Standard"
samples = FakePublisher()
for case in views():
    renderers = [{"name": "workbench", "antialiasing": "off"}, {"name": "cycles", "passes": ["depth", "instance_ids"]}]
    btb.Pipeline(renderers=renderers[:: -1 if case == "shift" else 1], count=2).run(samples)
    for sample in samples[-2:]:
        flat = {**sample, **sample.get("cycles", {}), **sample.get("workbench", {})}
        pub.publish(case=case, image=flat["image"], depth=flat["depth"], ids=flat["instance_ids"])
"""
    )
    assert len(items) == 12
    for item in items:
        drawn, hit = item["image"].min(axis=-1) > 127, np.isfinite(item["depth"])
        assert 0.05 < drawn.mean() < 0.95, item["case"]
        different = drawn != hit
        assert different.mean() <= 0.0005, item["case"]
        assert not (different & ~edge(drawn)).any(), item["case"]
        assert (drawn != np.roll(hit, 1, axis=1)).mean() > 0.005, "this comparison sees one pixel"
        assert ((item["ids"] > 0) == hit).all()


@pytest.mark.blender
def test_it_leaves_the_scene_as_it_was(items_of):
    """Several cameras, a camera at a marker of the timeline, physics that has begun, and every setting it has changed."""
    (item,) = items_of(
        SCENE
        + """
other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
scene.collection.objects.link(other)
other.location = (0, 0, 9)
scene.timeline_markers.new("cut", frame=1).camera = camera
bpy.ops.rigidbody.world_add()
bpy.context.view_layer.objects.active = sphere
bpy.ops.rigidbody.object_add()
render.engine, render.use_border, render.film_transparent = "BLENDER_WORKBENCH", True, True
for frame in range(1, 11):
    scene.frame_set(frame)

def state():
    owners = [render, render.image_settings, scene.cycles, scene.view_settings, bpy.context.view_layer, camera.data.dof]
    found = {}
    for number, owner in enumerate(owners):
        for name in owner.bl_rna.properties.keys():
            value = getattr(owner, name)
            if isinstance(value, (bool, int, float, str)):
                found[f"{number}.{name}"] = value
    return dict(
        found, camera=scene.camera.name, frame=scene.frame_current, marker=scene.timeline_markers[0].camera.name,
        indices=[each.pass_index for each in bpy.data.objects], scenes=len(bpy.data.scenes), ball=list(sphere.matrix_world.translation),
    )

cycles = renderer(passes=("image", "linear", "depth", "instance_ids"), samples=2, transparent=True)
blender.depsgraph()
before = state()
pictures = [shoot(cycles, blender.view(each))["depth"] for each in (camera, other, camera)]
after = state()
by_set_camera = []
for each in (camera, other):
    scene.camera, scene.timeline_markers[0].camera = each, each
    by_set_camera.append(shoot(cycles)["depth"])
scene.frame_set(11)
pub.publish(before=before, after=after, pictures=pictures, expected=by_set_camera, next=list(sphere.matrix_world.translation))
"""
    )
    assert item["before"] == item["after"]
    first, second, again = item["pictures"]
    assert np.array_equal(first, again)
    assert np.array_equal(first, item["expected"][0])
    assert np.array_equal(second, item["expected"][1])
    assert not np.array_equal(first, second)
    fallen = 0.2 - item["before"]["ball"][2], item["before"]["ball"][2] - item["next"][2]
    assert 0.3 < fallen[0] < 1.0, "9 steps of 1/24 s fall 0.6"
    assert 0.05 < fallen[1] < 0.3, "and the next one 0.15: no step was made by the renders"


@pytest.mark.blender
def test_a_sample_depends_on_its_place_in_the_run_alone(items_of):
    """Whatever was rendered before, in whichever process; noise differs from frame to frame, and from camera to camera."""
    script = (
        SCENE
        + """
cycles = renderer(samples=4, passes=("image", "depth"))
for index in {order}:
    cube.rotation_euler.x = index
    pub.publish(index=index, device=cycles.device, **shoot(cycles, index=index))
    same_place = shoot(cycles, index=index + 100)
    pub.publish(index=-1, other=same_place["image"], device=cycles.device)
"""
    )
    first = items_of(script.format(order="[0, 1, 2]"))
    second = items_of(script.format(order="[2, 0]"))
    pictures = {item["index"]: item for item in first if item["index"] >= 0}
    for item in second:
        if item["index"] < 0:
            continue
        expected = pictures[item["index"]]
        assert np.array_equal(item["depth"], expected["depth"])
        difference = np.abs(item["image"].astype(int) - expected["image"])
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 0.001
    noise = np.abs(first[0]["image"].astype(int) - first[1]["other"])
    assert (noise > 1).mean() > 0.05
    assert first[0]["device"] == "unknown"
    assert first[1]["device"].startswith(("CPU (", "GPU ("))


@pytest.mark.blender
def test_options_do_what_they_say(items_of):
    """One process: devices, limits of the sampling, the denoiser, and the colour of a world."""
    (item,) = items_of(
        SCENE
        + """
import time

def refusal(**options):
    try:
        renderer(**options).close()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def seconds(**options):
    cycles = renderer(**options)
    begin = time.perf_counter()
    shoot(cycles)
    return time.perf_counter() - begin

devices = {}
for device in ("auto", "cpu"):
    cycles = renderer(samples=1, device=device)
    shoot(cycles)
    devices[device] = cycles.device
refused = {"gpu": refusal(device="gpu"), "metal": refusal(device="metal"), "optix": refusal(denoiser="optix")}

many = dict(samples=50_000, device="cpu")  # minutes, without a limit
limited = seconds(time_limit_s=0.3, **many), seconds(noise_threshold=1.0, **many)

notes.clear()
noisy, reference = (shoot(renderer(samples=samples))["image"] for samples in (1, 256))
denoised = shoot(renderer(samples=1, denoiser="auto"))["image"]

scene.view_settings.view_transform = "Standard"
scene.world = bpy.data.worlds.new("bare")
if bpy.app.version < (5, 0, 0):
    scene.world.use_nodes = False
    scene.world.color = (0, 1, 0)
else:  # worlds have nodes then, and these alone count
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0, 1, 0, 1)
for obj in bpy.data.objects:
    obj.hide_render = True
world = shoot(renderer(samples=1))["image"]
pub.publish(
    devices=devices, refused=refused, limited=limited, noisy=noisy, denoised=denoised, reference=reference, world=world, notes=notes
)
"""
    )
    assert item["devices"]["cpu"].startswith("CPU (")
    assert item["devices"]["cpu"] != "CPU (unknown)"
    refused = item["refused"]
    if item["devices"]["auto"].startswith("CPU"):
        assert item["devices"]["auto"] == f"{item['devices']['cpu']}: Cycles finds no GPU here"
        assert refused["gpu"].startswith("SceneError: device 'gpu': Cycles finds no such GPU here")
        assert "device='auto' or 'cpu'" in refused["gpu"]
        assert refused["optix"].startswith("SceneError: denoiser 'optix': this Blender does not have it")
    assert refused["metal"].startswith("SceneError: device 'metal'")  # Metal is macOS's
    assert max(item["limited"]) < 15
    noise, rest = (np.abs(item[name].astype(int) - item["reference"]).mean() for name in ("noisy", "denoised"))
    if item["notes"]:  # Debian's 3.4 was built without
        assert item["notes"] == ["this Blender has no denoiser, pictures keep their noise"]
        assert rest == noise
    else:
        assert rest < 0.7 * noise
    np.testing.assert_allclose(item["world"], np.broadcast_to([0, 255, 0], (72, 96, 3)), atol=1)  # dithered


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"passes": ["depht"]},
            "there is no pass 'depht'; there are image, linear, depth, normals, position, uv, instance_ids",
        ),
        ({"passes": ["depth", "depth"]}, "names one twice"),
        ({"passes": []}, "passes is empty"),
        ({"samples": 0}, r"`int` >= 1 - at `renderers\[0\].samples`"),
        ({"device": "tpu"}, r"'tpu' - at `renderers\[0\].device`"),
        ({"sample": 4}, "cycles has passes, samples, noise_threshold, denoiser, device, time_limit_s"),
    ],
)
def test_wrong_options_are_named(options, expected):
    with pytest.raises(ConfigurationError, match=expected) as caught:
        read_options(Cycles, options, "renderers[0]")
    assert isinstance(caught.value, BlendtorchError)


def test_it_emits_what_was_asked_for_image_first():
    cycles = Cycles(read_options(Cycles, {"passes": ["depth", "linear", "image"]}, ""))
    assert list(cycles.emits) == ["image", "linear", "depth"]
    assert cycles.emits["image"].shape == cycles.emits["linear"].shape == ("height", "width", 3)
    cycles.transparent = True
    assert cycles.emits["image"].shape == cycles.emits["linear"].shape == ("height", "width", 4)
    assert str(cycles.emits["depth"]) == "float32 (height, width) in scene units"
