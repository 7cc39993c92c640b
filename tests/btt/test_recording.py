"""What a stream records: from real publishers, with any number of workers, over epochs."""

import multiprocessing

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.core import EndOfStream, Frame
from blendtorch.core.ring import Ring
from blendtorch.core.testing.subject import alike
from blendtorch.core.transport import Push
from torch.utils.data import DataLoader


def data_of(btid, number):
    rng = np.random.default_rng(1000 * btid + number)
    return {
        "image": rng.integers(0, 256, (48, 64, 3), np.uint8),
        "labels": {"xy": rng.normal(size=(4, 2)), "visible": rng.random(4) > 0.5},
        "number": number,
    }


def publish(address, btid, count):
    with Push(address, ring=Ring()) as push:
        for number in range(count):
            push.send(push.pack(Frame(btid=btid, sequence=number, data=data_of(btid, number))))
        push.farewell(EndOfStream(btid=btid, sequence=count, address=address))


@pytest.fixture
def publishers(short_tmp):
    """Start publishers of `count` frames each; returns their addresses."""
    context = multiprocessing.get_context("fork")
    processes = []

    def start(instances=2, count=30):
        addresses = [f"ipc://{short_tmp}/p{len(processes) + number}" for number in range(instances)]
        for btid, address in enumerate(addresses):
            processes.append(context.Process(target=publish, args=(address, btid, count), daemon=True))
            processes[-1].start()
        return addresses

    yield start
    for process in processes:
        process.kill()
        process.join()


def keys_of(items):
    return sorted((int(item["btid"]), int(item["number"])) for item in items)


def as_published(item):
    return alike(item, {**data_of(item["btid"], item["number"]), "btid": item["btid"]})


def _halved(item):
    return {"half": item["image"][::2], "btid": item["btid"], "number": item["number"]}


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_what_is_replayed_is_what_was_received(publishers, tmp_path, workers, context):
    """Before `item_transform`, whichever worker received it."""
    prefix = tmp_path / "record"
    dataset = btt.RemoteIterableDataset(publishers(), item_transform=_halved, record_path_prefix=prefix)
    received = list(DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context))
    replayed = list(btt.FileDataset(prefix))
    assert len(received) == 60
    assert keys_of(replayed) == keys_of(received)
    assert all(as_published(item) for item in replayed)
    names = sorted(path.name for path in tmp_path.glob("record*.arrows"))
    assert names == ["record_00.arrows", "record_01.arrows"][: max(workers, 1)]
