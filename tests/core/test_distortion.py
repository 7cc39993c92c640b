"""Laws of lens distortion; that pictures and labels have it is tested in tests/plugins, with Blender."""

import math

import msgspec
import numpy as np
import pytest
from blendtorch.core import Distortion, geometry
from blendtorch.core.distortion import distort, jacobian, reach, undistort
from blendtorch.core.errors import CameraError
from blendtorch.core.resampling import resampling
from hypothesis import assume, given, settings
from hypothesis import strategies as st

RADIAL = st.floats(-0.6, 0.6)
DISTORTIONS = st.builds(
    Distortion, k1=RADIAL, k2=RADIAL, p1=st.floats(-0.05, 0.05), p2=st.floats(-0.05, 0.05), k3=st.floats(-0.2, 0.2)
)
PLACES = st.lists(st.tuples(st.floats(0, 1), st.floats(-math.pi, math.pi)), min_size=1, max_size=8).map(np.array)


def places(polar, radius):
    return (polar[:, :1] * radius) * np.column_stack([np.cos(polar[:, 1]), np.sin(polar[:, 1])])


def by_opencv(x, y, k1=0.0, k2=0.0, p1=0.0, p2=0.0, k3=0.0):
    """The formula as OpenCV's documentation prints it."""
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


@given(DISTORTIONS, PLACES)
def test_it_is_the_formula_of_opencv(distortion, polar):
    xy = places(polar, min(reach(distortion), 2.0))
    expected = np.column_stack(by_opencv(*xy.T, **msgspec.structs.asdict(distortion)))
    np.testing.assert_allclose(distort(xy, distortion), expected, rtol=1e-12, atol=1e-12)


@given(DISTORTIONS, PLACES)
def test_undistort_undoes_distort(distortion, polar):
    """Within 1e-9, in the whole range in which the model is one-to-one."""
    xy = places(polar, min(reach(distortion), 2.0))
    np.testing.assert_allclose(undistort(distort(xy, distortion), distortion), xy, rtol=0, atol=1e-9)


@given(DISTORTIONS, PLACES, PLACES)
def test_within_its_reach_no_two_points_meet(distortion, one, two):
    """Its derivatives are those of finite differences, and positive definite: so is their mean between any two points of a disc."""
    radius = min(reach(distortion), 2.0)
    xy = places(np.concatenate([one, two]), 0.999 * radius)
    first, mixed, second = jacobian(xy.T, distortion)
    assert (first + second > 0).all()
    assert (first * second - mixed**2 > 0).all()
    step = 1e-6 * np.array([1.0, 0.0])
    slope = (distort(xy + step, distortion) - distort(xy - step, distortion)) / 2e-6
    np.testing.assert_allclose(slope, np.column_stack([first, mixed]), rtol=1e-5, atol=1e-5)


def test_the_reach_is_where_the_model_turns_back():
    # 1 + 3 k1 r^2 = 0; 0.1 % less.
    assert reach(Distortion(k1=-0.2)) == pytest.approx(0.999 * math.sqrt(1 / 0.6))
    assert reach(Distortion(k1=0.1, k2=0.1, k3=0.1)) == math.inf
    assert reach(Distortion()) == math.inf
    # 1 + 6 p r = 0, against the direction of the tangential part.
    assert reach(Distortion(p1=0.03)) == pytest.approx(0.999 / 0.18, rel=1e-3)


@given(DISTORTIONS, PLACES, st.floats(1.0, 1e6))
def test_what_is_beyond_the_reach_stays_beyond(distortion, polar, times):
    limit = reach(distortion)
    assume(limit < 3)
    direction = places(np.column_stack([np.ones(len(polar)), polar[:, 1]]), limit)
    beyond, edge = distort(direction * times, distortion), distort(direction, distortion)
    # It moves outwards along its direction, by as much as the ray does.
    np.testing.assert_allclose(beyond - edge, direction * (times - 1), rtol=1e-9, atol=1e-9)
    # And nothing within reach is seen there.
    if times > 1.001:
        assert np.isnan(undistort(beyond, distortion)).all()


