"""How a publisher fares, read by another process."""

import stat
import subprocess
import sys
import time

import pytest
from blendtorch.core.errors import BlendtorchError
from blendtorch.core.launch import EpisodeStart, InstanceFiles, Restarts, epoch_address
from blendtorch.core.status import PublisherStatus


def test_counts_and_times(tmp_path):
    before = time.monotonic_ns()
    status = PublisherStatus.create(tmp_path / "status")
    reader = PublisherStatus.open(tmp_path / "status")
    seen = reader.read()
    assert before <= seen.started_ns <= time.monotonic_ns()
    assert (seen.frames, seen.last_frame_ns, seen.waiting_since_ns) == (0, 0, 0)
    status.waiting()
    assert seen.started_ns <= reader.read().waiting_since_ns <= time.monotonic_ns()
    status.published(100, 5, ring_miss=True)
    status.published(20, 0, ring_miss=False)
    seen = reader.read()
    assert (seen.frames, seen.bytes, seen.ring_misses, seen.waited_ns, seen.waiting_since_ns) == (2, 120, 1, 5, 0)
    assert seen.started_ns < seen.last_frame_ns <= time.monotonic_ns()
    assert stat.S_IMODE(status.path.stat().st_mode) == 0o600


def test_another_process_goes_on_counting(tmp_path):
    path = tmp_path / "status"
    PublisherStatus.create(path).published(100, 5, ring_miss=True)
    reader = PublisherStatus.open(path)
    first = reader.read()
    code = (
        "import pathlib, sys\nfrom blendtorch.core.status import PublisherStatus\n"
        "status = PublisherStatus.create(pathlib.Path(sys.argv[1]))\nstatus.published(10, 1, False)\nstatus.waiting()"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=60)
    seen = reader.read()
    assert (seen.frames, seen.bytes, seen.ring_misses, seen.waited_ns) == (2, 110, 1, 6)
    assert first.last_frame_ns < seen.started_ns < seen.last_frame_ns < seen.waiting_since_ns < time.monotonic_ns()


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "half").touch()
    for name in ("nothing", "half"):
        with pytest.raises(BlendtorchError, match="no publisher has made"):
            PublisherStatus.open(tmp_path / name)
    with pytest.raises(BlendtorchError, match="cannot make"):
        PublisherStatus.create(tmp_path / "nowhere" / "status")


def test_the_files_of_an_instance(tmp_path):
    files, other = InstanceFiles(tmp_path, 1), InstanceFiles(tmp_path, 11)
    data, tcp = "ipc:///tmp/blendtorch-x/DATA-1", "tcp://127.0.0.1:11001"
    epochs = [epoch_address(data, number) for number in range(2)]
    assert len({files.record(each) for each in (data, tcp, *epochs)} | {other.record(data)}) == 5
    assert {files.status(each) for each in (data, *epochs)} == {files.status(data)}
    assert files.status(tcp) != files.status("tcp://127.0.0.2:11001")
    for each in (data, tcp):
        PublisherStatus.create(files.status(each))
    PublisherStatus.create(other.status(data))
    assert files.statuses() == sorted([files.status(data), files.status(tcp)])


def test_restarts_and_episodes_are_read_back(tmp_path):
    files = InstanceFiles(tmp_path, 0)
    assert files.read_restarts() == Restarts()
    assert files.read_episodes() == []
    files.write_restarts(Restarts(failures=2, verdict="enough"))
    assert files.read_restarts() == Restarts(failures=2, verdict="enough")
    starts = [EpisodeStart(play=0, episode=number, sequences={"ipc:///a": 3 * number}) for number in range(3)]
    for start in starts[:2]:
        files.note_episode(start)
    with files.episodes.open("ab") as file:
        file.write(b'\n{"play": 0, "episode": 2, "seq')  # killed in the middle
    files.note_episode(starts[2])
    assert files.read_episodes() == starts
