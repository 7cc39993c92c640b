"""Live streams in the page: of its own, and of instances that run already."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from blendtorch import btt
from blendtorch.btt.viewing.live import LiveSource
from PIL import Image

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURE = REPOSITORY / "docs" / "etc" / "view.png"
RUN = {
    "scene": "falling_cubes.blend",
    "renderer": "workbench",
    "annotators": [
        *("instance_ids", "boxes2d_tight", "boxes2d_amodal", "boxes3d", "poses", "camera", "keypoints", "visibility"),
        *("depth", "normals", "object_coordinates", "flow"),
    ],
    "objects": [{"match": "Cube*", "category": "cube"}],
    "randomizers": [
        {"name": "camera_shell", "distance": {"draw": "uniform", "low": 12, "high": 13}, "elevation_deg": 30},
        {"name": "material"},
        {"name": "physics_drop", "objects": "Cube*", "low": [-3, -3, 2], "high": [3, 3, 9], "ground": "Plane", "preroll": 16},
    ],
    "frames_per_episode": 2,
    "seed": 4,
}


def test_a_stream_of_its_own(view, new_page, tmp_path, request):
    shutil.copy(REPOSITORY / "examples" / "datagen" / "falling_cubes.blend", tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    with view("--config", "run.yaml", "--instances", "2") as url:
        page = new_page()
        page.page.set_viewport_size({"width": 1400, "height": 900})
        page.open(url)
        page.page.wait_for_selector("#strip button:nth-child(9)", timeout=60_000)
        page.switch("boxes3d", on=True)
        page.page.locator("#follow").click()
        page.page.wait_for_timeout(500)
        assert page.text("#state") == "live"
        states = page.text("#instances tbody")
        assert states.count("running") == 2
        assert "on " in states, "the device"
        assert "seed\n4" in page.text("#meta")
        assert "physics_drop" in page.text("#drawn")
        assert page.text("#objects tbody").count("cube") == 8
        shown = page.canvas()[0]
        page.switch("depth", on=True)
        assert (page.canvas()[0] != shown).any(axis=-1).mean() > 0.9
        page.switch("depth", on=False)
        assert (page.canvas()[0] == shown).all()
        picture = tmp_path / "view.png"
        page.page.screenshot(path=picture)
        assert page.complaints == []
    if request.config.getoption("--update-pictures"):
        Image.open(picture).convert("RGB").save(PICTURE, optimize=True)
    fresh, documented = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (picture, PICTURE))
    assert fresh.shape == documented.shape
    # Which sample is shown depends on when; what stands around it, and how bright all is, does not.
    assert np.abs(fresh.mean(axis=(0, 1)) - documented.mean(axis=(0, 1))).max() < 25


def test_instances_that_run_already(view, new_page, launch, tmp_path):
    script = """\
    import time
    for number in range(10_000):
        pub.publish(image=np.full((60, 80, 3), 90, np.uint8), xy=np.array([[20.5, 10.5]]), frameid=number)
        time.sleep(0.02)
    """
    with launch(script) as launcher:
        btt.LaunchInfo.save_json(tmp_path / "launch_info.json", launcher.launch_info)
        addresses = launcher.launch_info.addresses["DATA"]
        dataset = btt.RemoteIterableDataset(addresses, max_items=100)
        with view("launch_info.json") as url:
            page = new_page().open(url)
            assert len(list(dataset)) == 100, "the others get theirs"
            page.page.wait_for_selector("#strip button:nth-child(2)", timeout=30_000)
            assert "taken from the others" in page.text("#notice")
            assert "frameid" in page.text("#meta")
            shown = page.pixels(60, 80)
            assert shown[40, 40].tolist() == [90, 90, 90]
            assert shown[10, 20].tolist() != [90, 90, 90]
            total = int(page.text("#rate").split()[0])
            assert total < 50, "and most of them"
            assert page.complaints == []
        assert len(list(dataset)) == 100, "they go on without the page"
        dataset.close()


def test_a_stream_that_fails_says_so_on_the_page(served, new_page, launch):
    script = "pub.publish(image=np.zeros((6, 8, 3), np.uint8))\nraise ValueError('no more')"
    with launch(script) as launcher, LiveSource(launcher.launch_info, "script") as source, served(source) as url:
        page = new_page().open(url).wait(0)
        page.page.wait_for_selector("#state.failed", timeout=30_000)
        assert "no more" in page.text("#problem")