def test_what_has_no_ray_is_nan():
    assert np.isnan(undistort([[3.0, 0.0], [np.nan, 0.0]], Distortion(k1=-0.2))).all()
    assert undistort(np.zeros((0, 2)), Distortion(k1=-0.2)).shape == (0, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_coefficients_are_numbers(value):
    with pytest.raises(ValueError, match="k2 is"):
        Distortion(k2=value)


@given(DISTORTIONS, PLACES, st.floats(0.01, 100))
def test_unproject_undoes_project_through_a_lens(distortion, polar, depth):
    xy = places(polar, min(reach(distortion), 1.5))
    points = np.column_stack([xy, np.ones(len(xy))]) * depth
    K = geometry.intrinsics(geometry.Lens(width=640, height=480, shift_x=0.1, pixel_aspect_x=1.5))
    pixels, depths = geometry.project(points, K, distortion=distortion)
    np.testing.assert_allclose(geometry.unproject(pixels, depths, K, distortion=distortion), points, atol=2e-9 * depth)
    behind, _ = geometry.project(-points, K, distortion=distortion)
    assert np.isnan(behind).all()


LENSES = st.builds(
    geometry.Lens,
    width=st.integers(4, 90),
    height=st.integers(4, 90),
    focal_length_mm=st.floats(20, 100),
    shift_x=st.floats(-0.2, 0.2),
    shift_y=st.floats(-0.2, 0.2),
    pixel_aspect_x=st.floats(1, 2),
    pixel_aspect_y=st.floats(1, 2),
    distortion=st.builds(Distortion, k1=st.floats(-0.3, 0.5), k2=st.floats(0, 0.2), p1=st.floats(-0.02, 0.02)),
)


@settings(max_examples=50)
@given(LENSES)
def test_each_ray_has_a_pixel_of_its_own_in_the_picture_of_the_pinhole_camera(lens):
    try:
        table = resampling(lens)
    except CameraError:
        assume(False)
    pinhole, K, seen = table.pinhole, geometry.intrinsics(table.pinhole), geometry.intrinsics(lens)
    rays = geometry.unproject(table.places.reshape(-1, 2), np.ones(table.nearest.size), K)
    rows, columns = np.mgrid[: lens.height, : lens.width] + 0.5
    xy, _ = geometry.project(rays, seen, distortion=lens.distortion)
    np.testing.assert_allclose(xy, np.column_stack([columns.ravel(), rows.ravel()]), atol=1e-6)
    np.testing.assert_allclose(table.rays.reshape(-1, 2), rays[:, :2], atol=1e-6)
    assert len(np.unique(table.nearest)) == table.nearest.size
    row, column = np.divmod(table.nearest, pinhole.width)
    assert ((row >= 1) & (row < pinhole.height - 1) & (column >= 1) & (column < pinhole.width - 1)).all()
    assert (np.floor(table.places) == np.stack([column, row], -1)).all()
    # At least as many pixels for each direction, and the camera's own focal length.
    assert K[0, 0] >= seen[0, 0] * (1 - 1e-9)
    assert K[0, 0] / K[1, 1] == pytest.approx(seen[0, 0] / seen[1, 1])
    assert pinhole.focal_length_mm == pytest.approx(lens.focal_length_mm)
    assert pinhole.distortion is None
    # What the shaders are told.
    offsets = table.offsets.reshape(-1, 2)[table.nearest]
    np.testing.assert_allclose(np.stack([column, row], -1) + 0.5 + offsets, table.places, atol=1e-6)


LENS = geometry.Lens(width=64, height=48, focal_length_mm=35, distortion=Distortion(k1=-0.2, k2=0.03, p1=0.01))


def test_pictures_are_interpolated_and_other_arrays_are_not():
    table = resampling(LENS)
    height, width = table.pinhole.height, table.pinhole.width
    rows, columns = (np.mgrid[:height, :width] + 0.5).astype(np.float32)
    ramp = np.stack([rows, columns, rows + columns], axis=-1)
    y, x = table.places[..., 1], table.places[..., 0]
    np.testing.assert_allclose(table.smooth(ramp), np.stack([y, x, x + y], -1), atol=1e-4)  # bilinear is exact for a plane
    as_bytes = table.smooth(ramp.astype(np.uint8))
    assert as_bytes.dtype == np.uint8
    # Of bytes: within rounding of the plane without the halves that the bytes lack.
    assert np.abs(as_bytes[..., 0] - (y - 0.5)).max() <= 0.5001
    np.testing.assert_array_equal(table.smooth(ramp[..., 0].astype(np.uint16)), as_bytes[..., 0])
    ids = np.arange(height * width, dtype=np.int32).reshape(height, width)
    assert (table.sharp(ids) == table.nearest).all()
    stacked = table.sharp(np.stack([ids, -ids])[..., None], axis=1)
    assert stacked.shape == (2, 48, 64, 1)
    assert (stacked[1, ..., 0] == -table.nearest).all()


def test_the_colour_of_what_is_transparent_is_not_seen():
    table = resampling(LENS)
    picture = np.zeros((table.pinhole.height, table.pinhole.width, 4), np.uint8)
    picture[...] = (0, 255, 0, 0)  # what nobody sees is green
    picture[:, : 3 * table.pinhole.width // 4] = (200, 0, 100, 255)
    seen = table.smooth(picture)
    alpha = seen[..., 3]
    assert {0, 255} < set(np.unique(alpha))  # and values between
    assert np.abs(seen[alpha > 0][:, :3].astype(int) - (200, 0, 100)).max() <= 1


def test_a_lens_that_folds_in_the_picture_is_refused():
    wide = msgspec.structs.replace(LENS, focal_length_mm=18, distortion=Distortion(k1=-0.3))
    with pytest.raises(CameraError, match=r"the model gives \d+ of 3072 pixels no ray.*take a longer focal length"):
        resampling(wide)
    with pytest.raises(CameraError, match="this lens does not distort"):
        resampling(msgspec.structs.replace(LENS, distortion=None))
