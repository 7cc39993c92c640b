"""Faults of processes and of the machine: real Blender, real processes.

They are stopped, killed, late, or on a machine whose memory or disk is full, and exactly their frames arrive, or an error says
what happened. What a trainer that dies leaves is in tests/btt/test_launcher.py, what an instance that is started again makes
in tests/btt/test_supervision.py.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from blendtorch import btt
from blendtorch.core.errors import InstanceError
from blendtorch.core.launch import KEYS, InstanceFiles
from blendtorch.core.status import PublisherStatus
from blendtorch.core.transport import pull
from torch.utils.data import DataLoader

TIMEOUT_MS = 3000
STOP_S = 10  # longer than the time-out
LOST_S = 12  # here a consumer gives up a connection by tcp when nothing has answered for 4 s


def addresses(launcher):
    return launcher.launch_info.addresses["DATA"]


def statuses(launcher):
    info = launcher.launch_info
    files = [InstanceFiles(info.launch_folder, number) for number in range(len(info.processes))]
    return [PublisherStatus.open(path).read() for each in files for path in each.statuses()]


def frames_of(batches):
    return Counter((int(b), int(n)) for batch in batches for b, n in zip(batch["btid"], batch["number"], strict=True))


def each_once(*counts):
    return Counter({(btid, number): 1 for btid, count in enumerate(counts) for number in range(count)})


@contextlib.contextmanager
def stopped(pid, group=False):
    send = os.killpg if group else os.kill
    send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            send(pid, signal.SIGCONT)


@pytest.fixture
def run_trainer(tmp_path):
    """Start a Python process that runs some lines, in a process group of its own."""
    processes = []

    def run_trainer(code, *arguments, under=(), **options):
        path = tmp_path / f"trainer{len(processes)}.py"
        path.write_text(code)
        command = [*under, sys.executable, "-W", "ignore:This DataLoader will create", path, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, **pipes, text=True, start_new_session=True, **options))
        return processes[-1]

    yield run_trainer
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("proto", "stop_s"), [("ipc", STOP_S), ("tcp", LOST_S)])
def test_a_stopped_instance_stalls_nobody_else(launch, tmp_path, proto, stop_s, monkeypatch):
    """SIGSTOP for longer than the time-out, and than connections by tcp are kept: a minute, and here less."""
    monkeypatch.setattr(pull, "_HEARTBEAT_MS", 1000)
    monkeypatch.setattr(pull, "_SILENCE_MS", 4000)
    script = """
import time
from itertools import count
from pathlib import Path
# One of them goes on until the test has seen enough.
for number in range(100) if args.btid else count():
    if Path(remainder[0]).exists():
        break
    pub.publish(number=number, image=np.full((64, 64, 3), number % 256, np.uint8))
    time.sleep(0.02)
"""
    batches, arrivals, enough = [], [], tmp_path / "enough"
    never = tmp_path / "never"
    with launch(script, num_instances=2, instance_args=[[enough], [never]], **_where(proto)) as launcher:
        dataset = btt.RemoteIterableDataset(addresses(launcher), timeoutms=TIMEOUT_MS)
        loader = iter(DataLoader(dataset, batch_size=1, num_workers=2))
        while len({btid for btid, _ in frames_of(batches)}) < 2:
            batches.append(next(loader))
        with stopped(launcher.launch_info.processes[1].pid):
            begin = time.monotonic()
            while time.monotonic() < begin + stop_s:
                batches.append(next(loader))
                arrivals.append(time.monotonic())
        enough.touch()
        batches += loader
        launcher.wait()
        counts = [status.frames for status in statuses(launcher)]
    assert np.diff(arrivals).max() < 1
    assert len(arrivals) > stop_s / 0.02 / 2, "at its own pace"
    assert counts[1] == 100
    assert frames_of(batches) == each_once(*counts)
    assert all((batch["image"] == batch["number"] % 256).all() for batch in batches)


def _where(proto):
    return {} if proto == "ipc" else {"start_port": _free_ports(2)}


def _free_ports(count):
    """Find the first of some ports in a row that nobody listens at."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = 0
            for number in range(count):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", first and first + number))
                first = first or probe.getsockname()[1]
            return first


