"""How exact the labels of the G-buffer are, against computations that share nothing with it.

- rays: `scene.ray_cast` through the centres of pixels, made from `camera.view_frame`; depths agree to 1e-4, places too
- normals: of the faces that those rays hit, where shading is flat, and Cycles' where it is smooth; 0.5 degrees
- ids and depths against Cycles, pixel for pixel: at least 99.5 %, and where they differ an edge is a pixel away
- silhouettes and visible pixels against Workbench, each object drawn alone, and all in colors of their own: 0.2 % of the pixels
- flow against points that were carried along by hand, with Blender's own projection: 0.02 px
"""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

pytestmark = pytest.mark.blender

HEAD = """
from mathutils import Matrix, Vector
from blendtorch.btb import blender
from blendtorch.core.testing import FakePublisher

CYCLES = {"name": "cycles", "device": "cpu", "passes": ["depth", "normals", "uv", "instance_ids"]}

def fresh():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(scene.camera)
    scene.camera.matrix_world = Matrix.Translation((0, -9, 0)) @ Matrix.Rotation(np.pi / 2, 4, "X")
    return scene

def add(kind, name="", **where):
    getattr(bpy.ops.mesh, f"primitive_{kind}_add")(**where)
    bpy.context.object.name = name or kind
    return bpy.context.object

def smooth(obj):
    for face in obj.data.polygons:
        face.use_smooth = True

def run(annotators, renderers=("workbench",), size=(160, 120), **fields):
    taken, said = FakePublisher(), []
    fields = {"count": 1, **fields}
    btb.Pipeline(renderers=list(renderers), annotators=annotators, resolution=size, notify=said.append, announce=lambda text: None,
                 **fields).run(taken)
    return taken, said
"""

RAYS = """
def rays(scene, size):
    "Origins and directions through the centres of pixels, shape (height, width, 3), in the world."
    camera = scene.camera
    corners = [np.array(each) for each in camera.data.view_frame(scene=scene)]  # right top, right bottom, left bottom, left top
    x, y = (np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1]
    across, down = corners[0] - corners[3], corners[2] - corners[3]
    places = corners[3] + x[None, :, None] * across + y[:, None, None] * down
    turn, origin = np.array(camera.matrix_world)[:3, :3], np.array(camera.matrix_world)[:3, 3]
    if camera.data.type == "ORTHO":
        flat = places * (1, 1, 0)
        return flat @ turn.T + origin, np.broadcast_to(-turn[:, 2], places.shape)
    return np.broadcast_to(origin, places.shape), places @ turn.T / np.linalg.norm(places, axis=-1, keepdims=True)

def cast(scene, size):
    "Depth, distance, normal to the camera, flat or not: by rays."
    graph = bpy.context.evaluated_depsgraph_get()
    starts, ways = rays(scene, size)
    inverse = np.array(scene.camera.matrix_world.inverted())
    depth, distance = (np.full(size[::-1], np.inf) for _ in range(2))
    normal, flat = np.zeros((*size[::-1], 3)), np.zeros(size[::-1], bool)
    for row in range(0, size[1], 3):
        for column in range(0, size[0], 3):
            start, way = starts[row, column], ways[row, column]
            hit, place, _, face, obj, _ = scene.ray_cast(graph, start, way)
            if hit:
                depth[row, column] = -(inverse @ [*place, 1])[2]
                distance[row, column] = np.linalg.norm(np.array(place) - start)
                mesh, turn = obj.evaluated_get(graph).data, np.array(obj.matrix_world)[:3, :3]
                a, b, c = (turn @ mesh.vertices[number].co for number in mesh.polygons[face].vertices[:3])
                across = np.cross(b - a, c - a)  # not the normal that comes with the hit: it is wrong under uneven scale
                normal[row, column] = across / np.linalg.norm(across) * (-1 if across @ way > 0 else 1)
                flat[row, column] = not obj.data.polygons[0].use_smooth
            else:
                depth[row, column] = np.nan  # nothing there, and not: not asked
    return {"depth": depth, "distance": distance, "normal": normal, "flat": flat}
"""

RANDOM = """
def randomize(seed, kind):
    scene, rng = fresh(), np.random.default_rng(seed)
    for number in range(5):
        obj = add("monkey" if number < 3 else "torus", f"Thing{number}", location=rng.uniform(-2, 2, 3), rotation=rng.uniform(-3, 3, 3))
        obj.scale = rng.uniform(0.5, 1.2, 3) * rng.choice([-1, 1], 3)
        if number % 2:
            smooth(obj)
        else:  # the normal of a bent face is one thing to a ray and another to a renderer
            obj.modifiers.new("Triangles", "TRIANGULATE")
    floor = add("plane", "Floor", size=30, location=(0, 0, -2))
    floor.rotation_euler = rng.uniform(-0.1, 0.1, 3)
    eye = Vector(rng.normal(size=3)).normalized() * rng.uniform(6, 9)
    eye.z = abs(eye.z)
    scene.camera.matrix_world = Matrix.Translation(eye) @ eye.to_track_quat("Z", "Y").to_matrix().to_4x4()
    scene.camera.data.shift_x, scene.camera.data.shift_y = rng.uniform(-0.1, 0.1, 2)
    scene.camera.data.type, scene.camera.data.ortho_scale = kind, 9
    scene.render.pixel_aspect_x = rng.uniform(1, 1.3)
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 160, 120, 100
    bpy.context.view_layer.update()
    return scene
"""


