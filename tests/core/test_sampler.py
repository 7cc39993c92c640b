"""Who is called when, what is refused, and how a sample is laid out: whole pipelines on a fake scene."""

import json

import numpy as np
import pytest
from blendtorch.core import Annotator, ArraySpec, Randomizer, Uniform, draw, geometry, interfaces
from blendtorch.core.composition import compose
from blendtorch.core.configuration import run_configuration
from blendtorch.core.errors import CameraError, ConfigurationError, PluginError, SceneError
from blendtorch.core.interfaces import IMAGE
from blendtorch.core.resampling import Resampling
from blendtorch.core.sampler import Sampler
from blendtorch.core.schedule import Share
from blendtorch.core.testing import FakeRenderer, FakeStage, run
from blendtorch.core.testing.fakes import Given


class Centers(Annotator):
    name = "centers"
    interface = 1
    emits = {"xy": ArraySpec("float64", ("objects", 2), unit="px"), "valid": ArraySpec("bool", ("objects",))}

    def annotate(self, moment, camera, inputs):
        xy, _ = camera.project([obj.root.location for obj in moment.objects])
        return {"xy": xy, "valid": np.isfinite(xy).all(axis=1)}


class Lift(Randomizer):
    """Sets one height."""

    name = "lift"
    interface = 1

    def writes(self):
        return [(self.cube, "location")]

    def setup(self, context):
        self.cube = context.scene.objects["Cube"]

    def randomize(self, moment, rng):
        height = draw(Uniform(low=-1, high=1), rng)
        self.cube.location = np.array([0, 0, height])
        return {"height": height}


class Turn(Lift):
    name = "turn"

    def randomize(self, moment, rng):
        self.cube.rotation_euler = rng.uniform(0, 3, 3)
        return {"angles": self.cube.rotation_euler}


