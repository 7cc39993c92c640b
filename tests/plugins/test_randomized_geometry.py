"""Where randomizers put objects and cameras, measured in the evaluated scene.

Blender keeps places in float32: distances and directions are right to 1e-4 at the sizes used here, some 10 scene units.
"""

from pathlib import Path

import numpy as np
import pytest
from blendtorch.core.configuration import read_options
from blendtorch.core.errors import ConfigurationError
from blendtorch_standard.randomizers import (
    CameraBox,
    CameraShell,
    Lens,
    Lights,
    Material,
    PhysicsDrop,
    Pose,
    Scatter,
    Visibility,
    World,
    rotations,
)

SCENE = (Path(__file__).parent / "boxes.txt").read_text()  # what scripts begin with


def uniform(low, high):
    return {"draw": "uniform", "low": low, "high": high}


SHELL = {
    "name": "camera_shell",
    "distance": uniform(4, 12),
    "elevation_deg": uniform(-90, 90),
    "roll_deg": uniform(-180, 180),
}
WRONG_OPTIONS = {
    "nothing to do": (Pose, {}, "nothing is randomized: give location or rotation_deg or uniform_rotation or scale"),
    "nothing to set": (Lens, {}, "nothing is randomized"),
    "nothing to shine": (Lights, {"lamps": "*"}, "nothing is randomized"),
    "nothing to paint": (Material, {"base_color": None}, "nothing is randomized"),
    "two rotations": (Pose, {"rotation_deg": 0, "uniform_rotation": True}, "choose one"),
    "two numbers": (Pose, {"location": [1, 2]}, "location: expected 3 numbers or one"),
    "text": (
        Lights,
        {"energy": {"draw": "choice", "values": [1, "bright"]}},
        "energy: expected 1 numbers or one, got 'bright'",
    ),
    "no distance": (CameraShell, {}, "missing required field `distance`"),
    "inside out": (Scatter, {"low": [0, 0, 1], "high": [1, 1, 0]}, "expected low <= high for x, y and z"),
    "flat box": (CameraBox, {"low": [0, 0], "high": [1, 1]}, "Expected `array` of length 3, got 2 - at `randomizers[0].low`"),
    "probability": (Visibility, {"probability": 1.5}, "expected a number from 0 to 1"),
    "per frame": (PhysicsDrop, {"low": [0, 0, 0], "high": [1, 1, 1], "every": "frame"}, "Invalid enum value 'frame'"),
    "both worlds": (World, {"color": 1, "folder": "x"}, "give color, or folder, and not both"),
    "no world": (World, {}, "give color, or folder, and not both"),
}


@pytest.mark.parametrize("what", WRONG_OPTIONS)
def test_wrong_options_are_refused_when_they_are_read(what):
    cls, options, text = WRONG_OPTIONS[what]
    with pytest.raises(ConfigurationError) as caught:
        read_options(cls, options, "randomizers[0]")
    assert text in str(caught.value)
    assert "randomizers[0]" in str(caught.value)


def test_zero_is_something_to_set():
    assert read_options(Pose, {"location": 0}, "").location == 0


