"""The dataset in DataLoader, fed by publishers in processes of their own.

What is under test here is the stream; the publishers are core's, without Blender around them.
"""

import multiprocessing
import os
import re
import signal
import time
from collections import Counter

import numpy as np
import pytest
import torch
from blendtorch import btt
from blendtorch.core import EndOfStream, Failure, Frame
from blendtorch.core.errors import AddressError, DecodeError, InstanceError, LaunchError, StreamTimeoutError
from blendtorch.core.ring import Ring
from blendtorch.core.transport import Parcel, Push
from torch.utils.data import DataLoader


def publish(address, btid, count, pause_s, ending):
    """Publish `count` frames (None: for ever), then linger."""
    with Push(address, ring=Ring()) as push:
        number = 0
        while count is None or number < count:
            data = {"image": np.full((48, 64, 3), number % 256, np.uint8), "number": number}
            push.send(push.pack(Frame(btid=btid, sequence=number, data=data)))
            number += 1
            time.sleep(pause_s)
        if ending == "end":
            push.farewell(EndOfStream(btid=btid, sequence=number, address=address))
        elif ending == "failure":
            failure = Failure(btid=btid, sequence=number, address=address, error="ValueError: no", traceback="Traceback: here")
            push.farewell(failure)
        elif ending == "noise":
            push.send(Parcel(number, [b"noise"], []))
            push.send(push.pack(Frame(btid=btid, sequence=number + 1, data={"number": number})))
            push.drain(60_000)
            time.sleep(60)


@pytest.fixture
def publishers(short_tmp):
    """Start publishers; returns their addresses."""
    context = multiprocessing.get_context("fork")
    processes = []

    def start(instances=1, count=None, pause_s=0.002, ending=None):
        addresses = [f"ipc://{short_tmp}/p{len(processes) + number}" for number in range(instances)]
        for btid, address in enumerate(addresses):
            processes.append(context.Process(target=publish, args=(address, btid, count, pause_s, ending), daemon=True))
            processes[-1].start()
        start.processes = processes
        return addresses

    yield start
    for process in processes:
        process.kill()
        process.join()


def numbers_of(batches):
    return Counter(
        (int(btid), int(number)) for batch in batches for btid, number in zip(batch["btid"], batch["number"], strict=True)
    )


def test_one_process_sees_each_instance_in_order(publishers):
    items = list(btt.RemoteIterableDataset(publishers(2), max_items=100))
    assert len(items) == 100
    for btid in (0, 1):
        numbers = [item["number"] for item in items if item["btid"] == btid]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 20, "the instances take turns"


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("workers", [1, 4])
def test_max_items_is_exact_and_nothing_comes_twice(publishers, workers, context):
    dataset = btt.RemoteIterableDataset(publishers(3), max_items=50)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    counts = numbers_of(batches)
    assert sum(counts.values()) == 50
    assert max(counts.values()) == 1
    assert all(batch["image"].shape[1:] == (48, 64, 3) and batch["image"].dtype == torch.uint8 for batch in batches)
    assert all((batch["image"][:, 0, 0, 0] == batch["number"] % 256).all() for batch in batches)


def test_batches_are_full_where_the_shares_allow_it(publishers):
    loader = DataLoader(btt.RemoteIterableDataset(publishers(2), max_items=32), batch_size=4, num_workers=4)
    assert [len(batch["number"]) for batch in loader] == [4] * 8


@pytest.mark.parametrize("max_items", [0, 1, 3])
def test_fewer_items_than_workers(publishers, max_items):
    loader = DataLoader(btt.RemoteIterableDataset(publishers(), max_items=max_items), num_workers=4)
    assert len(list(loader)) == max_items


def test_items_are_the_callers_own(publishers):
    items = list(btt.RemoteIterableDataset(publishers(), max_items=5))
    for item in items:
        assert set(item) == {"image", "number", "btid"}
        flags = item["image"].flags
        assert flags.writeable
        assert flags.aligned
        assert flags.c_contiguous
        item["image"] += 1
    assert [item["image"][0, 0, 0] for item in items] == [1, 2, 3, 4, 5]


def test_epochs_with_one_process_lose_nothing(publishers):
    dataset = btt.RemoteIterableDataset(publishers(count=30, ending="end"), max_items=10)
    epochs = [[item["number"] for item in dataset] for _ in range(3)]
    assert epochs == [list(range(10)), list(range(10, 20)), list(range(20, 30))]


def test_breaking_off_leaves_the_rest_to_the_next_epoch(publishers):
    dataset = btt.RemoteIterableDataset(publishers(count=30), max_items=10)
    seen = []
    for _ in range(3):
        for item in dataset:
            seen.append(item["number"])
            if len(seen) % 10 == 7:
                break
    assert seen == list(range(len(seen)))


