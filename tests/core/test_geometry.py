"""Laws of projection; agreement with Blender is tested in tests/btb, against what it renders."""

import numpy as np
import pytest
from blendtorch.core import geometry
from blendtorch.core.errors import CameraError
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

LENSES = st.builds(
    geometry.Lens,
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    projection=st.sampled_from(["perspective", "orthographic"]),
    focal_length_mm=st.floats(1, 500),
    sensor_width_mm=st.floats(1, 100),
    sensor_height_mm=st.floats(1, 100),
    sensor_fit=st.sampled_from(["AUTO", "HORIZONTAL", "VERTICAL"]),
    orthographic_scale=st.floats(0.01, 100),
    shift_x=st.floats(-2, 2),
    shift_y=st.floats(-2, 2),
    pixel_aspect_x=st.floats(1, 3),
    pixel_aspect_y=st.floats(1, 3),
)
COORDINATES = st.tuples(st.floats(-100, 100), st.floats(-100, 100), st.floats(0.01, 1000))
POINTS = st.lists(COORDINATES, min_size=1, max_size=5).map(np.array)


@given(LENSES, POINTS)
def test_unproject_undoes_project(lens, points):
    """Within 1e-9 of the distance, relative."""
    matrix, orthographic = geometry.intrinsics(lens), lens.projection == "orthographic"
    xy, depth = geometry.project(points, matrix, orthographic)
    result = geometry.unproject(xy, depth, matrix, orthographic)
    np.testing.assert_allclose(result, points, rtol=1e-9, atol=1e-9 * (np.abs(points).max() + np.abs(xy).max()))


@given(LENSES)
def test_the_axis_meets_the_shifted_centre_and_the_fitted_side_spans_the_sensor(lens):
    matrix = geometry.intrinsics(lens)
    horizontal = lens.sensor_fit == "HORIZONTAL" or (
        lens.sensor_fit == "AUTO" and lens.width * lens.pixel_aspect_x >= lens.height * lens.pixel_aspect_y
    )
    # The two ends of the fitted side, as angles (or lengths) of the sensor, without shift.
    side = (lens.width / matrix[0, 0]) if horizontal else (lens.height / matrix[1, 1])
    if lens.projection == "perspective":
        sensor = lens.sensor_height_mm if lens.sensor_fit == "VERTICAL" else lens.sensor_width_mm
        assert side == pytest.approx(sensor / lens.focal_length_mm)
    else:
        assert side == pytest.approx(lens.orthographic_scale)
    # A pixel is as wide and as high as its aspect says.
    assert matrix[0, 0] / matrix[1, 1] == pytest.approx(lens.pixel_aspect_y / lens.pixel_aspect_x)


def test_points_behind_the_camera_have_no_image():
    matrix = geometry.intrinsics(geometry.Lens(width=640, height=480))
    xy, depth = geometry.project([[0, 0, 1], [0, 0, 0], [1, 1, -1]], matrix)
    np.testing.assert_array_equal(np.isnan(xy).all(axis=1), [False, True, True])
    np.testing.assert_array_equal(depth, [1, 0, -1])


@given(POINTS, st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(-50, -1)))
def test_look_at_puts_the_target_on_the_axis(targets, eye):
    pose = geometry.look_at(eye, targets[0])
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    distance = np.linalg.norm(np.subtract(targets[0], eye))
    seen = geometry.transform(geometry.camera_from_world(pose), targets[:1])
    np.testing.assert_allclose(seen, [[0, 0, distance]], atol=1e-9 * distance)


def test_look_at_keeps_the_world_upright():
    camera = geometry.camera_from_world(geometry.look_at((5, -5, 3), (0, 0, 0)))
    low, high = geometry.transform(camera, [(0, 0, 0), (0, 0, 1)])
    assert high[1] < low[1], "y points down"
    assert high[0] == pytest.approx(low[0])


@pytest.mark.parametrize("target", [(0, 0, -1), (0, 0, 1), (0, 1, 0), (0, -1, 0)])
def test_look_at_along_any_axis(target):
    pose = geometry.look_at((0, 0, 0), target)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)


def test_a_scaled_camera_sees_the_same():
    pose = geometry.look_at((3, 1, 2), (0, 0, 0))
    scaled = pose @ np.diag([2.0, 3.0, -0.5, 1.0]) @ np.diag([1, 1, -1, 1])
    np.testing.assert_allclose(geometry.camera_from_world(scaled), geometry.camera_from_world(pose), atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: geometry.camera_from_world(np.diag([0.0, 1, 1, 1])),
        lambda: geometry.look_at((1, 2, 3), (1, 2, 3)),
        lambda: geometry.as_points([[1, 2]], 3),
        lambda: geometry.transform(np.eye(4), np.zeros((2, 2, 3))),
    ],
)
def test_what_has_no_answer_is_refused(call):
    with pytest.raises(CameraError):
        call()


def test_boxes_of_points():
    np.testing.assert_array_equal(geometry.bounding_box([[1, 5], [3, 2], [np.nan, 0]]), [1, 2, 3, 5])
    assert np.isnan(geometry.bounding_box([[np.nan, 1]])).all()
    np.testing.assert_array_equal(geometry.bounding_box([[1, 5, 2], [3, 2, 9]]), [1, 2, 2, 3, 5, 9])


@given(arrays(np.float64, (3, 4), elements=st.floats(-10, 10)))
def test_the_inverse_of_an_affine_matrix_undoes_it(rows):
    matrix = np.vstack([rows, [0, 0, 0, 1]])
    assume(np.linalg.cond(matrix[:3, :3]) < 1e4)
    np.testing.assert_allclose(geometry.inverse_affine(matrix) @ matrix, np.eye(4), atol=1e-8)
