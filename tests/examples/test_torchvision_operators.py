"""What stands in for torchvision's operators does what theirs are documented to do."""

import runpy
from fractions import Fraction
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

nms = runpy.run_path(str(Path(__file__).with_name("torchvision_operators.py")))["nms"]


def overlap(one, other):
    """Divide intersection by union, of two boxes with integer corners."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return Fraction(common, sum(areas) - common)


corners_and_sizes = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 8), st.integers(1, 8))


@given(boxes=st.lists(corners_and_sizes, max_size=12), data=st.data(), threshold=st.sampled_from([0.1234, 0.5, 0.777]))
def test_suppression_is_what_its_definition_says(boxes, data, threshold):
    boxes = [(x, y, x + width, y + height) for x, y, width, height in boxes]
    ranks = data.draw(st.permutations(range(len(boxes))))
    left, kept = sorted(range(len(boxes)), key=lambda box: ranks[box]), []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [box for box in left if overlap(boxes[best], boxes[box]) <= threshold]
    found = nms(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), -torch.tensor(ranks, dtype=torch.float32), threshold)
    assert found.tolist() == kept