def test_epochs_with_persistent_workers_lose_nothing(publishers):
    """Three epochs of 64, which lost 75 messages when each epoch had a socket of its own."""
    dataset = btt.RemoteIterableDataset(publishers(2, count=96, ending="end"), max_items=64)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    counts = sum((numbers_of(list(loader)) for _ in range(3)), Counter())
    assert counts == Counter({(btid, number): 1 for btid in (0, 1) for number in range(96)})
    del loader


def test_epochs_with_fresh_workers_are_exact(publishers):
    loader = DataLoader(btt.RemoteIterableDataset(publishers(), max_items=20), batch_size=5, num_workers=2)
    for _ in range(3):
        assert sum(len(batch["number"]) for batch in loader) == 20


def test_what_ended_workers_held_comes_in_later_epochs(publishers):
    """The workers of each epoch end with messages in their queues; and an iteration of an ended stream says so."""
    loader = DataLoader(btt.RemoteIterableDataset(publishers(2, 45, ending="end"), max_items=30), batch_size=5, num_workers=2)
    counts = sum((numbers_of(list(loader)) for _ in range(3)), Counter())
    assert counts == Counter({(btid, number): 1 for btid in (0, 1) for number in range(45)})


def test_iterating_an_ended_stream_ends_at_once_with_a_warning(publishers):
    dataset = btt.RemoteIterableDataset(publishers(count=5, ending="end"))
    assert len(list(dataset)) == 5
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="has ended in an earlier iteration"):
        assert list(dataset) == []
    assert time.monotonic() - begin < 0.5


def test_lists_longer_than_the_ring_are_the_callers_own(publishers):
    """The 32 slots are held by the list's arrays, and the rest travels by socket."""
    items = list(btt.RemoteIterableDataset(publishers(), max_items=100))
    assert [int(item["image"].max()) for item in items] == list(range(100))
    for item in items:
        item["image"] += 1
    assert [int(item["image"].min()) for item in items] == list(range(1, 101))


def _kill_yourself(item):
    if item["number"] == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def _train_until_a_worker_is_killed(addresses, path):
    """In a process of its own: PyTorch raises from a signal handler, wherever its process is."""
    dataset = btt.RemoteIterableDataset(addresses, item_transform=_kill_yourself)
    with path.open("w", buffering=1) as file:
        for batch in DataLoader(dataset, batch_size=1, num_workers=2):
            file.write("".join(f"{btid} {number}\n" for btid, number in numbers_of([batch])))


def test_what_a_killed_worker_held_is_sent_again(publishers, tmp_path, capfd):
    """PyTorch's own error ends the iteration; all comes that was not yielded. 40 was, as far as the stream knows."""
    addresses = publishers(2, 100, ending="end")
    trainer = multiprocessing.get_context("spawn").Process(
        target=_train_until_a_worker_is_killed, args=(addresses, tmp_path / "numbers")
    )
    trainer.start()
    trainer.join(20)
    assert trainer.exitcode == 1
    # The second where a worker dies with the descriptors of a batch that it had handed over.
    assert re.search(r"is killed by signal: Killed|ConnectionResetError|FileNotFoundError|EOFError", capfd.readouterr().err)
    counts = Counter(tuple(map(int, line.split())) for line in (tmp_path / "numbers").read_text().splitlines())
    rest = numbers_of(DataLoader(btt.RemoteIterableDataset(addresses), batch_size=1, num_workers=2))
    both = counts + rest
    assert max(both.values()) == 1
    assert len(both) >= 200 - 2 * 3, "what workers had yielded and the loader had not passed on: 2 and 1 for each"


def test_the_same_torch_seed_in_each_epoch_is_no_matter(publishers):
    loader = DataLoader(btt.RemoteIterableDataset(publishers(), max_items=6), num_workers=2)
    for _ in range(3):
        torch.manual_seed(0)
        assert sum(1 for _ in loader) == 6


def test_two_loaders_at_once_count_for_themselves(publishers):
    dataset = btt.RemoteIterableDataset(publishers(), max_items=12)
    loaders = [iter(DataLoader(dataset, num_workers=2)) for _ in range(2)]
    assert [sum(1 for _ in loader) for loader in loaders] == [12, 12]


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_pin_memory(publishers, workers):
    dataset = btt.RemoteIterableDataset(publishers(), max_items=8)
    batches = list(DataLoader(dataset, batch_size=4, num_workers=workers, pin_memory=True))
    assert sum(numbers_of(batches).values()) == 8


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_ended_stream_ends_every_worker(publishers, workers):
    """Of publishers on another machine too, where only their last messages tell of the end."""
    dataset = btt.RemoteIterableDataset(publishers(2, count=150, ending="end"), queue_size=3)
    counts = numbers_of(DataLoader(dataset, batch_size=4, num_workers=workers))
    assert counts == Counter({(btid, number): 1 for btid in (0, 1) for number in range(150)})


def _half(item):
    return item["number"] / 2


