"""A long run: 100 000 frames through a DataLoader, counted, and the memory of every process watched."""

import contextlib
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from blendtorch import btt
from torch.utils.data import DataLoader

FRAMES = 50_000  # of each publisher
GROWTH_BYTES = 2 << 20  # measured: 0.4 MiB at most

# Processes with core alone: what is measured is the stream, not Blender.
PUBLISHER = """
import sys
import numpy as np
from blendtorch.core import EndOfStream, Frame
from blendtorch.core.ring import Ring
from blendtorch.core.transport import Push
address, btid, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Push(address, ring=Ring()) as push:
    for number in range(count):
        # One for the ring, and one that is too small for it.
        data = {"number": number, "image": np.full((48, 64, 3), number % 256, np.uint8), "small": np.full((16, 16, 3), btid, np.uint8)}
        push.send(push.pack(Frame(btid=btid, sequence=number, data=data)))
    push.farewell(EndOfStream(btid=btid, sequence=count, address=address))
"""


@pytest.fixture
def publishers(short_tmp):
    """Start two of them; returns the processes and their addresses."""
    listen = [f"ipc://{short_tmp}/soak{btid}" for btid in (0, 1)]
    commands = [[sys.executable, "-c", PUBLISHER, address, str(btid), str(FRAMES)] for btid, address in enumerate(listen)]
    processes = [subprocess.Popen(command) for command in commands]
    yield processes, listen
    for process in processes:
        process.kill()
        process.wait()


class MemoryWatch(threading.Thread):
    """Samples the resident memory of processes until it is told to stop."""

    def __init__(self, processes):
        super().__init__()
        self._processes = processes
        self._over = threading.Event()
        self.samples = {name: [] for name in processes}

    def run(self):
        while not self._over.wait(0.25):
            for name, process in self._processes.items():
                with contextlib.suppress(psutil.Error):
                    if size := process.memory_info().rss:  # else it has just ended
                        self.samples[name].append((time.monotonic(), size))

    def stop(self):
        self._over.set()
        self.join()

    def growth(self):
        """How many bytes more each process has in the last quarter of the run than in the second."""
        times = [time for samples in self.samples.values() for time, _ in samples]
        quarters = np.linspace(min(times), max(times), 5)
        grown = {}
        for name, samples in self.samples.items():
            when, size = np.array(samples).T
            second, last = size[(when >= quarters[1]) & (when < quarters[2])], size[when >= quarters[3]]
            grown[name] = np.median(last) - np.median(second)
        return grown


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_long_run_counts_exactly_and_memory_stays_flat(publishers):
    processes, addresses = publishers
    counts = np.zeros((2, FRAMES), int)
    # The end of the streams ends it, not the number of items.
    dataset = btt.RemoteIterableDataset(addresses, max_items=10 * FRAMES)
    trainer = psutil.Process()
    before = set(trainer.children())
    loader = iter(DataLoader(dataset, batch_size=50, num_workers=4))
    workers = set(trainer.children()) - before
    assert len(workers) == 4
    watched = {f"publisher {btid}": psutil.Process(process.pid) for btid, process in enumerate(processes)}
    watched |= {f"worker {number}": worker for number, worker in enumerate(workers)} | {"trainer": trainer}
    watch = MemoryWatch(watched)
    begin = None
    try:
        for batch in loader:
            if begin is None:
                begin = time.monotonic()
                watch.start()
            btid, number, image, small = (batch[name].numpy() for name in ("btid", "number", "image", "small"))
            np.add.at(counts, (btid, number), 1)
            # Without temporary arrays of this size: what they leave in the heap comes and goes by 100 MB.
            for array, value in ((image, number % 256), (small, btid)):
                assert (array.min(axis=(1, 2, 3)) == value).all()
                assert (array.max(axis=(1, 2, 3)) == value).all()
        seconds = time.monotonic() - begin
    finally:
        if watch.is_alive():
            watch.stop()
    for process in processes:
        assert process.wait(10) == 0
    grown = watch.growth()
    print(f"\n{counts.sum()} frames in {seconds:.0f} s, {counts.sum() / seconds:.0f} frames/s; growth of resident memory:")
    for name, size in grown.items():
        print(f"  {name}: {size / 2**20:+.1f} to {watch.samples[name][-1][1] / 2**20:.1f} MiB")
    assert (counts == 1).all()
    assert {name: size for name, size in grown.items() if size > GROWTH_BYTES} == {}
