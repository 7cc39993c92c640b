"""Measure what recording costs, and how fast recordings are replayed, beside pickle files and plain reading and copying.

record/overhead     what a stream of 640x480 pictures gives with recording, of what it gives without; beside it full speed
record/cpu          CPU time that recording costs the trainer for a frame of that stream, us; beside it of the 30 ms of a frame
record/write        into a recording, MB/s; beside it pickle files, and a copy of the recording by `shutil.copyfile`
record/open         `FileDataset` of 10 000 frames, ms
record/random_read  one of 256 frames, with its checksum, us; beside it `os.pread` of the same bytes, and pickle files
record/replay_N     shuffled batches of a DataLoader with N workers, frames/s; beside it the same over arrays in memory

All files are in the page cache. The ways take turns, and medians are shown: machines drift. A ratio is the median of what each
round gave.
"""

import argparse
import contextlib
import functools
import gc
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from blendtorch import btt
from blendtorch.core import Frame
from blendtorch.core.ring import Ring
from blendtorch.core.transport import Push
from torch.utils.data import DataLoader, Dataset

SHAPE = (480, 640, 3)
FRAMES, OPENED = 256, 10_000
BATCH = 8
PACE_S = 0.030  # between frames: what a render takes
STREAMED, STREAMED_FAST = 60, 400
KINDS = ("overhead", "cpu", "write", "open", "random_read", "replay_0", "replay_2")
torch.set_num_threads(1)  # PyTorch's threads compete for the CPUs: batches of 8 took five times as long beside other load
warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)


def frames() -> Iterator[dict[str, object]]:
    """Render, as it were: noise, which no file system makes smaller, with the number of the frame in it."""
    image = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    stamp = image.reshape(-1)[:8].view(np.int64)
    xy = np.random.default_rng(1).normal(size=(8, 2))
    for number in itertools.count():
        stamp[0] = number
        yield {"image": image, "xy": xy, "frameid": number}


def publish(address: str, pause_s: float) -> None:
    """Send frames until killed."""
    with Push(address, ring=Ring()) as push:
        for number, frame in enumerate(frames()):
            begin = time.perf_counter()
            push.send(push.pack(Frame(btid=0, sequence=number, data=frame)))
            time.sleep(max(0.0, pause_s - (time.perf_counter() - begin)))


def stream(folder: Path, prefix: Path | None, pause_s: float, count: int) -> tuple[float, float]:
    """Receive frames, and record them; return the seconds per frame, and those of the CPU in this process."""
    address = f"ipc://{folder}/socket"
    producer = multiprocessing.get_context("fork").Process(target=publish, args=(address, pause_s), daemon=True)
    producer.start()
    try:
        dataset = btt.RemoteIterableDataset([address], max_items=count + 20, record_path_prefix=prefix)
        items = iter(dataset)
        for _ in range(20):
            next(items)
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(items)
        spent = (time.perf_counter() - begin) / count, (time.process_time() - cpu) / count
        items.close()
        dataset.close()
    finally:
        producer.kill()
        producer.join()
    return spent


def record(prefix: Path, count: int) -> None:
    """Write frames by hand."""
    with btt.FileRecorder(btt.FileRecorder.filename(prefix, 0)) as recorder:
        for frame in itertools.islice(frames(), count):
            recorder.save(frame)


def write_pickles(folder: Path, count: int) -> None:
    """Write each frame into a file of its own."""
    folder.mkdir()
    for number, frame in enumerate(itertools.islice(frames(), count)):
        with (folder / f"{number}.pickle").open("wb") as file:
            pickle.dump(frame, file, pickle.HIGHEST_PROTOCOL)


