"""Laws of frames, cuts and boxes."""

import numpy as np
import pytest
from blendtorch.core import Distortion, geometry
from blendtorch.core.errors import SceneError
from blendtorch.core.solids import box_corners, clip_depth, curved_outline, cut_edges, decompose
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

SCALES = st.tuples(*[st.floats(0.01, 100)] * 3).map(np.array)
PLACES = arrays(np.float64, 3, elements=st.floats(-100, 100))


@st.composite
def rotations(draw):
    quaternion = draw(arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1))
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@given(rotations(), SCALES, PLACES, st.sampled_from([1, -1]))
def test_decompose_undoes_composition_in_float32(rotation, scale, place, sign):
    """Within 1e-5, which is the rounding of Blender's float32; the rigid part is orthonormal to float64."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation * (sign * scale), place
    rigid, found = decompose(matrix.astype(np.float32))
    np.testing.assert_allclose(rigid[:3, :3], rotation, atol=1e-5)
    np.testing.assert_allclose(found, sign * scale, rtol=1e-5)
    np.testing.assert_allclose(rigid[:3, 3], place, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rigid[:3, :3] @ rigid[:3, :3].T, np.eye(3), atol=1e-14)
    assert np.linalg.det(rigid[:3, :3]) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("axis", range(3))
def test_one_mirrored_axis_makes_all_scales_negative(axis):
    scale = np.array([1.0, 2.0, 3.0])
    scale[axis] *= -1
    rigid, found = decompose(np.diag([*scale, 1.0]))
    np.testing.assert_array_equal(found, [-1, -2, -3])
    np.testing.assert_allclose(rigid @ np.diag([*found, 1]), np.diag([*scale, 1]), atol=1e-15)


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        ([[1, 0.001, 0], [0, 1, 0], [0, 0, 1]], "sheared"),
        (np.diag([1.0, 0.0, 1.0]), "scale of zero"),
        (np.zeros((3, 3)), "scale of zero"),
        (np.full((3, 3), np.nan), "scale of zero"),
    ],
)
def test_what_is_no_rigid_motion_with_scales_is_refused(matrix, problem):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    with pytest.raises(SceneError, match=problem):
        decompose(affine)


@given(arrays(np.float64, (6, 3), elements=st.floats(-10, 10)), st.floats(0.1, 2), st.floats(3, 9))
def test_the_cut_wireframe_has_the_box_of_its_dense_samples(points, near, far):
    """Of a full graph: its edges sampled at 2001 points each, within the step of the samples."""
    edges = np.array([(i, j) for i in range(6) for j in range(i)])
    t = np.linspace(0, 1, 2001)[:, None, None]
    dense = (points[edges[:, 0]] * (1 - t) + points[edges[:, 1]] * t).reshape(-1, 3)
    dense = dense[(dense[:, 2] >= near) & (dense[:, 2] <= far)]
    cut = clip_depth(points, edges, near, far)
    assert (cut[:, 2] >= near).all()
    assert (cut[:, 2] <= far).all()
    # Each stretch between the planes is as long as they are apart, or ends in a point that is a sample itself.
    np.testing.assert_allclose(geometry.bounding_box(cut), geometry.bounding_box(dense), atol=20 / 2000 + 1e-9)


def test_points_without_edges_count_where_they_lie_between_the_planes():
    cut = clip_depth([[1, 2, 3], [4, 5, 0.5], [6, 7, 1], [8, 9, 11]], np.zeros((0, 2), int), near=1, far=10)
    np.testing.assert_array_equal(cut, [[1, 2, 3], [6, 7, 1]])


def test_corners_count_in_binary():
    corners = box_corners([-1, -2, -3], [1, 2, 3])
    for number, corner in enumerate(corners):
        np.testing.assert_array_equal(corner > 0, [bool(number & 1), bool(number & 2), bool(number & 4)])
    np.testing.assert_array_equal(np.abs(corners), np.tile([1, 2, 3], (8, 1)))


TRIANGLES = arrays(np.float64, (3, 3), elements=st.floats(-3, 3)).map(lambda points: np.add(points, (0, 0, 2)))
K = geometry.intrinsics(geometry.Lens(width=640, height=480))
BARREL = Distortion(k1=-0.2, k2=0.05, p1=0.005)


def bent(points):
    return geometry.project(points, K, distortion=BARREL)


GRID = np.array([(a, b, 60 - a - b) for a in range(61) for b in range(61 - a)]) / 60


@given(TRIANGLES)
def test_the_outline_of_a_cut_triangle_encloses_it_through_a_lens(triangle):
    """No point of it is outside of the box by more than 0.02 px, and what the box is of lies on it."""
    near, far = 1.0, 4.0
    points, segments = cut_edges(triangle, [[0, 1], [1, 2], [2, 0]], near, far)
    assert ((segments[..., 2] >= near) & (segments[..., 2] <= far)).all()
    low, high = np.split(geometry.bounding_box(curved_outline(points, segments, bent)), 2)
    inside = GRID @ triangle
    xy = bent(inside[(inside[:, 2] > near) & (inside[:, 2] < far)])[0]
    assert (xy >= low - 0.02).all()
    assert (xy <= high + 0.02).all()
    middles = segments.mean(axis=1)
    across = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
    assert np.abs((middles - triangle[0]) @ across).max(initial=0) <= 1e-9 * (1 + np.abs(across).max())


def test_an_edge_that_is_bent_is_followed():
    """Its farthest point, by 100 000 points on it: 0.01 px."""
    edge = np.array([[[-0.4, 0.28, 1.0], [1.6, 0.9, 3.0]]])
    outline = curved_outline(edge[0], edge, bent)
    dense = bent(edge[0, 0] + np.linspace(0, 1, 100_001)[:, None] * (edge[0, 1] - edge[0, 0]))[0]
    np.testing.assert_allclose(geometry.bounding_box(outline), geometry.bounding_box(dense), atol=0.01)
    ends = geometry.bounding_box(bent(edge[0])[0])
    assert geometry.bounding_box(dense)[3] > ends[3] + 1  # it bulges
