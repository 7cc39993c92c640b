"""Recordings as files: exact, whole after a kill, and refused in a sentence where they are not what they seem."""

import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path, PurePosixPath
from typing import Annotated

import datasets
import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from blendtorch import btt
from blendtorch.btt.recording import index, layout, part
from blendtorch.btt.recording.description import describe, verify
from blendtorch.core.errors import BlendtorchError, EncodeError, PayloadError, RecordingError, VersionError
from blendtorch.core.payload import ArraySpec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

DTYPES = ["?", *"bBhHiIlLqQefd", ">f4", ">i8", "<U3", "S4", "F", "D", "M8[ns]", "m8[s]"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: some.arrays(np.dtype(dtype), some.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.binary(max_size=6000),
    st.complex_numbers(),
    st.datetimes(),
    st.just(PurePosixPath("a/b")),
)
KEYS = st.sampled_from(["image", "index", "time", "a.b", "a", "b", "meta", "btid", "ü", ""])
VALUES = st.recursive(
    ARRAYS | SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.sets(st.integers(), max_size=3),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.integers(), inner, max_size=2),
    ),
    max_leaves=8,
)
ITEMS = st.lists(st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=4)


def item_of(number):
    rng = np.random.default_rng(number)
    return {
        "image": rng.integers(0, 256, (6, 8, 3), np.uint8),
        "boxes": {"xyxy": rng.normal(size=(3, 4)), "visible": rng.random(3) > 0.5},
        "names": np.array(["cube", "ball"]),
        "number": number,
        "meta": {"index": number, "btid": number % 3},
    }


def record(prefix, items, worker=0, **options):
    path = btt.FileRecorder.filename(prefix, worker)
    with btt.FileRecorder(path, **options) as recorder:
        for item in items:
            recorder.save(item)
    return Path(path)


def same(one, other):
    """Equal in type, dtype and every bit: NaN is not NaN, but its bytes are."""
    if isinstance(other, np.ndarray):
        expected = np.array(other, other.dtype.newbyteorder("=") if other.dtype.itemsize else f"{other.dtype.kind}1", order="C")
        return (
            type(one) is np.ndarray
            and (one.dtype, one.shape) == (expected.dtype, other.shape)
            and one.tobytes() == expected.tobytes()
        )
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, PurePosixPath):
        return one == Path(other)
    if isinstance(other, complex):
        return type(one) is complex and same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(other, float):
        return type(one) is float and struct.pack("d", one) == struct.pack("d", other)
    return type(one) is type(other) and one == other


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=ITEMS)
def test_what_is_read_is_what_was_recorded(tmp_path, items):
    folder = tmp_path / str(time.monotonic_ns())
    folder.mkdir()
    record(folder / "r", items)
    dataset = btt.FileDataset(folder / "r")
    if not all(reader.has_indexes for reader in dataset.files):
        assert len(dataset) == len(items)
        assert all(map(same, dataset, items))
    assert verify(folder) == []
    for reader in dataset.files:
        assert pa.ipc.open_stream(str(reader.path)).read_all().num_rows == len(reader)
        reader.close()
        index.path_of(reader.path).unlink()
    scanned = btt.FileDataset(folder / "r")
    assert [scanned[number].keys() for number in range(len(items))] == [dataset[number].keys() for number in range(len(items))]
    assert (scanned.indexes == dataset.indexes).all()
    shutil.rmtree(folder)


def test_arrays_are_the_callers_own_aligned_and_writable(tmp_path):
    items = [item_of(number) for number in range(3)]
    record(tmp_path / "r", items)
    dataset = btt.FileDataset(tmp_path / "r")
    one, again = dataset[0], dataset[0]
    for array in (one["image"], one["boxes"]["xyxy"], one["boxes"]["visible"], one["names"]):
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous
    one["image"][:] = 0
    assert same(again, items[0])


