"""Instances that are killed, hang or grow, and the stream that goes on: real Blender, real processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from blendtorch import btt
from blendtorch.btt.supervision import restart_policy
from blendtorch.core.errors import InstanceError, LaunchError
from blendtorch.core.launch import InstanceFiles, Restarts
from torch.utils.data import DataLoader

DATAGEN = Path(__file__).resolve().parents[2] / "examples" / "datagen"
SOON = {"pause_s": 0.1}
FALLING = {
    "scene": DATAGEN / "falling_cubes.blend",
    "annotators": ["poses", "keypoints"],
    "randomizers": [{"name": "physics_drop", "low": [-4, -4, 3], "high": [4, 4, 7], "preroll": 5}],
    "objects": [{"match": "Cube*", "category": "cube"}],
    "resolution": (64, 48),
    "seed": 3,
    "frames_per_episode": 3,
}


def files_of(launcher):
    info = launcher.launch_info
    return [InstanceFiles(info.launch_folder, number) for number in range(len(info.processes))]


def kill(launcher, number):
    launcher.launch_info.processes[number].kill()


def labels(sample):
    fields = [sample["poses"]["camera_from_object"], sample["keypoints"]["xy"], sample["keypoints"]["valid"]]
    return [np.asarray(field).tobytes() for field in fields], sample["meta"]["drawn"]


@pytest.fixture
def stream(blender):
    def stream(**arguments):
        return btt.stream(**{"blender": blender, "resolution": (64, 48), **arguments})

    return stream


@pytest.mark.blender
def test_what_a_killed_instance_had_not_delivered_comes_the_same(stream, caplog):
    with stream(**FALLING, count=30, restart="never") as dataset:
        undisturbed = {sample["meta"]["index"]: labels(sample) for sample in dataset}
    disturbed, seen = stream(**FALLING, count=30, num_instances=2, restart=SOON), []
    with disturbed as dataset:
        for sample in dataset:
            seen.append((sample["meta"]["index"], labels(sample)))
            if len(seen) in (5, 20):  # in the middle of episodes
                kill(disturbed.launcher, len(seen) % 2)
        disturbed.launcher.wait()
        restarts = [files.read_restarts() for files in files_of(disturbed.launcher)]
        log = disturbed.launcher.launch_info.logs[1].read_text()
    assert sorted(index for index, _ in seen) == list(range(30)), "each once"
    assert dict(seen) == undisturbed
    assert restarts[1] == Restarts(failures=1)
    assert "--- blendtorch: ended with signal SIGKILL; started again in 0.1 s (1 of 3) ---" in log
    assert "Blender instance 1 ended with signal SIGKILL; it is started again in 0.1 s (1 of 3)" in caplog.text


@pytest.mark.blender
def test_epochs_and_workers_outlive_a_killed_instance(stream):
    run = stream(scene=DATAGEN / "cube.blend", count=12, epoch="repeat", num_instances=2, restart=SOON)
    with run as dataset:
        loader, epochs = DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=True), []
        for epoch in range(3):
            epochs.append([])
            for number, batch in enumerate(loader):
                epochs[-1] += batch["meta"]["index"].tolist()
                if (epoch, number) == (1, 1):
                    kill(run.launcher, 0)
        del loader
        assert files_of(run.launcher)[0].read_restarts().failures == 1
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3


@pytest.mark.blender
def test_an_instance_is_exchanged_and_no_sample_is_lost(stream):
    run = stream(scene=DATAGEN / "cube.blend", count=12, frames_per_episode=2, restart={"recycle_after": 3})
    with run as dataset:
        indices = [sample["meta"]["index"] for sample in dataset]
        run.launcher.wait()
        assert files_of(run.launcher)[0].read_restarts() == Restarts(
            recycled=2
        )  # after 4 and 8 samples, at the end of episodes
    assert sorted(indices) == list(range(12))


@pytest.mark.blender
def test_an_instance_that_is_too_large_is_exchanged(stream, short_tmp):
    run = stream(scene=DATAGEN / "cube.blend", count=2, restart={"mode": "never", "memory_limit_mb": 1})
    with run as dataset:
        assert [sample["meta"]["index"] for sample in dataset] == [0, 1]
        run.launcher.wait()
        assert files_of(run.launcher)[0].read_restarts() == Restarts(recycled=1)
    assert not list(short_tmp.glob("blendtorch-*")), "that was no failure: no log is kept"


@pytest.mark.blender
def test_a_script_goes_on_at_its_episode(launch):
    script = """