def neighbours(values):
    """Give each pixel, and the eight around it; shape (height, width, 9)."""
    return sliding_window_view(np.pad(values, 1, mode="edge"), (3, 3)).reshape(*values.shape, 9)


def away_from_edges(ids, depth):
    """Find the pixels whose neighbours show the same object, at a depth that is not far away."""
    known = neighbours(np.where(np.isfinite(depth), depth, 1e9))
    return (neighbours(ids) == ids[..., None]).all(axis=-1) & (known.max(axis=-1) < 1.1 * known.min(axis=-1))


def angles(one, two):
    """Degrees between vectors of length 1."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(one - two, axis=-1) / 2, 0, 1)))


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
def test_maps_agree_with_rays_and_with_cycles(items_of, kind):
    items = items_of(
        HEAD
        + RAYS
        + RANDOM
        + f"KIND = {kind!r}\n"
        + """
SIZE = (160, 120)
for seed in range(3):
    scene = randomize(seed, KIND)
    truth = cast(scene, SIZE)
    labels = ["depth", "distance", {"name": "normals", "frame": "world"}, "position", "uv", "instance_ids", "category_ids", "camera"]
    objects = [{"match": "Thing*", "category": "thing"}, {"match": "Floor"}]
    (sample,), said = run(labels, ["workbench", CYCLES], SIZE, objects=objects)
    near = scene.camera.data.clip_start
    pub.publish(truth=truth, cycles=sample["cycles"], eye=np.array(scene.camera.matrix_world), near=near, said=said,
                **{each: sample[each] for each in sample if each not in ("image", "cycles", "meta", "objects")})
