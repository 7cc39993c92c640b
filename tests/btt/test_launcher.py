"""Launching, ending, and what is said when something goes wrong: real Blender, real processes."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from blendtorch import btt
from blendtorch.btt.devices import VARIABLES, deal_devices
from blendtorch.core.errors import AddressError, InstanceError, LaunchError
from torch.utils.data import DataLoader

ENDLESS = """
import time
number = 0
while True:
    pub.publish(number=number, image=np.zeros((480, 640, 3), np.uint8), pid=__import__("os").getpid())
    number += 1
"""


def addresses(launcher):
    return launcher.launch_info.addresses["DATA"]


def alive(pids):
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def wait_until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.mark.blender
def test_a_launch_is_private_and_leaves_nothing(launch, short_tmp):
    with launch(ENDLESS, num_instances=2) as launcher:
        info = launcher.launch_info
        folder = Path(info.launch_folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert all(address.startswith(f"ipc://{folder}/") for address in addresses(launcher))
        assert [log.exists() for log in info.logs] == [True, True]
        assert len(info.commands) == len(info.processes) == 2
        seen, items = set(), iter(btt.RemoteIterableDataset(addresses(launcher)))
        while seen != {0, 1}:  # one may start later than the other
            seen.add(next(items)["btid"])
        launcher.assert_alive()
        pids = [process.pid for process in info.processes]
        assert len(alive(pids)) == 2
    assert not alive(pids)
    assert launcher.launch_info is None
    assert not list(short_tmp.glob("blendtorch-*"))


@pytest.mark.blender
def test_finite_streams_end_by_themselves_on_every_worker(launch):
    script = """
anim = btb.AnimationController()
anim.post_frame.add(lambda: pub.publish(frameid=anim.frameid))
anim.play((1, 20), num_episodes=3)
"""
    with launch(script, num_instances=2) as launcher:
        batches = list(DataLoader(btt.RemoteIterableDataset(addresses(launcher)), batch_size=4, num_workers=3))
        launcher.wait()
    frames = [(int(b), int(f)) for batch in batches for b, f in zip(batch["btid"], batch["frameid"], strict=True)]
    assert sorted(frames) == sorted([(btid, frame) for btid in (0, 1) for frame in range(1, 21)] * 3)


@pytest.mark.blender
def test_two_publishers_of_a_script_end_together(write_script, blender):
    """Their trainer reads both in turn: it reads on at the one when the other has said that it has ended."""
    script = """
from blendtorch import btb
args, _ = btb.parse_blendtorch_args()
publishers = [btb.DataPublisher(args.btsockets[name], args.btid) for name in ("LEFT", "RIGHT")]
for n in range(5):
    for pub in publishers:
        pub.publish(n=n)
