"""`--format recording`: the writer conforms, survives its processes, and what it wrote is replayed."""

import multiprocessing
import time
import warnings
from pathlib import Path

import pytest
from blendtorch import btt
from blendtorch.btt.recording.writer import RecordingWriter
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import Options
from blendtorch.core.testing import checks
from blendtorch.core.testing.subject import alike
from blendtorch.core.testing.suites import WriterSuite
from blendtorch.core.testing.writing import labelled


class TestRecordingWriter(WriterSuite):
    plugin = RecordingWriter

    # It is a part of btt, which imports PyTorch.
    @pytest.mark.parametrize(
        "check", [name for name in checks.names("writer") if name != "imports without Blender and PyTorch"]
    )
    def test_conformance(self, check):
        self.run_check(check)


def opened(folder):
    writer = RecordingWriter(Options())
    writer.open(Path(folder))
    return writer


def test_samples_come_back_in_order_with_their_categories(tmp_path):
    written = labelled((5, 2, 9))
    writer = opened(tmp_path / "out")
    for sample in written:
        writer.write(sample)
    writer.finish({1: "cube", 2: "ball"})
    writer.close()
    dataset = btt.FileDataset(tmp_path / "out")
    assert dataset.indexes.tolist() == [2, 5, 9]
    assert dataset.categories == {1: "cube", 2: "ball"}
    assert all(map(alike, dataset, sorted(written, key=lambda sample: sample["meta"]["index"])))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("recording_00.arrows", "recording_00.arrows.index", "categories.json")
    }


def test_samples_without_tight_boxes_are_read_back(tmp_path):
    """As `blendtorch audit` does; with the boxes that there are."""
    loose, none = labelled((0, 1))
    tight = loose.pop("boxes2d_tight")
    loose["boxes2d_loose"] = {"clipped": tight["xyxy"], "valid": tight["valid"]}
    del none["boxes2d_tight"], none["boxes2d_loose"]
    writer = opened(tmp_path)
    for sample in (loose, none):
        writer.write(sample)
    ((first,), (second,)) = writer.read(0), writer.read(1)
    assert [each.xyxy.tolist() for each in first.objects] == [
        box for box, valid in zip(tight["xyxy"].tolist(), tight["valid"], strict=True) if valid
    ]
    assert second.objects == ()
    writer.close()


def _write(folder, begin, made):
    writer = opened(folder)
    (sample,) = labelled((0,))
    for index in range(begin, begin + 10**6):
        sample["meta"]["index"] = index
        writer.write(sample)
        made.value = index


def test_a_run_goes_on_where_its_processes_were_killed(tmp_path):
    """Two at the same time; what each had written is there, and none comes twice."""
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        made = [context.Value("q", -1) for _ in range(2)]
        processes = [context.Process(target=_write, args=(tmp_path, 10**6 * n, made[n])) for n in range(2)]
        for process in processes:
            process.start()
        deadline = time.monotonic() + 30
        while min(value.value % 10**6 for value in made) < 20 or min(value.value for value in made) < 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for process in processes:
            process.kill()
            process.join()
    writer = opened(tmp_path)
    there = writer.written()
    assert {*range(20), *range(10**6, 10**6 + 20)} <= there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a message that was cut is chance
        dataset = btt.FileDataset(tmp_path)
    assert dataset.indexes.tolist() == sorted(there)
    assert len(dataset.files) == 4
    assert len({file.id for file in dataset.files}) == 1, "one recording, whoever was the first to write"
    writer.clear()
    assert writer.written() == frozenset()
    assert list(tmp_path.iterdir()) == []
    writer.close()


def test_a_folder_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "recording_00.arrows").write_text("not a recording")
    with pytest.raises(ConfigurationError, match="recording_00.arrows is no recording"):
        opened(tmp_path)


def test_a_sample_without_an_index_is_refused(tmp_path):
    (sample,) = labelled((0,))
    sample["meta"]["index"] = -1
    with pytest.raises(PluginError, match="/meta/index: -1 is no index"):
        opened(tmp_path).write(sample)


def test_processes_that_begin_together_make_one_recording(tmp_path):
    """Each had looked into the folder before the other wrote."""
    writers = [opened(tmp_path) for _ in range(2)]
    for writer, sample in zip(writers, labelled((0, 1)), strict=True):
        writer.write(sample)
        writer.close()
    assert len({file.id for file in btt.FileDataset(tmp_path).files}) == 1
