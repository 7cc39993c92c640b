"""Models of other programs in the scene: trimesh writes them, and says where their vertices belong in the picture."""

import json

import numpy as np
import pytest
import trimesh
from blendtorch import btt
from blendtorch.btt.inspection import ask
from blendtorch.btt.runtimes import find_runtime
from blendtorch.core import geometry
from blendtorch.core.assets import Asset, resolve
from blendtorch.core.errors import BlendtorchError, ConfigurationError, InstanceError
from blendtorch.core.inspection import Question

pytestmark = pytest.mark.blender

Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # glTF and OBJ have y up; Blender turns them about x


def bracket():
    """An L, no two of whose sides are alike, off its origin."""
    foot = trimesh.creation.box(bounds=[[0, 0, 0], [0.12, 0.05, 0.01]])
    wall = trimesh.creation.box(bounds=[[0, 0, 0.01], [0.02, 0.05, 0.08]])
    return trimesh.util.concatenate([foot, wall])


def save(mesh, path):
    """Write a mesh; trimesh leaves files open that it opens itself."""
    content = mesh.export(file_type=path.suffix[1:])
    parts = content if isinstance(content, dict) else {path.name: content}
    for name, part in parts.items():
        target = path if name == "model.gltf" else path.with_name(name)
        target.write_bytes(part.encode() if isinstance(part, str) else part)


@pytest.fixture
def stream(blender):
    def stream(**arguments):
        arguments = {"resolution": (160, 120), "count": 4, "annotators": ["boxes2d_loose", "poses", "camera"], **arguments}
        with btt.stream(blender=blender, **arguments) as dataset:
            return list(dataset)

    return stream


@pytest.fixture
def measure(blender):
    def measure(*assets):
        question = Question(topics=("sizes",), assets=resolve(assets))
        return list(ask(find_runtime(blender), question, 120))

    return measure


@pytest.fixture
def files(tmp_path):
    """The bracket in metres, in each format that trimesh writes; a BOP model has millimetres."""
    for suffix in ("glb", "gltf", "obj", "ply", "stl"):
        folder = tmp_path / suffix
        folder.mkdir()
        save(bracket(), folder / f"bracket.{suffix}")
    (tmp_path / "bop").mkdir()
    scaled = bracket().apply_scale(1000).apply_translation([-60, -25, -40])
    save(scaled, tmp_path / "bop" / "obj_000007.ply")
    return tmp_path


def test_models_have_their_size_in_each_format(measure, files):
    formats = ("glb", "gltf", "obj", "ply", "stl")
    sizes = measure(*(Asset(files=str(files / suffix / f"bracket.{suffix}")) for suffix in formats))
    for suffix, size in zip(formats, sizes, strict=True):
        expected = (0.12, 0.08, 0.05) if suffix in ("glb", "gltf", "obj") else (0.12, 0.05, 0.08)
        np.testing.assert_allclose(size.dimensions, expected, atol=1e-6, err_msg=suffix)
        assert size.faces == 24
        assert "its origin lies outside" not in "".join(size.notices)  # it lies on its corner


def test_units_and_formats_that_blender_writes(measure, launch, tmp_path):
    """Blender itself exports a bar of 2 x 0.4 x 0.2: FBX has centimetres, USD says its unit."""
    script = """
    bpy.ops.mesh.primitive_cube_add(size=1, scale=(2, 0.4, 0.2))
    bpy.ops.object.transform_apply()
    bar = bpy.context.object
    for other in [each for each in bpy.data.objects if each != bar]:
        bpy.data.objects.remove(other)
    folder = remainder[0]
    bpy.ops.export_scene.fbx(filepath=folder + "/bar.fbx")
    if "usd_export" in dir(bpy.ops.wm):
        bpy.ops.wm.usd_export(filepath=folder + "/bar.usdc")
    """
    with launch(script, instance_args=[[str(tmp_path)]]) as launcher:
        launcher.wait()
    written = sorted(each.name for each in tmp_path.glob("bar.*"))
    sizes = measure(*(Asset(files=str(tmp_path / name)) for name in written), Asset(files=str(tmp_path / "bar.fbx"), unit="mm"))
    for size in sizes[:-1]:
        np.testing.assert_allclose(size.dimensions, (2, 0.4, 0.2), rtol=1e-5, err_msg=size.file)
    np.testing.assert_allclose(sizes[-1].dimensions, (0.002, 0.0004, 0.0002), rtol=1e-5)