"""
    arguments = {"scene": "", "named_sockets": ["LEFT", "RIGHT"], "blend_path": blender}
    with btt.BlenderLauncher(script=write_script(script, head=""), **arguments) as launcher:
        addresses = launcher.launch_info.addresses
        datasets = [btt.RemoteIterableDataset(addresses[name], timeoutms=5000) for name in ("LEFT", "RIGHT")]
        pairs = [(one["n"], other["n"]) for one, other in zip(*datasets, strict=True)]
        launcher.wait()
    assert pairs == [(n, n) for n in range(5)]


@pytest.mark.blender
def test_instances_get_their_arguments(launch):
    script = "pub.publish(remainder=remainder, seed=args.btseed, sockets=args.btsockets)"
    with launch(script, num_instances=2, seed=5, instance_args=[["--size", "64"], ["word", "-btx"]]) as launcher:
        items = sorted(btt.RemoteIterableDataset(addresses(launcher)), key=lambda item: item["btid"])
        assert [item["sockets"]["DATA"] for item in items] == addresses(launcher)
    assert [item["remainder"] for item in items] == [["--size", "64"], ["word", "-btx"]]
    assert [item["seed"] for item in items] == [5, 6]


@pytest.mark.blender
@pytest.mark.parametrize("workers", [0, 2])
def test_a_script_that_raises_is_an_error_with_its_traceback(launch, workers, error_of):
    script = "for n in range(3):\n    pub.publish(n=n)\ndef broken():\n    return 1 / 0\nbroken()"
    seen = []
    with launch(script) as launcher:
        loader = DataLoader(btt.RemoteIterableDataset(addresses(launcher)), batch_size=1, num_workers=workers)
        error = error_of(lambda: [seen.append(int(batch["n"])) for batch in loader])
        log = launcher.launch_info.logs[0]
    assert type(error) is InstanceError
    for text in ("Blender instance 0 failed: ZeroDivisionError: division by zero", "in broken", "return 1 / 0"):
        assert text in str(error)
    assert workers or seen == [0, 1, 2], "what was published before comes first"
    assert "ZeroDivisionError" in log.read_text(), "the log is kept"


@pytest.mark.blender
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("import sys, os\nprint('last words', flush=True)\nos._exit(3)", "ended with exit code 3"),
        ("import os\nprint('last words', flush=True)\nos.kill(os.getpid(), 9)", "ended with signal SIGKILL"),
        ("import sys\nprint('last words')\nsys.exit('last words')", "failed: SystemExit: last words"),
    ],
)
def test_an_instance_that_dies_is_named_with_its_code_and_the_end_of_its_log(launch, script, text, workers, error_of):
    with launch(f"if args.btid == 1:\n{_indent(script)}\n{ENDLESS}", num_instances=2) as launcher:
        begin = time.monotonic()
        error = error_of(
            lambda: list(DataLoader(btt.RemoteIterableDataset(addresses(launcher)), num_workers=workers, batch_size=4))
        )
        assert time.monotonic() - begin < 20
        assert type(error) is InstanceError
        assert f"Blender instance 1 {text}" in str(error)
        assert "last words" in str(error)
        assert str(launcher.launch_info.logs[1]) in str(error)
        with pytest.raises(InstanceError, match="Blender instance 1"):
            launcher.assert_alive()


def _indent(text):
    return "\n".join("    " + line for line in text.splitlines())


@pytest.mark.blender
def test_an_instance_that_dies_later_is_noticed_within_seconds(launch, error_of):
    with launch(ENDLESS, num_instances=2) as launcher:
        items = iter(btt.RemoteIterableDataset(addresses(launcher)))
        next(items)
        os.kill(launcher.launch_info.processes[0].pid, signal.SIGKILL)
        begin = time.monotonic()
        error = error_of(lambda: [None for _ in items])
        assert time.monotonic() - begin < 5
        assert "instance 0 ended with signal SIGKILL" in str(error)


@pytest.mark.blender
def test_wait_and_assert_alive(launch):
    with launch("pub.close()") as launcher:
        launcher.wait()
        with pytest.raises(InstanceError, match="instance 0 ended with exit code 0"):
            launcher.assert_alive()
    with launch("raise RuntimeError('no')") as launcher, pytest.raises(InstanceError, match="RuntimeError: no"):
        launcher.wait()
    with pytest.raises(LaunchError, match="not running"):
        launcher.wait()


@pytest.mark.blender
def test_a_slow_trainer_stalls_blender_and_is_no_error(launch):
    with launch(ENDLESS) as launcher:
        items = iter(btt.RemoteIterableDataset(addresses(launcher), timeoutms=1000, queue_size=3))
        first = next(items)
        instance = psutil.Process(first["pid"])
        time.sleep(1)
        stalled = instance.memory_info().rss
        time.sleep(2)
        assert instance.memory_info().rss - stalled < 10e6
        numbers = [next(items)["number"] for _ in range(40)]
        assert numbers == list(range(1, 41)), "nothing is dropped either"


@pytest.mark.blender
def test_a_stopped_trainer_is_no_error(launch):
    """SIGSTOP for 3 s, three times the time-out: what a debugger does."""
    with launch("import time\nfor n in range(40):\n    pub.publish(n=n)\n    time.sleep(0.1)") as launcher:
        code = (
            "import sys\nfrom blendtorch import btt\n"
            f"for item in btt.RemoteIterableDataset({list(addresses(launcher))!r}, timeoutms=1000, max_items=35):\n"
            "    print(item['n'], flush=True)\n"
        )
        trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        lines = [trainer.stdout.readline() for _ in range(3)]
        trainer.send_signal(signal.SIGSTOP)
        time.sleep(3)
        trainer.send_signal(signal.SIGCONT)
        lines += trainer.communicate(timeout=30)[0].splitlines()
        assert trainer.returncode == 0
        assert [int(line) for line in lines] == list(range(35))


@pytest.mark.blender
def test_a_slow_instance_stalls_nobody_else(launch):
    script = "import time\nn = 0\nwhile True:\n    pub.publish(n=n)\n    n += 1\n    time.sleep(1 if args.btid else 0.01)"
    with launch(script, num_instances=2) as launcher:
        items = iter(btt.RemoteIterableDataset(addresses(launcher)))
        next(items)
        begin = time.monotonic()
        ids = [next(items)["btid"] for _ in range(60)]
        assert time.monotonic() - begin < 10
        assert ids.count(0) > 50


TRAINER = """
import sys, time
from torch.utils.data import DataLoader
from blendtorch import btt
if __name__ == "__main__":
    with btt.BlenderLauncher(scene="", script=sys.argv[1], num_instances=2, named_sockets=["DATA"],
                             blend_path=sys.argv[2] or None) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])
        for batch in DataLoader(dataset, batch_size=2, num_workers=int(sys.argv[3])):
            print("running", flush=True)
            time.sleep(60)  # the queues fill up: the instances wait in publish
