"""What a run is told is checked, with the path of the wrong field, and is plain data then."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from blendtorch.core import Distortion, Distribution, Options, Randomizer, RandomizerOptions, Uniform
from blendtorch.core.configuration import RunConfiguration, entries, read_options, run_configuration
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.testing import run


class ShakeOptions(RandomizerOptions, frozen=True, kw_only=True):
    objects: str = "*"
    location: Distribution = 0.0
    noise: float = 0.1
    flags: tuple[bool, ...] = ()


class Shake(Randomizer):
    name = "shake"
    interface = 1
    Options = ShakeOptions

    def randomize(self, moment, rng):
        return {}


def error_of(call):
    with pytest.raises(ConfigurationError) as caught:
        call()
    return str(caught.value)


def test_python_values_become_plain_data():
    made = run_configuration(
        renderers=["workbench"],
        randomizers=[{"name": "shake", "location": Uniform(low=[0, 0, 0], high=np.ones(3)), "noise": np.float32(0.5)}],
        plugins=[Path("mine.py")],
        resolution=(64, 48),
        distortion={"k1": np.float64(-0.25)},
    )
    (entry,) = made.randomizers
    assert entry["location"] == {"draw": "uniform", "low": [0, 0, 0], "high": [1.0, 1.0, 1.0]}
    assert msgspec.json.decode(msgspec.json.encode(made), type=RunConfiguration) == made
    assert made.distortion == run_configuration(distortion=Distortion(k1=-0.25)).distortion
    assert read_options(Shake, {key: entry[key] for key in ("location", "noise")}, "x").location.high == (1, 1, 1)


WRONG = {
    "unknown": ({"render": ["a"]}, "unknown field `render`"),
    "type": ({"frames_per_episode": "many"}, "Expected `int`, got `str` - at `$.frames_per_episode`"),
    "rule": ({"objects": [{"match": "a", "instance": "all"}]}, "Invalid enum value 'all' - at `$.objects[0].instance`"),
    "rule-field": ({"objects": [{"match": "a"}, {"matches": "a"}]}, "`$.objects[1]`"),
    "frames": ({"frames_per_episode": 0}, "frames_per_episode is 0: expected 1 or more"),
    "count": ({"count": -1}, "count is -1: expected 0 or more"),
    "resolution": ({"resolution": (0, 4)}, "expected width and height in pixels"),
    "empty-range": ({"exclude": [(3, 3)]}, "exclude: expected ranges of indexes, [first, behind the last]"),
    "ranges-touch": ({"exclude": [(0, 3), (3, 4)]}, "sorted and apart from each other"),
    "negative-range": ({"exclude": [(-1, 3)]}, "sorted and apart from each other"),
    "exclude-repeat": ({"exclude": [(0, 3)], "repeat": 4}, "one that repeats an epoch makes all of it each time"),
    "distortion": ({"distortion": {"k1": -0.2, "k4": 0.1}}, "unknown field `k4` - at `$.distortion`"),
    "no-renderer": ({"renderers": []}, "renderers is empty"),
    "object": ({"randomizers": [{"name": "shake", "noise": object()}]}, "a object cannot be part of a configuration"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named(case):
    fields, reason = WRONG[case]
    assert reason in error_of(lambda: run_configuration(**fields))


OPTIONS = {
    "deep": ({"location": {"draw": "uniform", "low": "x", "high": 1}}, "got `str` - at `randomizers[0].location.low`"),
    "missing": ({"location": {"draw": "uniform", "low": 0}}, "missing required field `high` - at `randomizers[0].location`"),
    "order": ({"location": {"draw": "uniform", "low": 3, "high": 1}}, "low 3 is over high 1"),
    "index": ({"flags": [True, 4]}, "at `randomizers[0].flags[1]`"),
    "every": ({"every": "day"}, "Invalid enum value 'day' - at `randomizers[0].every`"),
    "unknown": ({"locations": 1}, "unknown field `locations` - at `randomizers[0]`; shake has every, objects, location, noise"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_wrong_option_is_named_before_the_first_frame(case):
    options, reason = OPTIONS[case]
    text = error_of(lambda: run(Shake, randomizers=[{"name": "shake", **options}]))
    assert reason in text
    assert "randomizers[0]" in text


def test_a_number_that_yaml_takes_for_text_is_a_number():
    made = read_options(
        Shake, {"noise": "1e-3", "location": {"draw": "uniform", "low": "1e-3", "high": ["2e0"]}, "objects": "1e3"}, ""
    )
    assert (made.noise, made.location, made.objects) == (0.001, Uniform(low=0.001, high=(2.0,)), "1e3")


def test_entries_are_names_or_mappings():
    found = entries(["shake", {"name": "shake", "as": "other", "noise": 1}], "randomizers")
    assert [(each.name, each.label, each.options, each.path) for each in found] == [
        ("shake", "shake", {}, "randomizers[0]"),
        ("shake", "other", {"noise": 1}, "randomizers[1]"),
    ]
    assert "randomizers[1]: 'shake' is there twice; give this one another name with `as`" in error_of(
        lambda: entries(["shake", "shake"], "randomizers")
    )
    assert "expected a name, or a mapping with `name`" in error_of(lambda: entries([{"noise": 1}], "randomizers"))
    assert "randomizers[0].as: expected a name, got 3" in error_of(lambda: entries([{"name": "a", "as": 3}], "randomizers"))


def test_options_without_fields_say_so():
    class Plain(Randomizer):
        name = "plain"
        interface = 1
        Options = Options

    assert "plain has no options" in error_of(lambda: read_options(Plain, {"size": 1}, "annotators[2]"))
