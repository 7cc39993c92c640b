import bpy
import numpy as np
from blendtorch import btb


def main():
    btargs, remainder = btb.parse_blendtorch_args()

    cam = bpy.context.scene.camera
    cubes = list(bpy.data.collections["Cubes"].objects)
    materials = []
    for cube in cubes:
        material = bpy.data.materials.new(f"Random {cube.name}")
        cube.data.materials.append(material)
        materials.append(material)

    def pre_animation():
        # A new episode: new colours, and the cubes fall from new places, each from a cell of its own in a grid.
        cells = np.random.permutation(27)[: len(cubes)]
        places = np.stack(np.unravel_index(cells, (3, 3, 3)), axis=1) * 3.0 + (-3, -3, 3)
        for cube, material, place in zip(cubes, materials, places):
            material.diffuse_color = (*np.random.uniform(size=3), 1.0)
            cube.location = place
            cube.rotation_euler = np.random.uniform(-np.pi, np.pi, size=3)

    def post_frame(off, pub, anim):
        pub.publish(
            image=off.render(),
            xy=btb.camera.project_points(*cubes, camera=cam),
            frameid=anim.frameid,
        )

    pub = btb.DataPublisher(btargs.btsockets["DATA"], btargs.btid)

    off = btb.OffScreenRenderer(mode="rgb")
    off.set_render_style(shading="RENDERED", overlays=False)

    anim = btb.AnimationController()
    anim.pre_animation.add(pre_animation)
    anim.post_frame.add(post_frame, off, pub, anim)
    anim.play(frame_range=(0, 100), num_episodes=-1)


main()
