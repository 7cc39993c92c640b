"""Measure streaming beside the bare render loop, what the pipeline of plug-ins costs, and how fast frames travel.

For each number of instances and workers: how long an image takes from Blender into a batch, and beside it the bare loop,
as many Blenders that render the same and drop it. Then the transport alone, labels of pixels, and recordings: see
transport.py, gbuffer.py and recording.py. The measurements take turns, and medians are shown: machines drift.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import time
import warnings
from pathlib import Path

import gbuffer
import recording
import torch
import transport
from blendtorch import btt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch.utils.data import DataLoader

HERE = Path(__file__).parent
SCENE = HERE.parent / "examples" / "datagen" / "cube.blend"
INSTANCES, WORKERS, BATCH = (1, 2), (0, 1, 2), 8
# PyTorch's threads compete for the CPUs that Blender draws with: without this, two rounds gave 68 % of the bare rate for
# 1 instance and 0 workers (86 % for 1 and 1).
torch.set_num_threads(1)
WARM_UP = 40  # per instance: what the queues held before both ends ran at one pace is not counted
warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)


def launch(instances, *arguments, script="cube.blend.py"):
    return btt.BlenderLauncher(
        scene=SCENE,
        script=HERE / script,
        num_instances=instances,
        named_sockets=["DATA"],
        instance_args=[arguments] * instances,
        seed=0,
    )


def measure_bare(instances, frames):
    """Milliseconds per image of all instances together, frames dropped."""
    with launch(instances, "--bare", str(frames)) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], max_items=instances)
        rate = sum(frames / item["seconds"] for item in dataset)
    return 1e3 / rate


def measure_stream(instances, workers, frames):
    """Milliseconds per image in batches of a DataLoader."""
    with launch(instances) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])
        batches = iter(DataLoader(dataset, batch_size=BATCH, num_workers=workers))
        for _ in range(-(-WARM_UP * instances // BATCH)):
            next(batches)
        count = -(-frames * instances // BATCH)
        begin = time.perf_counter()
        for _ in range(count):
            next(batches)
        seconds = time.perf_counter() - begin
        del batches
    return 1e3 * seconds / (count * BATCH)


def measure_pipeline(frames):
    """Milliseconds per frame of a pipeline beyond its parts, and of the whole frame."""
    with launch(1, str(frames), script="pipeline.blend.py") as launcher:
        *_, last = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"])
    return last["overhead_ms"], last["frame_ms"]


def describe_machine():
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}, Blender {btt.discover_blender()['major']}." + str(
        btt.discover_blender()["minor"]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures for programs")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=120, help="images per instance and measurement (default: %(default)s)")
    args = parser.parse_args()

    bare = {instances: [] for instances in INSTANCES}
    stream = {key: [] for key in itertools.product(INSTANCES, WORKERS)}
    ratios = {key: [] for key in stream}
    pipeline = []
    with Progress(refresh_per_second=1) as progress:  # drawing takes of the CPUs that are measured
        task = progress.add_task("Measuring", total=args.rounds * (1 + len(bare) + len(stream)))
        for _ in range(args.rounds):
            pipeline.append(measure_pipeline(args.frames))
            progress.advance(task)
            for instances in INSTANCES:
                bare[instances].append(measure_bare(instances, args.frames))
                progress.advance(task)
                for workers in WORKERS:
                    stream[instances, workers].append(measure_stream(instances, workers, args.frames))
                    ratios[instances, workers].append(bare[instances][-1] / stream[instances, workers][-1])
                    progress.advance(task)
        ways = args.rounds * len(transport.SIZES) * len(transport.WAYS)
        task = progress.add_task("Measuring the transport", total=ways)
        transported = transport.measure(args.rounds, lambda: progress.advance(task))
        task = progress.add_task("Measuring labels", total=args.rounds * len(gbuffer.SCENES))
        labelled = gbuffer.measure(args.rounds, lambda: progress.advance(task))

        task = progress.add_task("Measuring recordings", total=args.rounds)
        recorded = recording.measure(args.rounds, lambda: progress.advance(task))

    table = Table(title=f"Cube scene, 640x480: {describe_machine()}; medians of {args.rounds}")
    for column in ("instances", "workers", "ms/image", "bare ms/image", "rate of bare"):
        table.add_column(column, justify="right")
    results = {f"bare/{n}": {"value": statistics.median(values), "unit": "ms", "ratios": {}} for n, values in bare.items()}
    for (instances, workers), values in stream.items():
        ms, ratio = statistics.median(values), statistics.median(ratios[instances, workers])
        table.add_row(str(instances), str(workers), f"{ms:.1f}", f"{statistics.median(bare[instances]):.1f}", f"{ratio:.0%}")
        results[f"stream/{instances}x{workers}"] = {"value": ms, "unit": "ms", "ratios": {"of_bare": ratio}}
    overhead, frame = (statistics.median(column) for column in zip(*pipeline, strict=True))
    results["pipeline/overhead"] = {"value": overhead, "unit": "ms", "ratios": {"of_frame": overhead / frame}}
    results |= transported | labelled | recorded
    Console().print(table)
    Console().print(transport.table(transported, args.rounds))
    Console().print(gbuffer.table(labelled, args.rounds))
    Console().print(recording.table(recorded, args.rounds))
    print(f"The pipeline costs {overhead:.2f} ms a frame beyond its parts, of {frame:.1f} ms (3 randomizers, 5 annotators)")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
