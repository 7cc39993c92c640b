"""Stream pictures with every label that there is, without a script for Blender, and draw some on one contact sheet.

python every_label.py
"""

import argparse
from pathlib import Path

from blendtorch import btt
from torch.utils.data import DataLoader

SCENE = Path(__file__).parents[1] / "datagen" / "falling_cubes.blend"
LABELS = ["instance_ids", "boxes2d_tight", "boxes2d_amodal", "keypoints", "depth", "normals", "object_coordinates", "flow"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3, help="samples on the sheet (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=4, help="what is drawn at random (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("labels.png"), help="the file (default: %(default)s)")
    args = parser.parse_args()

    with btt.stream(
        SCENE,
        renderer="workbench",
        annotators=[*LABELS, "visibility"],
        objects=[{"match": "Cube*", "category": "cube"}],
        randomizers=[
            {
                "name": "physics_drop",
                "objects": "Cube*",
                "low": [-3, -3, 2],
                "high": [3, 3, 9],
                "ground": "Plane",
                "preroll": 12,
            },
            {"name": "camera_shell", "distance": {"draw": "uniform", "low": 11, "high": 14}},
            {"name": "material"},
        ],
        frames_per_episode=2,  # flow is between a frame and the one before
        count=2 * args.count,
        seed=args.seed,
    ) as dataset:
        (batch,) = DataLoader(dataset, batch_size=2 * args.count)
    samples = btt.unbatch(batch)[1::2]
    btt.contact_sheet(samples, LABELS).savefig(args.out)
    for sample in samples:
        seen = ", ".join(f"{fraction:.0%}" for fraction in sample["visibility"]["fraction"].tolist())
        print(f"Sample {sample['meta']['index']}: the objects are visible to {seen}")
    print(f"The pictures are in {args.out.absolute()}")


if __name__ == "__main__":
    main()