BROKEN = {
    "bad.glb": b"garbage",
    "bad.stl": b"solid nothing",
    "bad.obj": b"garbage",
    "flat.obj": b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(measure, tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(InstanceError, match=rf"/{name}(: | has no (mesh|faces) that )") as refused:
        measure(Asset(files=str(tmp_path / name)))
    assert "\n" not in str(refused.value), "one sentence"


def corners(sample, row):
    """Project the corners of a BOP model by its label alone: pose, camera matrix, and the file in millimetres."""
    mesh = bracket().apply_scale(1000).apply_translation([-60, -25, -40])
    points = geometry.transform(sample["poses"]["camera_from_object"][row], np.asarray(mesh.vertices) / 1000)
    projected = points @ sample["camera"]["K"].T
    return projected[:, :2] / projected[:, 2:]


def test_the_pose_of_a_bop_model_is_that_of_its_file(stream, files):
    randomizers = [
        {"name": "scatter", "low": [-0.3, -0.3, 0.1], "high": [0.3, 0.3, 0.3]},
        {"name": "pose", "uniform_rotation": True},
        {"name": "camera_shell", "distance": {"draw": "uniform", "low": 1.0, "high": 1.5}},
    ]
    assets = [{"files": str(files / "bop"), "count": [1, 3]}]
    samples = stream(assets=assets, randomizers=randomizers, count=8, seed=4)
    shown = 0
    for sample in samples:
        assert sample["objects"]["category_id"].tolist() == [7, 7, 7]
        assert 1 <= len(json.loads(sample["meta"]["drawn"])["assets"]["shown"]) == sample["poses"]["valid"].sum() <= 3
        for row in np.flatnonzero(sample["boxes2d_loose"]["valid"]):
            xy = corners(sample, row)
            # The vertices of the file are float32 of up to 80 mm; Blender's matrices too.
            np.testing.assert_allclose(sample["boxes2d_loose"]["unclipped"][row], [*xy.min(axis=0), *xy.max(axis=0)], atol=0.01)
            shown += 1
    assert shown > 8


def test_copies_come_and_go_and_never_overlap(stream, files):
    """Two kinds of parts and two kinds of distractors; labels for the parts alone, whatever the number of instances."""
    save(trimesh.creation.icosphere(subdivisions=2, radius=0.05), files / "ball.stl")
    save(trimesh.creation.box(extents=(0.1, 0.1, 0.1)), files / "die.stl")
    arguments = {
        "assets": [
            {"files": [str(files / "stl" / "bracket.stl"), str(files / "die.stl")], "count": [0, 3], "category": "{name}"},
            {"files": str(files / "ball.stl"), "count": [1, 4]},
        ],
        "randomizers": [{"name": "scatter", "low": [-0.4, -0.4, 0.1], "high": [0.4, 0.4, 0.1], "gap": 0.01}],
        "count": 12,
        "seed": 1,
        "annotators": ["boxes3d", "poses", "camera", "instance_ids"],
    }
    samples = sorted(stream(**arguments), key=lambda sample: sample["meta"]["index"])
    again = sorted(stream(**arguments, num_instances=2), key=lambda sample: sample["meta"]["index"])
    parts, distractors = set(), set()
    for sample, other in zip(samples, again, strict=True):
        assert sample["meta"]["drawn"] == other["meta"]["drawn"]
        for field in ("center", "size", "valid"):
            np.testing.assert_array_equal(sample["boxes3d"][field], other["boxes3d"][field])
        np.testing.assert_array_equal(sample["instance_ids"]["instance_ids"], other["instance_ids"]["instance_ids"])
        assert sample["objects"]["category_id"].tolist() == [1, 1, 2, 2]  # bracket, bracket, die, die
        drawn = json.loads(sample["meta"]["drawn"])
        shown = drawn["assets"]["shown"]
        balls = [name for name in shown if name.startswith("ball")]
        parts.add(len(shown) - len(balls))
        distractors.add(len(balls))
        assert sample["boxes3d"]["valid"].sum() == len(shown) - len(balls)
        assert np.isnan(sample["boxes3d"]["center"][~sample["boxes3d"]["valid"]]).all()
        assert set(drawn["scatter"]) == set(shown)
        places = np.array([each["location"] for each in drawn["scatter"].values()])
        apart = np.linalg.norm(places[:, None] - places, axis=-1)[~np.eye(len(places), dtype=bool)]
        assert (apart > 0.1).all()
    assert parts == {0, 1, 2, 3}
    assert distractors == {1, 2, 3, 4}


@pytest.mark.parametrize("size", [0.3, 0.02])
def test_small_parts_fall_onto_the_ground_as_large_ones_do(stream, files, size):
    save(trimesh.creation.box(extents=(size, size, size)), files / "die.stl")
    samples = stream(
        assets=[{"files": str(files / "die.stl"), "count": [1, 3]}],
        randomizers=[
            {
                "name": "physics_drop",
                "ground": "Ground",
                "low": [-2 * size, -2 * size, size],
                "high": [2 * size, 2 * size, 3 * size],
            }
        ],
        annotators=["boxes3d", "camera"],
        count=3,
    )
    for sample in samples:
        world_from_camera = np.linalg.inv(sample["camera"]["camera_from_world"])
        valid = sample["boxes3d"]["valid"]
        lowest = geometry.transform(world_from_camera, sample["boxes3d"]["corners"][valid].reshape(-1, 3))[:, 2]
        lowest = lowest.reshape(-1, 8).min(axis=1)
        assert (np.abs(lowest) < 0.03 * size).all(), lowest / size


def test_the_camera_looks_at_what_is_there(stream, files):
    samples = stream(
        assets=[{"files": str(files / "ply" / "bracket.ply"), "count": [1, 3], "origin": "center"}],
        randomizers=[{"name": "camera_shell", "distance": 2.0}],
        count=5,
    )
    assert len({int(sample["poses"]["valid"].sum()) for sample in samples}) > 1
    for sample in samples:
        center = sample["poses"]["camera_from_object"][sample["poses"]["valid"], :3, 3].mean(axis=0)
        np.testing.assert_allclose(center, [0, 0, 2.0], atol=1e-4)


def test_a_mesh_is_a_scene_lit_and_in_view(stream, files, capfd):
    assembly = trimesh.Scene([bracket(), trimesh.creation.icosphere(radius=0.02).apply_translation([0.1, 0.03, 0.03])])
    save(assembly, files / "assembly.glb")
    [sample] = stream(scene=files / "assembly.glb", unit="cm", count=1, annotators=["boxes2d_loose", "poses"], objects=[])
    assert "The scene is assembly.glb: 0.0012 x 0.0008 x 0.0005 m" in capfd.readouterr().err
    assert sample["objects"]["category_id"].tolist() == [1]  # both parts are one object, named by the file
    x_min, y_min, x_max, y_max = sample["boxes2d_loose"]["clipped"][0]
    assert not sample["boxes2d_loose"]["truncated"][0]
    assert (x_max - x_min) * (y_max - y_min) > 0.1 * 160 * 120
    assert sample["image"].std() > 5


def test_colors_of_vertices_are_shown_and_what_has_none_is_grey(stream, files):
    colored = bracket()
    colored.visual.vertex_colors = np.tile([[255, 0, 0, 255]], (len(colored.vertices), 1))
    save(colored, files / "red.ply")
    cycles = {"name": "cycles", "samples": 1}
    [red] = stream(scene=files / "red.ply", renderer=cycles, count=1, annotators=["instance_ids"])
    [grey] = stream(scene=files / "stl" / "bracket.stl", renderer=cycles, count=1, annotators=["instance_ids"])
    red, grey = (each["image"][each["instance_ids"]["instance_ids"] == 1].mean(axis=0) for each in (red, grey))
    assert red[0] > 2 * red[1:].max()
    assert np.ptp(grey) < 0.1 * grey.mean()
    assert grey.min() > 40


def test_rules_and_assets_both_name_what_gets_labels(stream, files):
    rules = [{"match": "Ground", "category": "floor"}]
    assets = [{"files": str(files / "stl" / "bracket.stl"), "count": 2, "category": "bracket"}]
    samples = stream(assets=assets, objects=rules, count=1, annotators=["boxes3d"])
    assert samples[0]["objects"]["category_id"].tolist() == [1, 2, 2]
    assert samples[0]["boxes3d"]["valid"].all()


def test_models_come_into_a_scene_whose_active_collection_is_hidden(items_of, files):
    script = f"""
    hidden = bpy.data.collections.new("Hidden")
    bpy.context.scene.collection.children.link(hidden)
    layer = bpy.context.view_layer.layer_collection.children["Hidden"]
    bpy.context.view_layer.active_layer_collection = layer
    hidden.hide_render = True
    frames = bpy.context.scene.frame_end
    assets = [{{"files": {str(files / "glb" / "bracket.glb")!r}, "category": "bracket"}}]
    pipeline = btb.Pipeline(assets=assets, annotators=["boxes3d"], count=1, resolution=(64, 48))
    pub.publish(frames=[frames, bpy.context.scene.frame_end], camera=bpy.context.scene.camera.name)
    pipeline.run(pub)
    """
    said, sample = items_of(script)
    assert said["frames"][0] == said["frames"][1]
    assert said["camera"] == "Camera"
    np.testing.assert_allclose(sorted(sample["boxes3d"]["size"][0]), [0.05, 0.08, 0.12], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"assets": [{"files": "nothing/*.glb"}]}, r"assets\[0\].files: 'nothing/\*.glb' names no file"),
        ({"assets": [{"files": "cad.step"}]}, "pip install cascadio"),
        ({"scene": "cad.step"}, "scene: cad.step is a CAD file"),
        ({"scene": "notes.txt"}, "notes.txt is of no format"),
        ({"unit": "mm"}, "the scene is no mesh"),
        ({"assets": [{"files": "die.stl"}], "randomizers": ["assets"]}, r"randomizers\[0\]: a run with `assets`"),
    ],
)
def test_what_cannot_work_is_refused_before_a_blender_starts(files, monkeypatch, arguments, reason):
    monkeypatch.chdir(files)
    for name in ("cad.step", "notes.txt", "die.stl"):
        (files / name).touch()
    with pytest.raises(BlendtorchError, match=reason) as refused:
        btt.stream(**arguments, count=1)
    assert isinstance(refused.value, (ConfigurationError, ValueError))