def _with_pid(item):
    return {**item, "worker": os.getpid()}


def test_a_stopped_worker_stalls_blender_and_loses_nothing(launch):
    """SIGSTOP of one of two workers for 10 s: DataLoader keeps its order, so all wait for it."""
    script = "for number in range(400):\n    pub.publish(number=number, image=np.zeros((64, 64, 3), np.uint8))"
    batches, published = [], []
    with launch(script, num_instances=2) as launcher:
        dataset = btt.RemoteIterableDataset(addresses(launcher), timeoutms=TIMEOUT_MS, item_transform=_with_pid)
        loader = iter(DataLoader(dataset, batch_size=4, num_workers=2))
        batches += [next(loader), next(loader)]
        workers = {int(batch["worker"][0]) for batch in batches}
        assert len(workers) == 2

        worker = workers.pop()
        os.kill(worker, signal.SIGSTOP)

        def go_on_later():
            try:
                for pause_s in (3, STOP_S - 3):
                    time.sleep(pause_s)
                    published.append(sum(status.frames for status in statuses(launcher)))
            finally:
                os.kill(worker, signal.SIGCONT)

        stopping = threading.Thread(target=go_on_later)
        stopping.start()
        begin = time.monotonic()
        batches += loader
        assert time.monotonic() - begin > STOP_S - 1
        stopping.join()
        launcher.wait()
    assert published[0] == published[1] < 800, "the instances waited"
    assert frames_of(batches) == each_once(400, 400)


READER = f"""
import sys, time
from blendtorch import btt
from torch.utils.data import DataLoader
if __name__ == "__main__":
    info = btt.LaunchInfo.load_json(sys.argv[1])
    dataset = btt.RemoteIterableDataset(info.addresses["DATA"], timeoutms={TIMEOUT_MS})
    for batch in DataLoader(dataset, batch_size=4, num_workers=2):
        print(*(f"{{btid}}/{{number}}" for btid, number in zip(batch["btid"], batch["number"])), flush=True)
        time.sleep(0.02)
"""


def test_a_stopped_trainer_with_workers_stalls_blender_and_loses_nothing(launch, run_trainer, tmp_path):
    """SIGSTOP of two trainers and their workers, one of them by tcp, for longer than the time-out."""
    script = "for number in range(300):\n    pub.publish(number=number, image=np.zeros((480, 640, 3), np.uint8))"
    with launch(script) as near, launch(script, **_where("tcp")) as far:
        launchers, trainers, lines, stops = (near, far), [], [], contextlib.ExitStack()
        instances = [psutil.Process(launcher.launch_info.processes[0].pid) for launcher in launchers]
        with stops:
            for number, launcher in enumerate(launchers):
                btt.LaunchInfo.save_json(tmp_path / f"{number}.json", launcher.launch_info)
                trainers.append(run_trainer(READER, tmp_path / f"{number}.json"))
                lines.append([trainers[-1].stdout.readline() for _ in range(3)])
                stops.enter_context(stopped(trainers[-1].pid, group=True))
            time.sleep(2)
            sizes = [instance.memory_info().rss for instance in instances]
            published = [statuses(launcher)[0].frames for launcher in launchers]
            assert max(published) < 300
            time.sleep(STOP_S - 2)
            grown = [instance.memory_info().rss - size for instance, size in zip(instances, sizes, strict=True)]
            assert max(grown) < 10e6
            assert [statuses(launcher)[0].frames for launcher in launchers] == published
        for launcher, trainer, seen in zip(launchers, trainers, lines, strict=True):
            rest = trainer.stdout.read()  # `communicate` would pass over what `readline` has buffered
            assert (trainer.wait(), trainer.stderr.read()) == (0, "")
            launcher.wait()
            assert sorted(" ".join([*seen, rest]).split()) == sorted(f"0/{number}" for number in range(300))


