import numpy as np
from blendtorch.core.testing.suites import WriterSuite
from blendtorch_yolo import Yolo, filled, polygon_of
from hypothesis import given, settings
from hypothesis.extra import numpy as some


class TestDetect(WriterSuite):
    plugin = Yolo


class TestSegment(WriterSuite):
    plugin = Yolo
    options = {"task": "segment"}


class TestPose(WriterSuite):
    plugin = Yolo
    options = {"task": "pose"}


@settings(max_examples=300, deadline=None)
@given(mask=some.arrays(bool, some.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_polygon_is_its_mask(mask):
    """With any pieces and holes, after rounding to the digits of the file too."""
    if not mask.any():
        return
    polygon = polygon_of(mask)
    rows, columns = np.nonzero(mask)
    assert [*polygon.min(axis=0), *polygon.max(axis=0)] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    size = np.array(mask.shape[::-1])
    for points in (polygon, np.round(polygon / size, 8) * size):
        assert np.array_equal(filled(points, mask.shape), mask)