"""
    )
    assert len(items) == 3
    checked = 0
    for item in items:
        depth, ids, truth, cycles = item["depth"]["depth"], item["instance_ids"]["instance_ids"], item["truth"], item["cycles"]
        inner = away_from_edges(ids, depth)
        asked = ~np.isinf(truth["depth"])
        nothing = asked & np.isnan(truth["depth"])
        hit = asked & ~nothing & inner & (truth["depth"] > item["near"])
        checked += hit.sum()
        assert np.isinf(depth[nothing & inner]).all()
        assert np.abs(depth[hit] / truth["depth"][hit] - 1).max() < 1e-4
        distance = item["distance"]["distance"]
        if kind == "PERSP":
            assert np.abs(distance[hit] / truth["distance"][hit] - 1).max() < 1e-4
        # Places, in the camera frame: Blender's camera looks along -z.
        place = np.linalg.inv(item["eye"]) @ np.append(item["position"]["position"][hit], np.ones((hit.sum(), 1)), axis=1).T
        assert np.abs(-place[2] / truth["depth"][hit] - 1).max() < 1e-4
        normals = item["normals"]["normals"]
        flat = hit & truth["flat"]
        assert angles(normals[flat], truth["normal"][flat]).max() < 0.5
        # Cycles turns normals that face away from the camera, as smooth shading has them near outlines.
        eye = item["eye"]
        to_eye = eye[:3, 3] - item["position"]["position"] if kind == "PERSP" else np.broadcast_to(eye[:3, 2], normals.shape)
        facing = (normals * to_eye).sum(axis=-1) > 0.2 * np.linalg.norm(to_eye, axis=-1)
        is_smooth = np.array([False, False, True, False, True, False, False])[ids]
        curved = inner & facing & is_smooth & (ids == cycles["instance_ids"])
        assert min(flat.sum(), curved.sum()) > 40
        assert np.percentile(angles(normals[curved], cycles["normals"][curved]), 99) < 0.5
        assert np.abs(np.linalg.norm(normals[ids > 0], axis=-1) - 1).max() < 1e-5
        assert np.percentile(np.abs(item["uv"]["uv"] - cycles["uv"])[inner], 99.5) < 1e-4
        differ = ids != cycles["instance_ids"]
        assert differ.mean() <= 0.005
        assert (neighbours(ids) == cycles["instance_ids"][..., None]).any(axis=-1)[differ].all()
        both = inner & ~differ & np.isfinite(depth)
        assert (
            np.abs(depth[both] / cycles["depth"][both] - 1) < 1e-4
        ).mean() > 0.999  # where two surfaces meet, either may win
        assert (item["category_ids"]["category_ids"] == np.array([0, 1, 1, 1, 1, 1, 2])[ids]).all()
        assert item["instance_ids"]["exact"].all()
        assert "annotator category_ids: categories: 1 thing, 2 Floor" in item["said"]
    assert checked > 1500


CONTENTS = """
def contents():
    "Scenes of what a render shows and what not, each a name and what it does to a scene."
    def subdivision(scene):
        modifier = add("cube", size=3).modifiers.new("x", "SUBSURF")
        modifier.levels = modifier.render_levels = 2
    def modifiers(scene):
        obj = add("cube", size=2)
        obj.modifiers.new("x", "ARRAY").count = 2
        obj.modifiers.new("y", "SIMPLE_DEFORM").angle = 0.7
    def shape_key(scene):
        obj = add("ico_sphere", subdivisions=3)
        obj.shape_key_add(name="Basis")
        key = obj.shape_key_add(name="Key")
        for number, vertex in enumerate(obj.data.vertices):
            key.data[number].co = vertex.co * (2 + vertex.co.x)
        key.value = 0.8
    def armature(scene):
        bpy.ops.object.armature_add()
        rig = bpy.context.object
        rig.pose.bones[0].location, rig.pose.bones[0].rotation_mode = (0.5, 0.3, -0.5), "XYZ"
        rig.pose.bones[0].rotation_euler = (0.3, 0.8, 0.2)
        obj = add("monkey", size=3)
        obj.vertex_groups.new(name=rig.data.bones[0].name).add(range(len(obj.data.vertices)), 1, "ADD")
        obj.modifiers.new("x", "ARMATURE").object = rig
    def curve(scene):
        bpy.ops.curve.primitive_bezier_circle_add(radius=2)
        bpy.context.object.data.bevel_depth = 0.3
        bpy.context.object.rotation_euler.x = 1
    def text(scene):
        bpy.ops.object.text_add(rotation=(1.3, 0, 0), location=(-1.5, 0, 0))
        bpy.context.object.data.extrude = 0.2
    def surface(scene):
        bpy.ops.surface.primitive_nurbs_surface_sphere_add(radius=2)
    def metaballs(scene):
        for x in (-0.7, 0.7):
            bpy.ops.object.metaball_add(type="BALL", radius=1.5, location=(x, 0, 0))
            bpy.context.object.data.resolution = bpy.context.object.data.render_resolution = 0.2
    def collection_instance(scene):
        parts = bpy.data.collections.new("Parts")
        for number in range(2):
            part = add("cube", f"Part{number}", location=(2 * number, 0, 0))
            scene.collection.objects.unlink(part)
            parts.objects.link(part)
        for place in ((-2, 0, 1), (-1, 1, -1.5)):
            empty = bpy.data.objects.new("Copy", None)
            empty.instance_type, empty.instance_collection, empty.location, empty.scale = "COLLECTION", parts, place, (1, -0.7, 0.6)
            scene.collection.objects.link(empty)
    def particles(scene):
        leaf = add("cone", "Leaf", location=(0, 0, -20))
        obj = add("plane", "Emitter", size=5, rotation=(1.2, 0, 0))
        obj.modifiers.new("x", "PARTICLE_SYSTEM")
        settings = obj.particle_systems[0].settings
        settings.count, settings.type, settings.render_type, settings.instance_object = 20, "HAIR", "OBJECT", leaf
    def geometry_nodes(scene):
        tree = bpy.data.node_groups.new("x", "GeometryNodeTree")
        if hasattr(tree, "interface"):
            for way in ("INPUT", "OUTPUT"):
                tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
        else:
            tree.inputs.new("NodeSocketGeometry", "Geometry"), tree.outputs.new("NodeSocketGeometry", "Geometry")
        nodes = [tree.nodes.new(f"GeometryNode{name}") for name in ("InstanceOnPoints", "MeshCube", "JoinGeometry")]
        given, end = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
        nodes[1].inputs["Size"].default_value = (0.6, 0.4, 0.8)
        for one, two in ((given.outputs[0], nodes[0].inputs["Points"]), (nodes[1].outputs["Mesh"], nodes[0].inputs["Instance"]),
                         (nodes[0].outputs[0], nodes[2].inputs[0]), (given.outputs[0], nodes[2].inputs[0]),
                         (nodes[2].outputs[0], end.inputs[0])):
            tree.links.new(one, two)
        add("ico_sphere", subdivisions=2, radius=2).modifiers.new("x", "NODES").node_group = tree
    def hidden(scene):
        add("cube", "Shown", location=(2, 0, 0))
        add("cube", "Hidden", location=(-2, 0, 0)).hide_render = True
        collection = bpy.data.collections.new("Off")
        scene.collection.children.link(collection)
        for name, attribute in (("Off", "hide_render"), ("Away", "exclude")):
            obj = add("cube", name, location=(0, 0, 2 if name == "Off" else -2))
            scene.collection.objects.unlink(obj)
            if name == "Away":
                collection = bpy.data.collections.new("Away")
                scene.collection.children.link(collection)
            collection.objects.link(obj)
            setattr(collection if name == "Off" else bpy.context.view_layer.layer_collection.children["Away"], attribute, True)
    def holdout(scene):
        add("cube", "Back", size=3, location=(0, 2, 0))
        add("cube", "Hole", location=(0.5, -1, 0)).is_holdout = True
    def near_and_far(scene):
        add("plane", size=40, location=(0, 0, -1.5))
        scene.camera.data.clip_start, scene.camera.data.clip_end = 4, 15
    return locals()
"""


def test_it_draws_what_a_render_shows(items_of):
    items = items_of(
        HEAD
        + CONTENTS
        + """
