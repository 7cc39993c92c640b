"""Who waits for whom, as `dataset.stats()` says it: real publishers, real workers, real Blender."""

import time

import pytest
from blendtorch import btt
from torch.utils.data import DataLoader

# Pictures of 300 kB. The pause is what Blender takes for one.
SCRIPT = """
import time
image = np.zeros((240, 320, 4), np.uint8)
while True:
    time.sleep({pause})
    pub.publish(image=image)
"""
TOGETHER = """
import time
from pathlib import Path
ready = Path(remainder[0])
(ready / str(args.btid)).touch()
while len(list(ready.iterdir())) < 2:  # both Blenders begin at the same time
    time.sleep(0.01)
"""
IMAGE_BYTES = 240 * 320 * 4


@pytest.mark.blender
@pytest.mark.parametrize("workers", [0, 2])
def test_a_slow_blender_is_the_bottleneck(launch, workers, tmp_path):
    ready = tmp_path / "ready"
    ready.mkdir()
    with launch(TOGETHER + SCRIPT.format(pause=0.05), num_instances=2, instance_args=[[str(ready)]] * 2) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], max_items=40)
        assert dataset.stats().bottleneck is None
        assert sum(len(batch["image"]) for batch in DataLoader(dataset, batch_size=4, num_workers=workers)) == 40
        stats = dataset.stats()
    assert (stats.bottleneck, stats.frames) == ("Blender", 40)
    assert 40 * IMAGE_BYTES < stats.bytes < 40 * (IMAGE_BYTES + 1000)
    assert sum(each.frames for each in stats.instances) == 40
    assert all(each.frames > 10 for each in stats.instances)
    assert stats.waited_s > 0.5, "40 frames of two instances take a second"
    assert 20 < stats.frames_per_s < 50, "20 each, and what was queued when the first came"
    assert [each.restarts for each in stats.instances] == [each.recycled for each in stats.instances] == [0, 0]
    assert all(each.waited_s < 0.2 for each in stats.instances)
    assert str(stats).endswith("bottleneck: Blender")


@pytest.mark.blender
@pytest.mark.parametrize("workers", [0, 2])
def test_a_slow_trainer_is_the_bottleneck(launch, workers):
    with launch(SCRIPT.format(pause=0), num_instances=2) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], queue_size=2, max_items=100)
        for _ in DataLoader(dataset, batch_size=4, num_workers=workers):
            time.sleep(0.1)
        stats = dataset.stats()
    assert stats.bottleneck == "trainer"
    assert all(each.waited_s > 0.3 for each in stats.instances)


@pytest.mark.blender
def test_frames_that_find_no_slot_are_counted(write_script, blender):
    script = """
import numpy as np
from blendtorch import btb
args, _ = btb.parse_blendtorch_args()
pub = btb.DataPublisher(args.btsockets["DATA"], args.btid, ring_slots=2)
for n in range(20):
    pub.publish(a=np.full(9000, n))
"""
    path = write_script(script, head="")
    with btt.BlenderLauncher(scene="", script=path, named_sockets=["DATA"], blend_path=blender) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])
        kept = list(dataset)
        stats = dataset.stats()
    assert [int(item["a"][-1]) for item in kept] == list(range(20))
    assert stats.instances[0].ring_misses == 18, "the first two fill the ring, and are kept"
    assert "not through shared memory: 18" in str(stats)


@pytest.mark.blender
def test_restarts_and_exchanges_are_counted(blender):
    run = btt.stream(blender=blender, resolution=(64, 48), count=12, restart={"pause_s": 0.1, "recycle_after": 4})
    with run as dataset:
        for number, _ in enumerate(dataset):
            if number == 1:
                run.launcher.launch_info.processes[0].kill()
        stats = dataset.stats()
    assert stats.frames == 12
    assert stats.instances[0].restarts == 1
    assert stats.instances[0].recycled >= 1
    assert "restarts: 1" in str(stats)


@pytest.mark.blender
def test_without_a_launch_folder_there_is_what_the_consumer_knows(launch):
    """As on another machine."""
    with launch(SCRIPT.format(pause=0.02)) as launcher:
        dataset = btt.RemoteIterableDataset(list(launcher.launch_info.addresses["DATA"]), max_items=30)
        assert len(list(dataset)) == 30
        stats = dataset.stats()
    (instance,) = stats.instances
    assert instance.frames == 30
    assert instance.bytes > 30 * IMAGE_BYTES
    assert (instance.waited_s, instance.ring_misses, instance.restarts, instance.recycled) == (None, None, None, None)
    assert stats.bottleneck == "Blender"
    assert 0 < instance.frames_per_s < 55
