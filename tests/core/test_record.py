"""What was delivered, noted by many processes at once."""

import errno
import multiprocessing
import os
import pickle
import stat
import threading

import pytest
from blendtorch.core.errors import BlendtorchError
from blendtorch.core.record import MAX_SEQUENCE, DeliveryRecord
from hypothesis import given
from hypothesis import strategies as st

fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")


def claim_all(record, count, results):
    results.put([number for number in range(count) if record.claim(number)])


@pytest.mark.parametrize("context", [fork, spawn], ids=["fork", "spawn"])
def test_each_message_is_claimed_by_one_process(context, tmp_path):
    record, results = DeliveryRecord(tmp_path / "record"), context.Queue()
    claimers = [context.Process(target=claim_all, args=(record, 3000, results)) for _ in range(3)]
    for process in claimers:
        process.start()
    claimed = [number for _ in claimers for number in results.get(timeout=60)]
    for process in claimers:
        process.join(30)
    results.close()
    results.join_thread()
    assert sorted(claimed) == list(range(3000))
    assert record.first_undelivered() == record.count() == 3000
    assert stat.S_IMODE(record.path.stat().st_mode) == 0o600


def test_each_message_is_claimed_by_one_thread(tmp_path):
    record, claimed = DeliveryRecord(tmp_path / "record"), []
    threads = [threading.Thread(target=lambda: claimed.extend(n for n in range(2000) if record.claim(n))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(2000))


def test_a_process_that_is_killed_leaves_what_it_claimed_and_no_lock(tmp_path):
    record = DeliveryRecord(tmp_path / "record")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        record.claim(8)
        with record._locked(7):  # it dies between its look and its note
            os.write(writer, b"x")
            threading.Event().wait()
    os.read(reader, 1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert record.claim(7)
    assert not record.claim(8)


@given(st.lists(st.one_of(st.integers(0, 40), st.integers(65_000, 66_000), st.just(MAX_SEQUENCE - 1)), max_size=60))
def test_it_is_a_set(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("record") / "record"
    record, model = DeliveryRecord(path), set()
    for number in numbers:
        try:
            assert record.claim(number) == (number not in model)
        except BlendtorchError:  # a file system that has no files of a terabyte
            assert number == MAX_SEQUENCE - 1
        else:
            model.add(number)
        assert record.first_undelivered() == next(n for n in range(len(model) + 1) if n not in model)
    for seen in (record, DeliveryRecord(path), pickle.loads(pickle.dumps(record))):
        assert seen.count() == len(model)
        assert all(seen.delivered(number) == (number in model) for number in (*range(45), 65_535, 65_536, *model))


def test_the_first_undelivered_of_millions_is_found_at_once(tmp_path):
    (tmp_path / "record").write_bytes(b"\1" * 5_000_000 + b"\0\1")
    record = DeliveryRecord(tmp_path / "record")
    assert record.first_undelivered() == 5_000_000
    assert record.count() == 5_000_001
    assert record.claim(5_000_000)
    assert record.first_undelivered() == 5_000_002


@pytest.mark.parametrize("number", [-1, MAX_SEQUENCE])
def test_numbers_out_of_range_are_refused(tmp_path, number):
    record = DeliveryRecord(tmp_path / "record")
    for call in (record.claim, record.delivered):
        with pytest.raises(BlendtorchError, match=f"sequence number {number}: expected 0 to"):
            call(number)
    assert record.path.stat().st_size == 0


def test_what_cannot_be_noted_is_not_claimed(tmp_path, monkeypatch):
    record = DeliveryRecord(tmp_path / "record")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(BlendtorchError, match="No space left on device.*Make room there"):
            record.claim(3)
    assert not record.delivered(3)
    assert record.claim(3), "when there is room again"


def test_a_launch_that_has_ended_is_said(tmp_path):
    with pytest.raises(BlendtorchError, match="Has its launch ended"):
        DeliveryRecord(tmp_path / "gone" / "record")