for name, change in contents().items():
    scene = fresh()
    change(scene)
    bpy.context.view_layer.update()
    passes = {**CYCLES, "passes": ["depth", "normals"]}
    (sample,), said = run(["depth", "instance_ids"], ["workbench", passes], (80, 60))
    pub.publish(name=name, depth=sample["depth"]["depth"], cycles=sample["cycles"]["depth"], said=said,
                ids=sample["instance_ids"]["instance_ids"])
"""
    )
    assert len(items) == 14
    for item in items:
        name, depth, cycles = item["name"], item["depth"], item["cycles"]
        shown = np.isfinite(cycles)
        assert 0.02 < shown.mean() < 1, name
        assert (np.isfinite(depth) != shown).mean() <= 0.005, name
        both = shown & np.isfinite(depth) & away_from_edges(np.zeros_like(depth), depth)
        assert (np.abs(depth[both] / cycles[both] - 1) < 1e-4).mean() > 0.999, name
        assert [text for text in item["said"] if "exact" in text] == [], name
        # All is one object's: what an instancer copies, too.
        if name in {"geometry_nodes", "particles"}:
            assert len(np.unique(item["ids"])) == 2, name


def test_silhouettes_and_visible_pixels_are_those_of_the_picture(items_of):
    items = items_of(
        HEAD
        + RANDOM
        + """
SIZE = (200, 150)
for seed, kind in enumerate(("PERSP", "ORTHO", "PERSP")):
    scene = randomize(10 + seed, kind)
    bpy.data.objects.remove(bpy.data.objects["Floor"])
    if seed == 2:  # the camera stands among them
        scene.camera.matrix_world.translation *= 0.3
        scene.camera.data.clip_start = 0.5
    shading = scene.display.shading
    shading.light, shading.color_type, scene.display.viewport_aa, scene.display.render_aa = "FLAT", "OBJECT", "OFF", "OFF"
    shading.show_cavity = shading.show_object_outline = shading.show_shadows = shading.show_specular_highlight = False
    shading.show_backface_culling = False
    scene.world = bpy.data.worlds.new("World")
    scene.world.color, scene.view_settings.view_transform = (0, 0, 0), "Raw"
    things = [bpy.data.objects[f"Thing{number}"] for number in range(5)]
    for number, obj in enumerate(things, 1):
        obj.color = (number / 5, 1 - number / 5, 1, 1)
    labels = ["visibility", "masks_amodal", "boxes2d_tight", "boxes2d_amodal", "instance_ids", "boxes2d_loose"]
    (sample,), _ = run(labels, [{"name": "workbench", "antialiasing": "off", "color": "object"}], SIZE)
    together, alone = sample["image"], []
    for obj in things:
        for other in things:
            other.hide_viewport = other.hide_render = other != obj
        # The second picture, of a process that has drawn it before: once in forty runs of Blender 3.4, an object of it and of its
        # mask were not the same.
        (_, picture), _ = run([], [{"name": "workbench", "antialiasing": "off", "color": "object"}], SIZE, count=2)
        alone.append(picture["image"].max(axis=-1) > 20)  # Blender dithers
    pub.publish(together=together, alone=np.array(alone), **{label: sample[label] for label in labels})
"""
    )
    for item in items:
        visibility, masks, ids = item["visibility"], item["masks_amodal"]["masks"], item["instance_ids"]["instance_ids"]
        assert np.count_nonzero(masks != item["alone"]) <= 0.002 * masks.size, (masks.sum((1, 2)), item["alone"].sum((1, 2)))
        blue_is_object = item["together"].max(axis=-1) > 20
        assert np.count_nonzero((ids > 0) != blue_is_object) <= 0.002 * ids.size
        for row in range(5):
            color = item["together"][ids == row + 1]
            if len(color) > 20:
                assert (np.abs(color.astype(int) - np.median(color, axis=0)).max(axis=1) <= 2).mean() > 0.99
            assert visibility["visible"][row] == (ids == row + 1).sum()
            assert visibility["amodal"][row] == masks[row].sum()
            for name, mask in (("boxes2d_tight", ids == row + 1), ("boxes2d_amodal", masks[row])):
                box, valid = item[name]["xyxy"][row], item[name]["valid"][row]
                assert valid == mask.any() == np.isfinite(box).all()
                if valid:
                    y, x = np.nonzero(mask)
                    assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert (visibility["visible"] <= visibility["amodal"]).all()
        loose = item["boxes2d_loose"]
        seen = item["boxes2d_amodal"]["valid"]
        assert (item["boxes2d_amodal"]["truncated"] == loose["truncated"])[seen].all()
        # The loose box encloses the pixels whose centres it has; 1 px for what is thinner than that.
        inside = ~loose["truncated"] & seen
        assert np.abs(item["boxes2d_amodal"]["xyxy"] - loose["clipped"])[inside].max(initial=0) < 1.5
    assert items[2]["visibility"]["truncated"].any()


def test_what_lies_beyond_the_border_is_what_a_wider_picture_shows(items_of):
    """Cut by each border, by a corner, by none, behind another, and out of the picture; perspective and not, with a shift."""
    items = items_of(
        HEAD
        + """
