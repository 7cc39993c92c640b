"""Train a small detector of your part, from scratch, on pictures that Blender renders while it learns.

    python train.py part.glb --look     # draw some samples, and leave
    python train.py part.glb            # learn

It writes samples.png; or curve.csv, curve.png, detections.png and detector.pt, the weights.
"""

import argparse
import time
from pathlib import Path

import torch
import trimesh
from blendtorch import btt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead

MESHES = (".glb", ".gltf", ".obj", ".ply", ".stl")  # that trimesh measures, and Blender reads
CHANNELS, STRIDE = 64, 8  # of the map that boxes are predicted from: one place for every 8 pixels
SURE = 0.5  # detections with a score over this are drawn


def stream(args, seed, count):
    """Pictures of the part among distractors, seen from everywhere, in colours of chance."""
    assets = [{"files": str(args.part), "count": [1, 4], "category": args.part.stem, "unit": args.unit}]
    if args.distractors.is_dir():
        assets.append({"files": str(args.distractors), "count": [0, 3]})
    size = largest(args)
    return btt.stream(
        assets=assets,
        renderer={"name": "workbench", "antialiasing": "off", "color": "texture" if args.keep_colors else "material"},
        annotators=["boxes2d_tight"],
        randomizers=[
            {"name": "scatter", "low": [-2.5 * size, -2.5 * size, size], "high": [2.5 * size, 2.5 * size, 4 * size]},
            {"name": "pose", "uniform_rotation": True},
            {"name": "camera_shell", "distance": {"draw": "uniform", "low": 6 * size, "high": 10 * size}},
            *([] if args.keep_colors else [{"name": "material"}]),
            {"name": "material", "as": "ground", "materials": "Ground"},
            {"name": "world", "color": {"draw": "uniform", "low": [0, 0, 0], "high": [1, 1, 1]}},
        ],
        resolution=tuple(args.resolution),
        num_instances=args.instances,
        seed=seed,
        count=count,
    )


def largest(args):
    """The longest edge of the part, or of a distractor that is larger, in metres."""
    part = max(trimesh.load(args.part).extents) * {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254}[args.unit]
    others = [path for path in args.distractors.glob("*") if path.suffix.lower() in MESHES]
    return max([part, *(max(trimesh.load(path).extents) for path in others)])


def batches(dataset, size):
    """Batches as torchvision's detectors take them, pictures from 0 to 1 and their targets; and the samples themselves."""
    for batch in DataLoader(dataset, batch_size=size, collate_fn=btt.collate):
        samples = btt.unbatch(batch)
        yield batch["image"].permute(0, 3, 1, 2) / 255, [btt.targets.torchvision(each) for each in samples], samples