import time
anim = btb.AnimationController()
def publish():
    pub.publish(value=btb.rng.random(), episode=anim.frameid)
    time.sleep(0.02)
pub.publish(value=btb.rng.random(), episode=-1)
for episodes in (2, 4):
    anim = btb.AnimationController()
    handle = anim.post_frame.add(publish)
    anim.play((1, 4), num_episodes=episodes)
pub.publish(value=btb.rng.random(), episode=-2)
"""
    with launch(script, seed=8) as launcher:
        undisturbed = [item["value"] for item in btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])]
    assert len(set(undisturbed)) == 1 + 6 * 4 + 1
    values = []
    with launch(script, seed=8, restart=SOON) as launcher:
        for item in btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], queue_size=2):
            values.append(item["value"])
            if len(values) in (3, 14):
                kill(launcher, 0)
        launcher.wait()
        (files,) = files_of(launcher)
        assert files.read_restarts().failures == 2
        played = [(start.play, start.episode) for start in files.read_episodes()]
    assert sorted(values) == sorted(undisturbed)
    everything = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert played[-1] == (1, 3)
    assert set(played) == set(everything)
    assert len(played) < 3 * len(everything), "delivered episodes are not played again"


@pytest.mark.blender
def test_a_script_without_its_random_numbers_is_refused(launch, error_of):
    with launch("pub.publish(value=np.random.rand())", restart="on-failure") as launcher:
        error = error_of(lambda: list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])))
        assert files_of(launcher)[0].read_restarts().failures == 0
    assert isinstance(error, InstanceError)
    assert "SceneError: this launch may start instances again" in str(error).replace("\n", " ")
    assert "draw its random numbers from btb.rng" in str(error)


@pytest.mark.blender
def test_an_error_that_comes_again_is_given_up(launch, error_of):
    script = "btb.rng.random()\nfor n in range(3):\n    pub.publish(n=n)\n1 / 0"
    numbers = []
    with launch(script, restart=SOON) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])
        error = error_of(lambda: [numbers.append(item["n"]) for item in dataset])
        with pytest.raises(InstanceError, match="ZeroDivisionError"):
            launcher.assert_alive()
        assert files_of(launcher)[0].read_restarts().failures == 1
    assert numbers == [0, 1, 2], "what was published before comes first, and once"
    assert isinstance(error, InstanceError)
    assert "failed: ZeroDivisionError: division by zero" in str(error)
    assert "it failed twice at the same place, at message 3, and was not started again" in str(error)


@pytest.mark.blender
def test_a_wrong_configuration_is_final(stream, error_of):
    run = stream(objects=[{"match": "Nothing"}], restart=SOON)
    with run as dataset:
        error = error_of(lambda: next(iter(dataset)))
        assert files_of(run.launcher)[0].read_restarts() == Restarts()
    assert "no object is called 'Nothing'" in str(error)


@pytest.mark.blender
def test_the_limit_is_named(launch, error_of, caplog):
    with launch("import os\nos.kill(os.getpid(), 9)", restart={"limit": 2, **SOON}) as launcher:
        first = launcher.launch_info.processes[0].pid
        launcher.assert_alive()
        error = error_of(launcher.wait)
        assert launcher.launch_info.processes[0].pid != first
        consumers = error_of(lambda: list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])))
    for each in (error, consumers):
        assert isinstance(each, InstanceError)
        assert "Blender instance 0 ended with signal SIGKILL" in str(each)
        assert "it was started again 2 times, the limit of its RestartPolicy" in str(each)
    assert [text for text in caplog.messages if "(2 of 2)" in text]
    assert "in 0.2 s" in caplog.text, "the pause grows"


@pytest.mark.blender
def test_a_script_that_hangs_is_ended(launch, error_of):
    script = """
import subprocess, time
child = subprocess.Popen(["sleep", "1000"])
btb.rng.random()
for n in range(2):
    pub.publish(n=n, pid=child.pid)
