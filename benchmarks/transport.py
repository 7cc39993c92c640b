"""Measure how fast frames get from one process into the batches of another, and beside it what bounds it from both sides.

    pickle_tcp   pyzmq's send_pyobj and recv_pyobj over loopback: how blendtorch 0.4 did it
    limit        the two copies that no way can spare (into shared memory, and from there into the batch), and no messages
    tcp, tcp_keys, ipc, ring    blendtorch's transport: loopback tcp, encrypted, Unix sockets, Unix sockets and shared memory

Each measurement has a producer and a consumer process of its own. The ways take turns, and medians are shown: machines drift. A
ratio is the median of what each round gave.
"""

import argparse
import contextlib
import itertools
import json
import mmap
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import zmq
from blendtorch.core import Frame
from blendtorch.core.ring import Ring
from blendtorch.core.transport import Keys, Pull, Push

SIZES = {"12kB": (64, 64, 3), "1.2MB": (480, 640, 4), "8.3MB": (1080, 1920, 4)}
OWN_WAYS = ("tcp", "tcp_keys", "ipc", "ring")
WAYS = ("pickle_tcp", "limit", *OWN_WAYS)
BATCH, QUEUE = 8, 10
WARM_UP_BATCHES, WARM_UP_SECONDS, SECONDS = 5, 0.2, 0.8
TIME_LIMIT_S = 60
LIMIT_SLOTS = QUEUE + 2  # as many frames between the two as in the other ways: with 4 they stay in the cache
_HEADER_BYTES = 4096  # of the memory of `limit`: how many frames were written, and on a cache line of its own how many read


def frames(shape: tuple[int, ...]) -> Iterator[dict[str, object]]:
    """Render, as it were: into the same memory each time, the number of the frame in the first pixels."""
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    stamp = image.reshape(-1)[:8].view(np.int64)
    xy = np.random.default_rng(1).normal(size=(8, 2))
    for number in itertools.count():
        stamp[0] = number
        yield {"image": image, "xy": xy, "frameid": number}