for kind in ("PERSP", "ORTHO"):
    scene = fresh()
    for place in ((-3.5, 0, 0), (3.5, 0, 0.5), (0, 0, 3), (0, 0, -3), (3.5, 0, 3), (0, 0, 0), (0, 3, 0), (-8, 0, 0)):
        add("monkey", location=place, rotation=(0, 0, 0.3))["category_id"] = 1
    lens = scene.camera.data
    lens.type, lens.ortho_scale, lens.shift_x, lens.shift_y = kind, 7, 0.05, -0.02
    (sample,), _ = run([{"name": "visibility", "beyond": True}, "masks_amodal"])
    lens.sensor_width, lens.ortho_scale, lens.shift_x, lens.shift_y = 3 * 36, 21, 0.05 / 3, -0.02 / 3
    (wide,), _ = run(["masks_amodal"], size=(480, 360))
    pub.publish(**sample["visibility"], masks=sample["masks_amodal"]["masks"], wide=wide["masks_amodal"]["masks"])
lens.type, lens.sensor_width = "PERSP", 36
try:
    run([{"name": "visibility", "beyond": True}], distortion={"k1": -0.1})
except Exception as caught:
    pub.publish(error=f"{type(caught).__name__}: {caught}")
"""
    )
    *items, refused = items
    assert "ConfigurationError" in refused["error"]
    assert "no lens that distorts goes on there" in refused["error"]
    assert len(items) == 2
    for item in items:
        assert np.count_nonzero(item["wide"][:, 120:240, 160:320] != item["masks"]) <= 0.001 * item["masks"].size
        beyond = item["wide"].sum(axis=(1, 2)) - item["wide"][:, 120:240, 160:320].sum(axis=(1, 2))
        assert (np.abs(item["beyond"] - beyond)[item["truncated"]] <= 3).all(), (item["beyond"], beyond)
        assert (item["beyond"][item["truncated"]] > 100).all()
        assert (item["beyond"][~item["truncated"]] == 0).all()
        assert item["truncated"].sum() >= 4


def test_ids_are_those_of_a_picture_by_eevee(items_of):
    (item,) = items_of(
        HEAD
        + RANDOM
        + """
scene = randomize(10, "PERSP")
bpy.data.objects.remove(bpy.data.objects["Floor"])
scene.world = bpy.data.worlds.new("World")
scene.world.color, scene.view_settings.view_transform = (0, 0, 0), "Raw"
for number in range(5):
    material = bpy.data.materials.new("Light")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    light, output = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    links.new(light.outputs[0], output.inputs[0])
    light.inputs["Color"].default_value = (number / 5, 1 - number / 5, 1, 1)
    bpy.data.objects[f"Thing{number}"].data.materials.append(material)
(sample,), _ = run(["instance_ids"], [{"name": "eevee", "samples": 1}], (100, 75))
pub.publish(image=sample["image"], ids=sample["instance_ids"]["instance_ids"])
"""
    )
    image, ids = item["image"].astype(int), item["ids"]
    assert np.count_nonzero((image.max(axis=-1) > 20) != (ids > 0)) <= 0.002 * ids.size
    shown = [image[ids == number] for number in range(1, 6)]
    assert min(map(len, shown)) > 20
    assert all((np.abs(colors - np.median(colors, axis=0)).max(axis=1) <= 3).mean() > 0.99 for colors in shown)


FLOW = """
SIZE = (160, 120)

def place_at(obj, frame):
    scene.frame_set(frame)
    graph = bpy.context.evaluated_depsgraph_get()
    evaluated = obj.evaluated_get(graph)
    mesh = evaluated.to_mesh()
    points = np.array([evaluated.matrix_world @ vertex.co for vertex in mesh.vertices])
    camera = scene.camera.evaluated_get(graph)
    clip = np.array(camera.calc_matrix_camera(graph, x=SIZE[0], y=SIZE[1]) @ camera.matrix_world.inverted())
    evaluated.to_mesh_clear()
    return points, clip

def pixels(points, clip):
    projected = np.column_stack([points, np.ones(len(points))]) @ clip.T
    return (projected[:, :2] / projected[:, 3:] * (0.5, -0.5) + 0.5) * SIZE

scene = fresh()
scene.frame_start, scene.frame_end = 1, 4
box = add("cube", "Box", size=2, location=(-2, 0, 0))
wave = add("grid", "Wave", x_subdivisions=12, y_subdivisions=12, size=3, location=(2, 0, 0), rotation=(1.1, 0, 0))
wall = add("plane", "Wall", size=30, location=(0, 8, 0), rotation=(np.pi / 2, 0, 0))
wave.shape_key_add(name="Basis")
key = wave.shape_key_add(name="Wave")
for vertex, moved in zip(wave.data.vertices, key.data):
    moved.co = vertex.co + Vector((0.1, 0, 0.5 * np.sin(3 * vertex.co.x)))
