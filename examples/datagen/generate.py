"""Stream pictures and labels from parallel Blender instances, and save what PyTorch receives as pictures to look at.

    python generate.py falling_cubes

Saving pictures is for demonstration only: blendtorch streams without any file in between.
"""

import argparse
import warnings
from pathlib import Path

import matplotlib
from blendtorch import btt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

matplotlib.use("Agg")  # pictures go to files: no display is needed
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
# DataLoader warns when there are more workers than CPUs; these wait for Blender most of the time.
warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)


def save_batch(batch, path):
    """Draw the pictures of a batch, with the projected vertices on them, as one picture file."""
    images, points = batch["image"].numpy(), batch["xy"].numpy()
    height, width = images.shape[1:3]
    columns = 2 if len(images) > 1 else 1
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * width / 100, rows * height / 100), dpi=100, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, xy in zip(axes.flat, images, points):
        # Pixel coordinates count from the corner of the image: its edges are 0 and width.
        axis.imshow(image, extent=(0, width, height, 0))
        axis.scatter(xy[:, 0], xy[:, 1], s=8, c="yellow", edgecolors="black", linewidths=0.4)
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
    figure.subplots_adjust(0, 0, 1, 1, 0, 0)
    figure.savefig(path)
    plt.close(figure)


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
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stats]}"),
    )
    with (
        btt.BlenderLauncher(
            scene=HERE / f"{args.scene}.blend",
            script=HERE / f"{args.scene}.blend.py",
            num_instances=args.instances,
            named_sockets=["DATA"],
            seed=args.seed,
        ) as launcher,
        progress,
    ):
        bar = progress.add_task("Starting Blender", total=args.count, stats="")
        dataset = btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], max_items=args.count)
        loader = DataLoader(dataset, batch_size=args.batch_size, num_workers=args.workers)
        for number, batch in enumerate(loader):
            save_batch(batch, args.out / f"output_{number:02d}.png")
            progress.update(bar, description="Receiving", advance=len(batch["image"]), stats=str(dataset.stats()))
    print(f"The pictures are in {args.out.absolute()}")


if __name__ == "__main__":
    main()
