"""The randomizers of blendtorch-standard: what they change, what they refuse, and that they carry no state.

Two pictures differ where a channel of a pixel does by more than 3 levels: Workbench repeats itself to one level, EEVEE to none here.
For Cycles, whose noise is drawn for each episode, it is 24. They have to differ on more than 1 % of the pixels, and with a pose that
is always the same on less than 0.5 % (measured: 0.26 % with Cycles, 0 with the others).
"""

from pathlib import Path

import numpy as np
import pytest
from blendtorch.core.discovery import Catalogue

pytestmark = pytest.mark.blender

SCENE = (Path(__file__).parent / "boxes.txt").read_text()  # what scripts begin with


def uniform(low, high):
    return {"draw": "uniform", "low": low, "high": high}


COLOR = uniform([0, 0, 0], [1, 1, 1])
CASES = {
    "pose": {"location": uniform([-3, -3, 1], [3, 3, 3]), "uniform_rotation": True},
    "scatter": {"low": (-3, -3, 1), "high": (3, 3, 1), "scale": uniform(0.5, 1)},
    "camera_shell": {"distance": uniform(8, 14)},
    "camera_box": {"low": (-8, -8, 4), "high": (8, 8, 9), "roll_deg": uniform(-20, 20)},
    "lens": {"focal_length_mm": uniform(30, 70), "shift_x": uniform(-0.2, 0.2)},
    "lights": {"energy": {"draw": "log_uniform", "low": 100, "high": 3000}, "color": COLOR},
    "material": {},
    "material surface": {"base_color": None, "roughness": uniform(0, 1), "metallic": uniform(0, 1)},
    "texture": {"folder": "pictures"},
    "world": {"color": COLOR},
    "world image": {"folder": "skies", "rotation_deg": uniform(0, 360)},
    "backdrop": {"folder": "pictures"},
    "visibility": {},
    "physics_drop": {"low": (-1.5, -1.5, 2), "high": (1.5, 1.5, 6), "ground": "Ground", "preroll": 20},
    "sensor": {"exposure": uniform(-2, 1)},
}
RENDERERS = {
    "workbench": {"name": "workbench", "color": "material", "antialiasing": "off"},
    "workbench-texture": {"name": "workbench", "color": "texture", "antialiasing": "off"},
    "eevee": {"name": "eevee", "samples": 1},
    "cycles": {"name": "cycles", "samples": 8, "denoiser": "off", "device": "cpu"},
}
LEVELS = {"cycles": 24}
SHADED = ("lights", "material surface", "world image")
REFUSED = {"workbench": (*SHADED, "texture"), "workbench-texture": SHADED}


def entry(label, **more):
    return {"name": label.split()[0], **CASES[label], **more}


def in_folder(entries):
    """What a script has for entries with folders beside it."""
    return f"[{{**e, **({{'folder': str(folder / e['folder'])}} if 'folder' in e else {{}})}} for e in {entries!r}]"


@pytest.fixture(scope="module")
def pictures():
    """By renderer, what each case gave: made by the first test that asks."""
    return {}


def test_every_randomizer_has_a_case():
    names = {
        each.name
        for each in Catalogue().all()
        if each.source.distribution == "blendtorch-standard" and each.kind == "randomizer"
    }
    assert {label.split()[0] for label in CASES} == names - {"assets"}  # which only runs with `assets` have: test_assets.py


@pytest.mark.parametrize("label", CASES)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_randomizer_changes_pixels_or_is_refused(items_of, pictures, renderer, label):
    if renderer not in pictures:
        items = items_of(
            SCENE
            + f"""
still = {{"name": "pose", "location": (0, 0, 1)}}
for label, entry in zip({["still", *CASES]}, [still, *{in_folder([entry(each) for each in CASES])}]):
    build()
    try:
        images, error = [sample["image"] for sample in run(entry, renderers=[{RENDERERS[renderer]!r}], count=3)], ""
    except Exception as raised:
        images, error = [], f"{{type(raised).__name__}}: {{raised}}"
    pub.publish(label=label, images=np.array(images), error=error, version=list(bpy.app.version))
""",
            scene="",
        )
        pictures[renderer] = {item["label"]: item for item in items}
    made = pictures[renderer][label]
    if label == "backdrop" and renderer != "cycles" and made["version"] < [4, 0, 0]:
        assert "draws a transparent film opaque in the viewport: render with Cycles or a newer Blender" in made["error"]
        return
    if label in REFUSED.get(renderer, ()):
        assert made["error"].startswith("ConfigurationError")
        assert "workbench does not show: use the renderer " in made["error"]
        return
    assert not made["error"]
    levels = LEVELS.get(renderer, 3)
    assert differing(made["images"], levels) > 0.01
    assert differing(pictures[renderer]["still"]["images"], levels) < 0.005
    assert made["images"].shape == (3, 48, 64, 3)


