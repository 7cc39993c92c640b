from typing import Annotated

import msgspec
import numpy as np
import pytest
from blendtorch.core import ArraySpec, Payload
from blendtorch.core.errors import PayloadError


class Sample(msgspec.Struct):
    image: Annotated[np.ndarray, ArraySpec("uint8", ("height", "width", 3))]
    depth: Annotated[np.ndarray, ArraySpec("float32", ("height", "width"), unit="m")]
    frameid: int
    note: str = ""


GOOD = {"image": np.zeros((4, 6, 3), np.uint8), "depth": np.zeros((4, 6), np.float32), "frameid": 1}


def test_what_fits_passes():
    Payload(Sample).check(GOOD)
    Payload(Sample).check({**GOOD, "note": "x"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image": np.zeros((4, 6, 4), np.uint8)}, r"Sample.image: expected uint8 \(height, width, 3\), got uint8 \(4, 6, 4\)"),
        ({"depth": np.zeros((4, 6))}, r"Sample.depth: expected float32 \(height, width\) in m, got float64 \(4, 6\)"),
        ({"depth": np.zeros((5, 6), np.float32)}, r"Sample.depth: .* got float32 \(5, 6\)"),
        ({"image": [1]}, "got list"),
        ({"frameid": "1"}, "Sample.frameid: Expected `int`, got `str`"),
        ({"extra": 1}, "unknown field 'extra'; it has image, depth, frameid, note"),
    ],
)
def test_what_does_not_fit_is_named(change, text):
    with pytest.raises(PayloadError, match=text):
        Payload(Sample).check({**GOOD, **change})


def test_missing_fields_are_named():
    with pytest.raises(PayloadError, match="Sample.image: missing"):
        Payload(Sample).check({"frameid": 1})


def test_arrays_must_be_declared():
    class Loose(msgspec.Struct):
        image: np.ndarray

    with pytest.raises(PayloadError, match="Loose.image: say what the array holds"):
        Payload(Loose)
    with pytest.raises(PayloadError, match="payload type"):
        Payload(dict)
