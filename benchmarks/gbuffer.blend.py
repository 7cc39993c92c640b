"""Measures the G-buffer in one Blender: each label alone, the picture, both, and the passes of Cycles; see gbuffer.py."""

import math
import time

import bpy
import numpy as np
from blendtorch import btb
from blendtorch.btb import blender
from blendtorch.btb.pipeline import SceneStage
from blendtorch.core import ArraySpec, Renderer
from blendtorch.core.composition import compose
from blendtorch.core.configuration import run_configuration
from blendtorch.core.sampler import Sampler
from blendtorch.core.testing.fakes import Given

SHAPE = (480, 640)
LABELS = [
    "depth",
    "distance",
    "normals",
    "position",
    "uv",
    "object_coordinates",
    "instance_ids",
    "category_ids",
    "material_ids",
    "boxes2d_tight",
    "boxes2d_amodal",
    "visibility",
    "masks_amodal",
    "flow",
]
THREE = ["normals", "depth", "instance_ids"]
CYCLES_PASSES = ["depth", "normals", "position", "uv", "instance_ids"]
WORKBENCH = {"name": "workbench", "antialiasing": "off"}  # the cheapest picture
EPISODE = 1000  # frames: longer than any measurement, so that flow always has a frame before


class Nothing(Renderer):
    """Takes the place of a picture."""

    name = "nothing"
    interface = 1
    emits = {"nothing": ArraySpec("uint8", (1,))}

    def render(self, moment, camera):  # noqa: ARG002
        return {"nothing": np.zeros(1, np.uint8)}


def twenty_objects():
    rng = np.random.default_rng(0)
    for _ in range(20):
        bpy.ops.mesh.primitive_monkey_add(
            size=1.2, location=rng.uniform((-3, -2, -2), (3, 2, 2)), rotation=rng.uniform(-3, 3, 3)
        )
        obj = bpy.context.object
        for frame in (1, EPISODE):
            obj.rotation_euler = rng.uniform(-30, 30, 3)
            obj.keyframe_insert("rotation_euler", frame=frame)


def many_triangles():
    bpy.ops.mesh.primitive_uv_sphere_add(segments=550, ring_count=273, radius=2)  # 299 200 triangles
    obj = bpy.context.object
    for frame, angle in ((1, 0), (EPISODE, 30)):
        obj.rotation_euler.z = angle
        obj.keyframe_insert("rotation_euler", frame=frame)


def deforming_mesh():
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=223, y_subdivisions=223, size=5)  # 50 176 vertices
    obj = bpy.context.object
    obj.shape_key_add(name="Basis")
    key = obj.shape_key_add(name="Wave")
    for vertex, moved in zip(obj.data.vertices, key.data, strict=True):
        moved.co.z = math.sin(3 * vertex.co.x) * math.cos(2 * vertex.co.y)
    for frame in (1, EPISODE):
        key.value = float(frame > 1)
        key.keyframe_insert("value", frame=frame)


SCENES = {"20_objects": twenty_objects, "300k_triangles": many_triangles, "deforming_50k": deforming_mesh}


def build(name):
    blender.open_scene("", run_scripts=False)
    scene = bpy.context.scene
    for obj in [obj for obj in scene.objects if obj.type == "MESH"]:
        bpy.data.objects.remove(obj)
    SCENES[name]()
    scene.camera.location, scene.camera.rotation_euler = (0, -9, 3), (1.25, 0, 0)
    scene.frame_start, scene.frame_end = 1, EPISODE


class Measured:
    """A run of some renderers and annotators, a frame at a time."""

    def __init__(self, renderers, annotators):
        entries = renderers or ["nothing"]
        configuration = run_configuration(
            renderers=entries, annotators=annotators, resolution=SHAPE[::-1], frames_per_episode=EPISODE, seed=0
        )
        self._stage = SceneStage(configuration, print)
        self._sampler = Sampler(configuration, compose(configuration, Given([Nothing])), self._stage)
        self._sampler.setup()
        self._sampler.begin_episode(0)
        self._frame = 0

    def ms(self, frames):
        """Milliseconds of the last frames, without their evaluation."""
        spent = []
        for _ in range(frames):
            self._stage.scene.frame_set(1 + self._frame)
            blender.depsgraph()
            begin = time.perf_counter()
            self._sampler.sample(self._frame)
            spent.append(1e3 * (time.perf_counter() - begin))
            self._frame += 1
        return float(np.median(spent))

    def close(self):
        self._sampler.close()


def main():
    arguments, (name, rounds, frames) = btb.parse_blendtorch_args()
    build(name)
    runs = {label: ([], [label]) for label in LABELS}
    runs["three"] = ([], THREE)
    runs["every_label"] = ([], LABELS)
    runs["picture"] = ([WORKBENCH], [])
    runs["picture_three"] = ([WORKBENCH], THREE)
    runs["picture_every_label"] = ([WORKBENCH], LABELS)
    cycles = {"name": "cycles", "device": "cpu", "samples": 1}
    runs["cycles"] = ([{**cycles, "passes": CYCLES_PASSES}], [])
    runs["cycles_picture"] = ([{**cycles, "passes": ["image", *CYCLES_PASSES]}], [])
    spent = {key: [] for key in runs}
    publisher = btb.DataPublisher(arguments.btsockets["DATA"], arguments.btid)
    for _ in range(int(rounds)):
        for key, (renderers, annotators) in runs.items():
            run = Measured(renderers, annotators)
            run.ms(3)  # compiles shaders, uploads meshes
            spent[key].append(run.ms(int(frames)))
            run.close()
            publisher.publish(spent=spent)


main()