@pytest.mark.blender
def test_a_script_that_raises_at_frame_50_is_an_error_after_50_frames(launch, error_of):
    script = """
import time
anim = btb.AnimationController()
def publish():
    if anim.frameid == 50:
        raise RuntimeError("frame 50 is broken")
    pub.publish(number=anim.frameid, time=time.monotonic(), image=np.full((480, 640, 3), anim.frameid, np.uint8))
anim.post_frame.add(publish)
anim.play((0, 99))
"""
    items = []
    with launch(script) as launcher:
        error = error_of(lambda: items.extend(btt.RemoteIterableDataset(addresses(launcher))))
        assert time.monotonic() - items[-1]["time"] < 5
    assert [item["number"] for item in items] == list(range(50))
    assert all((item["image"] == item["number"]).all() for item in items)
    assert type(error) is InstanceError
    for text in ("Blender instance 0 failed: RuntimeError: frame 50 is broken", "Traceback", "in publish"):
        assert text in str(error)


def test_a_slow_trainer_gets_what_came_before_an_error(launch, error_of):
    """It needs longer for what it has queued than the instance that fails waits for it."""
    script = """
for number in range(20):
    pub.publish(number=number, image=np.full((64, 64, 3), number, np.uint8))
raise RuntimeError("all is broken")
"""
    items = []

    def train():
        for item in btt.RemoteIterableDataset(addresses(launcher), timeoutms=TIMEOUT_MS):
            items.append(item)
            time.sleep(0.8 if len(items) > 10 else 0)

    with launch(script) as launcher:
        error = error_of(train)
    assert "Blender instance 0 failed: RuntimeError: all is broken" in str(error)
    assert [item["number"] for item in items] == list(range(20))


OTHER_LAUNCH = """
import sys
from blendtorch import btt
script, blender, name = sys.argv[1:]
with btt.BlenderLauncher(scene="", script=script, instance_args=[[name]], named_sockets=["DATA"],
                         blend_path=blender or None) as launcher:
    items = iter(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))
    for line in sys.stdin:
        print(*(f"{item['name']}/{item['number']}" for item, _ in zip(items, range(50))), flush=True)
"""


@pytest.mark.blender
def test_launches_at_the_same_time_know_nothing_of_each_other(launch, run_trainer, write_script, blender, short_tmp):
    """Two in this process, one in another: each dataset gets its own frames, and leaving one is nothing to the others."""
    script = """
import time
number = 0
while True:
    pub.publish(name=remainder[0], number=number)
    number += 1
    time.sleep(0.002)
"""
    other = run_trainer(OTHER_LAUNCH, write_script(script), blender or "", "other")

    def take_other():
        other.stdin.write("go on\n")
        other.stdin.flush()
        return other.stdout.readline().split()

    def take(items):
        return [f"{item['name']}/{item['number']}" for item, _ in zip(items, range(50), strict=False)]

    with launch(script, instance_args=[["first"]]) as first:
        with launch(script, instance_args=[["second"]]) as second:
            items = [iter(btt.RemoteIterableDataset(addresses(launcher))) for launcher in (first, second)]
            seen = [take(items[0]), take(items[1]), take_other()]
            assert len(list(short_tmp.glob("blendtorch-*"))) == 3
        seen[0] += take(items[0])
        first.assert_alive()
        seen[2] += take_other()
        assert other.communicate(timeout=20) == ("", "")
        seen[0] += take(items[0])
        first.assert_alive()
    expected = [(name, times * 50) for name, times in (("first", 3), ("second", 1), ("other", 2))]
    # `zip` takes one item more than it gives, each time.
    for found, (name, count) in zip(seen, expected, strict=True):
        assert found == [f"{name}/{number + number // 50}" for number in range(count)]