def test_item_transform_and_subclasses(publishers):
    dataset = btt.RemoteIterableDataset(publishers(), item_transform=_half)
    dataset.stream_length(4)
    assert list(dataset) == [0, 0.5, 1, 1.5]

    class Doubled(btt.RemoteIterableDataset):
        def _item(self, item):
            return item["number"] * 2

    assert list(Doubled(publishers(), max_items=3)) == [0, 2, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_break_returns_soon_while_frames_flow(publishers, workers):
    """One frame takes 0.1 s here, a batch 1.6 s and more: `break` must not wait for the batches that workers are at."""
    dataset = btt.RemoteIterableDataset(publishers(pause_s=0.1))
    loader = DataLoader(dataset, batch_size=8, num_workers=workers)
    for _ in loader:
        begin = time.monotonic()
        break
    del loader
    assert time.monotonic() - begin < 1.0


def test_break_returns_soon_while_no_frame_comes(publishers):
    dataset = btt.RemoteIterableDataset(publishers(count=4, ending="noise", pause_s=0.01), max_items=100)
    loader = DataLoader(dataset, batch_size=2, num_workers=1)
    for _ in loader:
        begin = time.monotonic()
        break
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("workers", [0, 2])
def test_silence_is_an_error_that_says_what_is_known(publishers, workers, error_of):
    addresses = [*publishers(count=0, ending="noise"), "ipc:///tmp/nobody-listens-here"]
    dataset = btt.RemoteIterableDataset(addresses[1:], timeoutms=600)
    begin = time.monotonic()
    error = error_of(lambda: list(DataLoader(dataset, num_workers=workers)))
    assert type(error) is StreamTimeoutError
    assert "nobody-listens-here: not connected" in str(error)
    assert time.monotonic() - begin < 20


def test_the_time_out_counts_from_the_last_sign_of_life(publishers):
    """Frames every 0.4 s, a time-out of 1 s, and a trainer that takes 1.5 s over one item."""
    dataset = btt.RemoteIterableDataset(publishers(pause_s=0.4), timeoutms=1000, max_items=8)
    for number, _ in enumerate(dataset):
        if number == 3:
            time.sleep(1.5)
    assert number == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_comes_after_what_was_sent_before_it(publishers, workers, error_of):
    seen, dataset = [], btt.RemoteIterableDataset(publishers(count=5, ending="failure"))
    error = error_of(lambda: [seen.append(int(batch["number"])) for batch in DataLoader(dataset, num_workers=workers)])
    assert type(error) is InstanceError
    assert "Blender instance 0 failed: ValueError: no\n\nTraceback: here" in str(error)
    if workers == 0:
        assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_noise_is_an_error_with_its_own_type_and_the_stream_goes_on(publishers, workers, error_of):
    dataset = btt.RemoteIterableDataset(publishers(count=3, ending="noise"), max_items=4)
    assert type(error_of(lambda: list(DataLoader(dataset, num_workers=workers)))) is DecodeError
    if workers == 0:
        assert next(iter(dataset))["number"] == 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"addresses": []}, AddressError),
        ({"addresses": "tcp://127.0.0.1:11000"}, AddressError),
        ({"addresses": ["tcp://127.0.0.1:11000"], "max_items": -1}, LaunchError),
        ({"addresses": ["tcp://127.0.0.1:11000"], "queue_size": 0}, LaunchError),
    ],
)
def test_wrong_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        btt.RemoteIterableDataset(**arguments)


def test_malformed_addresses_are_refused_where_they_are_used():
    with pytest.raises(AddressError, match="expected tcp://host:port"):
        next(iter(btt.RemoteIterableDataset(["localhost:11000"])))


class Limited(torch.utils.data.IterableDataset):
    """A user's wrapper whose worker 0 stops early."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        stop = 2 if torch.utils.data.get_worker_info().id == 0 else None
        for number, item in enumerate(self.dataset):
            if number == stop:
                return
            yield item


def test_what_a_worker_leaves_of_its_share_goes_to_the_others(publishers):
    """It stops at its third item, which it has taken and not passed on: 39 of 40 arrive."""
    loader = DataLoader(Limited(btt.RemoteIterableDataset(publishers(), max_items=40)), num_workers=2)
    assert len(list(loader)) == 39


def test_workers_end_soon_after_a_killed_trainer(publishers, tmp_path):
    addresses = publishers(pause_s=0.05)
    pids = tmp_path / "pids"
    trainer = multiprocessing.get_context("spawn").Process(target=_train, args=(addresses, str(pids)))
    trainer.start()
    deadline = time.monotonic() + 60
    while not pids.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [int(pid) for pid in pids.read_text().split()]
    assert len(workers) == 4
    trainer.kill()
    trainer.join()
    time.sleep(3)
    assert [pid for pid in workers if _lives(pid)] == []


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _train(addresses, path):
    import psutil

    for _ in DataLoader(btt.RemoteIterableDataset(addresses), batch_size=4, num_workers=4):
        with open(path + ".part", "w") as file:
            file.write(" ".join(str(child.pid) for child in psutil.Process().children()))
        os.rename(path + ".part", path)
        time.sleep(60)
