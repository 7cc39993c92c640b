"""What a stream records: from real publishers, with any number of workers, over epochs."""

import multiprocessing
import os
import signal
from typing import Annotated

import msgspec
import numpy as np
import pytest
import torch
from blendtorch import btt
from blendtorch.core import ArraySpec, EndOfStream, Frame
from blendtorch.core.errors import PayloadError, RecordingError
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


def test_epochs_and_persistent_workers_go_on_recording(publishers, tmp_path):
    for persistent in (True, False):
        prefix = tmp_path / f"record{persistent}"
        dataset = btt.RemoteIterableDataset(publishers(2, 40), max_items=20, record_path_prefix=prefix)
        loader = DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=persistent)
        received = [item for _ in range(3) for batch in loader for item in btt.unbatch(batch)]
        del loader
        replayed = list(btt.FileDataset(prefix))
        assert len(received) == 60
        if persistent:  # of epochs before, workers that ended may still have recorded what was not yielded any more
            assert keys_of(received) == keys_of(replayed)
        assert set(keys_of(received)) <= set(keys_of(replayed))
        assert all(as_published(item) for item in replayed)
        files = sorted(path.name for path in tmp_path.glob(f"{prefix.name}_*.arrows"))
        assert len(files) == (2 if persistent else 6), files


def test_the_default_collate_takes_what_is_replayed_as_what_is_live(publishers, tmp_path):
    prefix = tmp_path / "record"
    live = list(DataLoader(btt.RemoteIterableDataset(publishers(1, 8), record_path_prefix=prefix), batch_size=4))
    replayed = list(DataLoader(btt.FileDataset(prefix), batch_size=4))
    for one, other in zip(live, replayed, strict=True):
        assert one["labels"].keys() == other["labels"].keys()
        assert torch.equal(one["image"], other["image"])
        assert one["image"].dtype == other["image"].dtype
        assert torch.equal(one["number"], other["number"])


class Declared(msgspec.Struct):
    image: Annotated[np.ndarray, ArraySpec("uint8", ("height", "width", 3))]
    labels: dict
    number: Annotated[int, msgspec.Meta(lt=5)]


def test_what_the_payload_refuses_is_not_recorded(publishers, tmp_path):
    dataset = btt.RemoteIterableDataset(publishers(1), payload=Declared, record_path_prefix=tmp_path / "record")
    with pytest.raises(PayloadError, match="Declared.number"):
        list(dataset)
    dataset.close()
    assert [item["number"] for item in btt.FileDataset(tmp_path / "record")] == [0, 1, 2, 3, 4]


def test_recording_begins_before_iterating(publishers, tmp_path):
    dataset = btt.RemoteIterableDataset(publishers(1), max_items=3)
    list(dataset)
    with pytest.raises(RecordingError, match="enable_recording comes before iterating"):
        dataset.enable_recording(tmp_path / "record")
    dataset.close()
    assert list(tmp_path.glob("record*")) == []


def _killed_at_ten(item):
    if item["number"] == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_who_is_killed_leaves_what_it_has_received(publishers, tmp_path):
    dataset = btt.RemoteIterableDataset(publishers(1), item_transform=_killed_at_ten, record_path_prefix=tmp_path / "record")
    trainer = multiprocessing.get_context("fork").Process(target=list, args=(dataset,))
    trainer.start()
    trainer.join(20)
    assert trainer.exitcode == -signal.SIGKILL
    assert [item["number"] for item in btt.FileDataset(tmp_path / "record")] == list(range(11))


def test_samples_are_replayed_in_their_order_with_their_categories(tmp_path):
    prefix = tmp_path / "record"
    run = btt.stream(annotators=["boxes2d_loose"], resolution=(64, 48), count=6, num_instances=2, record_path_prefix=prefix)
    with run as dataset:
        received = list(DataLoader(dataset, batch_size=None, num_workers=2))
        categories = dataset.categories
    replayed = btt.FileDataset(prefix)
    assert [sample["meta"]["index"] for sample in replayed] == list(range(6)) == replayed.indexes.tolist()
    assert replayed.categories == categories
    for sample in received:
        # DataLoader makes tensors of numbers only where it collates: here nothing was changed.
        assert alike(replayed[sample["meta"]["index"]], _as_arrays(sample))
    assert {"image", "boxes2d_loose.clipped"} < {column.name for column in replayed.files[0].columns}


def _as_arrays(value):
    if isinstance(value, dict):
        return {key: _as_arrays(item) for key, item in value.items()}
    return value.numpy() if isinstance(value, torch.Tensor) else value


def test_a_prefix_that_is_taken_is_refused_before_a_blender_starts(tmp_path):
    with btt.FileRecorder(btt.FileRecorder.filename(tmp_path / "record", 0)) as recorder:
        recorder.save({"number": 1})
    with pytest.raises(RecordingError, match="already"):
        btt.stream(record_path_prefix=tmp_path / "record")