def make_detector(categories, resolution):
    """FCOS of torchvision behind six convolutions: 290 000 weights."""

    def layer(before, after, stride=1):
        return [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    down = [*layer(3, 16, 2), *layer(16, 32, 2), *layer(32, CHANNELS, 2)]
    backbone = nn.Sequential(*down, *layer(CHANNELS, CHANNELS), *layer(CHANNELS, CHANNELS), *layer(CHANNELS, CHANNELS))
    backbone.out_channels = CHANNELS
    return FCOS(
        backbone,
        num_classes=1 + categories,  # 0 is the background
        min_size=min(resolution),  # the pictures stay as large as they are
        max_size=max(resolution),
        anchor_generator=AnchorGenerator(sizes=((STRIDE,),), aspect_ratios=((1.0,),)),
        head=FCOSHead(CHANNELS, 1, 1 + categories, num_convs=2),
        score_thresh=0.05,
    )


@torch.no_grad()
def detect(detector, images):
    detector.eval()
    found = [each for some in images.split(16) for each in detector(list(some))]
    detector.train()
    return found


def average_precision(detector, images, targets):
    """AP at an intersection over union of 0.5, as COCO defines it, from 0 to 1."""
    metric = MeanAveragePrecision(iou_thresholds=[0.5])
    metric.update(detect(detector, images), targets)
    return metric.compute()["map"].item()


def learn(detector, args, evaluate):
    """Train on a stream; return rows of pictures seen, the mean loss since the row before, and what `evaluate` gives."""
    optimizer = torch.optim.AdamW(detector.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=args.steps)
    curve, losses = [(0, float("nan"), evaluate())], []
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[stats]}")
    progress = Progress(TextColumn("{task.description}"), *columns)
    with stream(args, args.seed, args.steps * args.batch_size) as dataset, progress:
        bar = progress.add_task("Starting Blender", total=args.steps, stats="")
        for step, (images, targets, _) in enumerate(batches(dataset, args.batch_size), 1):
            if step == 1:
                began = time.perf_counter()
            loss = sum(detector(list(images), targets).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            stats = dataset.stats()
            progress.update(bar, description="Learning", completed=step, stats=f"loss {losses[-1]:.2f}, {stats}")
            if step % max(1, args.steps // args.evaluations) == 0 or step == args.steps:
                curve.append((step * args.batch_size, sum(losses) / len(losses), evaluate()))
                progress.console.print("After {} pictures: loss {:.3f}, AP@0.5 {:.3f}".format(*curve[-1]), highlight=False)
                losses = []
        seconds, stats = time.perf_counter() - began, dataset.stats()
    waited = sum(each.waited_s for each in stats.instances) / args.instances
    print(f"{args.steps} steps of {args.batch_size} pictures took {seconds:.0f} s, {1000 * seconds / args.steps:.0f} ms each.")
    print(f"The trainer waited {stats.waited_s:.0f} s for Blender, Blender {waited:.0f} s for the trainer.")
    return curve


def draw_curve(curve, path):
    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    left = figure.add_subplot(xlabel="pictures seen", ylabel="AP@0.5 on held-out pictures", ylim=(0, 1))
    right = left.twinx()
    right.set_ylabel("loss", color="tab:orange")
    seen, losses, precisions = zip(*curve)
    right.plot(seen[1:], losses[1:], color="tab:orange")
    right.set_ylim(bottom=0)
    left.plot(seen, precisions, marker="o", markersize=3)
    left.grid(alpha=0.3)
    figure.savefig(path)


def draw_detections(samples, found, path):
    """Draw true boxes in colour, and what was detected in white, with its score."""
    figure = btt.contact_sheet(samples, ["boxes2d_tight"])
    for axes, each in zip(figure.axes, found):
        for (x0, y0, x1, y1), score in zip(each["boxes"].tolist(), each["scores"].tolist()):
            if score > SURE:
                axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white", linestyle="--"))
                axes.text(x0, y0, f"{score:.2f}", color="white", fontsize=7, verticalalignment="bottom", clip_on=True)
    figure.savefig(path)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", type=Path, help="the mesh of the part: .glb, .obj, .ply or .stl")
    parser.add_argument(
        "--unit", choices=["m", "cm", "mm", "in"], default="m", help="of the numbers in it (default: %(default)s)"
    )
    parser.add_argument(
        "--distractors",
        type=Path,
        default=Path("distractors"),
        help="folder of meshes that are not the part, in metres, if there are any (default: ./%(default)s)",
    )
    parser.add_argument("--keep-colors", action="store_true", help="show all in their own colours and textures")
    parser.add_argument("--look", action="store_true", help="draw some samples as samples.png, and leave")
    parser.add_argument("--steps", type=int, default=1500, help="batches to learn from (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures in a batch (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=200, help="pictures that AP is measured on (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=12, help="how often it is measured (default: %(default)s)")
    parser.add_argument("--instances", type=int, default=1, help="Blender instances (default: %(default)s)")
    parser.add_argument("--resolution", type=int, nargs=2, default=[160, 120], help="width and height (default: 160 120)")
    parser.add_argument("--seed", type=int, default=0, help="what is drawn at random (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for what is written (default: this one)")
    return parser.parse_args()


def main():
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # the other cores are Blender's

    count = 8 if args.look else args.held_out
    with stream(args, args.seed + 1, count) as dataset:  # another seed: other samples
        ((images, targets, samples),) = batches(dataset, count)
        categories = dataset.categories
    if args.look:
        btt.contact_sheet(samples).savefig(args.out / "samples.png")
        print(f"Eight samples are in {(args.out / 'samples.png').absolute()}")
        return

    detector = make_detector(max(categories), args.resolution)
    curve = learn(detector, args, lambda: average_precision(detector, images, targets))
    torch.save(detector.state_dict(), args.out / "detector.pt")
    rows = [",".join(map(str, row)) for row in [("pictures", "loss", "ap50"), *curve]]
    (args.out / "curve.csv").write_text("\n".join(rows) + "\n")
    draw_curve(curve, args.out / "curve.png")
    draw_detections(samples[:8], detect(detector, images[:8]), args.out / "detections.png")
    print(f"The curve, detections and weights are in {args.out.absolute()}")


if __name__ == "__main__":
    main()