def error_of(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def drawn(sample, name):
    return json.loads(sample["meta"]["drawn"])[name]


def test_a_sample_of_one_camera_and_renderer():
    stage = FakeStage()
    stage.cameras = stage.cameras[:1]
    (sample,) = run(Centers, stage=stage, annotators=["centers"])
    assert list(sample) == ["image", "centers", "objects", "meta"]
    assert {name: array.dtype.name for name, array in sample["objects"].items()} == {
        "instance_id": "int64",
        "category_id": "int64",
    }
    assert sample["objects"]["instance_id"].tolist() == [1, 2, 3]
    assert sample["centers"]["valid"].tolist() == [True, True, False]


def test_the_fields_of_meta():
    """Golden: what reads samples relies on them."""
    (sample,) = run(Lift, randomizers=["lift"], seed=7, start=5, frames_per_episode=2)
    meta = sample["meta"]
    assert {name: type(value) for name, value in meta.items()} == {
        "seed": int,
        "episode": int,
        "frame": int,
        "index": int,
        "drawn": str,
        "versions": str,
        "legend": str,
        "btid": int,
    }
    assert (meta["seed"], meta["episode"], meta["frame"], meta["index"], meta["btid"]) == (7, 2, 1, 5, 0)
    assert list(json.loads(meta["drawn"])) == ["lift"]
    assert list(json.loads(meta["versions"])) == ["blendtorch", "blender"], "files and classes at hand have no version"


class Named(Centers):
    name = "named"

    def legend(self):
        return {"names": ["a", "b"]}


class Unspeakable(Centers):
    name = "unspeakable"

    def legend(self):
        return {"names": object()}


def test_samples_say_what_their_labels_are_called():
    (sample,) = run(Named, Centers, annotators=["centers", {"name": "named", "as": "mine"}])
    assert json.loads(sample["meta"]["legend"]) == {"categories": {"1": "cube"}, "mine": {"names": ["a", "b"]}}
    with pytest.raises(PluginError, match="annotator .unspeakable.*no JSON"):
        run(Unspeakable, annotators=["unspeakable"])


def test_a_second_camera_and_renderer_have_their_own_names():
    second = {"name": "fake", "as": "passes", "depth": True}
    (sample,) = run(Centers, annotators=["centers"], renderers=["fake", second])
    assert list(sample) == ["image", "passes", "centers", "Side", "objects", "meta"]
    assert list(sample["passes"]) == ["image", "depth"]
    assert list(sample["Side"]) == ["image", "passes", "centers"]
    assert not np.array_equal(sample["Side"]["image"], sample["image"])
    assert np.array_equal(sample["passes"]["image"], sample["image"])


def test_the_order_of_calls():
    calls = []

    class Noting(Randomizer):
        name = "noting"
        interface = 1
        preroll = 1

        def setup(self, context):
            calls.append("setup")

        def writes(self):
            calls.append("writes")
            return ()

        def randomize(self, moment, rng):
            calls.append(f"{self.options.every} {moment.episode}.{moment.frame} at {moment.scene.frame_current}")
            return {}

        def retouch(self, moment, camera, image, rng):
            calls.append(f"retouch {camera.name} at {moment.scene.frame_current}")
            return image

        def close(self):
            calls.append("close")

    stage = FakeStage()
    stage.cameras = stage.cameras[:1]
    run(Noting, stage=stage, randomizers=["noting"], frames_per_episode=2, count=2)
    assert calls == ["setup", "writes", "episode 0.0 at 1", "retouch Camera at 2", "retouch Camera at 3", "close"]
    calls.clear()
    run(Noting, stage=stage, randomizers=[{"name": "noting", "every": "frame"}], frames_per_episode=2, count=2)
    assert calls[2:6] == ["frame 0.0 at 1", "retouch Camera at 2", "frame 0.1 at 2", "retouch Camera at 3"]


def test_once_computes_once_per_frame():
    computed = []

    class Counting(Centers):
        name = "counting"

        def annotate(self, moment, camera, inputs):
            moment.once("counting", lambda: computed.append(moment.index))
            return super().annotate(moment, camera, inputs)

    run(Counting, annotators=["counting", {"name": "counting", "as": "again"}], count=3)
    assert computed == [0, 1, 2]


# What an annotator gives that declares xy, float64 (objects, 2), of three objects, and valid.
XY, VALID = np.zeros((3, 2)), np.ones(3, bool)
EMITTED = {
    "dtype": (
        {"xy": XY.astype(np.float32), "valid": VALID},
        "field 'xy': expected float64 (objects, 2) in px",
        "float32 (3, 2)",
    ),
    "shape": (
        {"xy": XY[:2], "valid": VALID},
        "field 'xy': expected float64 (objects, 2) in px (here objects = 3)",
        "float64 (2, 2)",
    ),
    "list": ({"xy": XY.tolist(), "valid": VALID}, "field 'xy': expected float64 (objects, 2)", "got list"),
    "missing": ({"xy": XY}, "declares 'valid' and gave 'xy'", ""),
    "extra": ({"xy": XY, "valid": VALID, "z": VALID}, "gave 'z', which it does not declare; it declares xy, valid", ""),
    "nothing": (None, "returned NoneType: expected a mapping of xy, valid to arrays", ""),
}


@pytest.mark.parametrize("case", EMITTED)
def test_what_differs_from_the_declaration_is_stopped_at_its_first_frame(case):
    emitted, expected, got = EMITTED[case]

    class Wrong(Centers):
        name = "wrong"

        def annotate(self, moment, camera, inputs):
            return emitted

    text = error_of(PluginError, lambda: run(Wrong, annotators=[{"name": "wrong", "as": "mine"}]))
    assert "annotator 'wrong' (called 'mine') of " in text
    assert expected in text
    assert got in text


def test_a_renderer_and_a_retoucher_are_held_to_it_too():
    class Grey(FakeRenderer):
        name = "grey"

        def render(self, moment, camera):
            return {"image": super().render(moment, camera)["image"][..., 0]}

    class Cut(Lift):
        name = "cut"
        changes = frozenset({IMAGE})

        def retouch(self, moment, camera, image, rng):
            return image[1:]

    assert "renderer 'grey' of " in (text := error_of(PluginError, lambda: run(Grey, renderers=["grey"])))
    assert "field 'image': expected uint8 (height, width, 3) (here height = 48, width = 64), got uint8 (48, 64)" in text
    text = error_of(PluginError, lambda: run(Cut, randomizers=["cut"]))
    assert "randomizer 'cut' of " in text
    assert "got uint8 (47, 64, 3)" in text


@pytest.mark.parametrize("method", ["setup", "writes", "randomize", "retouch", "close"])
def test_a_plugin_that_raises_is_named(method):
    def fail(*_):
        raise ZeroDivisionError("by zero")

    broken = type("Broken", (Lift,), {"name": "broken", method: fail})
    with pytest.raises(PluginError, match="randomizer 'broken' of .* raised ZeroDivisionError: by zero") as caught:
        run(broken, randomizers=["broken"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError), "the traceback comes along"


def test_an_error_of_blendtorch_keeps_its_type_and_gets_its_place():
    class Picky(Lift):
        name = "picky"

        def setup(self, context):
            raise SceneError("no object is called 'Lid'")

    text = error_of(SceneError, lambda: run(Lift, Picky, randomizers=["lift", "picky"]))
    assert text.startswith("randomizers[1]: randomizer 'picky' of ")
    assert text.endswith("no object is called 'Lid'")


def test_all_are_closed_once_whatever_the_others_raise():
    closed = []

    class First(Lift):
        name = "first"

        def close(self):
            closed.append(self.name)
            raise ValueError("first")

    class Second(First):
        name = "second"

        def close(self):
            closed.append(self.name)
            raise ValueError("second")

    fields = run_configuration(renderers=["fake"], randomizers=["first", "second"])
    sampler = Sampler(fields, compose(fields, Given([FakeRenderer, First, Second])), FakeStage())
    assert "raised ValueError: second" in error_of(PluginError, sampler.close)
    sampler.close()
    assert closed == ["second", "first"]


DRAWN = {
    "object": ({"a": object()}, "what it gave is no JSON: a object"),
    "list": ([1], "randomize returned list: expected a mapping"),
}


@pytest.mark.parametrize("case", DRAWN)
def test_what_is_drawn_can_be_recorded_or_is_refused(case):
    value, reason = DRAWN[case]

    class Odd(Lift):
        name = "odd"

        def randomize(self, moment, rng):
            return value

    text = error_of(PluginError, lambda: run(Odd, Lift, randomizers=["lift", "odd"]))
    assert "randomizer 'odd' of " in text
    assert reason in text


def test_arrays_and_numpy_numbers_are_recorded():
    class Many(Lift):
        name = "many"

        def randomize(self, moment, rng):
            return {"a": np.arange(2), "b": np.float32(0.5), "c": {"d": (1, "x")}, "e": np.bool_(True)}

    (sample,) = run(Many, randomizers=["many"])
    assert drawn(sample, "many") == {"a": [0, 1], "b": 0.5, "c": {"d": [1, "x"]}, "e": True}


def test_what_the_scene_would_overwrite_is_refused():
    stage = FakeStage()
    stage.moves["Cube", "location"] = "an F-curve"
    text = error_of(ConfigurationError, lambda: run(Lift, stage=stage, randomizers=["lift"]))
    assert text.startswith("randomizers[0]: randomizer 'lift' of ")
    assert "sets location of 'Cube', which an F-curve would overwrite" in text


def test_another_randomizer_does_not_shift_the_draws():
    alone = run(Lift, randomizers=["lift"], count=6, seed=3, frames_per_episode=2)
    for others in (["turn", "lift"], ["lift", "turn"], [{"name": "turn", "every": "frame"}, "lift"]):
        both = run(Lift, Turn, randomizers=others, count=6, seed=3, frames_per_episode=2)
        assert [drawn(one, "lift") for one in both] == [drawn(one, "lift") for one in alone]
    renamed = run(Lift, randomizers=[{"name": "lift", "as": "other"}], count=6, seed=3, frames_per_episode=2)
    assert drawn(renamed[0], "other") != drawn(alone[0], "lift")


def test_what_draws_per_episode_keeps_its_values_in_it():
    samples = run(Lift, Turn, randomizers=["lift", {"name": "turn", "every": "frame"}], count=6, frames_per_episode=3)
    heights = [drawn(sample, "lift")["height"] for sample in samples]
    assert len(set(heights[:3])) == len(set(heights[3:])) == 1
    assert len(set(heights)) == 2
    assert len({str(drawn(sample, "turn")) for sample in samples}) == 6


@pytest.mark.parametrize("instances", [1, 3])
def test_instances_and_starts_make_the_same_samples(instances):
    fields = {
        "annotators": ["centers"],
        "randomizers": ["lift", {"name": "turn", "every": "frame"}],
        "frames_per_episode": 2,
        "seed": 9,
    }
    whole = {sample["meta"]["index"]: sample for sample in run(Centers, Lift, Turn, count=12, **fields)}
    parts = [Share(instance=number, instances=instances) for number in range(instances)]
    made = [sample for share in parts for sample in run(Centers, Lift, Turn, share=share, start=3, count=9, **fields)]
    assert sorted(sample["meta"]["index"] for sample in made) == list(range(3, 12))
    for sample in made:
        same = whole[sample["meta"]["index"]]
        assert sample["meta"] == same["meta"]
        assert np.array_equal(sample["centers"]["xy"], same["centers"]["xy"], equal_nan=True)
        assert np.array_equal(sample["image"], same["image"])


def test_the_context_of_setup():
    seen = []

    class Asking(Lift):
        name = "asking"

        def setup(self, context):
            super().setup(context)
            context.notify("ready")
            seen.append((context, context.rng("asking").random(), context.rng("asking").random()))

    stage = FakeStage()
    run(Asking, stage=stage, randomizers=["asking"], renderers=["fake", {"name": "fake", "as": "second"}], seed=4)
    ((context, first, second),) = seen
    assert first == second
    assert (context.seed, context.shape, context.renderers, context.transparent) == (4, (48, 64), ("fake", "second"), False)
    assert [obj.name for obj in context.objects] == ["Cube", "Cube.001", "Behind"]
    assert stage.said == ["randomizer asking: ready"]


def test_inputs_are_what_was_asked_for():
    seen = {}

    class User(Centers):
        name = "user"
        needs = ("centers",)
        uses = ("depth", "absent")

        def setup(self, context):
            seen["available"] = context.available

        def annotate(self, moment, camera, inputs):
            seen["inputs"] = {name: sorted(arrays) for name, arrays in inputs.items()}
            return super().annotate(moment, camera, inputs)

    (sample,) = run(User, Centers, annotators=["user"], renderers=[{"name": "fake", "depth": True}])
    assert seen == {"available": {"centers", "depth"}, "inputs": {"centers": ["valid", "xy"], "depth": ["depth"]}}
    assert "centers" not in sample, "nobody asked for it"


LENS = {"k1": -0.2, "p1": 0.01}


def distorted(*classes, **fields):
    stage = FakeStage()
    stage.cameras = stage.cameras[:1]
    return run(*classes, stage=stage, **fields)


def test_a_distortion_is_in_the_pictures_and_in_what_annotators_project():
    depths = {"name": "fake", "as": "depths", "depth": True}
    (plain,) = distorted(Centers, annotators=["centers"], renderers=["fake", depths])
    (bent,) = distorted(Centers, annotators=["centers"], renderers=["fake", depths], distortion=LENS)
    assert bent["image"].shape == plain["image"].shape == (48, 64, 3)
    assert bent["depths"]["depth"].dtype == np.float32
    (both,) = run(Centers, annotators=["centers"], distortion=LENS)
    assert np.array_equal(both["image"], bent["image"])
    assert both["Side"]["image"].shape == (48, 64, 3)
    moved = bent["centers"]["xy"] - plain["centers"]["xy"]
    assert 0.05 < np.linalg.norm(moved[1]) < 5
    # The squares are drawn around them, each in a grey of its own; by the pinhole camera, so to within a pixel.
    for sample in (plain, bent):
        y, x = np.nonzero(sample["image"][..., 0] == 140)
        assert np.abs(np.array([x.mean(), y.mean()]) + 0.5 - sample["centers"]["xy"][1]).max() < 1.5
        assert np.isfinite(sample["depths"]["depth"][y, x]).all()


def test_without_a_distortion_nothing_is_looked_up(monkeypatch):
    def never(*arguments):
        pytest.fail("something was resampled")

    for name in ("smooth", "sharp"):
        monkeypatch.setattr(Resampling, name, never)
    monkeypatch.setattr(interfaces, "resampling", never)
    (plain,) = distorted(Centers, annotators=["centers"])
    (zero,) = distorted(Centers, annotators=["centers"], distortion={"k1": 0.0})
    assert np.array_equal(plain["image"], zero["image"])
    assert np.array_equal(plain["centers"]["xy"], zero["centers"]["xy"], equal_nan=True)


def test_an_orthographic_camera_cannot_have_a_distortion():
    stage = FakeStage()
    stage.cameras[1].data = geometry.Lens(width=64, height=48, projection="orthographic")
    text = error_of(CameraError, lambda: run(stage=stage, distortion=LENS))
    assert "camera 'Side' is orthographic" in text
    assert run(stage=stage, distortion={}), "a lens that does not distort is no distortion"


def test_what_a_renderer_draws_for_a_lens_is_checked():
    class Small(FakeRenderer):
        name = "small"

        def render(self, moment, camera):
            return {"image": np.zeros((48, 64, 3), np.uint8)}  # not as large as the camera says

    text = error_of(PluginError, lambda: distorted(Small, renderers=["small"], distortion=LENS))
    assert "field 'image': expected uint8 (height, width, 3) (here height = " in text
