"""Pictures of samples: what is drawn is where the labels say."""

import numpy as np
import pytest
import torch
from blendtorch import btt
from blendtorch.btt.drawing import colored
from blendtorch.core.errors import ConfigurationError
from matplotlib.backends.backend_agg import FigureCanvasAgg


def pixels(axes):
    """Render a figure; shape (height, width, 3)."""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.fixture
def sample():
    ids = np.zeros((60, 80), np.int32)
    ids[10:20, 30:50] = 1
    flow = np.full((60, 80, 2), np.nan, np.float32)
    flow[:, 40:] = (2, 0)
    keypoints = {"xy": np.array([[[10.5, 50.5], [70.5, 50.5], [40.5, 55.5]]]), "state": np.array([[2, 1, 0]], np.int8)}
    return {
        "image": np.full((60, 80, 3), 100, np.uint8),
        "instance_ids": {"instance_ids": ids},
        "boxes2d_tight": {"xyxy": np.array([[30.0, 10, 50, 20], [np.nan] * 4]), "valid": np.array([True, False])},
        "keypoints": {**keypoints, "valid": np.array([True])},
        "depth": {"depth": np.where(ids > 0, 2, np.inf).astype(np.float32)},
        "normals": {"normals": np.where(ids[..., None] > 0, (0, 0, -1), 0).astype(np.float32)},
        "flow": {"backward": flow},
        "meta": {"index": 3},
    }


def test_what_is_drawn_is_where_the_labels_say(sample):
    plain = {"image": sample["image"]}
    background = pixels(btt.draw(plain))
    assert background.shape == (60, 80, 3)
    assert (background == 100).all()
    masked = pixels(btt.draw(sample, ["instance_ids"]))
    changed = (masked != 100).any(axis=-1)
    assert (changed == (sample["instance_ids"]["instance_ids"] > 0)).all()
    boxed = (pixels(btt.draw(sample, ["boxes2d_tight"])) != 100).any(axis=-1)
    y, x = np.nonzero(boxed)
    assert np.abs(np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) - (30, 10, 50, 20)).max() <= 2
    assert not boxed[13:17, 33:47].any()
    points = pixels(btt.draw(sample, ["keypoints"]))
    yellow = (points[..., 0] > 200) & (points[..., 2] < 100)
    assert yellow[50, 10]  # seen: filled
    assert not yellow[50, 70]  # hidden: hollow
    assert yellow[47:54, 67:74].any()
    assert not (points[55, 35:46] != 100).any()  # outside: not drawn


def test_maps_have_colors_and_their_background_is_black(sample):
    ids = sample["instance_ids"]["instance_ids"]
    for name in ("depth", "normals", "instance_ids"):
        colors = colored(sample, name)
        assert colors.shape == (60, 80, 3)
        assert (colors[ids == 0] == 0).all()
        assert (colors[ids > 0] > 0).any()
    assert colored(sample, "normals")[15, 40].tolist() == [0.5, 0.5, 1.0]  # towards the camera: blue
    flow = colored(sample, "flow")
    assert flow[0, 0].tolist() == [0, 0, 0]
    assert flow[0, 60].tolist() == [1, 0, 0]  # to the right: red


def test_a_contact_sheet_of_a_batch(sample):
    batch = btt.collate([sample, sample])
    samples = btt.unbatch(batch)
    assert len(samples) == 2
    assert samples[1]["meta"]["index"] == 3
    assert isinstance(samples[0]["image"], torch.Tensor)
    figure = btt.contact_sheet(samples)
    assert [axes.get_title() for axes in figure.axes[:4]] == ["image", "depth", "normals", "flow"]
    assert len(figure.axes) == 8
    assert len(btt.contact_sheet(samples, []).axes) == 2


def test_labels_apart_have_a_picture_each(sample):
    sample["visibility"] = {"fraction": np.array([0.5])}
    masks = np.zeros((1, 60, 80), bool)
    masks[0, 10:30, 30:50] = True
    sample["masks_amodal"] = {"masks": masks, "valid": np.array([True])}
    figure = btt.contact_sheet([sample, sample], apart=True)
    titles = ["image", "boxes2d_tight, visibility", "keypoints", "instance_ids", "masks_amodal", "depth", "normals", "flow"]
    assert [axes.get_title() for axes in figure.axes[:8]] == titles
    assert len(figure.axes) == 16
    assert [text.get_text() for text in figure.axes[1].texts] == ["50%"]
    outlined = (pixels(btt.draw(sample, ["masks_amodal"])) != 100).any(axis=-1)
    y, x = np.nonzero(outlined)
    assert np.abs(np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) - (30, 10, 50, 30)).max() <= 2
    assert not outlined[13:27, 33:47].any()


def test_what_cannot_be_drawn_is_said(sample):
    cases = [
        (
            ["dept"],
            "labels: 'dept' cannot be drawn: the sample has instance_ids, boxes2d_tight, keypoints, depth, normals, flow",
        ),
        (["uv"], "'uv' cannot be drawn"),
        (["depth", "flow"], "'depth' and 'flow' would lie on each other"),
    ]
    for labels, text in cases:
        with pytest.raises(ConfigurationError, match=text):
            btt.draw(sample, labels)
    with pytest.raises(ConfigurationError, match="no image to draw over"):
        btt.draw({"boxes2d_tight": sample["boxes2d_tight"]})
    with pytest.raises(ConfigurationError, match="no sample"):
        btt.contact_sheet([])
