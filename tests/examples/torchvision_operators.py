"""Run a Python program that imports torchvision, where its compiled operators do not load beside this build of torch.

    python torchvision_operators.py train.py --steps 10

Torch and torchvision of one build, as their users have them, need nothing of this, and get nothing: what is compiled is used.
Here the two may come from different places, the one built with CUDA and the other without; then `import torchvision` fails. What its
one-stage detectors need of the operators is non-maximum suppression, which is written here in plain torch.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def provide_operators():
    """Make `import torchvision` work: by its own library where that loads, else by the operators of this module."""
    folder = Path(importlib.util.find_spec("torchvision").origin).parent
    try:
        torch.ops.load_library(folder / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):  # torchvision describes both when it is imported; the second, of integers, is never called
            library.define(f"{name}{_SCHEMA}")
        library.impl("nms", nms, "CPU")
        from torchvision import extension

        extension._library = library  # the operators live as long as this
        extension._has_ops = lambda: True


def nms(dets, scores, iou_threshold):
    """Keep the boxes that no better one covers.

    Parameters
    ----------
    dets : Tensor, shape (N, 4)
        Boxes, x0, y0, x1, y1.
    scores : Tensor, shape (N,)
    iou_threshold : float
        Of two boxes that overlap more than this, measured as intersection over union, the one with the lower score goes.

    Returns
    -------
    Tensor, shape (M,), int64
        Which boxes are kept, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    corners = dets[order]
    sides = (
        torch.minimum(corners[:, None, 2:], corners[None, :, 2:]) - torch.maximum(corners[:, None, :2], corners[None, :, :2])
    ).clamp(min=0)
    common = sides.prod(dim=-1)
    areas = (corners[:, 2:] - corners[:, :2]).prod(dim=-1)
    covers = common > iou_threshold * (areas[:, None] + areas[None, :] - common)
    kept = torch.ones(len(order), dtype=torch.bool)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~covers[place, place + 1 :]
    return order[kept]


if __name__ == "__main__":
    provide_operators()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