@pytest.mark.blender
def test_arrays_outlive_the_killed_instance_that_made_them(launch, error_of):
    """They lie in its ring, which is memory that the trainer has mapped, too."""
    script = """
number = 0
while True:
    pub.publish(number=number, image=np.full((480, 640, 3), number % 256, np.uint8))
    number += 1
"""
    with launch(script, restart="never") as launcher:
        items = iter(btt.RemoteIterableDataset(addresses(launcher)))
        held = [next(items) for _ in range(10)]
        assert "memfd:blendtorch-ring" in Path("/proc/self/maps").read_text()
        assert statuses(launcher)[0].ring_misses == 0, "all of them lie there"
        launcher.launch_info.processes[0].kill()
        begin = time.monotonic()
        error = error_of(lambda: [None for _ in items])
        assert time.monotonic() - begin < 5
    assert type(error) is InstanceError
    assert "Blender instance 0 ended with signal SIGKILL" in str(error)
    for number, item in enumerate(held):
        assert (item["image"] == number).all()
        item["image"] += 1
    assert [int(item["image"].max()) for item in held] == list(range(1, 11))


SMALL_RING = """
import numpy as np
from blendtorch import btb
args, remainder = btb.parse_blendtorch_args()
pub = btb.DataPublisher(args.btsockets["DATA"], args.btid, ring_slots=8)
for number in range(200):
    pub.publish(number=number, image=np.full((64, 64, 3), number, np.uint8))
"""


@pytest.mark.blender
@pytest.mark.parametrize("workers", [0, 4])
def test_a_ring_that_is_too_small_costs_time_and_nothing_else(write_script, blender, workers):
    """8 slots. The caller holds 200 arrays, or 4 workers hold 4 each and 10 in their queues: the rest travels by socket."""
    script = write_script(SMALL_RING, head="")
    with btt.BlenderLauncher(scene="", script=script, named_sockets=["DATA"], blend_path=blender) as launcher:
        dataset = btt.RemoteIterableDataset(addresses(launcher))
        items = list(dataset if workers == 0 else DataLoader(dataset, batch_size=4, num_workers=workers))
        launcher.wait()
        (status,) = statuses(launcher)
    assert 0 < status.ring_misses < status.frames == 200
    if workers == 0:
        assert [item["number"] for item in items] == list(range(200))
        assert all((item["image"] == item["number"]).all() for item in items)
    else:
        assert frames_of(items) == each_once(200)
        assert all((batch["image"] == batch["number"][:, None, None, None]).all() for batch in items)


def _come_late(worker):
    time.sleep(worker * 2)


@pytest.mark.blender
def test_workers_that_come_late_get_their_part_and_end(launch):
    """Spawned workers connect seconds after the instances publish, and the last one when everything may be over."""
    script = """
anim = btb.AnimationController()
anim.post_frame.add(lambda: pub.publish(number=anim.frameid))
anim.play((0, 9), num_episodes=5)
"""
    with launch(script, num_instances=2) as launcher:
        dataset = btt.RemoteIterableDataset(addresses(launcher))
        loader = DataLoader(dataset, batch_size=4, num_workers=3, multiprocessing_context="spawn", worker_init_fn=_come_late)
        frames = frames_of(loader)
        launcher.wait()
    assert frames == Counter({(btid, number): 5 for btid in (0, 1) for number in range(10)})


REMOTE = """
import sys
from blendtorch import btt
from blendtorch.core.errors import StreamTimeoutError
info = btt.LaunchInfo.load_json(sys.argv[1])
print(info.launch_folder, info.addresses["DATA"].launch_folder)
print(*(item["number"] for item in btt.RemoteIterableDataset(info.addresses["DATA"], max_items=5)), flush=True)
try:
    print(next(iter(btt.RemoteIterableDataset(list(info.addresses["DATA"]), timeoutms=1000))))
except StreamTimeoutError:
    print("nothing without the keys")
"""