time.sleep(1000)
"""
    items = []
    with launch(script, restart={"limit": 0, "hung_after_s": 3.0}) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], timeoutms=30_000)
        error = error_of(lambda: items.extend(dataset))
        time.sleep(0.2)
        assert not psutil.pid_exists(items[0]["pid"]), "the whole tree"
    assert [item["n"] for item in items] == [0, 1]
    assert isinstance(error, InstanceError)
    assert "has published nothing for 3 s and does not wait for a consumer: it hangs" in str(error)
    assert "started again 0 times, the limit" in str(error)


@pytest.mark.blender
def test_who_waits_or_is_stopped_does_not_hang(launch, caplog):
    script = "import time\nbtb.rng.random()\nfor n in range(40):\n    pub.publish(n=n)\n    time.sleep(0.05)"
    with launch(script, restart={"hung_after_s": 2.0}) as launcher:
        pid = launcher.launch_info.processes[0].pid
        items = iter(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], queue_size=5, timeoutms=30_000))
        numbers = [next(items)["n"]]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(pid, signal.SIGCONT)
        numbers += [next(items)["n"] for _ in range(10)]
        time.sleep(4)  # it waits in `publish`
        numbers += [item["n"] for item in items]
        launcher.wait()
        assert launcher.launch_info.processes[0].pid == pid
    assert numbers == list(range(40))
    assert len([text for text in caplog.messages if f"is stopped (process {pid}): kill -CONT {pid} continues it" in text]) == 1


TRAINER = """
import sys, time
from blendtorch import btt
with btt.BlenderLauncher(scene="", script=sys.argv[1], blend_path=sys.argv[2] or None, restart={"pause_s": 0.1}) as launcher:
    first = launcher.launch_info.processes[0]
    time.sleep(1)  # the guard has seen it
    first.kill()
    while launcher.launch_info.processes[0] is first:
        time.sleep(0.05)
    print(launcher.launch_info.processes[0].pid, flush=True)
    time.sleep(100)
"""


@pytest.mark.blender
def test_the_guard_knows_an_instance_that_was_started_again(write_script, blender, tmp_path, short_tmp):
    script = write_script("import time\ntime.sleep(1000)", head="")
    (tmp_path / "trainer.py").write_text(TRAINER)
    command = [sys.executable, str(tmp_path / "trainer.py"), str(script), blender or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        pid = int(trainer.stdout.readline())
        time.sleep(1)
        assert psutil.pid_exists(pid)
        trainer.kill()
    time.sleep(4)
    assert not psutil.pid_exists(pid)
    assert not list(short_tmp.glob("blendtorch-*"))


def test_policies_are_checked():
    never = restart_policy("never")
    assert (never.mode, never.hung_after_s, never.restartable) == ("never", None, False)
    assert restart_policy("on-failure") == btt.RestartPolicy() == restart_policy({})
    assert restart_policy({"mode": "never", "recycle_after": 5}).restartable
    for wrong, text in (
        ("always", "restart is 'always': expected 'never', 'on-failure' or a RestartPolicy"),
        ({"limits": 3}, "restart: .*unknown field `limits`"),
        ({"limit": -1}, "limit is -1: expected 0 or more"),
        ({"hung_after_s": 0}, "hung_after_s is 0.0: expected more than 0, or None"),
        ({"recycle_after": 0}, "recycle_after is 0: expected 1 or more"),
        ({"mode": "sometimes"}, "restart: Invalid enum value 'sometimes'"),
    ):
        with pytest.raises(LaunchError, match=text):
            restart_policy(wrong)
    with pytest.raises(LaunchError, match="mode is 'sometimes'"):
        btt.RestartPolicy(mode="sometimes")
    with pytest.raises(LaunchError, match="restart is 3"):
        btt.stream(restart=3)


def test_the_watch_counts_restarts(tmp_path, caplog):
    from blendtorch.btt.launch_watch import LaunchWatch

    watch = LaunchWatch(tmp_path, 2)
    assert watch.restarts() == 0
    InstanceFiles(tmp_path, 0).write_restarts(Restarts(failures=2, recycled=1))
    InstanceFiles(tmp_path, 1).write_restarts(Restarts(recycled=1))
    assert watch.restarts() == 4
    assert "instance 0: running, started again 2 times" in watch.describe()


EPISODES = """
anim = btb.AnimationController()
anim.post_frame.add(lambda: pub.publish(value=btb.rng.random(), a=np.zeros(9000)))
anim.play((1, 1), num_episodes=30)
"""


@pytest.mark.blender
def test_a_consumer_without_the_launch_folder_is_remembered_by_the_publisher(launch):
    """As on another machine: nobody claims there what was delivered."""
    policy = {"recycle_after": 8, "pause_s": 0.1}
    with launch(EPISODES, restart=policy, seed=3, proto="tcp", start_port=free_port()) as launcher:
        addresses = launcher.launch_info.addresses["DATA"]
        dataset = btt.RemoteIterableDataset(list(addresses), keys=addresses.keys, max_items=40)
        values = [item["value"] for item in dataset]
        launcher.wait()
        (files,) = files_of(launcher)
        assert files.read_restarts().recycled == 3
    assert (len(values), len(set(values))) == (30, 30)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.mark.blender
def test_instances_that_do_not_say_who_they_are_are_told_apart(write_script, blender):
    """Scripts may leave out the btid, or choose another: what was delivered is known by the address."""
    script = """
