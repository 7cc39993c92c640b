"""Stream pictures and labels from parallel Blender instances, and save what PyTorch receives as pictures to look at.

    python generate.py falling_cubes
    python generate.py falling_cubes --record      keeps what is received, too
    python generate.py falling_cubes --replay      gives it again, shuffled and without Blender

Saving pictures is for demonstration only: blendtorch streams without any file in between.
"""

import argparse
import contextlib
import warnings
from pathlib import Path

from blendtorch import btt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

HERE = Path(__file__).parent
# DataLoader warns when there are more workers than CPUs; these wait for Blender most of the time.
warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)


def save_batch(batch, path):
    """Draw the pictures of a batch, with the projected vertices on them, as one picture file."""
    samples = [{"image": item["image"], "keypoints": {"xy": item["xy"][None]}} for item in btt.unbatch(batch)]
    btt.contact_sheet(samples, columns=2 if len(samples) > 1 else 1).savefig(path)


@contextlib.contextmanager
def live(args):
    """Run Blender; give the dataset of what it renders."""
    with btt.BlenderLauncher(
        scene=HERE / f"{args.scene}.blend",
        script=HERE / f"{args.scene}.blend.py",
        num_instances=args.instances,
        named_sockets=["DATA"],
        seed=args.seed,
    ) as launcher:
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], max_items=args.count)
        if args.record:
            dataset.enable_recording(args.out / "record")
        yield dataset


@contextlib.contextmanager
def replayed(args):
    """Give the dataset of what was recorded."""
    yield btt.FileDataset(args.out / "record")


def main():
    scenes = sorted(path.stem for path in HERE.glob("*.blend"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", choices=scenes, help="which scene of this folder to run")
    parser.add_argument("--count", type=int, default=64, help="pictures to receive (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="pictures in a batch (default: %(default)s)")
    parser.add_argument("--instances", type=int, default=4, help="Blender instances (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="DataLoader workers (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeat what this seed draws (default: a new one)")
    parser.add_argument("--out", type=Path, default=Path("tmp"), help="folder for the pictures (default: ./%(default)s)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--record", action="store_true", help="also record what is received, to record_*.arrows in that folder")
    mode.add_argument("--replay", action="store_true", help="take what was recorded there, shuffled; no Blender is started")
    parser.add_argument("--overwrite", action="store_true", help="with --record: remove what was recorded there before")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recorded = sorted(args.out.glob("record_*.arrows*"))
    if args.record and recorded and not args.overwrite:
        parser.error(f"{args.out} has a recording already: --replay it, --overwrite it, or name another folder with --out")
    if args.replay and not recorded:
        parser.error(f"{args.out} has no recording: make one with --record")
    for path in recorded if args.record else ():
        path.unlink()

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stats]}"),
    )
    with (replayed if args.replay else live)(args) as dataset, progress:
        total = len(dataset) if args.replay else args.count
        bar = progress.add_task("Replaying" if args.replay else "Starting Blender", total=total, stats="")
        loader = DataLoader(dataset, batch_size=args.batch_size, num_workers=args.workers, shuffle=args.replay or None)
        for number, batch in enumerate(loader):
            save_batch(batch, args.out / f"output_{number:02d}.png")
            stats = {} if args.replay else {"description": "Receiving", "stats": str(dataset.stats())}
            progress.update(bar, advance=len(batch["image"]), **stats)
    print(f"The pictures are in {args.out.absolute()}")


if __name__ == "__main__":
    main()