for frame in (1, 4):
    last = frame > 1
    key.value = float(last)
    key.keyframe_insert("value", frame=frame)
    box.rotation_euler, box.location = ((0.4, 0.2, 0.9), (-1.4, 0.5, 0.3)) if last else ((0, 0, 0), (-2, 0, 0))
    scene.camera.location, scene.camera.rotation_euler = ((0.4, -8.5, 0.2), (1.6, 0.05, 0.04)) if last else ((0, -9, 0), (1.57, 0, 0))
    for obj in (box, scene.camera):
        obj.keyframe_insert("location", frame=frame)
        obj.keyframe_insert("rotation_euler", frame=frame)
for again in range(2):
    start, count = (0, 4) if not again else (2, 2)
    samples, _ = run(["flow", "instance_ids", "depth"], size=SIZE, frames_per_episode=4, start=start, count=count)
    pub.publish(flow=[sample["flow"] for sample in samples], ids=[sample["instance_ids"]["instance_ids"] for sample in samples],
                depth=[sample["depth"]["depth"] for sample in samples])
corners, numbers = {}, {}
for obj in (box, wall, wave):
    faces = [list(face.vertices) for face in obj.data.polygons]
    numbers[obj.name] = faces
    for frame in range(1, 5):
        points, clip = place_at(obj, frame)
        corners[f"{obj.name}{frame}"], corners[f"clip{frame}"] = points, clip
        corners[f"xy{obj.name}{frame}"] = pixels(points, clip)
pub.publish(corners=corners, faces=numbers)
"""


def triangle_of(xy, triangles):
    """Find the triangles that points lie in, and their barycentric coordinates there; the first for each."""
    a, b, c = (triangles[:, corner] for corner in range(3))
    area = np.cross(b - a, c - a)
    weights = np.stack(
        [np.cross(c - b, xy[:, None] - b), np.cross(a - c, xy[:, None] - c), np.cross(b - a, xy[:, None] - a)], -1
    )
    return weights / area[:, None]


def test_flow_is_where_points_went(items_of):
    whole, rest, truth = items_of(HEAD + FLOW)
    corners, faces = truth["corners"], truth["faces"]
    assert np.isnan(whole["flow"][0]["backward"]).all()
    assert np.isnan(whole["flow"][0]["forward"]).all()
    checked = 0
    for frame in range(1, 4):
        flow, ids, depth = whole["flow"][frame], whole["ids"][frame], whole["depth"][frame]
        inner = away_from_edges(ids, depth)
        for direction, at, there, rows in (
            ("backward", frame + 1, frame, ids),
            ("forward", frame, frame + 1, whole["ids"][frame - 1]),
        ):
            inner = away_from_edges(rows, whole["depth"][frame if direction == "backward" else frame - 1])
            for number, name in ((1, "Box"), (2, "Wall"), (3, "Wave")):
                y, x = np.nonzero(inner & (rows == number))
                pick = np.random.default_rng(0).permutation(len(y))[:150]
                y, x = y[pick], x[pick]
                xy = np.column_stack([x + 0.5, y + 0.5])
                expected = carried(xy, corners, faces[name], name, at, there)
                given = flow[direction][y, x]
                known = np.isfinite(expected).all(axis=1)
                assert known.sum() > 60, (name, direction)
                error = np.linalg.norm(xy + given - expected, axis=1)[known]
                assert error.max() < 0.02, (name, direction, error.max())
                checked += known.sum()
            occluded = flow[f"{direction}_occluded"]
            assert 0.001 < occluded.mean() < 0.2
            assert np.isnan(flow[direction][rows == 0]).all()
    assert checked > 1000
    # What went is hidden where something else is seen at the place it came from.
    ids, before, flow = whole["ids"][2], whole["ids"][1], whole["flow"][2]
    y, x = np.nonzero(np.isfinite(flow["backward"][..., 0]) & ~flow["backward_occluded"])
    place = np.floor(np.column_stack([x + 0.5, y + 0.5]) + flow["backward"][y, x]).astype(int)
    inside = ((place >= 0) & (place < (160, 120))).all(axis=1)
    same = before[place[inside, 1], place[inside, 0]] == ids[y[inside], x[inside]]
    assert same.mean() > 0.98
    # A run that begins in the middle of an episode gives the same.
    for one, two in zip(whole["flow"][2:], rest["flow"], strict=True):
        for field in one:
            assert np.array_equal(one[field], two[field], equal_nan=field in {"forward", "backward"})


def carried(xy, corners, faces, name, at, there):
    """Carry pixels along: the face that is seen there, its point in space, where that is at another frame; NaN where unclear."""
    clip_at = corners[f"clip{at}"]
    triangles = np.array([[face[0], face[i], face[i + 1]] for face in faces for i in range(1, len(face) - 1)])
    points = np.column_stack([corners[f"{name}{at}"], np.ones(len(corners[f"{name}{at}"]))]) @ clip_at.T
    w = points[:, 3][triangles]
    weights = triangle_of(xy, corners[f"xy{name}{at}"][triangles])
    inside = (weights > 0.02).all(axis=-1)
    unclear = ((weights > -0.02).all(axis=-1) & ~inside).any(axis=-1)  # at the edge of a face
    straight = weights / w
    straight = straight / straight.sum(axis=-1, keepdims=True)  # perspective: linear in space, not in the picture
    depth = np.where(inside, (straight * w).sum(axis=-1), np.inf)
    best = depth.argmin(axis=1)
    rows = np.arange(len(xy))
    world = (straight[rows, best][:, :, None] * corners[f"{name}{there}"][triangles[best]]).sum(axis=1)
    projected = np.column_stack([world, np.ones(len(world))]) @ corners[f"clip{there}"].T
    found = (projected[:, :2] / projected[:, 3:] * (0.5, -0.5) + 0.5) * (160, 120)
    found[~np.isfinite(depth[rows, best]) | unclear] = np.nan
    return found


CHANGES = """
scene, rng = fresh(), np.random.default_rng(0)
from blendtorch.core.composition import compose
from blendtorch.core.configuration import run_configuration
from blendtorch.core.discovery import Catalogue
from blendtorch.core.sampler import Sampler
from blendtorch.btb.pipeline import SceneStage

