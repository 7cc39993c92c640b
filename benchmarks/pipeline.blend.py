"""Runs a pipeline in one Blender, and publishes what a frame costs beyond what its parts do.

The parts are the calls of the plug-ins, of `scene.frame_set` and of `publish`: each is timed where it is called, within
the same frame, so what rendering takes from one frame to the next makes no difference.
"""

import statistics
import sys
import time

import bpy
from blendtorch import btb
from blendtorch.btb import animation

FRAMES, WARM_UP = int(sys.argv[-1]), 20
ANNOTATORS = ["camera", "boxes2d_loose", "boxes3d", "poses", "keypoints"]
RANDOMIZERS = [
    {"name": "pose", "uniform_rotation": True},
    {"name": "camera_shell", "target": "Cube", "distance": {"draw": "uniform", "low": 5, "high": 8}},
    {"name": "material", "base_color": {"draw": "uniform", "low": [0, 0, 0], "high": [1, 1, 1]}},
]


class Clock:
    """Adds up the time spent inside the calls that it wraps."""

    def __init__(self):
        self.seconds = 0.0

    def wrap(self, call):
        def timed(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


class Scene:
    """The current scene, with a timed `frame_set`: Blender's own cannot be replaced."""

    def __init__(self, scene, clock):
        self._scene = scene
        self.frame_set = clock.wrap(scene.frame_set)

    def __getattr__(self, name):
        return getattr(self._scene, name)


class Context:
    """`bpy.context` with that scene."""

    def __init__(self, clock):
        self.scene = Scene(bpy.context.scene, clock)

    def __getattr__(self, name):
        return getattr(bpy.context, name)


class Module:
    """`bpy` with that context, for the animation controller."""

    def __init__(self, clock):
        self.context = Context(clock)

    def __getattr__(self, name):
        return getattr(bpy, name)


def main():
    args, _ = btb.parse_blendtorch_args()
    publisher = btb.DataPublisher(args.btsockets["DATA"], args.btid)
    pipeline = btb.Pipeline(
        renderers=["workbench"], annotators=ANNOTATORS, randomizers=RANDOMIZERS, count=WARM_UP + FRAMES, resolution=(640, 480)
    )
    clock, frames = Clock(), []
    animation.bpy = Module(clock)
    for part in pipeline.parts:
        for name in {"render", "annotate", "randomize"} & set(dir(part.plugin)):
            setattr(part.plugin, name, clock.wrap(getattr(part.plugin, name)))
    publish = clock.wrap(publisher.publish_sample)
    begin = time.perf_counter()

    def publish_and_note(sample, index):
        nonlocal begin
        publish(sample, index)
        now = time.perf_counter()
        frames.append((now - begin, clock.seconds))
        clock.seconds, begin = 0.0, now

    publisher.publish_sample = publish_and_note
    pipeline.run(publisher)
    counted = frames[WARM_UP:]
    publisher.publish(
        overhead_ms=1e3 * statistics.median(frame - parts for frame, parts in counted),
        frame_ms=1e3 * statistics.median(frame for frame, _ in counted),
    )


main()
