"""Backdrops, materials and images: edges without a fringe, folders, and what scenes lack."""

from pathlib import Path

import numpy as np
import pytest
from blendtorch.core.errors import SceneError
from blendtorch_standard.randomizers.backdrop import composite
from blendtorch_standard.randomizers.folder import list_images
from blendtorch_standard.renderers.alpha import straight

SCENE = (Path(__file__).parent / "boxes.txt").read_text()  # what scripts begin with


def encoded(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def test_straight_alpha_gives_the_colour_back_that_the_viewport_multiplied():
    alpha, color = np.meshgrid(np.arange(40, 252), np.linspace(0.05, 1, 50), indexing="ij")
    viewport = np.rint(255 * encoded(alpha / 255 * color)).astype(np.uint8)
    image = straight(np.dstack([viewport] * 3 + [alpha.astype(np.uint8)]))
    np.testing.assert_array_equal(image[..., 3], alpha)
    assert (
        np.abs(image[..., 0] - 255 * encoded(color)).max() < 3
    )  # half a level of the viewport, times up to 255 / 40 to the 1 / 2.4


def test_compositing_mixes_by_the_alpha_and_rounds():
    rng = np.random.default_rng(0)
    image, behind = rng.integers(0, 256, (50, 60, 4), np.uint8), rng.integers(0, 256, (50, 60, 3), np.uint8)
    image[:5, :, 3], image[5:10, :, 3] = 0, 255
    mixed = composite(image, behind)
    share = image[..., 3:] / 255
    assert mixed.dtype == np.uint8
    assert np.abs(mixed - (share * image[..., :3] + (1 - share) * behind)).max() < 0.51
    np.testing.assert_array_equal(mixed[:5], behind[:5])
    np.testing.assert_array_equal(mixed[5:10], image[5:10, :, :3])


def test_a_folder_is_listed_in_the_order_of_names(tmp_path):
    for name in ("b.PNG", "a10.jpg", "a9.exr", "notes.txt", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c.png").mkdir()
    assert [path.name for path in list_images(str(tmp_path))] == ["a10.jpg", "a9.exr", "b.PNG"]
    with pytest.raises(SceneError, match="there is no such folder"):
        list_images(str(tmp_path / "nowhere"))


FRINGES = """
def edges(renderer, transform):
    "Boxes of one colour in front of it: what differs from it is a fringe."
    color = (0.5, 0.1, 0.02)
    behind = np.zeros((48, 64, 3))
    pixels = []
    if bpy.app.version < (4, 0, 0) and renderer["name"] != "cycles":
        return pub.publish(refused=True)
    transform = "Filmic" if transform == "AgX" and bpy.app.version < (4, 0, 0) else transform
    for _ in range(2):
        scene = build()
        scene.view_settings.view_transform, scene.display.shading.light = transform, "FLAT"
        bpy.data.objects["Ground"].hide_viewport = bpy.data.objects["Ground"].hide_render = True
        for material in bpy.data.materials:
            material.diffuse_color = (*color, 1)
            tree = btb.blender.node_tree(material)
            tree.nodes.clear()
            output, light = tree.nodes.new("ShaderNodeOutputMaterial"), tree.nodes.new("ShaderNodeEmission")
            light.inputs["Color"].default_value = (*color, 1)
            tree.links.new(light.outputs[0], output.inputs["Surface"])
        save(folder / "flat" / "flat.png", behind)
        pose = {"name": "pose", "rotation_deg": (20, 30, 10), "scale": 1.5}
        backdrop = {"name": "backdrop", "folder": str(folder / "flat")}
        image = run(pose, backdrop, renderers=[renderer])[0]["image"]
        if not pixels:
            values, counts = np.unique(image[image.max(axis=-1) > 30], axis=0, return_counts=True)
            behind = behind + values[counts.argmax()] / 255
        pixels.append(image)
    pub.publish(before=pixels[0], image=pixels[1], behind=np.rint(behind * 255).astype(np.uint8))
"""
TOLERANCES = {  # in levels; measured: 4, 4, 9, 2, 1, 1
    ("workbench", "8", "Standard"): 6,
    ("workbench", "fxaa", "Standard"): 6,
    ("workbench", "8", "AgX"): 20,
    ("eevee", 16, "Standard"): 4,
    ("cycles", 16, "Standard"): 3,
    ("cycles", 16, "AgX"): 3,
}


@pytest.mark.blender
def test_a_backdrop_leaves_no_fringe_at_the_edges_of_objects(items_of):
    names = {"workbench": "antialiasing", "eevee": "samples", "cycles": "samples"}
    calls = [f"edges({{'name': {r!r}, {names[r]!r}: {samples!r}}}, {view!r})\n" for r, samples, view in TOLERANCES]
    items = items_of(SCENE + FRINGES + "".join(calls))
    drawn = {case: item for case, item in zip(TOLERANCES, items, strict=True) if "image" in item}
    assert len(drawn) == len(TOLERANCES) or {case[0] for case in drawn} == {"cycles"}  # 3.4 refuses the viewport
    for case, item in drawn.items():
        tolerance = TOLERANCES[case]
        fringe = np.abs(item["image"].astype(int) - item["behind"]).max()
        assert fringe <= tolerance, case
        # In front of black the same edges are seen: what was compared is not empty.
        color = item["behind"][0, 0].max()
        dark = item["before"].max(axis=-1)
        assert ((dark > 0.1 * color) & (dark < 0.9 * color)).sum() > 50, case
        assert (dark > 0.95 * color).sum() > 200, case


@pytest.mark.blender
def test_a_backdrop_is_its_picture_where_nothing_stands_before_it(items_of):
    (same, wide, tall) = items_of(
        SCENE
        + """
rng = np.random.default_rng(0)
hide = {"name": "visibility", "objects": "Box*", "probability": 0}
backdrop = {"name": "backdrop", "folder": str(folder / "one")}
cycles = {"name": "cycles", "samples": 1, "denoiser": "off"}  # 3.4 has a transparent background with no other
for shape in ((48, 64), (48, 128), (192, 128)):
    build()
    bpy.data.objects.remove(bpy.data.objects["Ground"])
    pixels = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    for path in (folder / "one").glob("*"):
        path.unlink()
    save(folder / "one" / "a.png", pixels / 255)
    pub.publish(pixels=pixels, image=run(hide, backdrop, renderers=[cycles])[0]["image"])
"""
    )
    np.testing.assert_array_equal(same["image"], same["pixels"])
    np.testing.assert_array_equal(wide["image"], wide["pixels"][:, 32:96])
    halved = tall["pixels"][48:144].reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(tall["image"] - halved).mean() < 1.5  # by the mean of four pixels, in Blender's own rounding


@pytest.mark.blender
def test_what_a_scene_lacks_is_made(items_of):
    """A material, a UV map, a world; one that has its nodes off, and one that several objects share."""
    (item,) = items_of(
        SCENE
        + """
scene = build()
boxes = [bpy.data.objects[f"Box{number}"] for number in range(4)]
boxes[0].data.materials.clear()
boxes[1].data.materials[0] = None
if bpy.app.version < (5, 0, 0):
    bpy.data.materials["Paint2"].use_nodes = False
boxes[3].data = boxes[2].data
for mesh in bpy.data.meshes:
    while mesh.uv_layers:
        mesh.uv_layers.remove(mesh.uv_layers[0])
scene.world = None
taken = run({"name": "material"}, {"name": "world", "color": (0.1, 0.2, 0.3)})
drawn = json.loads(taken[0]["meta"]["drawn"])
world = np.array(scene.world.color)
colors = {}
for box in boxes:
    (material,) = {slot.material for slot in box.material_slots}
    (node,) = btb.blender.principled(material)
    colors[box.name] = [node.inputs["Base Color"].default_value[:3], material.diffuse_color[:3], drawn["material"][material.name]["base_color"]]
    colors[box.name] = np.array(colors[box.name])
build()
for mesh in bpy.data.meshes:
    while mesh.uv_layers:
        mesh.uv_layers.remove(mesh.uv_layers[0])
notes = []
pipeline = btb.Pipeline(randomizers=[{"name": "texture", "folder": str(folder / "pictures")}], announce=print,
                        renderers=[{"name": "workbench", "color": "texture"}], count=1, notify=notes.append)
pipeline.run(Taken())
uv = np.empty((24, 2), np.float32)
bpy.data.objects["Box0"].data.uv_layers.active.data.foreach_get("uv", uv.ravel())
pub.publish(colors=colors, uv=uv, notes=notes, world=world, materials=list(drawn["material"]))
"""
    )
    assert len(item["materials"]) == 3
    for name, (node, viewport, drawn) in item["colors"].items():
        np.testing.assert_allclose(node, drawn, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(viewport, drawn, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(item["colors"]["Box2"], item["colors"]["Box3"])
    np.testing.assert_allclose(item["world"], [0.1, 0.2, 0.3], atol=1e-6)
    corners = np.sort(item["uv"].reshape(6, 4, 2), axis=1)  # each side of a cube has the whole picture
    np.testing.assert_allclose(corners, np.broadcast_to([[0, 0], [0, 0], [1, 1], [1, 1]], corners.shape), atol=1e-6)
    assert item["notes"] == [
        f"randomizer texture: object 'Box{n}' has no UV map: it gets one, projected onto the sides of a box" for n in range(4)
    ]


@pytest.mark.blender
def test_images_stay_decoded_up_to_a_limit_and_show_nevertheless(items_of):
    (few, many) = items_of(
        SCENE
        + """
class Counting(Taken):
    def publish_sample(self, sample, index):
        super().publish_sample(sample, index)
        held.append(sum(image.has_data for image in bpy.data.images if image.filepath.endswith(".png")))

for keep in (1, 3):
    build()
    held, taken = [], Counting()
    btb.Pipeline(randomizers=[{"name": "texture", "folder": str(folder / "pictures"), "keep": keep, "objects": "Ground"}],
                 renderers=[{"name": "workbench", "color": "texture", "antialiasing": "off"}],
                 resolution=(64, 48), count=8, seed=1, announce=print).run(taken)
    pub.publish(held=held, images=np.array([s["image"] for s in taken]), left=[image.name for image in bpy.data.images if image.filepath])
"""
    )
    assert max(few["held"]) == 1
    assert min(many["held"]) == 3
    assert np.abs(few["images"].astype(int) - many["images"]).max() <= 1  # Workbench repeats itself to one level
    assert few["left"] == []
