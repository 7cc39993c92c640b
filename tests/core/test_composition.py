"""From names to plug-ins that are in order, have what they need, and whose changes are seen."""

import numpy as np
import pytest
from blendtorch.core import Annotator, ArraySpec, Randomizer, Renderer
from blendtorch.core.composition import compose
from blendtorch.core.configuration import run_configuration
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import COLOR, GEOMETRY, LIGHTS, SURFACE
from blendtorch.core.testing.fakes import FakeRenderer, Given


def annotator(label, needs=(), uses=(), providers=None):
    """Make a class that notes what it finds in its inputs."""

    class Made(Annotator):
        name = label
        interface = 1
        emits = {"value": ArraySpec("int64", (1,))}
        calls = 0

        def annotate(self, moment, camera, inputs):
            type(self).calls += 1
            return {"value": np.array([sum(int(np.sum(each["value"])) for each in inputs.values() if "value" in each) + 1])}

    Made.needs, Made.uses, Made.providers = needs, uses, providers or {}
    return Made


def randomizer(label, effects):
    class Made(Randomizer):
        name = label
        interface = 1
        changes = frozenset(effects)

        def randomize(self, moment, rng):
            return {}

    return Made


class Solid(Renderer):
    """Shows shapes alone."""

    name = "solid"
    interface = 1
    shows = frozenset({GEOMETRY})
    emits = {"image": ArraySpec("uint8", ("height", "width", 3))}

    def render(self, moment, camera):
        return {"image": np.zeros((*camera.shape, 3), np.uint8)}


def composed(*classes, **fields):
    return compose(run_configuration(**{"renderers": ["fake"], **fields}), Given([FakeRenderer, Solid, *classes]))


def order(*classes, **fields):
    return [part.label for part in composed(*classes, **fields).annotators]