class InMemory(Dataset):
    """The same items, from arrays in memory."""

    def __init__(self, count: int) -> None:
        self.items = [{name: np.copy(value) for name, value in frame.items()} for frame in itertools.islice(frames(), count)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> dict[str, object]:
        return self.items[number]


def seconds_of(call: Callable[[], object]) -> float:
    """Time a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def seconds_of_writing(call: Callable[[], object]) -> float:
    """Time what writes: the kernel makes a writer wait that finds much unwritten of the one before."""
    os.sync()
    return seconds_of(call)


def replay(dataset: Dataset, workers: int) -> float:
    """Go through a dataset once, shuffled; return the seconds per frame, without the start of the workers."""
    batches = iter(DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True))
    next(batches)
    begin = time.perf_counter()
    count = sum(1 for _ in batches)
    return (time.perf_counter() - begin) / (count * BATCH)


def random_read(dataset: btt.FileDataset, pickles: Path, order: list[int]) -> dict[str, float]:
    """Read frames in this order; return the seconds per frame of each way."""
    reader = dataset.files[0]
    path, spans = reader.path, list(zip(reader.sizes.tolist(), reader.offsets.tolist(), strict=True))
    fd = os.open(path, os.O_RDONLY)

    def unpickle(number: int) -> object:
        with (pickles / f"{number}.pickle").open("rb") as file:
            return pickle.load(file)

    ways = {"record": dataset.__getitem__, "pread": lambda number: os.pread(fd, *spans[number]), "pickle": unpickle}
    spent, counts = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0)

    def read(way: Callable[[int], object], part: list[int]) -> None:
        for number in part:
            way(number)

    try:
        for begin in range(0, len(order), 8):  # in short turns: other load comes and goes
            for shift, (name, way) in enumerate(ways.items()):
                # Not the frames that the way before has just brought into the CPU's cache.
                place = (begin + shift * len(order) // len(ways)) % len(order)
                part = order[place : place + 8]
                spent[name] += seconds_of(functools.partial(read, way, part))
                counts[name] += len(part)
    finally:
        os.close(fd)
    return {name: seconds / counts[name] for name, seconds in spent.items()}


def measure_round(folder: Path, opened: Path, memory: InMemory) -> dict[str, dict[str, float]]:
    """Measure everything once; return seconds by kind and way."""
    found: dict[str, dict[str, float]] = {}
    with contextlib.chdir(folder):
        streams = {
            "without": stream(folder, None, PACE_S, STREAMED),
            "with": stream(folder, folder / "stream", PACE_S, STREAMED),
            "fast_without": stream(folder, None, 0, STREAMED_FAST),
            "fast_with": stream(folder, folder / "fast", 0, STREAMED_FAST),
        }
        found["overhead"] = {way: seconds for way, (seconds, _) in streams.items()}
        cost = max(streams["with"][1] - streams["without"][1], 0.0)
        found["cpu"] = {"record": cost, "pace": PACE_S}
        for path in folder.glob("*.arrows*"):
            path.unlink()
        found["write"] = {
            "record": seconds_of_writing(lambda: record(folder / "r", FRAMES)),
            "pickle": seconds_of_writing(lambda: write_pickles(folder / "pickles", FRAMES)),
            "copy": seconds_of_writing(lambda: shutil.copyfile(folder / "r_00.arrows", folder / "copy")),
        }
        found["open"] = {"record": seconds_of(lambda: btt.FileDataset(opened))}
        dataset = btt.FileDataset(folder / "r")
        order = np.random.default_rng().permutation(FRAMES).tolist()
        found["random_read"] = random_read(dataset, folder / "pickles", order)
        for workers in (0, 2):
            found[f"replay_{workers}"] = {"record": replay(dataset, workers), "memory": replay(memory, workers)}
            gc.collect()
    return found


def measure(rounds: int, advance: Callable[[], None] = lambda: None) -> dict[str, dict]:
    """Measure everything.

    Parameters
    ----------
    rounds : int
    advance : callable
        Called after each of `rounds` rounds, which take 15 seconds each.

    Returns
    -------
    dict
        From names as `record/random_read` to `value`, `unit` and `ratios`: each of them is better above 1, but
        `record/random_read`'s `of_pread`, which is the time in multiples of reading the bytes, and `record/cpu`'s `of_frame`.
    """
    spent: list[dict[str, dict[str, float]]] = []
    memory = InMemory(FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        opened = Path(folder) / "small"
        with btt.FileRecorder(btt.FileRecorder.filename(opened, 0)) as recorder:
            for number in range(OPENED):
                recorder.save({"image": np.zeros((48, 64, 3), np.uint8), "frameid": number})
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(dir=folder) as own:
                spent.append(measure_round(Path(own), opened, memory))
            advance()

    def median(kind: str, way: str) -> float:
        return statistics.median(each[kind][way] for each in spent)

    def ratio(kind: str, one: str, other: str) -> float:
        return statistics.median(each[kind][one] / each[kind][other] for each in spent)

    size = FRAMES * np.prod(SHAPE) / 1e6
    results = {
        "overhead": {
            "value": 1 / median("overhead", "with"),
            "unit": "frames/s",
            "ratios": {
                "of_unrecorded": ratio("overhead", "without", "with"),
                "of_unrecorded_at_full_speed": ratio("overhead", "fast_without", "fast_with"),
            },
            "full_speed_frames_per_s": 1 / median("overhead", "fast_with"),
        },
        "cpu": {
            "value": 1e6 * median("cpu", "record"),
            "unit": "us/frame",
            "ratios": {"of_frame": ratio("cpu", "record", "pace")},
        },
        "write": {
            "value": size / median("write", "record"),
            "unit": "MB/s",
            "ratios": {"vs_pickle": ratio("write", "pickle", "record"), "vs_copy": ratio("write", "copy", "record")},
        },
        "open": {"value": 1e3 * median("open", "record"), "unit": "ms", "ratios": {}},
        "random_read": {
            "value": 1e6 * median("random_read", "record"),
            "unit": "us",
            "ratios": {
                "of_pread": ratio("random_read", "record", "pread"),
                "vs_pickle": ratio("random_read", "pickle", "record"),
            },
        },
    }
    for workers in (0, 2):
        kind = f"replay_{workers}"
        results[kind] = {
            "value": 1 / median(kind, "record"),
            "unit": "frames/s",
            "ratios": {"of_memory": ratio(kind, "memory", "record")},
        }
    return {f"record/{kind}": results[kind] for kind in KINDS}


def table(results: dict[str, dict], rounds: int):
    """Lay out what `measure` returned, for people."""
    from rich.table import Table

    shown = Table(title=f"Recordings, 640x480, {os.cpu_count()} CPUs; medians of {rounds}")
    for column in ("what", "figure", "", "beside others"):
        shown.add_column(column, justify="right" if column == "figure" else "left")
    for name, result in results.items():
        beside = ", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in result["ratios"].items())
        shown.add_row(name, f"{result['value']:.0f}", result["unit"], beside)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures for programs")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: %(default)s)")
    args = parser.parse_args()

    from rich.console import Console
    from rich.progress import Progress

    with Progress(refresh_per_second=1) as progress:  # drawing takes of the CPUs that are measured
        task = progress.add_task("Measuring", total=args.rounds)
        results = measure(args.rounds, lambda: progress.advance(task))
    Console().print(table(results, args.rounds))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
