"""Measure what labels of pixels cost beside a picture and beside Cycles: 640x480, in one Blender, frames taken in turn.

depth, normals, ...         each label alone: a frame's evaluation is not counted, its upload is
three                       normals, depth and instance ids together
every_label                 all of them
picture                     Workbench, without anti-aliasing
picture_three, picture_every_label    both
cycles                      depth, normals, position, UV and object index of Cycles, at 1 sample
cycles_picture              these and a picture, at 1 sample
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

from blendtorch import btt

SCENES = ("20_objects", "300k_triangles", "deforming_50k")
FRAMES = 8


def measure(rounds: int, advance: Callable[[], None] = lambda: None) -> dict[str, dict]:
    """Measure all scenes.

    Parameters
    ----------
    rounds : int
    advance : callable
        Called after each of `rounds * len(SCENES)` measurements, which take 15 seconds each.

    Returns
    -------
    dict
        From names as `gbuffer/20_objects` (the three) and `gbuffer/20_objects/depth` to `value` (ms), `unit` and `ratios`.
    """
    results = {}
    for scene in SCENES:
        with btt.BlenderLauncher(
            scene="",
            script=Path(__file__).with_name("gbuffer.blend.py"),
            num_instances=1,
            named_sockets=["DATA"],
            instance_args=[[scene, str(rounds), str(FRAMES)]],
            seed=0,
        ) as launcher:
            for item in btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]):
                spent = item["spent"]
                if len({len(values) for values in spent.values()}) == 1:
                    advance()

        def ratio(one: str, other: str, spent: dict[str, list[float]] = spent) -> float:
            return statistics.median(a / b for a, b in zip(spent[one], spent[other], strict=True))

        for name, values in spent.items():
            results[f"gbuffer/{scene}/{name}"] = {
                "value": statistics.median(values),
                "unit": "ms",
                "ratios": {"of_picture": ratio(name, "picture"), "vs_cycles": ratio("cycles", name)},
            }
        both = {
            f"{key}_vs_{other}": ratio(other, key) for key in ("picture_every_label",) for other in ("cycles", "cycles_picture")
        }
        three = results[f"gbuffer/{scene}/three"]
        results[f"gbuffer/{scene}"] = {**three, "ratios": {**three["ratios"], **both}}
    return results


def table(results: dict[str, dict], rounds: int):
    """Lay out what `measure` returned, for people."""
    from rich.table import Table

    shown = Table(title=f"Labels of pixels, 640x480, {os.cpu_count()} CPUs; medians of {rounds}, in ms")
    shown.add_column("what")
    for scene in SCENES:
        shown.add_column(scene, justify="right")
    names = [name.rpartition("/")[2] for name in results if name.startswith(f"gbuffer/{SCENES[0]}/")]
    for name in names:
        shown.add_row(name, *(f"{results[f'gbuffer/{scene}/{name}']['value']:.1f}" for scene in SCENES))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures for programs")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: %(default)s)")
    args = parser.parse_args()

    from rich.console import Console
    from rich.progress import Progress

    with Progress(refresh_per_second=1) as progress:
        task = progress.add_task("Measuring", total=args.rounds * len(SCENES))
        results = measure(args.rounds, lambda: progress.advance(task))
    Console().print(table(results, args.rounds))
    for scene in SCENES:
        ratios = results[f"gbuffer/{scene}"]["ratios"]
        print(f"{scene}: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
