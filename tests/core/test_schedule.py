"""Each sample of a run is made exactly once, whatever the number of ranks and instances."""

from blendtorch.core.schedule import Share, episodes, size
from hypothesis import given
from hypothesis import strategies as st

RUNS = st.tuples(st.integers(0, 60), st.integers(0, 80), st.integers(1, 9))
WORLDS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def shares(world, instances):
    return [
        Share(rank=rank, world=world, instance=instance, instances=instances)
        for rank in range(world)
        for instance in range(instances)
    ]


def indices(run, share):
    start, count, length = run
    return [
        episode.number * length + frame
        for episode in episodes(start, count, length, share)
        for frame in range(episode.first, episode.last + 1)
    ]


@given(RUNS, WORLDS)
def test_each_index_is_made_once(run, world):
    start, count, _ = run
    made = [index for share in shares(*world) for index in indices(run, share)]
    assert sorted(made) == list(range(start, start + count))


@given(RUNS, WORLDS)
def test_an_episode_is_in_one_place_and_its_frames_in_order(run, world):
    for share in shares(*world):
        made = indices(run, share)
        assert made == sorted(made)
        assert {index // run[2] for index in made} <= {number for number in range(200) if share.has(number)}


@given(st.integers(0, 999), WORLDS)
def test_an_episode_has_one_share(number, world):
    assert sum(share.has(number) for share in shares(*world)) == 1


@given(RUNS, WORLDS)
def test_the_size_of_a_rank_is_what_its_instances_make(run, world):
    ranks, instances = world
    for rank in range(ranks):
        own = [share for share in shares(ranks, instances) if share.rank == rank]
        assert size(*run, rank, ranks) == sum(len(indices(run, share)) for share in own)


@given(RUNS, st.integers(1, 3))
def test_a_second_run_goes_on_where_the_first_ended(run, instances):
    start, count, length = run
    for share in shares(1, instances):
        whole = indices((start, 2 * count, length), share)
        assert indices(run, share) + indices((start + count, count, length), share) == whole


def test_without_a_count_there_is_no_end():
    endless = episodes(5, None, 3, Share(instance=1, instances=2))
    assert [next(endless).number for _ in range(100)] == list(range(1, 201, 2))
