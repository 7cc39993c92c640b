"""Recordings in the page: what `FileDataset` opens can be looked at, whatever became of some of its files."""

import shutil
import urllib.request
from pathlib import Path

import msgspec
import pytest
from blendtorch import btt
from blendtorch.btt.viewing.recorded import RecordedSource


@pytest.fixture
def record(tmp_path, make_sample):
    """Record a sample in a worker; gives the file."""

    def record(worker):
        path = btt.FileRecorder.filename(tmp_path / "r", worker)
        with btt.FileRecorder(path) as recorder:
            recorder.save(make_sample(worker))
        return path

    return record


@pytest.fixture
def past(monkeypatch):
    """Look at the files each time."""
    monkeypatch.setattr("blendtorch.btt.viewing.recorded._LOOK_S", -1.0)


def test_a_file_without_a_message_hides_no_other(record, tmp_path, past):
    record(0)
    empty = tmp_path / "r_01.arrows"
    empty.touch()
    source = RecordedSource(tmp_path / "r")
    (tmp_path / "r_02.arrows").touch()
    assert source.status().end == 1
    assert source.sample(0)["meta"]["index"] == 0
    empty.unlink()
    record(1)
    assert (source.status().state, source.status().end) == ("live", 2)
    assert source.sample(1)["meta"]["index"] == 1


def test_a_recording_that_is_about_to_begin_is_waited_for(record, tmp_path, past):
    (tmp_path / "r_00.arrows").touch()
    source = RecordedSource(tmp_path / "r")
    assert (source.status().state, source.status().end, source.categories) == ("waiting", 0, {})
    record(1)
    assert (source.status().state, source.status().end) == ("live", 1)


def test_numbers_stay_where_a_file_that_sorts_first_comes_later(record, tmp_path, past):
    record(1)
    source = RecordedSource(tmp_path / "r")
    record(0)
    assert source.status().end == 2
    assert [source.sample(number)["meta"]["index"] for number in (0, 1)] == [1, 0]


def test_a_damaged_beginning_is_said_and_the_samples_are_shown(record, tmp_path, served):
    path = Path(record(0))
    path.write_bytes(path.read_bytes().replace(b"blendtorch.id", b"blendtorch.iD", 1))
    source = RecordedSource(tmp_path / "r")
    assert "damaged at its beginning" in source.notice
    with served(source) as url, urllib.request.urlopen(url.replace("/?", "/samples/0?"), timeout=10) as response:
        assert msgspec.json.decode(response.read())["meta"]["index"] == "0"
    assert source.categories == {}


def test_categories_beside_the_files_are_known(record, tmp_path):
    record(0)
    (tmp_path / "categories.json").write_text('{"1": "cube"}')
    assert RecordedSource(tmp_path / "r").categories == {1: "cube"}


def test_a_recording_that_goes_away_is_said_on_the_page(record, tmp_path, served, past):
    path = record(0)
    source = RecordedSource(tmp_path / "r")
    with served(source) as url, urllib.request.urlopen(url.replace("/?", "/events?"), timeout=10) as events:

        def wait_for(state):
            for line in events:
                if line.startswith(b"data: ") and (status := msgspec.json.decode(line[6:]))["state"] == state:
                    return status
            return pytest.fail(f"the page hears no more, while it waits for {state!r}")

        assert wait_for("recorded")["problem"] == ""
        kept = shutil.move(path, tmp_path / "kept")
        status = wait_for("failed")
        assert "no recording with the prefix 'r'" in status["problem"]
        assert status["end"] == 1
        shutil.move(kept, path)
        assert wait_for("recorded")["problem"] == ""
