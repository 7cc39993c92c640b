"""The same in a real window: run under Xvfb, with a blender executable (`nox -s matrix`)."""

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.core.errors import InstanceError

pytestmark = pytest.mark.window

SCRIPT = """
scene, cube = bpy.context.scene, bpy.data.objects["Cube"]
scene.render.engine, scene.display.viewport_aa = "BLENDER_WORKBENCH", "OFF"
scene.render.resolution_x, scene.render.resolution_y = 160, 120
scene.view_settings.view_transform = "Standard"
scene.display.shading.light, scene.world.color = "FLAT", (0, 0, 0)
off = btb.OffScreenRenderer(mode="rgb")
anim = btb.AnimationController()
anim.pre_frame.add(lambda: setattr(cube, "rotation_euler", np.random.uniform(0, 3, 3)))
def publish():
    pub.publish(image=off.render(), xy=btb.camera.project_points(cube), frameid=anim.frameid, background=bpy.app.background)
anim.post_frame.add(publish)
"""


def test_frames_come_from_a_window_and_agree_with_their_labels(launch):
    with launch(SCRIPT + "anim.play((1, 10), num_episodes=-1)", background=False, seed=1) as launcher:
        items = list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], max_items=25))
    assert [item["frameid"] for item in items] == [*range(1, 11), *range(1, 11), *range(1, 6)]
    for item in items:
        assert item["background"] is False
        y, x = np.nonzero(item["image"].max(axis=-1) > 100)
        # The outline's extent and that of the corners: within a pixel and a half, for corners may be sharp.
        np.testing.assert_allclose([x.min(), y.min()], item["xy"].min(axis=0), atol=1.5)
        np.testing.assert_allclose([x.max() + 1, y.max() + 1], item["xy"].max(axis=0), atol=1.5)


def test_an_error_in_a_window_reaches_the_trainer(launch):
    script = SCRIPT + "anim.post_frame.add(lambda: 1 / 0)\nanim.play((1, 10), num_episodes=-1)"
    with launch(script, background=False) as launcher, pytest.raises(InstanceError, match="ZeroDivisionError"):
        list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))


def test_the_blocking_loop_works_in_a_window_too(launch):
    script = SCRIPT + "anim.play((1, 5), num_episodes=2, use_animation=False)\npub.close()"
    with launch(script, background=False) as launcher:
        items = list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))
    assert [item["frameid"] for item in items] == [*range(1, 6)] * 2


def test_a_scene_that_does_not_open_in_a_window_is_an_error(launch, tmp_path):
    (tmp_path / "broken.blend").write_text("this is no scene")
    with (
        launch("pub.publish(a=1)", scene=tmp_path / "broken.blend", background=False) as launcher,
        pytest.raises(InstanceError, match="cannot open .*broken.blend"),
    ):
        list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))


def test_a_finite_script_ends_its_stream_and_keeps_its_window(launch):
    with launch(SCRIPT + "anim.play((1, 5), num_episodes=2)", background=False) as launcher:
        assert len(list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))) == 10
        launcher.assert_alive()


def test_a_scene_file_opens_in_a_window(launch, items_of, tmp_path):
    path = tmp_path / "named.blend"
    items_of(f"bpy.data.objects['Cube'].name = 'Mine'\nbpy.ops.wm.save_as_mainfile(filepath={str(path)!r})")
    with launch("pub.publish(mine='Mine' in bpy.data.objects)", scene=path, background=False) as launcher:
        item = next(iter(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])))
    assert item["mine"]