@pytest.mark.blender
def test_keys_are_with_who_needs_them_and_nobody_else(launch, run_trainer, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    script = "import time\nnumber = 0\nwhile True:\n    pub.publish(number=number)\n    number += 1\n    time.sleep(0.01)"
    with launch(script, num_instances=2, start_port=_free_ports(2)) as launcher:
        info = launcher.launch_info
        keys = json.loads((info.launch_folder / KEYS).read_text())
        secrets = [keys["server_secret"], keys["client_secret"]]
        assert all(len(secret) == 40 for secret in secrets)
        assert stat.S_IMODE((info.launch_folder / KEYS).stat().st_mode) == 0o600
        assert next(iter(btt.RemoteIterableDataset(addresses(launcher))))["number"] == 0

        processes = psutil.Process().children(recursive=True)
        assert {process.pid for process in info.processes} <= {process.pid for process in processes}
        shown = [Path(f"/proc/{process.pid}/{name}").read_text() for process in processes for name in ("cmdline", "environ")]
        shown += [log.read_text() for log in info.logs]
        shown += [caplog.text, repr(info), repr(addresses(launcher)), repr(addresses(launcher).keys), str(vars(info))]
        assert "Started instance 1" in caplog.text
        assert not [text for text in shown for secret in secrets if secret in text]

        saved = tmp_path / "info.json"
        btt.LaunchInfo.save_json(saved, info)
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        assert keys["server_secret"] not in saved.read_text(), "a consumer needs it not"
        # Another machine has no launch folder.
        saved.write_text(json.dumps({**json.loads(saved.read_text()), "launch_folder": None, "logs": []}))
        (tmp_path / "elsewhere").mkdir()
        remote = run_trainer(REMOTE, saved, env={**os.environ, "TMPDIR": str(tmp_path / "elsewhere")})
        output, errors = remote.communicate(timeout=30)
    assert (remote.returncode, errors) == (0, "")
    folders, numbers, refused = output.splitlines()
    assert folders == "None None"
    assert len(numbers.split()) == 5
    assert refused == "nothing without the keys"
    assert not [secret for secret in secrets if secret in output]


def with_tmpfs(folder, size):
    """A command that runs another one with a small file system at a folder, which nobody else sees."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
    return ["unshare", "--mount", *user, "sh", "-c", mount, "sh", size, folder]


LAUNCH = """
import json, sys
from blendtorch import btt
from blendtorch.core.errors import BlendtorchError
from blendtorch.core.launch import InstanceFiles
from blendtorch.core.status import PublisherStatus
from blendtorch.core.transport import pull
from torch.utils.data import DataLoader
if __name__ == "__main__":
    script, blender, workers, *arguments = sys.argv[1:]
    held, error = [], ""
    with btt.BlenderLauncher(scene="", script=script, instance_args=[arguments], named_sockets=["DATA"],
                             blend_path=blender or None) as launcher:
        info = launcher.launch_info
        dataset = btt.RemoteIterableDataset(info.addresses["DATA"], timeoutms=10_000)
        try:
            for item in DataLoader(dataset, batch_size=None, num_workers=int(workers)) if int(workers) else dataset:
                held.append(item)
            if "wait" in arguments:
                launcher.wait()
        except BlendtorchError as caught:
            error = f"{type(caught).__name__}: {caught}"
        (path,) = InstanceFiles(info.launch_folder, 0).statuses()
        status = PublisherStatus.open(path).read()
        with open("/proc/self/maps") as file:
            ring = "memfd:blendtorch-ring" in file.read()
    print(json.dumps({
        "error": error,
        "numbers": [item["number"] for item in held],
        "intact": all(bool((item["image"] == item["number"]).all()) for item in held),
        "held_bytes": sum(item["image"].nbytes for item in held),
        "frames": status.frames,
        "ring_misses": status.ring_misses,
        "ring": ring,
    }))
"""


@pytest.mark.mounts
@pytest.mark.blender
def test_the_ring_needs_no_shared_memory_file_system(run_trainer, write_script, blender):
    """A /dev/shm of 64 MB, as containers have it, and more than that held at a time."""
    script = write_script(
        "for number in range(20):\n    pub.publish(number=number, image=np.full((1080, 1920, 4), number, np.uint8))"
    )
    trainer = run_trainer(LAUNCH, script, blender or "", "0", under=with_tmpfs("/dev/shm", "64m"))
    output, errors = trainer.communicate(timeout=100)
    assert (trainer.returncode, errors) == (0, "")
    said = json.loads(output)
    assert said["numbers"] == list(range(20))
    assert said["intact"]
    assert said["held_bytes"] == 20 * 1080 * 1920 * 4
    assert said["ring"]
    assert (said["frames"], said["ring_misses"]) == (20, 0)


FILLS = """
import os, tempfile
def fill():
    with open(os.path.join(tempfile.gettempdir(), "large"), "ab", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass
for number in range(100):
    if number == 20:
        fill()
    if number >= 20 and "print" in remainder:
        print("x" * 10_000)
    pub.publish(number=number, image=np.full((64, 64, 3), number, np.uint8))
if "raise" in remainder:
    raise RuntimeError("the disk is full, and this is another error")
if "kill" in remainder:
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def on_a_full_disk(run_trainer, write_script, blender, short_tmp):
    """Run a script that fills the file system of its launch folder; return what its trainer said."""

    def on_a_full_disk(workers, *arguments):
        under = with_tmpfs(short_tmp, "4m")
        trainer = run_trainer(LAUNCH, write_script(FILLS), blender or "", str(workers), *arguments, under=under)
        output, errors = trainer.communicate(timeout=100)
        assert trainer.returncode == 0, errors
        assert "Traceback" not in errors
        return json.loads(output)

    return on_a_full_disk


@pytest.mark.mounts
@pytest.mark.blender
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("word", ["silent", "print"])
def test_a_full_disk_stops_no_stream(on_a_full_disk, workers, word):
    """Full of the script's temporary files; one that prints cannot do so any more."""
    said = on_a_full_disk(workers, word)
    assert said["error"] == ""
    assert sorted(said["numbers"]) == list(range(100))
    assert said["intact"]


@pytest.mark.mounts
@pytest.mark.blender
def test_a_full_disk_hides_no_error_of_a_script(on_a_full_disk):
    said = on_a_full_disk(0, "raise")
    assert said["numbers"] == list(range(100))
    assert "Blender instance 0 failed: RuntimeError: the disk is full, and this is another error" in said["error"]
    assert "Traceback" in said["error"]


@pytest.mark.mounts
@pytest.mark.blender
def test_a_full_disk_hides_no_death_of_an_instance(on_a_full_disk):
    said = on_a_full_disk(0, "kill")
    assert said["numbers"] == list(range(len(said["numbers"])))
    assert "InstanceError: Blender instance 0 ended with signal SIGKILL" in said["error"]


@pytest.mark.mounts
@pytest.mark.blender
def test_a_full_disk_hides_no_end_of_an_instance(on_a_full_disk):
    said = on_a_full_disk(0, "wait")
    assert said["numbers"] == list(range(100))
    assert said["error"] == "", "`BlenderLauncher.wait` has seen it"


RECORDS = """
import sys, numpy as np
from blendtorch import btt
from blendtorch.core.errors import RecordingError
count = 0
with btt.FileRecorder(btt.FileRecorder.filename(sys.argv[1], 0)) as recorder:
    try:
        while True:
            recorder.save({"image": np.full((480, 640, 3), count, np.uint8)})
            count += 1
    except RecordingError as error:
        print(error)
dataset = btt.FileDataset(sys.argv[1])
print(count, len(dataset), all((dataset[number]["image"] == number).all() for number in range(count)))
"""


@pytest.mark.mounts
def test_a_full_disk_keeps_what_was_recorded(run_trainer, short_tmp):
    recorder = run_trainer(RECORDS, short_tmp / "record", under=with_tmpfs(short_tmp, "4m"))
    output, errors = recorder.communicate(timeout=60)
    assert (recorder.returncode, errors) == (0, "")
    error, counts = output.splitlines()
    assert error.startswith(f"cannot record to {short_tmp}/record_00.arrows: No space left on device. What was recorded before")
    assert counts == "4 4 True"
