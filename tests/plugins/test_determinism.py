"""The same seed gives the same samples, however many instances make them and whatever they made before.

Labels and drawn values bit for bit; pictures within one level on at most 0.1 % of the values (Workbench's own repeats differ by so much).
"""

import json

import numpy as np
import pytest
from blendtorch import btt

pytestmark = pytest.mark.blender

SCENE = """
import bpy
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add(size=20)
ground = bpy.context.object
ground.name = "Ground"
bpy.ops.rigidbody.object_add(type="PASSIVE")
cube = bpy.data.objects["Cube"]
cube.scale = (0.4, 0.4, 0.4)
for number in range(3):
    copy = cube.copy()
    scene.collection.objects.link(copy)
scene.render.engine = "BLENDER_WORKBENCH"
bpy.ops.wm.save_as_mainfile(filepath={path!r})
"""
RUN = {
    "annotators": ["camera", "poses", "boxes2d_loose", "keypoints"],
    "randomizers": [
        {"name": "physics_drop", "low": [-2, -2, 1], "high": [2, 2, 4], "preroll": 8},
        {"name": "material", "base_color": {"draw": "uniform", "low": [0.1, 0.1, 0.1], "high": [1, 1, 1]}},
        {"name": "camera_shell", "distance": {"draw": "uniform", "low": 9, "high": 11}, "every": "frame"},
    ],
    "objects": [{"match": "Cube*", "category": "cube"}],
    "resolution": (96, 72),
    "seed": 11,
    "frames_per_episode": 4,
}


@pytest.fixture
def falling(items_of, tmp_path):
    path = tmp_path / "falling.blend"
    items_of(SCENE.format(path=str(path)))
    return path


def arrays_of(sample):
    return {
        f"{name}.{field}": array
        for name, fields in sample.items()
        if isinstance(fields, dict) and name != "meta"
        for field, array in fields.items()
    }


def world_from_objects(sample):
    return np.linalg.inv(sample["camera"]["camera_from_world"]) @ sample["poses"]["camera_from_object"]


def assert_same(one, other):
    assert one["meta"]["drawn"] == other["meta"]["drawn"]
    arrays, others = arrays_of(one), arrays_of(other)
    assert set(arrays) == set(others)
    for name, array in arrays.items():
        assert array.tobytes() == others[name].tobytes(), f"{name} of sample {one['meta']['index']}"
    difference = np.abs(one["image"].astype(int) - other["image"])
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


def samples(scene, blender, **arguments):
    with btt.stream(scene, blender=blender, **{**RUN, **arguments}) as dataset:
        return {sample["meta"]["index"]: sample for sample in dataset}


def test_neither_instances_nor_history_nor_other_randomizers_change_a_sample(falling, blender):
    alone = samples(falling, blender, count=24)
    shared = samples(falling, blender, count=24, num_instances=3)
    assert sorted(alone) == sorted(shared) == list(range(24))
    for index in alone:
        assert_same(alone[index], shared[index])
    assert {sample["meta"]["btid"] for sample in shared.values()} == {0, 1, 2}
    # The last episode from its second frame on, by a process that made no other.
    late = samples(falling, blender, start=21, count=3)
    assert sorted(late) == [21, 22, 23]
    for index in late:
        assert_same(alone[index], late[index])
    # They fall: elsewhere in each episode, and from frame to frame.
    places = [world_from_objects(alone[index])[:, :3, 3] for index in (0, 1, 4)]
    assert np.abs(places[0] - places[2]).max() > 0.1
    assert (places[1][:, 2] < places[0][:, 2] - 0.01).any()
    # One more randomizer shifts no other's draws.
    world = {"name": "world", "color": {"draw": "uniform", "low": [0, 0, 0], "high": [1, 1, 1]}}
    more = samples(falling, blender, count=4, randomizers=[world, *RUN["randomizers"]])
    for index, sample in more.items():
        drawn = json.loads(sample["meta"]["drawn"])
        assert drawn.pop("world")
        assert drawn == json.loads(alone[index]["meta"]["drawn"])
