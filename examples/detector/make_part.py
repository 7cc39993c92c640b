"""Make a part to try the page with, where you have no mesh of your own: a bracket, and other things that lie around.

python make_part.py

writes part.glb and distractors/*.glb, in metres, with trimesh: nothing here comes from Blender.
"""

import argparse
from pathlib import Path

import numpy as np
import trimesh
from trimesh import creation
from trimesh.transformations import rotation_matrix, translation_matrix


def bracket(width=0.06, depth=0.045, height=0.05, thickness=0.005):
    """A plate, an upright on its edge, two ribs that hold it, and a ring for a bolt."""
    plate = creation.box((width, depth, thickness))
    upright = creation.box((width, thickness, height))
    upright.apply_translation((0, (thickness - depth) / 2, (height - thickness) / 2))
    ring = creation.annulus(r_min=0.006, r_max=0.011, height=0.012)
    ring.apply_translation((0, 0.006, 0.006))
    corner = np.array([(0.0, 0.0), (0.8 * depth, 0.0), (0.0, 0.8 * height)])
    ribs = []
    for side in (-1, 1):
        rib = creation.extrude_triangulation(corner, [[0, 1, 2]], height=thickness)
        rib.apply_transform(rotation_matrix(np.pi / 2, (1, 0, 0)))  # its height along z
        rib.apply_transform(rotation_matrix(np.pi / 2, (0, 0, 1)))  # its foot along y
        rib.apply_translation((side * 0.7 * width / 2, thickness - depth / 2, 0))
        ribs.append(rib)
    return trimesh.util.concatenate([plate, upright, ring, *ribs])


def distractors():
    """Boxes, balls, rings: of the size of the part, and not the part."""
    return {
        "box": creation.box((0.04, 0.05, 0.03)),
        "sleeve": creation.annulus(r_min=0.012, r_max=0.02, height=0.045),
        "ball": creation.icosphere(subdivisions=3, radius=0.022),
        "bolt": trimesh.util.concatenate(
            [
                creation.cylinder(radius=0.007, height=0.06, sections=24),
                creation.cylinder(radius=0.014, height=0.01, sections=6, transform=translation_matrix((0, 0, 0.03))),
            ]
        ),
        "ring": creation.torus(major_radius=0.024, minor_radius=0.007),
        "cone": creation.cone(radius=0.024, height=0.05),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(), help="the folder (default: this one)")
    args = parser.parse_args()

    (args.out / "distractors").mkdir(parents=True, exist_ok=True)
    part = bracket()
    part.export(args.out / "part.glb")
    for name, mesh in distractors().items():
        mesh.export(args.out / "distractors" / f"{name}.glb")
    size = " x ".join(f"{1000 * edge:.0f}" for edge in part.extents)
    print(f"part.glb is a bracket of {size} mm; {len(distractors())} other things are in {args.out / 'distractors'}")


if __name__ == "__main__":
    main()