for number in range(6):
    add("cube", f"Box{number}", size=0.8, location=(1.2 * number - 3, 0, 0))
configuration = run_configuration(annotators=["depth", "instance_ids", "flow", "visibility"], resolution=(64, 48), frames_per_episode=FRAMES)
stage = SceneStage(configuration, lambda text: None)
sampler = Sampler(configuration, compose(configuration, Catalogue()), stage)
sampler.setup()
sampler.begin_episode(0)
boxes, extra, wrong, memory = [bpy.data.objects[f"Box{number}"] for number in range(6)], [], [], []
for frame in range(FRAMES):
    box = boxes[rng.integers(6)]
    action = rng.integers(5)
    if action == 0:
        box.hide_render = box.hide_viewport = not box.hide_render
    elif action == 1:
        box.location.z = rng.uniform(-1.5, 1.5)
    elif action == 2:  # its own mesh, deformed
        size = rng.uniform(0.2, 0.6)
        for vertex in box.data.vertices:
            vertex.co = [size if each > 0 else -size for each in vertex.co]
        box.data.update()
    elif action == 3 and len(extra) < 5:
        mesh = boxes[0].data.copy()
        extra.append(bpy.data.objects.new("Extra", mesh))
        extra[-1].location = (rng.uniform(-3, 3), 4, rng.uniform(-2, 2))
        scene.collection.objects.link(extra[-1])
    elif extra:
        gone = extra.pop()
        mesh = gone.data
        bpy.data.objects.remove(gone)
        bpy.data.meshes.remove(mesh)
    scene.frame_set(1)
    sample = sampler.sample(frame)
    ids, visible = sample["instance_ids"]["instance_ids"], sample["visibility"]["visible"]
    for number, each in enumerate(boxes, 1):
        # The front face, at y = -size: its centre is in the picture, and nothing stands before it.
        size = max(vertex.co.y for vertex in each.data.vertices)
        y, x = (24 - 0.5 - each.location.z / (9 - size) * 64 * 50 / 36, 32 - 0.5 + each.location.x / (9 - size) * 64 * 50 / 36)
        inside = 0 <= round(y) < 48 and 0 <= round(x) < 64
        shown = not each.hide_render
        if inside and (ids[round(y), round(x)] == number) != shown:
            wrong.append(f"{frame}: {each.name}")
        depth = sample["depth"]["depth"][round(y), round(x)] if inside else 0
        if inside and shown and abs(depth / (9 - size) - 1) > 1e-4:
            wrong.append(f"{frame}: {each.name} at {depth}, expected {9 - size}")
        if not shown and visible[number - 1]:
            wrong.append(f"{frame}: {each.name} is hidden and seen")
    if frame % (FRAMES // 10) == 0:
        memory.append(int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20)
        pub.publish(wrong=wrong[:20], memory=memory)
sampler.close()
pub.publish(wrong=wrong[:20], memory=memory)
"""


def test_labels_stay_right_while_objects_come_and_go(items_of):
    *_, item = items_of(HEAD + "FRAMES = 300\n" + CHANGES)
    assert item["wrong"] == []


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ten_thousand_frames_need_no_more_memory(items_of):
    *_, item = items_of(HEAD + "FRAMES = 10_000\n" + CHANGES)
    assert item["wrong"] == []
    assert item["memory"][-1] - item["memory"][2] < 20, item["memory"]  # MiB


def test_more_instances_than_16_bits_keep_their_ids(items_of):
    (item,) = items_of(
        HEAD
        + """
scene = fresh()
WIDTH, HEIGHT = 320, 220
mesh = bpy.data.meshes.new("Tile")
mesh.from_pydata([(-0.5, 0, -0.5), (0.5, 0, -0.5), (0.5, 0, 0.5), (-0.5, 0, 0.5)], [], [(0, 1, 2, 3)])
tiles = bpy.data.collections.new("Tiles")
scene.collection.children.link(tiles)
scene.camera.data.type, scene.camera.data.ortho_scale = "ORTHO", WIDTH
for number in range(WIDTH * HEIGHT):
    tile = bpy.data.objects.new(f"Tile.{number:06}", mesh)
    tile.location = (number % WIDTH - WIDTH / 2 + 0.5, 0, HEIGHT / 2 - 0.5 - number // WIDTH)
    tiles.objects.link(tile)
(sample,), _ = run(["instance_ids"], size=(WIDTH, HEIGHT))
pub.publish(ids=sample["instance_ids"]["instance_ids"], valid=sample["instance_ids"]["valid"])
"""
    )
    assert item["ids"].size == 70_400
    assert (item["ids"].ravel() == np.arange(1, 70_401)).all()
    assert item["valid"].all()


def test_what_is_not_drawn_as_renders_show_it_is_said_and_flagged(items_of):
    items = items_of(
        HEAD
        + """
def transparent(obj):
    material = bpy.data.materials.new("Glass")
    material.use_nodes = True
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Alpha"].default_value = 0.5
    obj.data.materials.append(material)

def furry(obj):
    obj.modifiers.new("x", "PARTICLE_SYSTEM")
    obj.particle_systems[0].settings.type = "HAIR"

def smoothed(obj):
    modifier = obj.modifiers.new("x", "SUBSURF")
    modifier.levels, modifier.render_levels = 1, 3

def unseen(obj):
    obj.visible_camera = False

for change in (transparent, furry, smoothed, unseen):
    scene = fresh()
    add("cube", "Plain", location=(2, 0, 0))
    change(add("cube", "Special", location=(-2, 0, 0)))
    samples, said = run(["instance_ids", "boxes2d_tight", "boxes2d_amodal", "visibility", "masks_amodal"], count=2)
    names = ["instance_ids", "boxes2d_tight", "boxes2d_amodal", "visibility", "masks_amodal"]
    pub.publish(said=said, exact=[sample[name]["exact"] for sample in samples for name in names])
"""
    )
    expected = [
        "Special: a transparent material is drawn opaque",
        "Special: hair is not drawn",
        "Special: a modifier is another one in the viewport than in renders",
        "Special: some renderers hide it from the camera",
    ]
    for item, reason in zip(items, expected, strict=True):
        assert len([text for text in item["said"] if reason in text]) == 1
        assert all(exact.tolist() == [True, False] for exact in item["exact"])


def test_coordinates_materials_and_keypoints_fit_the_other_labels(items_of):
    (item,) = items_of(
        HEAD
        + RANDOM
        + """
scene = randomize(3, "PERSP")
for number in range(5):
    obj = bpy.data.objects[f"Thing{number}"]
    for name in (f"Paint{number}", "Rust"):
        obj.data.materials.append(bpy.data.materials.new(name) if name not in bpy.data.materials else bpy.data.materials[name])
    for face in obj.data.polygons:
        face.material_index = int(face.center.x > 0)
obj.material_slots[0].link = "OBJECT"
obj.material_slots[0].material = bpy.data.materials["Rust"]
labels = ["object_coordinates", "material_ids", "instance_ids", "boxes3d", "depth", "keypoints", "camera"]
(sample,), said = run(labels, objects=[{"match": "Thing*"}])
(rays,), _ = run(["keypoints"], objects=[{"match": "Thing*"}])
pub.publish(said=said, by_rays=rays["keypoints"]["state"], **{label: sample[label] for label in labels})
"""
    )
    ids, boxes, K = item["instance_ids"]["instance_ids"], item["boxes3d"], item["camera"]["K"]
    coordinates, depth = item["object_coordinates"]["object_coordinates"], item["depth"]["depth"]
    assert (np.isnan(coordinates[..., 0]) == (ids == 0)).all()
    y, x = np.nonzero(ids)
    rows = ids[y, x] - 1
    point = np.linalg.inv(K) @ np.stack([x + 0.5, y + 0.5, np.ones(len(x))]) * depth[y, x]
    local = np.einsum("nji,nj->ni", boxes["rotation"][rows], point.T - boxes["center"][rows])
    expected = 0.5 + local / np.linalg.norm(boxes["size"][rows], axis=1, keepdims=True)
    assert np.abs(coordinates[y, x] - expected).max() < 2e-5
    # Names in order: Paint0 to Paint4, Rust. The last object's first slot has Rust, by its own link.
    (names,) = (text for text in item["said"] if "materials:" in text)
    assert names.endswith("1 Paint0, 2 Paint1, 3 Paint2, 4 Paint3, 5 Paint4, 6 Rust")
    materials = item["material_ids"]["material_ids"]
    for number in range(1, 6):
        assert set(np.unique(materials[ids == number])) <= ({number, 6} if number < 5 else {6})
    assert (materials[ids == 0] == 0).all()
    # 1 of 9 may be at an outline.
    assert (item["keypoints"]["state"] == item["by_rays"]).mean() > 0.9


def test_a_machine_that_cannot_draw_is_told_what_to_install(launch, monkeypatch, error_of):
    from blendtorch import btt

    monkeypatch.setenv("LIBGL_DRIVERS_PATH", "/nowhere")
    with launch(HEAD + "scene = fresh()\nadd('cube')\nrun(['depth'])\n") as launcher:
        error = error_of(lambda: list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])))
    assert "Blender cannot draw here: EGL finds no driver" in str(error)
    assert "apt-get install -y libegl1 libgl1 libgl1-mesa-dri" in str(error)