"""


@pytest.mark.blender
@pytest.mark.parametrize(("workers", "cleaned"), [(0, False), (4, False), (0, True)])
def test_a_killed_trainer_leaves_nothing_after_five_seconds(write_script, blender, tmp_path, short_tmp, workers, cleaned):
    """Also where somebody has cleaned the temporary folder meanwhile."""
    script = write_script("import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\n" + ENDLESS)
    (tmp_path / "trainer.py").write_text(TRAINER)
    trainer = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(tmp_path / "trainer.py"), str(script), blender or "", str(workers)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdout.readline() == "running\n"
    time.sleep(2)
    started = [process.pid for process in psutil.Process(trainer.pid).children(recursive=True)]
    assert len(started) >= 2 + 2 + workers + 1, "instances, what they started, workers, guard"
    for folder in short_tmp.glob("blendtorch-*") if cleaned else ():
        shutil.rmtree(folder)
    trainer.kill()
    trainer.communicate()
    time.sleep(5)
    assert alive(started) == []
    assert not list(short_tmp.glob("blendtorch-*"))


@pytest.mark.blender
def test_leaving_the_block_ends_whole_process_trees(launch):
    script = """
import subprocess, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1000 & wait"])
pub.publish(pid=child.pid)
while True: pub.publish(pid=child.pid)
"""
    with launch(script) as launcher:
        pid = next(iter(btt.RemoteIterableDataset(addresses(launcher))))["pid"]
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert len(alive(tree)) == 2
    assert alive(tree) == []


@pytest.mark.blender
def test_tcp_and_ports_in_use(launch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"cannot listen on tcp://127.0.0.1:{port}.* choose another start_port"):
            launch(ENDLESS, start_port=port).__enter__()
    with launch(ENDLESS, start_port=port) as launcher:
        assert addresses(launcher) == [f"tcp://127.0.0.1:{port}"]
        assert next(iter(btt.RemoteIterableDataset(addresses(launcher))))["number"] == 0


@pytest.mark.blender
def test_a_port_that_is_taken_later_is_said_by_the_script(launch, error_of):
    with launch("second = btb.DataPublisher(args.btsockets['DATA'], 0)", start_port=_free_port()) as launcher:
        error = error_of(lambda: list(btt.RemoteIterableDataset(addresses(launcher))))
    assert "is in use: another launch listens there; end it, or choose another start_port" in str(error)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SEEN = "import os\npub.publish(seen=[os.environ.get(n) for n in ('CUDA_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES')])"


@pytest.mark.blender
def test_devices_are_dealt_to_the_instances_in_turn(launch, monkeypatch, tmp_path):
    """Numbers are those that torch has in this process, which may see a part of the machine's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,GPU-7")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    with launch(SEEN, num_instances=3, devices=[2, 0]) as launcher:
        seen = {item["btid"]: item["seen"] for item in btt.RemoteIterableDataset(addresses(launcher))}
        assert launcher.launch_info.devices == ["GPU-7", "4", "GPU-7"]
        btt.LaunchInfo.save_json(tmp_path / "info.json", launcher.launch_info)
    assert seen == {0: ["GPU-7"] * 2, 1: ["4"] * 2, 2: ["GPU-7"] * 2}
    assert btt.LaunchInfo.load_json(tmp_path / "info.json").devices == ["GPU-7", "4", "GPU-7"]


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ([], r"devices is \[\]: expected one GPU or more"),
        (1, "devices is 1: expected one GPU or more"),
        ("01", "devices is '01': expected one GPU or more"),
        ([0, -1], r"devices\[1\] is -1, and CUDA_VISIBLE_DEVICES='4,6' leaves this process 2"),
        ([2], r"devices\[0\] is 2, and .*or pass '2', as text"),
        ([True], r"devices\[0\] is True: expected the number of a GPU"),
        ([0, ""], r"devices\[1\] is '': expected the number of a GPU"),
    ],
)
def test_devices_that_cannot_be_are_refused(write_script, monkeypatch, devices, text):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    with pytest.raises(LaunchError, match=text):
        btt.BlenderLauncher(scene="", script=write_script(""), devices=devices)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, ["1", "GPU-5", "1"]), ({"HIP_VISIBLE_DEVICES": "7,3", "CUDA_VISIBLE_DEVICES": "2"}, ["3", "GPU-5", "3"])],
)
def test_devices_are_counted_as_the_driver_of_this_process_does(monkeypatch, variables, expected):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert deal_devices([1, "GPU-5"], 3) == expected
    assert deal_devices(None, 3) == []
    with pytest.raises(LaunchError, match=r"devices\[0\] is -1"):
        btt.stream(devices=[-1])