class SharedFrames:
    """The memory of `limit`, and both ends of it; whoever waits spins."""

    def __init__(self, fd: int, shape: tuple[int, ...]) -> None:
        self._memory = mmap.mmap(fd, 0)
        counters = memoryview(self._memory)[:_HEADER_BYTES].cast("Q")
        self._written, self._read = counters[:1], counters[32:33]
        size = int(np.prod(shape))
        step = self.slot_bytes(shape)
        begins = [_HEADER_BYTES + number * step for number in range(LIMIT_SLOTS)]
        self._images = [np.frombuffer(self._memory, np.uint8, size, begin).reshape(shape) for begin in begins]
        self._labels = [np.frombuffer(self._memory, np.float64, 16, begin + step - 192).reshape(8, 2) for begin in begins]
        self._numbers = [np.frombuffer(self._memory, np.int64, 1, begin + step - 64) for begin in begins]

    @staticmethod
    def slot_bytes(shape: tuple[int, ...]) -> int:
        """Give the distance between slots: image, labels and number, each at its cache line."""
        return -(-int(np.prod(shape)) // 64) * 64 + 192

    def produce(self, shape: tuple[int, ...]) -> None:
        for count, frame in enumerate(frames(shape)):
            while count - self._read[0] >= LIMIT_SLOTS:
                os.sched_yield()  # beside other load a mere loop was slower
            slot = count % LIMIT_SLOTS
            np.copyto(self._images[slot], frame["image"])
            np.copyto(self._labels[slot], frame["xy"])
            self._numbers[slot][0] = frame["frameid"]
            self._written[0] = count + 1

    def receive(self) -> Iterator[dict[str, object]]:
        for count in itertools.count():
            while self._written[0] <= count:
                os.sched_yield()  # beside other load a mere loop was slower
            slot = count % LIMIT_SLOTS
            yield {"image": self._images[slot], "xy": self._labels[slot], "frameid": int(self._numbers[slot][0])}
            self._read[0] = count + 1


def produce(way: str, shape: tuple[int, ...], place: str) -> None:
    """Send frames until killed."""
    if way == "limit":
        SharedFrames(int(place), shape).produce(shape)
    elif way == "pickle_tcp":
        sender = zmq.Context().socket(zmq.PUSH)
        sender.set_hwm(QUEUE)
        sender.bind(place)
        for frame in frames(shape):
            sender.send_pyobj(frame)
    else:
        keys = Keys.load(Path(os.environ["KEYS"])) if way == "tcp_keys" else None
        push = Push(place, queue_size=QUEUE, ring=Ring() if way == "ring" else None, keys=keys)
        for number, frame in enumerate(frames(shape)):
            push.send(push.pack(Frame(btid=0, sequence=number, data=frame)))


def receive(way: str, shape: tuple[int, ...], place: str) -> Iterator[dict[str, object]]:
    """Yield what the producer sends; what was yielded is done with when the next is asked for."""
    if way == "limit":
        yield from SharedFrames(int(place), shape).receive()
    elif way == "pickle_tcp":
        with zmq.Context() as context, context.socket(zmq.PULL) as receiver:
            receiver.set_hwm(QUEUE)
            receiver.connect(place)
            while True:
                yield receiver.recv_pyobj()
    else:
        keys = Keys.load(Path(os.environ["KEYS"])) if way == "tcp_keys" else None
        with Pull([place], queue_size=QUEUE, ring=way == "ring", keys=keys) as pull:
            while True:
                yield pull.receive().data
                pull.acknowledge()


def consume(way: str, shape: tuple[int, ...], place: str) -> float:
    """Fill batches; return the seconds per frame."""
    images, labels = np.empty((BATCH, *shape), np.uint8), np.empty((BATCH, 8, 2))
    stamps = images.reshape(BATCH, -1)[:, :8].view(np.int64)[:, 0]
    with contextlib.closing(receive(way, shape, place)) as source:
        start = begin = time.perf_counter()
        warm = 0
        for batch in itertools.count(1):
            for row in range(BATCH):
                frame = next(source)
                np.copyto(images[row], frame["image"])
                np.copyto(labels[row], frame["xy"])
            if frame["frameid"] != batch * BATCH - 1 or list(stamps) != list(range((batch - 1) * BATCH, batch * BATCH)):
                raise RuntimeError(f"{way}: the pictures of batch {batch} are {list(stamps)}")
            now = time.perf_counter()
            if not warm and batch >= WARM_UP_BATCHES and now - start >= WARM_UP_SECONDS:
                begin, warm = now, batch
            elif warm and now - begin >= SECONDS:
                return (now - begin) / ((batch - warm) * BATCH)
    raise AssertionError


def measure_once(way: str, size: str) -> float:
    """Run a producer and a consumer; return the seconds per frame."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        files: tuple[int, ...] = ()
        if way == "limit":
            fd = os.memfd_create("limit")
            stack.callback(os.close, fd)
            os.ftruncate(fd, _HEADER_BYTES + LIMIT_SLOTS * SharedFrames.slot_bytes(SIZES[size]))
            place, files = str(fd), (fd,)
        elif "tcp" in way:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                place = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        else:
            place = f"ipc://{folder}/socket"
        Keys.make().save(Path(folder, "keys"))
        environment = os.environ | {"KEYS": f"{folder}/keys"}
        command = [sys.executable, __file__, "--part", way, size, place]
        producer = subprocess.Popen([*command, "produce"], env=environment, pass_fds=files)
        try:
            output = subprocess.run(
                [*command, "consume"], env=environment, pass_fds=files, stdout=subprocess.PIPE, timeout=TIME_LIMIT_S, check=True
            ).stdout
        finally:
            producer.kill()
            producer.wait()
    return float(output)


def measure(rounds: int, advance: Callable[[], None] = lambda: None, ways: tuple[str, ...] = WAYS) -> dict[str, dict]:
    """Measure all sizes and ways.

    Parameters
    ----------
    rounds : int
    advance : callable
        Called after each of `rounds * len(SIZES) * len(ways)` measurements, which take 1.5 seconds each.
    ways : tuple of str
        `pickle_tcp` and `limit` among them.

    Returns
    -------
    dict
        From names as `transport/1.2MB/ring` to `value` (GB/s of pictures), `unit`, `ratios` and `messages_per_s`.
    """
    seconds = {(size, way): [] for size in SIZES for way in ways}
    for _ in range(rounds):
        for (size, way), values in seconds.items():
            values.append(measure_once(way, size))
            advance()
    results = {}
    for (size, way), values in seconds.items():
        others = {"vs_pickle_tcp": seconds[size, "pickle_tcp"], "of_limit": seconds[size, "limit"]}
        median = statistics.median(values)
        results[f"transport/{size}/{way}"] = {
            "value": np.prod(SIZES[size]) / median / 1e9,
            "unit": "GB/s",
            "ratios": {
                name: statistics.median(other / own for other, own in zip(column, values, strict=True))
                for name, column in others.items()
            },
            "messages_per_s": 1 / median,
        }
    return results


def table(results: dict[str, dict], rounds: int):
    """Lay out what `measure` returned, for people."""
    from rich.table import Table

    shown = Table(title=f"Frames into batches of {BATCH}, {os.cpu_count()} CPUs; medians of {rounds}")
    for column in ("picture", "way", "GB/s", "frames/s", "times pickle_tcp", "of limit"):
        shown.add_column(column, justify="left" if column in {"picture", "way"} else "right")
    for name, result in results.items():
        _, size, way = name.split("/")
        ratios = result["ratios"]
        figures = (f"{result['value']:.2f}", f"{result['messages_per_s']:.0f}", f"{ratios['vs_pickle_tcp']:.2f}")
        shown.add_row(size, way, *figures, f"{ratios['of_limit']:.0%}", end_section=way == OWN_WAYS[-1])
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures for programs")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=OWN_WAYS, default=OWN_WAYS, help="beside the two bounds (default: all)")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)  # in the processes that are measured
    args = parser.parse_args()
    if args.part:
        way, size, place, part = args.part
        if part == "produce":
            produce(way, SIZES[size], place)
        else:
            print(consume(way, SIZES[size], place))
        return

    from rich.console import Console  # here: the processes that are measured have no use for it
    from rich.progress import Progress

    ways = ("pickle_tcp", "limit", *args.ways)
    with Progress(refresh_per_second=1) as progress:  # drawing takes of the CPUs that are measured
        task = progress.add_task("Measuring", total=args.rounds * len(SIZES) * len(ways))
        results = measure(args.rounds, lambda: progress.advance(task), ways)
    Console().print(table(results, args.rounds))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
