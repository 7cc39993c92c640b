"""Which objects a data set lists: against labels that were computed ray by ray."""

import json
import re
from contextlib import nullcontext

import numpy as np
import pytest
from blendtorch.core import errors, geometry
from blendtorch.core.selection import (
    HIDDEN,
    INEXACT,
    SMALL,
    UNSEEN,
    LabelOptions,
    array_names,
    labelled_pictures,
    require_labels,
    split_of,
)
from blendtorch.core.staging import Stage
from blendtorch.core.testing.cards import labelled_sample
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 1000), least=st.floats(0, 1), pixels=st.integers(0, 500))
def test_every_object_is_listed_or_counted(index, least, pixels):
    sample = labelled_sample(index)
    (picture,) = labelled_pictures(sample, LabelOptions(min_visibility=least, min_pixels=pixels))
    assert len(picture.objects) + sum(picture.left_out.values()) == 5
    visible, fraction = sample["visibility"]["visible"], sample["visibility"]["fraction"]
    assert {each.instance_id for each in picture.objects} == set(np.flatnonzero(visible) + 1)
    for each in picture.objects:
        row = each.instance_id - 1
        assert np.array_equal(each.mask, sample["instance_ids"]["instance_ids"] == each.instance_id)
        assert np.array_equal(each.xyxy, sample["boxes2d_tight"]["xyxy"][row])
        expected = INEXACT if row == 4 else HIDDEN if fraction[row] < least else SMALL if visible[row] < pixels else ""
        assert each.ignored == expected
    assert set(picture.left_out) <= {UNSEEN}


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 1000))
def test_the_cards_agree_with_themselves(index):
    """Poses and keypoints re-projected lie on the outline of the masks: what the tests of formats rely on."""
    sample = labelled_sample(index)
    K = sample["camera"]["K"]
    for row in range(5):
        pose, size = sample["poses"]["camera_from_object"][row], sample["poses"]["size"][row]
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3))
        assert np.isclose(np.linalg.det(pose[:3, :3]), 1)
        corners = np.array([[x, y, 0] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]) * size / 2
        xy, _ = geometry.project(geometry.transform(pose, corners), K)
        assert np.allclose(xy, sample["keypoints"]["xy"][row], equal_nan=True)
        if sample["boxes2d_amodal"]["valid"][row] and not sample["boxes2d_amodal"]["truncated"][row]:
            box = sample["boxes2d_amodal"]["xyxy"][row]
            outer = np.concatenate([xy.min(axis=0), xy.max(axis=0)])
            assert (box[:2] >= outer[:2] - 0.5).all()
            assert (box[2:] <= outer[2:] + 0.5).all()


def test_copies_that_a_sample_does_not_have_are_not_counted():
    sample = next(each for each in map(labelled_sample, range(50)) if not each["boxes2d_tight"]["valid"].all())
    (picture,) = labelled_pictures(sample, LabelOptions())
    missing = ~sample["boxes2d_tight"]["valid"]
    assert picture.left_out == {UNSEEN: missing.sum()}
    (picture,) = labelled_pictures({**sample, "poses": {**sample["poses"], "valid": ~missing}}, LabelOptions())
    assert picture.left_out == {}


def test_inexact_objects_can_be_refused():
    sample = next(each for each in map(labelled_sample, range(20)) if each["boxes2d_tight"]["valid"][4])
    with pytest.raises(errors.ConfigurationError, match="object 5 is flagged"):
        labelled_pictures(sample, LabelOptions(inexact="refuse"))


def test_an_episode_is_in_one_part():
    split = {"train": 0.5, "val": 0.3, "test": 0.2}
    parts = {}
    for index in range(900):
        meta = (
            labelled_sample(index, shape=(4, 4), frames_per_episode=3)["meta"]
            if index < 30
            else {"seed": 0, "episode": index // 3}
        )
        assert parts.setdefault(meta["episode"], split_of(meta, split)) == split_of(meta, split)
    counts = [list(parts.values()).count(name) / len(parts) for name in split]
    assert np.allclose(counts, list(split.values()), atol=0.08)
    assert split_of({"seed": 1, "episode": 0}, {"val": 0, "train": 2}) == "train"


@pytest.mark.parametrize(
    ("lacks", "options", "expected"),
    [
        ([], {}, None),
        (["visibility"], {}, "no visibility"),
        (["visibility"], {"min_visibility": 0}, None),
        (["boxes2d_tight", "instance_ids"], {}, "no boxes2d_tight, instance_ids.*--loose"),
        (["boxes2d_tight", "instance_ids", "visibility"], {"loose": True}, None),
        (["boxes2d_tight", "boxes2d_loose"], {"loose": True}, "no boxes2d_loose"),
        (["image"], {}, "no image"),
        (["poses"], {}, "no poses"),
    ],
)
def test_what_is_missing_is_said(lacks, options, expected):
    names = [name for name in array_names(labelled_sample(0)) if name.partition(".")[0] not in lacks]
    outcome = nullcontext() if expected is None else pytest.raises(errors.ConfigurationError, match=expected)
    with outcome:
        require_labels(names, LabelOptions(**options), masks=True, others=["poses"])


@pytest.mark.parametrize("split", [{}, {"train": 0.0}, {"a/b": 1.0}, {"../x": 1.0}])
def test_splits_that_make_no_sense_are_refused(split):
    with pytest.raises(ValueError, match="split"):
        LabelOptions(split=split)


def test_stages_know_their_own_documents(tmp_path):
    stage = Stage(tmp_path / "s", ".json")
    for name in ("000003.txt", "3.json", "notes.json", "0000003.json", "000004.json.77.part"):
        (stage.folder / name).write_text("mine")
    stage.put(1_234_567, b"1")
    stage.put(5, b"2")
    assert list(stage) == [5, 1_234_567]
    assert stage.get(5) == b"2"
    stage.clear()
    assert not stage.indexes()
    assert (stage.folder / "notes.json").read_text() == "mine"
    assert not (stage.folder / "000004.json.77.part").exists()


def test_legends_name_what_is_labelled():
    legend = json.loads(labelled_sample(0)["meta"]["legend"])
    assert legend["categories"] == {"1": "card", "2": "stamp"}
    assert re.fullmatch("[a-d]+", "".join(legend["keypoints"]["names"]))