@pytest.mark.blender
def test_launch_info_goes_through_a_file_and_back(launch, tmp_path):
    with launch(ENDLESS) as launcher:
        btt.LaunchInfo.save_json(tmp_path / "info.json", launcher.launch_info)
        with (tmp_path / "info2.json").open("w") as file:
            btt.LaunchInfo.save_json(file, launcher.launch_info)
        assert (tmp_path / "info.json").read_text() == (tmp_path / "info2.json").read_text()
        info = btt.LaunchInfo.load_json(tmp_path / "info.json")
        assert info.addresses == launcher.launch_info.addresses
        assert info.commands == launcher.launch_info.commands
        assert info.processes is None
        assert info.addresses["DATA"].launch_folder == launcher.launch_info.launch_folder
        assert "number" in next(iter(btt.RemoteIterableDataset(info.addresses["DATA"])))
        late = btt.RemoteIterableDataset(info.addresses["DATA"])
    with pytest.raises(InstanceError, match="the launch has ended"):
        list(late)
    (tmp_path / "info.json").write_text("[]")
    with pytest.raises(LaunchError, match="holds no launch information"):
        btt.LaunchInfo.load_json(tmp_path / "info.json")


@pytest.mark.blender
def test_the_launch_command(write_script, blender, tmp_path):
    command = Path(sys.executable).with_name("blendtorch-launch")
    arguments = {"scene": "", "script": str(write_script(ENDLESS)), "named_sockets": ["DATA"], "blend_path": blender}
    (tmp_path / "launch.json").write_text(json.dumps(arguments))
    out = tmp_path / "info.json"
    process = subprocess.Popen([command, "--out-launch-info", out, tmp_path / "launch.json"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: out.exists() and out.stat().st_size)
    info = btt.LaunchInfo.load_json(out)
    assert next(iter(btt.RemoteIterableDataset(info.addresses["DATA"])))["number"] == 0
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    (tmp_path / "launch.json").write_text(json.dumps({**arguments, "script": "missing.py"}))
    result = subprocess.run([command, tmp_path / "launch.json"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "blendtorch-launch: script 'missing.py' does not exist" in result.stderr
    assert "named_sockets" in subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.blender
def test_scripts_inside_the_scene_run_only_when_allowed(items_of, launch, tmp_path, caplog):
    path = tmp_path / "with-script.blend"
    items_of(
        f"""
text = bpy.data.texts.new("inside.py")
text.write("import bpy; bpy.context.scene['ran'] = 1")
text.use_module = True
bpy.ops.wm.save_as_mainfile(filepath={str(path)!r})
"""
    )
    script = "import time\npub.publish(ran=bpy.context.scene.get('ran', 0)); time.sleep(0.5)"
    assert [item["ran"] for item in items_of(script, scene=path)] == [0]
    assert "brings scripts that were not run (text blocks inside.py): pass enable_autoexec=True" in caplog.text
    caplog.clear()
    assert [item["ran"] for item in items_of(script, scene=path, enable_autoexec=True)] == [1]
    assert "brings scripts" not in caplog.text


@pytest.mark.blender
def test_the_users_startup_file_is_not_used(items_of, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDER_USER_CONFIG", str(tmp_path))
    startup = str(tmp_path / "startup.blend")
    items_of(f"bpy.data.objects['Cube'].name = 'Mine'\nbpy.ops.wm.save_as_mainfile(filepath={startup!r})")
    for scene in ("", None):
        (item,) = items_of("pub.publish(names=sorted(o.name for o in bpy.data.objects))", scene=scene)
        assert item["names"] == ["Camera", "Cube", "Light"]


@pytest.mark.blender
def test_a_scene_that_blender_cannot_open(launch, tmp_path, error_of):
    (tmp_path / "broken.blend").write_text("this is no scene")
    with launch("pub.publish(a=1)", scene=tmp_path / "broken.blend") as launcher:
        error = error_of(lambda: list(btt.RemoteIterableDataset(addresses(launcher))))
    assert "cannot open" in str(error)
    assert "broken.blend" in str(error)


@pytest.mark.blender
def test_instances_render_with_their_share_of_the_cpus(items_of):
    from blendtorch.btt.cpus import allowed_cpus

    (item,) = items_of("pub.publish(mode=bpy.context.scene.render.threads_mode, threads=bpy.context.scene.render.threads)")
    assert (item["mode"], item["threads"]) == ("FIXED", allowed_cpus())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scene": "nowhere.blend"}, "scene 'nowhere.blend' does not exist"),
        ({"script": "nowhere.py"}, "script 'nowhere.py' does not exist"),
        ({"num_instances": 0}, "expected 1 or more"),
        ({"instance_args": [[], []]}, "2 entries for 1 instances"),
    ],
)
def test_wrong_arguments_are_refused_at_once(write_script, change, text):
    with pytest.raises(LaunchError, match=text):
        btt.BlenderLauncher(**{"scene": "", "script": write_script(""), **change})


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"proto": "udp"}, LaunchError, "expected 'ipc' or 'tcp'"),
        ({"named_sockets": ["../DATA"]}, LaunchError, "use letters"),
        ({"named_sockets": ["D" * 100]}, AddressError, "too long for a socket"),
        ({"bind_addr": "203.0.113.1"}, AddressError, "cannot listen on tcp://203.0.113.1:11000"),
    ],
)
def test_wrong_addresses_are_refused_before_blender_starts(write_script, change, error, text):
    launcher = btt.BlenderLauncher(**{"scene": "", "script": write_script(""), "named_sockets": ["DATA"], **change})
    with pytest.raises(error, match=text):
        launcher.__enter__()


def test_a_window_needs_a_display(write_script, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(LaunchError, match="there is no display"):
        btt.BlenderLauncher(scene="", script=write_script(""), background=False)


def test_primary_ip_is_an_address(write_script):
    from blendtorch.btt.launch_addresses import make_addresses

    (address,) = make_addresses(["A"], 1, Path("/tmp"), "tcp", "primaryip", 0)["A"]
    socket.inet_aton(address.removeprefix("tcp://").rpartition(":")[0])


def test_names_of_0_4_that_are_to_come_raise_a_sentence():
    for name in ("DuplexChannel", "env"):
        with pytest.raises(ImportError, match="not part of this version yet"):
            getattr(btt, name)
    assert not hasattr(btt, "nonsense")


def test_gamma():
    image = np.array([[[0, 55, 255, 7]]], np.uint8)
    assert btt.colors.gamma(image).tolist() == [[[0, 126, 255, 7]]]
    assert image[0, 0, 1] == 55
