"""Streams without a script: what comes, how often, and what is said when it cannot."""

import json
import logging
import os
import re
import time

import numpy as np
import pytest
import torch
from blendtorch import btt
from blendtorch.core import Uniform
from blendtorch.core.errors import ConfigurationError, InstanceError, LaunchError
from torch.utils.data import DataLoader

pytestmark = pytest.mark.blender

PLUGINS = '''
import numpy as np
from blendtorch.core import Annotator, ArraySpec, Distribution, Randomizer, RandomizerOptions, Uniform, draw_vector, hookimpl


class Places(Annotator):
    """Where the objects are."""

    name = "places"
    interface = 1
    emits = {"matrix": ArraySpec("float64", ("objects", 4, 4))}

    def annotate(self, moment, camera, inputs):
        from blendtorch.btb import blender

        return {"matrix": np.stack([blender.world_matrix(each.root) for each in moment.objects])}


class Wrong(Places):
    name = "wrong"
    emits = {"matrix": ArraySpec("float32", ("objects", 3, 3), unit="m")}


class Broken(Places):
    name = "broken"

    def annotate(self, moment, camera, inputs):
        if moment.index > 1:
            raise ZeroDivisionError("at sample 2")
        return super().annotate(moment, camera, inputs)


class Move(Randomizer):
    name = "move"
    interface = 1

    class Options(RandomizerOptions, frozen=True, kw_only=True):
        location: Distribution = Uniform(low=-2.0, high=2.0)

    def setup(self, context):
        self.objects = context.objects

    def writes(self):
        return [(each.root, "location") for each in self.objects]

    def randomize(self, moment, rng):
        drawn = {each.name: draw_vector(self.options.location, rng, 3, "location") for each in self.objects}
        for each in self.objects:
            each.root.location = drawn[each.name]
        return drawn


@hookimpl
def blendtorch_register_annotators():
    return [Places, Wrong, Broken]


@hookimpl
def blendtorch_register_randomizers():
    return [Move]
'''


@pytest.fixture
def stream(blender, tmp_path):
    """Start a stream of small pictures, with the plug-ins above at hand."""
    plugins = tmp_path / "plugins.py"
    plugins.write_text(PLUGINS)

    def stream(**arguments):
        arguments = {"resolution": (64, 48), "plugins": [plugins], "blender": blender, **arguments}
        return btt.stream(**arguments)

    return stream


def test_a_sample_has_pictures_labels_and_where_it_comes_from(stream, capfd):
    with stream(annotators=["places"], randomizers=["move"], seed=5, start=3, count=4, frames_per_episode=2) as dataset:
        with pytest.raises(LaunchError, match="known once"):
            _ = dataset.categories
        samples = list(dataset)
        assert dataset.categories == {1: "Cube"}
    assert [sample["meta"]["index"] for sample in samples] == [3, 4, 5, 6]
    assert [(sample["meta"]["episode"], sample["meta"]["frame"]) for sample in samples] == [(1, 1), (2, 0), (2, 1), (3, 0)]
    first = samples[0]
    assert set(first) == {"image", "places", "objects", "meta"}
    assert first["image"].shape == (48, 64, 3)
    assert first["image"].dtype == np.uint8
    assert first["image"].std() > 1
    assert first["objects"]["instance_id"].tolist() == [1]
    assert set(first["meta"]) == {"seed", "episode", "frame", "index", "drawn", "versions", "legend", "btid"}
    drawn = json.loads(samples[1]["meta"]["drawn"])["move"]["Cube"]
    np.testing.assert_allclose(samples[1]["places"]["matrix"][0, :3, 3], drawn, atol=1e-6)
    assert samples[1]["meta"]["drawn"] == samples[2]["meta"]["drawn"] != first["meta"]["drawn"]  # once per episode
    assert {"blendtorch", "blender", "blendtorch-standard"} <= set(json.loads(first["meta"]["versions"]))
    said = capfd.readouterr().err
    assert "Objects of interest" in said
    assert "Cube              1       1" in said
    assert "Renderer workbench renders on: " in said


