"""Batches, targets for models, and configurations in files."""

import numpy as np
import pytest
import torch
from blendtorch import btt
from blendtorch.core import LogUniform
from blendtorch.core.configuration import run_configuration
from blendtorch.core.errors import ConfigurationError


def sample(count, index):
    return {
        "image": np.full((4, 6, 3), index, np.uint8),
        "boxes": {"xyxy": np.zeros((count, 4)), "valid": np.ones(count, bool)},
        "meta": {"index": index, "drawn": "{}"},
    }


def test_ragged_fields_are_lists_and_the_others_tensors():
    batch = btt.collate([sample(2, 0), sample(3, 1)])
    assert batch["image"].shape == (2, 4, 6, 3)
    assert [tuple(xyxy.shape) for xyxy in batch["boxes"]["xyxy"]] == [(2, 4), (3, 4)]
    assert batch["meta"]["index"].tolist() == [0, 1]
    assert batch["meta"]["drawn"] == ["{}", "{}"]
    even = btt.collate([sample(2, 0), sample(2, 1)])
    assert even["boxes"]["xyxy"].shape == (2, 2, 4)


def test_samples_with_different_fields_are_refused():
    with pytest.raises(ConfigurationError, match=r"only some samples of the batch have \['extra'\]"):
        btt.collate([sample(1, 0), {**sample(1, 1), "extra": 1}])


def detection():
    return {
        "objects": {"instance_id": np.array([1, 2, 3]), "category_id": np.array([4, 5, 4])},
        "boxes2d_loose": {
            "clipped": np.array([[1.0, 1, 3, 4], [np.nan] * 4, [2.0, 2, 2, 3]]),
            "valid": np.array([True, False, True]),
        },
        "instance_ids": {"instance_ids": np.array([[0, 1], [1, 3]], np.uint16)},
        "keypoints": {
            "xy": np.array([[[1.0, 2.0], [np.nan, np.nan]]] * 3),
            "state": np.array([[2, 0]] * 3, np.int8),
        },
    }


def test_torchvision_gets_what_its_detectors_take():
    target = btt.targets.torchvision(detection())
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[1, 1, 3, 4]]  # the second has no label, the third no area
    assert target["labels"].dtype == torch.int64
    assert target["labels"].tolist() == [4]
    assert target["masks"].dtype == torch.bool
    assert target["masks"].tolist() == [[[False, True], [True, False]]]
    assert target["keypoints"].tolist() == [[[1, 2, 1], [0, 0, 0]]]


def test_a_sample_without_boxes_is_refused():
    with pytest.raises(ConfigurationError, match="no boxes 'boxes2d_loose': add the annotator; it has objects"):
        btt.targets.torchvision({"objects": detection()["objects"]})


@pytest.mark.parametrize("name", ["run.yaml", "run.json"])
def test_configurations_in_files(tmp_path, name):
    text = {
        "run.yaml": "scene: cube.blend\nseed: 7\nrandomizers:\n- name: a\n  x: {draw: log_uniform, low: 1e-3, high: 1.5e+2}\n",
        "run.json": '{"scene": "cube.blend", "seed": 7, "randomizers":'
        ' [{"name": "a", "x": {"draw": "log_uniform", "low": 1e-3, "high": 150}}]}',
    }[name]
    (tmp_path / name).write_text(text)
    loaded = btt.load_configuration(tmp_path / name)
    written = {"name": "a", "x": LogUniform(low=1e-3, high=150.0)}
    assert loaded.pop("scene") == "cube.blend"
    assert run_configuration(**loaded) == run_configuration(seed=7, randomizers=[written])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("run.yaml", "a: [1", "line 1"),
        ("run.json", "{", "line 1"),
        ("run.yaml", "- a", "expected a mapping"),
        ("run.yaml", "a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=expected):
        btt.load_configuration(tmp_path / name)