def error_of(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


A, B, C = annotator("a", needs=("b",)), annotator("b", needs=("c",)), annotator("c")


@pytest.mark.parametrize("asked", [["a"], ["a", "b", "c"], ["c", "b", "a"], ["b", "a"]])
def test_what_is_needed_comes_before(asked):
    parts = composed(A, B, C, annotators=asked).annotators
    assert [part.label for part in parts] == ["c", "b", "a"]
    assert {part.label for part in parts if part.asked} == set(asked)
    assert parts[2].inputs == {"b": ("annotator", "b")}


def test_one_provider_serves_all():
    other = annotator("d", needs=("c", "b"))
    assert order(A, B, C, other, annotators=["a", "d"]) == ["c", "b", "a", "d"]


def test_a_circle_is_named():
    classes = annotator("a", needs=("b",)), annotator("b", needs=("c",)), annotator("c", needs=("a",))
    assert "annotators need each other in a circle: 'a' needs 'b' needs 'c' needs 'a'" in error_of(
        PluginError, lambda: composed(*classes, annotators=["a"])
    )
    assert "'a' needs 'a'" in error_of(PluginError, lambda: composed(annotator("a", needs=("a",)), annotators=["a"]))


@pytest.mark.parametrize("asked", [["a", "b"], ["b", "a"]])
def test_what_is_only_used_makes_no_circle(asked):
    """`a` does without `b`, which needs it, whatever their order."""
    parts = composed(annotator("a", uses=("b",)), annotator("b", needs=("a",)), annotators=asked).annotators
    assert [(part.label, list(part.inputs)) for part in parts] == [("a", []), ("b", ["a"])]


def test_what_is_used_comes_only_where_the_run_has_it():
    user = annotator("user", uses=("c", "depth"))
    assert composed(user, C, annotators=["user"]).annotators[0].inputs == {}
    assert order(user, C, annotators=["user", "c"]) == ["c", "user"]
    two = composed(user, annotators=["user"], renderers=[{"name": "fake", "depth": True}])
    assert two.annotators[0].inputs == {"depth": ("renderer", "fake")}


def test_an_array_of_any_renderer_is_a_provider():
    parts = composed(
        annotator("user", needs=("depth",)),
        annotators=["user"],
        renderers=["fake", {"name": "fake", "as": "passes", "depth": True}],
    )
    assert parts.annotators[0].inputs == {"depth": ("renderer", "passes")}


def test_a_label_counts_before_a_name():
    renamed = [{"name": "c", "as": "b"}, "a"]
    assert composed(A, B, C, annotators=renamed).annotators[1].inputs == {"b": ("annotator", "b")}
    (_, needy) = composed(A, B, C, annotators=[{"name": "b", "as": "special"}, "a"]).annotators[1:]
    assert needy.inputs == {"b": ("annotator", "special")}, "the configured one, not a second with default options"


def test_a_missing_provider_names_the_distribution():
    needy = annotator("needy", needs=("acme_masks",), providers={"acme_masks": "acme-masks"})
    text = error_of(PluginError, lambda: composed(needy, annotators=["needy"]))
    assert text.startswith("annotators[0]: annotator 'needy' of ")
    assert "needs 'acme_masks', and nothing here has it; install acme-masks: pip install acme-masks" in text
    text = error_of(
        PluginError, lambda: composed(annotator("needy", needs=("centres",)), annotator("centers"), annotators=["needy"])
    )
    assert "there is no annotator 'centres'" in text


def test_an_unknown_name_has_its_place():
    assert "annotators[1]: there is no annotator 'zz'" in error_of(PluginError, lambda: composed(C, annotators=["c", "zz"]))


COLLISIONS = {
    "reserved": (
        {"annotators": [{"name": "c", "as": "meta"}]},
        "'meta' would be two things in a sample: reserved, and annotator",
    ),
    "array": (
        {"annotators": [{"name": "c", "as": "image"}]},
        "'image' would be two things in a sample: an array of renderer 'fake'",
    ),
    "camera": ({"annotators": ["c"], "cameras": ["Camera", "c"]}, "and a camera; rename one with `as`"),
    "renderer": ({"annotators": ["c"], "renderers": ["fake", {"name": "solid", "as": "c"}]}, "'c' would be two things"),
    "twice": ({"renderers": ["fake", "fake"]}, "renderers[1]: 'fake' is there twice"),
}


@pytest.mark.parametrize("case", COLLISIONS)
def test_two_things_of_one_name_are_refused(case):
    fields, reason = COLLISIONS[case]
    assert reason in error_of(ConfigurationError, lambda: composed(C, **fields))


def test_the_first_camera_and_unasked_annotators_take_no_name():
    composed(A, B, C, annotators=["a"], cameras=["a", "b"])


def test_a_change_that_no_renderer_shows_is_refused_with_the_way_out():
    lamps = randomizer("lamps", {LIGHTS, GEOMETRY})
    text = error_of(ConfigurationError, lambda: composed(lamps, renderers=["solid"], randomizers=["lamps"]))
    assert text.startswith("randomizers[0]: randomizer 'lamps' of ")
    assert "changes lights, which solid does not show: use the renderer " in text
    assert text.endswith(", or leave it out")
    assert "solid" not in text.partition("use the renderer")[2]
    composed(lamps, renderers=["solid", "fake"], randomizers=["lamps"])


def test_a_renderer_whose_name_is_part_of_another_is_a_way_out():
    class Sol(FakeRenderer):
        name = "sol"

    catalogue = Given([Solid])
    catalogue.all = lambda: [*Given([Sol])._given.values()]
    wanted = run_configuration(renderers=["solid"], randomizers=["lamps"])
    catalogue._given |= Given([randomizer("lamps", {SURFACE})])._given
    assert "use the renderer sol, or" in error_of(ConfigurationError, lambda: compose(wanted, catalogue))


def test_an_unknown_effect_is_the_plugins_error():
    text = error_of(PluginError, lambda: composed(randomizer("odd", {"smell"}), randomizers=["odd"]))
    assert "it changes ['smell'], and the effects are ['color'," in text


def test_what_is_put_behind_makes_renderers_transparent():
    behind = randomizer("behind", {COLOR})
    behind.needs_transparent = True
    parts = composed(behind, randomizers=["behind"])
    assert parts.renderers[0].plugin.emits["image"].shape == ("height", "width", 4)
    assert composed().renderers[0].plugin.emits["image"].shape == ("height", "width", 3)