def differing(images, levels):
    """The largest share of pixels in which a picture differs from the first."""
    return max((np.abs(image.astype(int) - images[0]).max(axis=-1) > levels).mean() for image in images[1:])


PROBE = '''
import numpy as np
from blendtorch.core import ArraySpec, Renderer, hookimpl
from blendtorch.core.interfaces import EFFECTS
from blendtorch.core.seeding import stable_hash

class Probe(Renderer):
    """Shows everything, as numbers."""

    name, interface, shows = "probe", 1, EFFECTS
    emits = {"state": ArraySpec("float64", (None,))}

    def render(self, moment, camera):
        import bpy
        from blendtorch.btb import blender

        values = [camera.lens.focal_length_mm, camera.lens.shift_x, camera.lens.shift_y, *moment.scene.world.color]
        for obj in sorted(moment.scene.objects, key=lambda obj: obj.name):
            values += [*blender.world_matrix(obj).ravel(), obj.hide_render, obj.hide_viewport]
        for lamp in bpy.data.lights:
            values += [lamp.energy, *lamp.color]
        for material in bpy.data.materials:
            values += material.diffuse_color
        for owner in (*bpy.data.materials, moment.scene.world):
            for node in blender.node_tree(owner).nodes:
                image = getattr(node, "image", None)
                values.append(stable_hash(image.filepath) if image else 0)
                for socket in node.inputs:
                    value = getattr(socket, "default_value", 0.0)
                    values += list(value) if hasattr(value, "__len__") else [value]
        return {"state": np.array([value for value in values if not isinstance(value, str)], np.float64)}

@hookimpl
def blendtorch_register_renderers():
    return Probe
'''


@pytest.fixture
def probe(tmp_path):
    path = tmp_path / "probe.py"
    path.write_text(PROBE)
    return f"renderers=['probe'], plugins=[{str(path)!r}]"


def test_a_sample_after_others_equals_the_same_sample_made_first(items_of, probe):
    """Bit for bit, the state of the scene and the record: for each randomizer, drawing per episode and per frame."""
    entries = [
        entry(label, every=every)
        for label in CASES
        for every in ("episode", "frame")
        if (label, every) != ("physics_drop", "frame")
    ]
    items = items_of(
        SCENE
        + f"""
for entry in {in_folder(entries)}:
    for fields in ({{"count": 6}}, {{"start": 4, "count": 2}}):
        build()
        taken = run(entry, frames_per_episode=2, {probe}, **fields)
        pub.publish(entry=entry, drawn=[s["meta"]["drawn"] for s in taken], states=np.array([s["state"] for s in taken]))
"""
    )
    assert len(items) == 2 * len(entries)
    for after, first in zip(items[::2], items[1::2], strict=True):
        assert after["drawn"][4:] == first["drawn"], after["entry"]
        np.testing.assert_array_equal(after["states"][4:], first["states"], err_msg=str(after["entry"]))
        per_frame = after["entry"]["every"] == "frame"
        assert len(set(after["drawn"])) > (2 if per_frame else 1), after["entry"]
        assert per_frame == (after["drawn"][0] != after["drawn"][1]) or after["entry"]["name"] == "visibility"
        assert (after["states"] != after["states"][0]).any() or after["entry"]["name"] in {"backdrop", "sensor"}


def test_bodies_fall_alike_in_a_fresh_process_and_come_to_rest_on_the_ground(items_of):
    script = """
build()
taken = run({entry!r}, renderers=["workbench"], {fields})
pub.publish(worlds=np.array([[s["world"][f"Box{{n}}"] for n in range(4)] for s in taken]), drawn=taken[-1]["meta"]["drawn"])
"""
    drop = entry("physics_drop", preroll=150)
    (after,) = items_of(SCENE + script.format(entry=drop, fields="count=6, frames_per_episode=2"))
    (fresh,) = items_of(SCENE + script.format(entry=drop, fields="start=4, count=2, frames_per_episode=2"))
    np.testing.assert_array_equal(after["worlds"][4:], fresh["worlds"])
    assert after["drawn"] == fresh["drawn"]
    height = after["worlds"][..., 2, 3]
    assert np.abs(after["worlds"][1::2] - after["worlds"][::2]).max() < 0.01, "they still move"
    assert (height > 0.35).all()  # half an edge is 0.4; bodies sink into each other by the collision margin, 0.04
    assert (height < 2).all()


def refused(code, text, name, **options):
    return code, text, {"name": name, **options}


