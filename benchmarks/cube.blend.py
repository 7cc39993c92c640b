"""The cube scene for the benchmark: streamed, or rendered and dropped (`--bare FRAMES`)."""

import time

import bpy
import numpy as np
from blendtorch import btb

WARM_UP = 20

btargs, remainder = btb.parse_blendtorch_args()
bare = int(remainder[1]) if remainder else None
cube, cam = bpy.data.objects["Cube"], bpy.context.scene.camera
pub = btb.DataPublisher(btargs.btsockets["DATA"], btargs.btid)
off = btb.OffScreenRenderer(mode="rgb")
off.set_render_style(shading="RENDERED", overlays=False)
anim = btb.AnimationController()
begin = 0.0
frames = 0


def pre_frame():
    cube.rotation_euler = np.random.uniform(0, np.pi, size=3)


def post_frame():
    global begin, frames
    sample = {"image": off.render(), "xy": btb.camera.project_points(cube, camera=cam), "frameid": anim.frameid}
    if bare is None:
        pub.publish(**sample)
        return
    frames += 1
    if frames == WARM_UP:
        begin = time.perf_counter()
    if frames == WARM_UP + bare:
        pub.publish(seconds=time.perf_counter() - begin)


anim.pre_frame.add(pre_frame)
anim.post_frame.add(post_frame)
anim.play(frame_range=(0, 100), num_episodes=-1)