def test_items_come_by_the_index_of_their_samples_or_as_they_came(tmp_path):
    record(tmp_path / "r", [item_of(number) for number in (4, 0, 2)], worker=0)
    record(tmp_path / "r", [item_of(number) for number in (1, 3)], worker=1)
    dataset = btt.FileDataset(tmp_path / "r")
    assert [item["number"] for item in dataset] == [0, 1, 2, 3, 4] == dataset.indexes.tolist()
    assert dataset[-1]["number"] == dataset[np.int64(4)]["number"] == 4
    for wrong in (5, -6):
        with pytest.raises(IndexError, match="has 5 items"):
            dataset[wrong]
    record(tmp_path / "r", [{"number": 9}], worker=2)
    assert dataset.refresh() == 6
    assert [item["number"] for item in dataset] == [4, 0, 2, 1, 3, 9]
    assert dataset.indexes.tolist() == [4, 0, 2, 1, 3, -1]
    assert [file.path.name for file in dataset.files] == [f"r_{worker:02d}.arrows" for worker in range(3)]


def test_what_is_in_a_file_is_read_without_blendtorch(tmp_path):
    items = [item_of(number) for number in range(5)]
    path = record(tmp_path / "r", items)
    table = pa.ipc.open_stream(str(path)).read_all()
    assert table.schema.names == [
        *("index", "btid", "sequence", "time", "checksum", "header", "places", "buffers"),
        *("image", "boxes.xyxy", "boxes.visible"),
    ]
    assert table["index"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["btid"].to_pylist() == [0, 1, 2, 0, 1]
    image = table["image"].combine_chunks()
    for _ in range(3):
        image = image.flatten()
    assert (image.to_numpy().reshape(5, 6, 8, 3) == np.stack([item["image"] for item in items])).all()
    assert [len(row) for row in table["buffers"].to_pylist()] == [1] * 5, "and nothing twice"
    datasets.disable_progress_bars()
    opened = datasets.load_dataset("arrow", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    row = opened.with_format("numpy")[3]
    assert "'uint8'" in str(opened.features["image"])
    assert row["image"].shape == (6, 8, 3)  # its numpy format makes every integer int64
    assert (row["image"] == items[3]["image"]).all()
    assert opened[3]["boxes.xyxy"] == items[3]["boxes"]["xyxy"].tolist()


def test_an_array_that_changes_its_shape_loses_its_column_in_a_part_of_its_own(tmp_path):
    items = [item_of(number) for number in range(6)]
    items[2]["boxes"]["xyxy"] = np.zeros((7, 4))
    items[3]["boxes"]["xyxy"] = np.zeros((9, 4))
    del items[4]["image"]
    record(tmp_path / "r", items)
    dataset = btt.FileDataset(tmp_path / "r")
    assert all(map(same, dataset, items))
    assert [(file.path.name, len(file), [column.name for column in file.columns]) for file in dataset.files] == [
        ("r_00.arrows", 2, ["image", "boxes.xyxy", "boxes.visible"]),
        ("r_00-001.arrows", 2, ["image", "boxes.visible"]),
        ("r_00-002.arrows", 2, ["boxes.visible"]),
    ]
    assert len({file.id for file in dataset.files}) == 1


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_replay_shuffled(tmp_path, context):
    for worker in range(3):
        record(tmp_path / "r", [item_of(number) for number in range(worker, 30, 3)], worker)
    dataset = btt.FileDataset(tmp_path / "r", item_transform=_without_text)
    assert dataset[0]["number"] == 0  # its files are open before workers are made
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=4, shuffle=True, num_workers=2, multiprocessing_context=context, persistent_workers=True
    )
    for _ in range(2):
        assert sorted(number for batch in loader for number in batch["number"].tolist()) == list(range(30))
    del loader


def _without_text(item):
    return {name: value for name, value in item.items() if name != "names"}


def test_each_cut_leaves_what_is_whole(tmp_path):
    """At every byte, with and without the index, which is then mended."""
    items = [item_of(number) for number in range(3)]
    path = record(tmp_path / "r", items)
    content, known = path.read_bytes(), index.path_of(path).read_bytes()
    reader = btt.FileReader(path)
    ends = [int(end) for end in reader._records["offset"] + reader._records["size"]]
    schema = int(reader._records["offset"][0])
    reader.close()
    for size in [*range(0, len(content), 41), *ends, *(end - 1 for end in ends), schema, schema - 1]:
        for has_index in (True, False):
            path.write_bytes(content[:size])
            index.path_of(path).unlink(missing_ok=True)
            if has_index:
                index.path_of(path).write_bytes(known)
            if size < schema:
                with pytest.raises(RecordingError, match="ends before its first message|no recording"):
                    btt.FileReader(path)
                continue
            whole = sum(end <= size for end in ends)
            cut = size - max([schema, *(end for end in ends if end <= size)])
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                reader = btt.FileReader(path)
            assert (len(reader), reader.cut) == (whole, cut)
            assert [f"its last {cut} bytes" in str(each.message) for each in warned] == [True] * (cut > 0)
            assert all(same(reader[number], items[number]) for number in range(whole))
            reader.close()


@pytest.mark.parametrize("what", ["file", "index"])
def test_a_flipped_bit_is_never_believed(tmp_path, what):
    """It is found, or changes nothing; the other messages stay readable."""
    items = [item_of(number) for number in range(3)]
    path = record(tmp_path / "r", items)
    target = path if what == "file" else index.path_of(path)
    contents = {each: each.read_bytes() for each in (path, index.path_of(path))}
    rng = random.Random(0)
    found = 0
    for _ in range(400):
        for each, content in contents.items():
            each.write_bytes(content)
        bit = rng.randrange(8 * len(contents[target]))
        broken = bytearray(contents[target])
        broken[bit // 8] ^= 1 << bit % 8
        target.write_bytes(broken)
        if rng.random() < 0.3 and what == "file":
            index.path_of(path).unlink()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                reader = btt.FileReader(path)
            except BlendtorchError:
                found += 1
                continue
        wrong = 0
        for number in range(len(reader)):
            try:
                item = reader[number]
            except RecordingError as error:
                assert str(error).startswith(f"{path}, message {number}: ")  # noqa: PT017 - most bits are found, not all
                wrong += 1
            else:
                assert any(same(item, each) for each in items)
        assert len(reader) - wrong >= 2 or (what == "file" and warned)
        found += wrong or bool(warned)
        reader.close()
    assert found > (250 if what == "file" else -1)


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("column", ["index", "btid", "sequence"])
def test_a_bit_that_flipped_in_a_column_is_found_and_changes_nothing(tmp_path, column, has_index):
    """The checksum covers the header, which has the same numbers: other programs read the columns."""
    items = [item_of(number) for number in range(3)]
    path = record(tmp_path / "r", items)
    reader = btt.FileReader(path)
    content = bytearray(path.read_bytes())
    begin = int(reader.offsets[1])
    found = layout.parse(memoryview(content)[begin:])
    content[begin + found.span(getattr(layout, column.upper()))[0]] ^= 1 << 6
    reader.close()
    path.write_bytes(content)
    if not has_index:
        index.path_of(path).unlink()
    (problem,) = verify(path)
    assert problem.message == 1
    assert f"r_00.arrows, message 1: its column {column} is damaged: it has 65, and the message 1" in problem.reason
    dataset = btt.FileDataset(path)
    assert dataset.indexes.tolist() == [0, 1, 2]
    assert all(map(same, dataset, items))


def test_layouts_are_kept_of_usual_metadata_only(tmp_path):
    """256 columns are usual; a file may say 16 MiB."""
    path = record(tmp_path / "r", [{f"array{number}": np.zeros((1, 1, 1, 1)) for number in range(256)}])
    with btt.FileReader(path) as reader:
        message = reader._read(0)
        assert len(reader.columns) == 256
    before = layout._parse.cache_info()
    found = [layout.parse(message) for _ in range(2)]
    assert layout._parse.cache_info().hits > before.hits
    length = layout.metadata_bytes(message)
    longer = layout.PREFIX_BYTES + length + 2**17
    before = layout._parse.cache_info()
    grown = struct.pack("<II", layout.MARKER, length + 2**17) + bytes(message[8 : 8 + length]) + bytes(2**17)
    assert layout.parse(memoryview(grown)).spans == found[0].spans
    assert layout.parse(memoryview(grown)).body == longer
    assert layout._parse.cache_info() == before


HOSTILE = [bytes(8), b"\xff" * 8, *(number.to_bytes(8, "little") for number in (1, 2**31 - 1, 2**32, 2**62))]


def test_a_hostile_file_takes_no_memory_and_gives_nothing_wrong(tmp_path):
    """Numbers in it are replaced by large ones, and pieces cut out or put in."""
    items = [item_of(number) for number in range(3)]
    path = record(tmp_path / "r", items)
    contents = {each: each.read_bytes() for each in (path, index.path_of(path))}
    rng = random.Random(1)
    tracemalloc.start()
    for _ in range(200):
        for each, content in contents.items():
            broken = bytearray(content)
            place = rng.randrange(len(broken) // 8) * 8
            if rng.random() < 0.7:
                broken[place : place + 8] = rng.choice(HOSTILE)
            elif rng.random() < 0.5:
                del broken[place : place + rng.randrange(1, 40)]
            else:
                broken[place:place] = rng.randbytes(rng.randrange(1, 40))
            each.write_bytes(broken if each == path or rng.random() < 0.5 else content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                reader = btt.FileReader(path)
            except BlendtorchError:
                continue
        for number in range(len(reader)):
            with contextlib.suppress(BlendtorchError):
                assert any(same(reader[number], each) for each in items)
        reader.close()
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_recording_of_many_files_has_few_of_them_open(tmp_path, monkeypatch):
    monkeypatch.setattr("blendtorch.btt.recording.dataset._MAX_OPEN", 2)
    for worker in range(5):
        record(tmp_path / "r", [item_of(number) for number in range(worker, 20, 5)], worker)
    dataset = btt.FileDataset(tmp_path / "r")
    assert [item["number"] for item in dataset] == list(range(20))
    assert sum(file.is_open for file in dataset.files) <= 2
    assert dataset.refresh() == 20
    assert sum(file.is_open for file in dataset.files) <= 2


def run(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_killed_recorder_leaves_what_it_has_saved(tmp_path):
    program = """
import sys, numpy as np
from blendtorch import btt
with btt.FileRecorder(btt.FileRecorder.filename(sys.argv[1], 0)) as recorder:
    for number in range(10**9):
        recorder.save({"image": np.full((480, 640, 3), number % 256, np.uint8), "number": number})
        print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    said = [int(process.stdout.readline()) for _ in range(20)]
    live = btt.FileDataset(tmp_path / "r")
    before = len(live)
    assert before >= 20
    assert live[19]["number"] == 19
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout]
    process.wait()
    process.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # whether it was killed in the middle of a message is chance
        live.refresh()
        dataset = btt.FileDataset(tmp_path / "r")
    assert len(live) == len(dataset) >= len(said)
    assert all((dataset[number]["image"] == number % 256).all() for number in range(len(dataset)))
    assert verify(tmp_path) == [] or dataset.files[0].cut


def test_a_file_that_may_not_grow_keeps_what_it_has(tmp_path):
    """As on a full disk: the write that does not fit is refused after half of it."""
    program = """
import resource, sys, numpy as np
from blendtorch import btt
from blendtorch.core.errors import RecordingError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
recorder = btt.FileRecorder(btt.FileRecorder.filename(sys.argv[1], 0))
for number in range(100):
    try:
        recorder.save({"image": np.full((100, 100), number, np.uint8)})
    except RecordingError as error:
        try:
            recorder.save({"image": np.full((1, 1), number, np.uint8)})
        except RecordingError as again:
            print(number, str(again) == str(error), error)
            break
"""
    result = run(program, tmp_path / "r")
    assert result.stderr == ""
    count, same_error, error = result.stdout.split(" ", 2)
    assert same_error == "True"
    assert error.startswith(
        f"cannot record to {tmp_path}/r_00.arrows: File too large. What was recorded before is whole, {count} "
    )
    dataset = btt.FileDataset(tmp_path / "r")  # and no warning: the half message was taken back
    assert len(dataset) == int(count) == 9
    assert (dataset[8]["image"] == 8).all()


@pytest.mark.parametrize("written", ["message", "half a message", "message and record"])
def test_who_interrupts_a_save_may_go_on(tmp_path, monkeypatch, written):
    """Ctrl-C comes anywhere: what it interrupts is undone, and the index has a record for each message."""
    with btt.FileRecorder(btt.FileRecorder.filename(tmp_path / "r", 0)) as recorder:
        recorder.save(item_of(0))
        write, calls = part._write_all, []

        def interrupted(fd, content):
            calls.append(fd)
            write(fd, content[:-8] if written == "half a message" else content)
            if len(calls) == (2 if written == "message and record" else 1):
                raise KeyboardInterrupt

        monkeypatch.setattr(part, "_write_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorder.save(item_of(1))
        monkeypatch.setattr(part, "_write_all", write)
        for number in (2, 3):
            recorder.save(item_of(number))
    reader = btt.FileReader(tmp_path / "r_00.arrows")
    assert len(index.read(reader.path, reader._schema, reader.path.stat().st_size)) == 3, "and not by scanning"
    assert all(map(same, reader, map(item_of, (0, 2, 3))))
    assert verify(tmp_path / "r") == []
    reader.close()


def test_who_interrupts_the_first_save_may_go_on(tmp_path, monkeypatch):
    write = part._write_all

    def interrupted(fd, content):
        monkeypatch.setattr(part, "_write_all", write)
        raise KeyboardInterrupt

    monkeypatch.setattr(part, "_write_all", interrupted)
    with btt.FileRecorder(btt.FileRecorder.filename(tmp_path / "r", 0)) as recorder:
        with pytest.raises(KeyboardInterrupt):
            recorder.save(item_of(0))
        assert list(tmp_path.iterdir()) == []
        recorder.save(item_of(1))
    assert same(btt.FileDataset(tmp_path / "r")[0], item_of(1))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["r_00.arrows", "r_00.arrows.index"]


def test_nothing_that_was_recorded_is_overwritten(tmp_path):
    path = record(tmp_path / "r", [item_of(0)])
    with pytest.raises(RecordingError, match="is there already, and nothing recorded is overwritten: remove it"):
        btt.FileRecorder(path)
    for prefix in ("r", tmp_path / "r"):
        os.chdir(tmp_path)
        with pytest.raises(
            RecordingError, match=r"a recording with the prefix .* already \(r_00.arrows\).*give another prefix"
        ):
            btt.RemoteIterableDataset(["ipc:///nowhere"], record_path_prefix=prefix)
        with pytest.raises(RecordingError, match="already"):
            btt.stream(record_path_prefix=prefix)
    with pytest.raises(RecordingError, match=r"recordings are .arrows files; FileRecorder.filename"):
        btt.FileRecorder(tmp_path / "r.btr")
    with pytest.raises(RecordingError, match="there is no folder .*/none. Make it first"):
        btt.RemoteIterableDataset(["ipc:///nowhere"], record_path_prefix=tmp_path / "none" / "r")
    assert sorted(tmp_path.iterdir()) == [path, index.path_of(path)]


def test_one_prefix_has_one_recorder_at_a_time(tmp_path):
    first = btt.RemoteIterableDataset(["ipc:///nowhere"])
    first.enable_recording(tmp_path / "r")
    assert (tmp_path / "r.lock").exists()
    with pytest.raises(RecordingError, match="another dataset records to .*/r just now: give this one a prefix of its own"):
        btt.RemoteIterableDataset(["ipc:///nowhere"], record_path_prefix=tmp_path / "r")
    with pytest.raises(RecordingError, match="this dataset records to .*/r already"):
        first.enable_recording(tmp_path / "other")
    del first
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "r.lock").touch()  # of one that was killed
    btt.RemoteIterableDataset(["ipc:///nowhere"], record_path_prefix=tmp_path / "r")


def test_one_file_has_one_recorder(tmp_path):
    """The file is made by the first `save`: who comes second there is refused, and adds no part."""
    path = btt.FileRecorder.filename(tmp_path / "r", 0)
    with btt.FileRecorder(path) as first, btt.FileRecorder(path) as second:
        first.save({"number": 1})
        for _ in range(2):
            with pytest.raises(RecordingError, match="r_00.arrows is there already, and nothing recorded is overwritten"):
                second.save({"number": 2})
        first.save({"number": 3})
    assert [item["number"] for item in btt.FileDataset(tmp_path / "r")] == [1, 3]
    assert sorted(tmp_path.iterdir()) == [Path(path), index.path_of(Path(path))]


def test_a_recording_that_is_not_there_is_told_with_what_is_near(tmp_path):
    record(tmp_path / "record", [item_of(0)])
    cases = {
        tmp_path / "recrod": "there is no recording with the prefix 'recrod'; .* has 'record'$",
        tmp_path / "other" / "r": "the folder .*/other does not exist",
        tmp_path / "empty": r"the folder .*/empty has no recording: expected files \*.arrows",
        tmp_path / "empty" / "r": "no recording with the prefix 'r', nor any other in .*/empty",
        tmp_path
        / "old"
        / "r": "r_00.btr was recorded by blendtorch 0.4 as pickles, which may execute anything .* Record again",
        tmp_path / "old" / "r_00.btr": "by blendtorch 0.4",
        tmp_path / "old": "by blendtorch 0.4",
        tmp_path / "notes.txt": "notes.txt is no recording: it does not begin with an Arrow schema",
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "r_00.btr").write_bytes(pickle.dumps({}))
    (tmp_path / "notes.txt").write_text("these are notes, not arrays")
    for place, text in cases.items():
        with pytest.raises(RecordingError, match=text):
            btt.FileDataset(place)
        with pytest.raises(RecordingError, match=text):
            describe(place)
    with pytest.raises(RecordingError, match="cannot read .*/nothing.arrows: No such file"):
        btt.FileReader(tmp_path / "nothing.arrows")


def with_metadata(path, changed):
    """Write a file again with other metadata, as another version would."""
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        schema, batches = stream.schema, list(stream)
    schema = schema.with_metadata({**schema.metadata, **{name.encode(): value for name, value in changed.items()}})
    with pa.ipc.new_stream(str(path), schema) as sink:
        for batch in batches:
            sink.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))


def test_files_of_other_versions_and_other_programs(tmp_path):
    path = record(tmp_path / "r", [item_of(number) for number in range(3)])
    with_metadata(path, {})  # by pyarrow, with its end of stream; the index does not fit any more
    assert [item["number"] for item in btt.FileDataset(path)] == [0, 1, 2]
    with_metadata(path, {"blendtorch.categories": b'{"1": "cube"}'})
    with pytest.warns(UserWarning, match="is damaged at its beginning: its identity and its categories are not known"):
        reader = btt.FileReader(path)
    assert reader[2]["number"] == 2
    assert describe(path).damages == reader.damages()
    with pytest.raises(RecordingError, match="categories are damaged"):
        reader.categories  # noqa: B018
    reader.close()
    with_metadata(path, {"blendtorch.recording": b"2"})
    with pytest.raises(VersionError, match=r"r_00.arrows: it is a recording of version 2, .* knows versions up to 1: install"):
        btt.FileDataset(path)
    with_metadata(path, {"blendtorch.recording": b"x"})
    with pytest.raises(RecordingError, match="is no recording: its version is 'x'"):
        btt.FileDataset(path)
    other = tmp_path / "other.arrows"
    with pa.ipc.new_stream(str(other), pa.schema([("a", pa.int64())])) as sink:
        sink.write_batch(pa.record_batch({"a": [1]}))
    with pytest.raises(RecordingError, match="it is an Arrow stream, but not a recording of blendtorch"):
        btt.FileReader(other)


class Executes:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_loaded_only_where_both_ends_say_so(tmp_path):
    value = Executes()
    value.path = tmp_path / "executed"
    with pytest.raises(EncodeError, match="value: cannot send a .*Executes"):
        record(tmp_path / "r", [{"value": value}])
    record(tmp_path / "r", [{"value": value}], allow_pickle=True)
    dataset = btt.FileDataset(tmp_path / "r")
    with pytest.raises(RecordingError, match="r_00.arrows, message 0: received a pickled value, which is not loaded"):
        dataset[0]
    assert verify(tmp_path / "r") == []
    assert not value.path.exists()
    btt.FileDataset(tmp_path / "r", allow_pickle=True)[0]
    assert value.path.exists()


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.zeros(3, dtype=torch.bfloat16), "BFloat16"),
        (torch.zeros(3, requires_grad=True), "requires grad"),
    ],
)
def test_a_tensor_that_numpy_cannot_read_is_refused_with_its_path(tmp_path, tensor, why):
    with btt.FileRecorder(btt.FileRecorder.filename(tmp_path / "r", 0)) as recorder:
        with pytest.raises(EncodeError, match=rf"^a\.b\[0\]: numpy cannot read a torch.Tensor: .*{why}.*\.detach\(\)\.cpu\(\)"):
            recorder.save({"a": {"b": [tensor]}})
        recorder.save({"a": {"b": [tensor.detach().float()]}})
    assert same(btt.FileDataset(tmp_path / "r")[0], {"a": {"b": [np.zeros(3, np.float32)]}})


def test_more_arrays_than_places_can_count_have_no_columns(tmp_path):
    many = {"image": np.ones(2), "many": [np.zeros(1, np.uint8)] * 2**16, "last": np.ones(3)}
    other = {"many": many["many"], "image": np.ones(2)}
    record(tmp_path / "r", [many, other])
    dataset = btt.FileDataset(tmp_path / "r")
    assert [[column.name for column in file.columns] for file in dataset.files] == [["image"], []]
    assert (dataset[0]["last"] == 1).all()
    assert (dataset[1]["image"] == 1).all()
    assert len(dataset[1]["many"]) == 2**16


def test_a_recorder_by_hand_as_in_0_4(tmp_path):
    class Declared(msgspec.Struct):
        image: Annotated[np.ndarray, ArraySpec("uint8", ("height", "width", 3))]

    path = btt.FileRecorder.filename(tmp_path / "r", 3)
    assert path == str(tmp_path / "r_03.arrows")
    image = torch.zeros((4, 6, 3), dtype=torch.uint8)
    with btt.FileRecorder(path, 10, 5, payload=Declared) as recorder:
        with pytest.raises(PayloadError, match="Declared.image: expected uint8"):
            recorder.save({"image": image.numpy()[..., 0], "btid": 1})
        recorder.save({"image": image.numpy(), "btid": 1})
    with pytest.raises(RecordingError, match="closed"):
        recorder.save({"image": image.numpy()})
    with btt.FileReader(path) as reader:
        assert (len(reader), reader.worker, reader.btids.tolist(), reader.indexes.tolist()) == (1, 3, [1], [-1])
        assert abs(reader.times[0] / 1e9 - time.time()) < 60
        assert reader.categories is None
    with btt.FileRecorder(btt.FileRecorder.filename(tmp_path / "t", 0)) as recorder:
        recorder.save({"image": image})
    assert same(btt.FileDataset(tmp_path / "t")[0]["image"], image.numpy())


def test_what_is_in_a_recording(tmp_path):
    for worker in range(2):
        record(tmp_path / "r", [item_of(number) for number in (worker, worker + 4)], worker)
    info = describe(tmp_path)
    assert (info.messages, info.cut, info.first_index, info.last_index, info.missing) == (4, 0, 0, 5, 2)
    assert info.btids == {0: 1, 1: 2, 2: 1}
    assert [(field.name, field.dtype, field.shape, field.column) for field in info.fields] == [
        ("image", "uint8", (6, 8, 3), True),
        ("boxes.xyxy", "float64", (3, 4), True),
        ("boxes.visible", "bool", (3,), True),
        ("names", "<U4", (2,), False),
        ("number", "int", None, False),
        ("meta.index", "int", None, False),
        ("meta.btid", "int", None, False),
    ]
    assert (
        info.bytes == sum(file.bytes for file in info.files) == sum(path.stat().st_size for path in tmp_path.glob("*.arrows"))
    )
    assert info.seconds > 0
    assert json.loads(msgspec.json.encode(info))["versions"] == info.versions
    seen = []
    path = tmp_path / "r_01.arrows"
    content = bytearray(path.read_bytes())
    content[-60] ^= 1
    path.write_bytes(content + b"x" * 20)
    problems = verify(tmp_path, lambda: seen.append(1))
    assert len(seen) == 4
    assert [(problem.path, problem.message) for problem in problems] == [(str(path), None), (str(path), 1)]
    assert "its last 20 bytes are no whole message" in problems[0].reason
    assert "r_01.arrows, message 1: it is damaged: its checksum does not fit" in problems[1].reason


def test_ten_thousand_frames_open_at_once(tmp_path):
    """And memory is taken for what is read, not for what the file says of itself."""
    path = record(tmp_path / "r", [{"number": number} for number in range(10_000)])
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        dataset = btt.FileDataset(tmp_path / "r")
        times.append(time.perf_counter() - begin)
        assert len(dataset) == 10_000
    assert min(times) < 0.1
    index.path_of(path).unlink()
    begin = time.perf_counter()
    assert btt.FileDataset(tmp_path / "r")[-1]["number"] == 9_999
    assert time.perf_counter() - begin < 20, "found by scanning"
    assert index.path_of(path).exists()


def test_it_is_imported_without_pyarrow(tmp_path):
    program = "import sys; from blendtorch import btt; print('pyarrow' in sys.modules)"
    assert run(program).stdout == "False\n"