REFUSALS = {
    "F-curve": refused("box.keyframe_insert('location')", "an F-curve would overwrite", "pose", location=0),
    "driver": refused("box.driver_add('location', 0)", "a driver would overwrite", "scatter", low=(-3, -3, 1), high=(3, 3, 1)),
    "constraint": refused(
        "box.constraints.new('COPY_ROTATION')", "the constraint 'Copy Rotation'", "pose", uniform_rotation=True
    ),
    "camera constraint": refused("cam.constraints.new('TRACK_TO')", "the constraint 'Track To'", "camera_shell", distance=8),
    "physics": refused(
        "btb.blender.rigid_body(scene, box, 'ACTIVE')", "the physics would overwrite", "pose", location=1, every="frame"
    ),
    "lamp": refused("lamp.data.keyframe_insert('energy')", "an F-curve would", "lights", energy=5),
    "lens": refused("cam.data.keyframe_insert('lens')", "an F-curve would", "lens", focal_length_mm=30),
    "node": refused(
        "btb.blender.principled(paint)[0].inputs['Roughness'].keyframe_insert('default_value')",
        "an F-curve would",
        "material",
        roughness=0.5,
    ),
    "hidden by hand": refused("box.keyframe_insert('hide_render')", "an F-curve would", "visibility"),
    "linked color": refused(
        "t = btb.blender.node_tree(paint); n = t.nodes.new('ShaderNodeRGB'); n.name = 'Red';"
        "t.links.new(n.outputs[0], btb.blender.principled(paint)[0].inputs['Base Color'])",
        "base_color of the material 'Paint0' comes from its node 'Red'",
        "material",
    ),
    "no principled": refused("btb.blender.node_tree(paint).nodes.clear()", "'Paint0' has no Principled BSDF", "material"),
    "no such object": refused("", "no object is called 'Bax*'", "pose", objects="Bax*", location=0),
    "no such lamp": refused("", "no lamp is called 'Lamb': did you mean 'Lamp'", "lights", lamps="Lamb", energy=1),
    "no such material": refused("", "no material is called 'Paint': did you mean", "material", materials="Paint"),
    "no such camera": refused("", "no camera is called 'Box0'", "lens", cameras="Box0", shift_x=0),
    "no such target": refused("", "no object is called 'Bix'", "camera_box", low=(0, 0, 0), high=(1, 1, 1), target="Bix"),
    "no such ground": refused("", "no object is called 'Floor'", "physics_drop", low=(0, 0, 0), high=(9, 9, 9), ground="Floor"),
    "no ground": refused("", "no passive rigid body to fall on", "physics_drop", low=(0, 0, 0), high=(9, 9, 9)),
    "falling ground": refused(
        "", "is to fall and to be the ground", "physics_drop", low=(0, 0, 0), high=(9, 9, 9), ground="Box*"
    ),
    "falling child": refused(
        "box.parent = lamp", "'Box0' hangs on 'Lamp'", "physics_drop", low=(0, 0, 0), high=(9, 9, 9), ground="Ground"
    ),
    "riding camera": refused("cam.parent = box", "camera 'Cam' rides on 'Box0'", "camera_shell", distance=8),
    "orthographic": refused("cam.data.type = 'ORTHO'", "is orthographic", "lens", focal_length_mm=50),
    "different parents": refused("box.parent = lamp", "have different parents", "scatter", low=(0, 0, 0), high=(9, 9, 9)),
    "no room": refused("", "found no place without overlap in 50 tries", "scatter", low=(0, 0, 0), high=(1, 1, 0), tries=50),
    "no UV": refused(
        "o = bpy.data.objects.new('Text', bpy.data.curves.new('Text', 'FONT')); scene.collection.objects.link(o)",
        "'Text' of type FONT has no UV map",
        "texture",
        objects="Text",
        folder="pictures",
    ),
    **{
        f"{what} folder of {name}": refused(
            f"(folder / 'broken').mkdir(exist_ok=True); (folder / 'empty').mkdir(exist_ok=True);"
            f"(folder / 'broken' / '{'a.hdr' if name == 'world' else 'a.png'}').write_bytes(b'x' * 99)",
            text,
            name,
            folder=what,
        )
        for name in ("texture", "world", "backdrop")
        for what, text in (("empty", "has no image"), ("missing", "there is no such folder"), ("broken", "is no image that"))
    },
}


def test_what_cannot_work_is_refused_before_the_first_frame(items_of, probe):
    items = items_of(
        SCENE
        + f"""
for code, _, entry in {list(REFUSALS.values())!r}:
    scene = build()
    box, lamp, cam, paint = (*(bpy.data.objects[n] for n in ("Box0", "Lamp", "Cam")), bpy.data.materials["Paint0"])
    exec(code)
    entry = {in_folder("ENTRY").replace("'ENTRY'", "[entry]")}[0]
    taken, error = Taken(), ""
    try:
        btb.Pipeline(randomizers=[entry], count=1, {probe}, announce=print).run(taken)
    except Exception as raised:
        error = f"{{type(raised).__name__}}: {{raised}}"
    pub.publish(error=error, made=len(taken))
"""
    )
    for (what, (_, text, options)), item in zip(REFUSALS.items(), items, strict=True):
        assert text in item["error"], what
        assert item["error"].startswith(("ConfigurationError: randomizers[0]", "SceneError: randomizers[0]")), item["error"]
        assert f"randomizer '{options['name']}' of blendtorch-standard" in item["error"]
        assert item["made"] == 0