def test_instances_and_workers_share_a_count_exactly(stream):
    with stream(count=17, frames_per_episode=3, num_instances=2) as dataset:
        loader = DataLoader(dataset, batch_size=4, num_workers=2)
        indices = [index for batch in loader for index in batch["meta"]["index"].tolist()]
    assert sorted(indices) == list(range(17))


def test_the_next_epoch_goes_on(stream):
    with stream(epoch_size=4, count=10) as dataset:
        epochs = [[sample["meta"]["index"] for sample in dataset] for _ in range(3)]
        with pytest.warns(UserWarning, match="this stream has ended in an earlier iteration"):
            assert list(dataset) == []
    assert epochs == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_may_be_repeated_also_after_a_break(stream, workers):
    with stream(count=8, epoch="repeat", num_instances=2, randomizers=["move"], annotators=["places"]) as dataset:
        loader = DataLoader(dataset, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
        epochs = []
        for epoch in range(4):
            epochs.append({})
            for number, batch in enumerate(loader):
                epochs[-1].update(zip(batch["meta"]["index"].tolist(), batch["places"]["matrix"], strict=True))
                if epoch == 1 and number == 1:
                    break
        del loader
    assert [sorted(epoch) for epoch in (epochs[0], *epochs[2:])] == [list(range(8))] * 3
    assert 0 < len(epochs[1]) < 8  # a worker whose share the other took ends with a smaller batch
    for epoch in epochs[1:]:
        assert all(torch.equal(matrix, epochs[0][index]) for index, matrix in epoch.items())


def test_an_epoch_that_is_broken_off_after_all_was_published_is_over(stream):
    """What lies in queues then is for nobody; and no epoch leaves anything behind in this process."""
    with stream(count=6, epoch="repeat", timeoutms=10_000) as dataset:
        files = []
        for _ in range(6):
            assert [sample["meta"]["index"] for sample, _ in zip(dataset, range(2), strict=False)] == [0, 1]
            time.sleep(0.3)
            files.append(len(os.listdir("/proc/self/fd")))
        assert files[-1] <= files[1]


def test_ranks_share_a_run(stream, monkeypatch, caplog):
    indices = []
    for rank in range(2):
        with stream(count=8, frames_per_episode=2, shard=(rank, 2)) as dataset:
            indices.append([sample["meta"]["index"] for sample in dataset])
    assert indices == [[0, 1, 4, 5], [2, 3, 6, 7]]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with caplog.at_level(logging.WARNING, "blendtorch"), stream(count=4) as dataset:
        assert [sample["meta"]["index"] for sample in dataset] == [1]
    assert "4 samples give the 3 ranks 1 to 2" in caplog.text
    with pytest.raises(ConfigurationError, match="0 <= rank < world size"):
        stream(shard=(2, 2))


def test_a_run_goes_on_where_samples_are_missing(stream):
    """A whole episode is left out, others in part, also in the middle; labels are those of the run that was not broken off."""
    moving = {"name": "move", "every": "frame"}
    run = {"seed": 3, "count": 8, "frames_per_episode": 3, "randomizers": [moving], "annotators": ["places", "flow"]}
    with stream(**run) as dataset:
        whole = {sample["meta"]["index"]: sample for sample in dataset}
    assert sorted(whole) == list(range(8))
    with stream(**run, num_instances=2, exclude=[range(3), np.int64(4), 100]) as dataset:
        rest = {sample["meta"]["index"]: sample for sample in dataset}
    assert sorted(rest) == [3, 5, 6, 7]
    assert {sample["meta"]["btid"] for sample in rest.values()} == {0, 1}
    for index, sample in rest.items():
        before = whole[index]
        assert sample["meta"] == {**before["meta"], "btid": sample["meta"]["btid"]}
        assert np.array_equal(sample["places"]["matrix"], before["places"]["matrix"])
        for field in ("backward", "forward"):
            assert np.array_equal(sample["flow"][field], before["flow"][field], equal_nan=True)
        # Workbench draws a pose with one level of difference after another history.
        assert np.abs(sample["image"].astype(int) - before["image"]).max() <= 1
    assert (rest[5]["flow"]["backward"] != 0).any(), "the frame before was observed"


def test_nothing_is_left_of_a_run_that_is_complete(stream):
    with stream(count=3, exclude={0, 1, 2}) as dataset:
        assert list(dataset) == []


def test_every_camera_has_its_view(stream, items_of, tmp_path):
    scene = tmp_path / "two.blend"
    items_of(f"""
other = bpy.context.scene.camera.copy()
other.name = "Left"
other.location.x -= 5
bpy.context.scene.collection.objects.link(other)
bpy.ops.wm.save_as_mainfile(filepath={str(scene)!r})
""")
    with stream(scene=scene, cameras=["Camera", "Left"], annotators=["places"], count=1) as dataset:
        (sample,) = dataset
    assert set(sample) == {"image", "places", "objects", "meta", "Left"}
    assert set(sample["Left"]) == {"image", "places"}
    assert (sample["image"] != sample["Left"]["image"]).any()


def test_what_is_wrong_is_said_before_a_blender_starts(stream):
    wrong = {"name": "move", "location": Uniform(low=0, high=1), "every": "second"}
    with pytest.raises(ConfigurationError, match=r"'second'.*at `randomizers\[0\].every`"):
        stream(randomizers=[wrong])
    with pytest.raises(ConfigurationError, match=r"`randomizers\[0\].location.low`"):
        stream(randomizers=[{"name": "move", "location": {"draw": "uniform", "low": "a", "high": 1}}])
    with pytest.raises(ConfigurationError, match="is there twice; give this one another name with `as`"):
        stream(randomizers=["move", "move"])
    with pytest.raises(ConfigurationError, match="frames_per_episode is 0"):
        stream(frames_per_episode=0)
    with pytest.raises(ConfigurationError, match="annotators: expected a list"):
        stream(annotators="places")
    with pytest.raises(ConfigurationError, match="give one of count and epoch_size"):
        stream(epoch="repeat")
    with pytest.raises(ConfigurationError, match="does not exist"):
        stream(plugins=["nowhere.py"])
    for wrong in ([-1], ["0"], [0.5], 3):
        with pytest.raises(ConfigurationError, match="exclude: expected indexes of samples, and ranges of them: "):
            stream(count=4, exclude=wrong)
    with pytest.raises(ConfigurationError, match="leave epoch_size out"):
        stream(count=4, epoch_size=2, exclude=[0])
    with pytest.raises(ConfigurationError, match="one that repeats an epoch makes all of it each time"):
        stream(count=4, epoch="repeat", exclude=[0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"annotators": ["placs"]}, r"annotators\[0\]: there is no annotator 'placs'; did you mean 'places'\?"),
        ({"objects": [{"match": "Cub"}]}, r"objects\[0\].match: no object is called 'Cub': did you mean 'Cube'\?"),
        ({"cameras": ["Came"]}, "no camera is called 'Came': did you mean 'Camera'"),
        ({"annotators": ["wrong"]}, r"'wrong' of .*field 'matrix': expected float32 \(objects, 3, 3\) in m .*got float64"),
    ],
)
def test_what_only_the_instance_can_know_is_said_before_the_first_sample(stream, error_of, arguments, expected):
    with stream(**arguments) as dataset:
        error = error_of(lambda: next(iter(dataset)))
    assert isinstance(error, InstanceError)
    assert re.search(expected, str(error).replace("\n", " ")), str(error)


def test_a_plugin_that_raises_stops_the_stream_by_name(stream, error_of):
    with stream(annotators=["broken"]) as dataset:
        iterator = iter(dataset)
        assert [next(iterator)["meta"]["index"] for _ in range(2)] == [0, 1]
        error = error_of(iterator.__next__)
    assert isinstance(error, InstanceError)
    assert "annotator 'broken' of" in str(error)
    assert "raised ZeroDivisionError: at sample 2" in str(error)
    assert "in annotate" in str(error)  # the traceback