from blendtorch import btb
args, _ = btb.parse_blendtorch_args()
pub = btb.DataPublisher(args.btsockets["DATA"])
for n in range(10):
    pub.publish(instance=args.btid, n=n, value=btb.rng.random())
"""
    arguments = {"scene": "", "named_sockets": ["DATA"], "blend_path": blender, "restart": SOON, "num_instances": 2}
    with btt.BlenderLauncher(script=write_script(script, head=""), **arguments) as launcher:
        items = list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))
    assert sorted((item["instance"], item["n"]) for item in items) == [(i, n) for i in (0, 1) for n in range(10)]


@pytest.mark.blender
def test_publishers_that_are_opened_late_or_again_lose_nothing(write_script, blender):
    script = """
import os
from pathlib import Path
from blendtorch import btb
args, _ = btb.parse_blendtorch_args()
late = None

def publish():
    global late
    if late is None:
        late = btb.DataPublisher(args.btsockets["DATA"], args.btid)
    mark = Path(os.environ["TMPDIR"]) / "died"
    if late.sequence == 12 and not mark.exists():
        mark.touch()
        late.drain(3000)
        os._exit(3)
    late.publish(value=btb.rng.random())

anim = btb.AnimationController()
anim.post_frame.add(publish)
anim.play((1, 1), num_episodes=20)
late.close()
again = btb.DataPublisher(args.btsockets["MORE"], args.btid)
again.publish(value=1.0)
again.close()
again = btb.DataPublisher(args.btsockets["MORE"], args.btid)
Path(__file__).with_name("again").touch()
again.publish(value=2.0)
"""
    arguments = {"scene": "", "named_sockets": ["DATA", "MORE"], "blend_path": blender, "restart": SOON}
    path = write_script(script, head="")
    with btt.BlenderLauncher(script=path, **arguments) as launcher:
        addresses = launcher.launch_info.addresses
        values = [item["value"] for item in btt.RemoteIterableDataset(addresses["DATA"])]
        assert (len(values), len(set(values))) == (20, 20)
        assert files_of(launcher)[0].read_restarts().failures == 1
        assert [item["value"] for item in btt.RemoteIterableDataset(addresses["MORE"])] == [1.0]
        while not path.with_name("again").exists():  # the one before says to everybody that it has ended
            time.sleep(0.01)
        assert [item["value"] for item in btt.RemoteIterableDataset(addresses["MORE"])] == [2.0]


@pytest.mark.blender
def test_an_instance_that_starts_again_is_not_silent(stream):
    """It takes longer than the time-out."""
    disturbed = stream(count=30, timeoutms=2000, restart={"pause_s": 1.5})
    with disturbed as dataset:
        for number, _ in enumerate(dataset):
            if number == 5:
                kill(disturbed.launcher, 0)
        assert number == 29
        assert dataset.stats().instances[0].restarts == 1


@pytest.mark.blender
def test_the_notes_of_a_script_with_many_episodes_stay_few(launch):
    script = """
anim = btb.AnimationController()
anim.post_frame.add(lambda: pub.publish(value=btb.rng.random()) if anim.frameid == 2 else None)
anim.play((1, 2), num_episodes=2500)
"""
    with launch(script, restart=SOON) as launcher:
        assert len(list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))) == 2500
        (files,) = files_of(launcher)
        assert len(files.read_episodes()) < 2000
