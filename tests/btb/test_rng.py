"""`btb.rng`: what a frame draws depends on the seed and on its place alone."""

import numpy as np
import pytest
from blendtorch.core.seeding import generator

pytestmark = pytest.mark.blender

PLAY = """
drawn = {}
anim = btb.AnimationController()
before = btb.rng.random()
episode = [-1]
anim.pre_play.add(lambda: drawn.update(pre_play=btb.rng.random()))
def begin():
    episode[0] += 1
    drawn["begin", episode[0]] = btb.rng.random()
anim.pre_animation.add(begin)
anim.post_frame.add(lambda: drawn.__setitem__((episode[0], anim.frameid), btb.rng.random(waste).tolist()))
"""
TELL = "\npub.publish(drawn=drawn, before=before, after=btb.rng.random())"


def test_draws_depend_on_the_place_and_not_on_what_was_drawn_before(items_of):
    lines = "anim.play((1, 3), num_episodes=2)"
    few, many = (items_of(f"waste = {waste}\n{PLAY}{lines}{TELL}", seed=5)[0] for waste in (1, 7))
    assert few["before"] == many["before"] == generator(5, "script", 0).random()
    assert few["after"] == many["after"] == generator(5, "script", 1).random()
    assert few["drawn"].keys() == many["drawn"].keys()
    for place, value in few["drawn"].items():
        other = many["drawn"][place]
        assert np.atleast_1d(value)[0] == np.atleast_1d(other)[0], place
    assert few["drawn"]["begin", 1] == generator(5, "script", 0, 1, 0, 1).random()
    assert few["drawn"][1, 3] == [generator(5, "script", 0, 1, 0, 3).random()]
    values = [str(value) for value in few["drawn"].values()]
    assert len(set(values)) == len(values)


def test_a_rewound_episode_and_a_second_play_draw_anew(items_of):
    script = """
values = []
anim = btb.AnimationController()
anim.pre_frame.add(lambda: values.append(btb.rng.random()))
anim.post_frame.add(lambda: anim.rewind() if len(values) < 3 else None)
anim.play((1, 1), num_episodes=1)
anim.play((1, 1), num_episodes=1)
pub.publish(values=values)
"""
    (item,), (again,), (other,) = (items_of(script, seed=seed) for seed in (1, 1, 2))
    assert item["values"] == again["values"]
    assert len(set(item["values"])) == 4
    assert item["values"][:3] == [generator(1, "script", 0, 0, rewinds, 1).random() for rewinds in range(3)]
    assert not set(item["values"]) & set(other["values"])


def test_it_is_one_generator_and_seen_to_be_used(items_of):
    (item,) = items_of(
        """
from blendtorch.btb import randomness
unused = randomness._used
from blendtorch.btb import rng
pub.publish(unused=unused, used=randomness._used, same=rng is btb.rng, kind=type(rng).__name__)
"""
    )
    assert (item["unused"], item["used"], item["same"], item["kind"]) == (False, True, True, "Generator")


def test_a_pipeline_leaves_it_alone(items_of):
    (*_, item) = items_of(
        """
pipeline = btb.Pipeline(renderers=["workbench"], resolution=(16, 16), count=2)
pipeline.run(pub)
pub.publish(value=btb.rng.random())
""",
        seed=4,
    )
    assert item["value"] == generator(4, "script", 0).random()