def test_any_rotation_is_as_likely_as_any_other():
    """The angle of a uniform rotation has the distribution (angle - sin angle) / pi, and the mean matrix is 0 (Shoemake 1992)."""
    rng = np.random.default_rng(0)
    matrices = np.array([rotations.from_quaternion(rotations.any_quaternion(rng)) for _ in range(20000)])
    angles = np.sort(np.arccos(np.clip((np.trace(matrices, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    expected = (angles - np.sin(angles)) / np.pi
    assert np.abs(expected - np.linspace(0, 1, len(angles))).max() < 0.015  # Kolmogorov-Smirnov: 0.0138 in 1 of 1000
    assert np.abs(matrices.mean(axis=0)).max() < 0.02
    np.testing.assert_allclose(matrices @ matrices.swapaxes(1, 2), np.broadcast_to(np.eye(3), matrices.shape), atol=1e-12)
    assert (np.linalg.det(matrices) > 0).all()


@pytest.mark.blender
def test_cameras_stand_and_look_where_they_should(items_of):
    """Also at a target that is placed after them, that has a parent, and that moves by its animation."""
    items = items_of(
        SCENE
        + f"RANGE = {uniform([-3, -3, 0], [3, 3, 2])}\nSHELL = {SHELL}\n"
        + """
def cameras(entry, move):
    scene = build()
    scene.collection.objects.link(bpy.data.objects.new("Second", bpy.data.cameras.new("Second")))
    bpy.data.objects["Second"].rotation_mode = "QUATERNION"
    box, other = bpy.data.objects["Box1"], bpy.data.objects["Box2"]
    other.parent = bpy.data.objects["Box3"]
    if move:
        other.keyframe_insert("location", frame=1)
        other.location.x += 5
        other.keyframe_insert("location", frame=3)
    pose = {"name": "pose", "objects": "Box[13]", "every": "frame", "location": RANGE}
    taken = run(entry, pose, frames_per_episode=3, count=12, cameras=("Cam", "Second"))
    for sample in taken:
        drawn = json.loads(sample["meta"]["drawn"])[entry["name"]]
        pub.publish(name=entry["name"], world=sample["world"], drawn=drawn, target=entry.get("target"))
    bpy.data.objects["Cam"].parent is None and len(bpy.data.objects) == 8 or 1 / 0  # the rig is gone

cameras(SHELL, True)
cameras({**SHELL, "target": "Box2"}, True)
cameras({**SHELL, "target": (1, 2, 3), "every": "frame"}, False)
cameras({"name": "camera_box", "low": (-8, -8, 4), "high": (8, 8, 9), "roll_deg": 30, "target": "Box2"}, True)
"""
    )
    assert len(items) == 48
    for item in items:
        world = item["world"]
        boxes = [world[f"Box{number}"][:3, 3] for number in range(4)]
        target = {"Box2": boxes[2], None: np.mean(boxes, axis=0)}.get(
            item["target"] if isinstance(item["target"], str) else None
        )
        target = np.array(item["target"]) if isinstance(item["target"], (list, tuple)) else target
        for name in ("Cam", "Second"):
            drawn, matrix = item["drawn"][name], world[name]
            away = matrix[:3, 3] - target
            distance = np.linalg.norm(away)
            right, up, back = matrix[:3, :3].T
            np.testing.assert_allclose(back, away / distance, atol=1e-4)
            if item["name"] == "camera_box":
                np.testing.assert_allclose(matrix[:3, 3], drawn["location"], atol=1e-5)
                assert (np.array([-8, -8, 4]) <= matrix[:3, 3]).all()
                assert (matrix[:3, 3] <= np.array([8, 8, 9])).all()
                level = np.cross([0, 0, 1], back)
                turned = level / np.linalg.norm(level) @ np.column_stack([right, up])
                np.testing.assert_allclose(np.degrees(np.arctan2(-turned[1], turned[0])), 30, atol=0.01)
                continue
            assert abs(distance - drawn["distance"]) < 1e-4
            elevation = np.degrees(np.arctan2(away[2], np.hypot(*away[:2])))
            azimuth = np.degrees(np.arctan2(away[1], away[0])) - drawn["azimuth_deg"]
            assert abs(elevation - drawn["elevation_deg"]) < 0.01
            assert abs((azimuth + 180) % 360 - 180) < 0.01 / np.cos(np.radians(elevation))
            upright = np.cross([0, 0, 1], back)
            turned = upright / np.linalg.norm(upright) @ np.column_stack([right, up])
            roll = np.degrees(np.arctan2(-turned[1], turned[0])) - drawn["roll_deg"]
            assert abs((roll + 180) % 360 - 180) < 0.05 / np.cos(np.radians(elevation))


@pytest.mark.blender
def test_scattered_objects_lie_in_the_region_apart_from_each_other(items_of):
    items = items_of(
        SCENE
        + f"HALF = {uniform(0.5, 1)}\n"
        + """
build()
ring = bpy.data.objects.new("Ring", None)
bpy.context.scene.collection.objects.link(ring)
ring.location, ring.rotation_euler = (5, 1, 2), (0.3, 0.2, 0.1)
for number in range(4):
    bpy.data.objects[f"Box{number}"].parent = ring
spin = {"name": "pose", "uniform_rotation": True}
scatter = {"name": "scatter", "low": (-1.5, -1.5, 0), "high": (1.5, 1.5, 0), "gap": 0.1, "scale": HALF}
for sample in run(scatter, spin, count=20):
    pub.publish(world=sample["world"], drawn=json.loads(sample["meta"]["drawn"])["scatter"])
"""
    )
    assert len(items) == 20
    closest = []
    for item in items:
        ring_from_world = np.linalg.inv(item["world"]["Ring"])
        boxes = {name: ring_from_world @ item["world"][name] for name in item["drawn"]}
        for name, matrix in boxes.items():
            np.testing.assert_allclose(matrix[:3, 3], item["drawn"][name]["location"], atol=1e-5)
            assert np.abs(matrix[:3, 3]).max() < 1.5 + 1e-5
            assert abs(matrix[2, 3]) < 1e-5
            assert np.linalg.norm(matrix[:3, 0]) == pytest.approx(item["drawn"][name]["scale"], abs=1e-5)
        reach = {name: 0.4 * np.sqrt(3) * item["drawn"][name]["scale"] for name in boxes}
        closest += [
            np.linalg.norm(boxes[one][:3, 3] - boxes[two][:3, 3]) - reach[one] - reach[two]
            for one in boxes
            for two in boxes
            if one < two
        ]
    assert 0.1 - 1e-4 < min(closest) < 0.5  # kept apart, and not by more than was asked for


@pytest.mark.blender
def test_poses_hold_in_every_rotation_mode_and_relative_ones_do_not_add_up(items_of):
    items = items_of(
        SCENE
        + """
turn = {"name": "pose", "objects": "Box0", "rotation_deg": (20, -130, 70), "location": (1, 2, 3), "scale": 2}
modes = ("XYZ", "ZYX", "YXZ", "QUATERNION", "AXIS_ANGLE")
for relative in (False, True):
    for mode in modes:
        build()
        box = bpy.data.objects["Box0"]
        box.rotation_mode = mode
        btb.blender.set_rotation(box, np.eye(3)[[1, 2, 0]])
        box.location, box.scale = (0, 0, 1), (1, 1, 3)
        taken = run({**turn, "relative": relative}, count=3)
        assert bpy.data.objects["Box0"].rotation_mode == mode
        pub.publish(relative=relative, matrices=np.array([sample["world"]["Box0"] for sample in taken]))
"""
    )
    assert len(items) == 10
    radians = np.radians([20, -130, 70])
    for item in items:
        start = np.eye(3)[[1, 2, 0]] if item["relative"] else np.eye(3)
        about = {}
        for axis, angle in zip("xyz", radians, strict=True):
            one, two = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
            about[axis] = np.eye(3)
            about[axis][[one, one, two, two], [one, two, one, two]] = [
                np.cos(angle),
                -np.sin(angle),
                np.sin(angle),
                np.cos(angle),
            ]
        scale = np.diag([2, 2, 6]) if item["relative"] else 2 * np.eye(3)
        expected = about["z"] @ about["y"] @ about["x"] @ start @ scale
        location = [1, 2, 4] if item["relative"] else [1, 2, 3]
        for matrix in item["matrices"]:
            np.testing.assert_allclose(matrix[:3, :3], expected, atol=1e-5)
            np.testing.assert_allclose(matrix[:3, 3], location, atol=1e-6)


@pytest.mark.blender
def test_a_simulation_does_not_run_up_to_its_first_sample_among_what_the_last_episode_left(items_of):
    """A ground that is tilted for each frame: while the boxes fall it stands as it does at the first sample."""
    items = items_of(
        SCENE
        + f"TILT = {uniform([-30, -30, 0], [30, 30, 0])}\n"
        + """
drop = {"name": "physics_drop", "low": (-1.5, -1.5, 2), "high": (1.5, 1.5, 6), "ground": "Ground", "preroll": 20}
tilt = {"name": "pose", "objects": "Ground", "rotation_deg": TILT, "every": "frame"}
for fields in ({"count": 6}, {"start": 4, "count": 2}):
    build()
    pub.publish(boxes=np.array([sample["world"]["Box0"] for sample in run(drop, tilt, frames_per_episode=2, **fields)]))
"""
    )
    np.testing.assert_array_equal(items[0]["boxes"][4:], items[1]["boxes"])
