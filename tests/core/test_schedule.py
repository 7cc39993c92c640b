"""Each sample of a run is made exactly once, whatever the number of ranks and instances."""

import itertools

from blendtorch.core.schedule import Episode, Share, episodes, ranges_of, size
from hypothesis import given
from hypothesis import strategies as st

RUNS = st.tuples(st.integers(0, 60), st.integers(0, 80), st.integers(1, 9))
EXCLUDED = st.sets(st.integers(0, 150)) | st.sets(st.integers(0, 150), min_size=80)
WORLDS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def shares(world, instances):
    return [
        Share(rank=rank, world=world, instance=instance, instances=instances)
        for rank in range(world)
        for instance in range(instances)
    ]


def indices(run, share, exclude=()):
    start, count, length = run
    return [
        episode.number * length + frame
        for episode in episodes(start, count, length, share, exclude)
        for frame in episode.frames
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


@given(RUNS, WORLDS, EXCLUDED)
def test_what_is_not_excluded_is_made_once_and_nothing_else(run, world, excluded):
    start, count, length = run
    exclude = ranges_of(excluded)
    made = [index for share in shares(*world) for index in indices(run, share, exclude)]
    assert sorted(made) == [index for index in range(start, start + count) if index not in excluded]
    for share in shares(*world):
        own = list(episodes(*run, share, exclude))
        assert [each.number for each in own] == sorted({each.number for each in own}), "each episode is played once, in order"
        assert all(each.frames and list(each.frames) == sorted(set(each.frames)) for each in own)
        assert all(frame in range(length) for each in own for frame in each.frames)


@given(RUNS, WORLDS, EXCLUDED)
def test_what_is_left_is_spread_evenly(run, world, excluded):
    numbers = [len(list(episodes(*run, share, ranges_of(excluded)))) for share in shares(*world)]
    ranks, instances = world
    of_ranks = [sum(numbers[rank * instances : (rank + 1) * instances]) for rank in range(ranks)]
    assert max(of_ranks) - min(of_ranks) <= 1
    for rank in range(ranks):
        own = numbers[rank * instances : (rank + 1) * instances]
        assert max(own) - min(own) <= 1


@given(RUNS, WORLDS, EXCLUDED)
def test_the_size_of_a_rank_leaves_out_what_is_excluded(run, world, excluded):
    ranks, instances = world
    exclude = ranges_of(excluded)
    for rank in range(ranks):
        own = [share for share in shares(ranks, instances) if share.rank == rank]
        assert size(*run, rank, ranks, exclude) == sum(len(indices(run, share, exclude)) for share in own)


@given(RUNS, WORLDS)
def test_no_episode_is_without_samples(run, world):
    assert all(episode.frames for share in shares(*world) for episode in episodes(*run, share))


@given(RUNS, WORLDS)
def test_an_excluded_sample_outside_the_run_changes_nothing(run, world):
    start, count, length = run
    last = (start + count - 1) // length * length + length if count else start
    outside = ranges_of([range(start // length * length), range(last, last + 9)])
    for share in shares(*world):
        assert list(episodes(*run, share, outside)) == list(episodes(*run, share))


@given(st.lists(st.integers(0, 50) | st.builds(range, st.integers(0, 50), st.integers(0, 50), st.sampled_from([1, 1, 2, 3]))))
def test_ranges_hold_what_they_are_made_of(indexes):
    ranges = ranges_of(indexes)
    expected = {index for each in indexes for index in (each if isinstance(each, range) else [each])}
    assert [index for begin, end in ranges for index in range(begin, end)] == sorted(expected)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges)), "no two touch"


def test_endless_with_samples_left_out():
    endless = episodes(0, None, 2, Share(), ranges_of([range(7)]))
    assert [next(endless) for _ in range(2)] == [Episode(3, (1,)), Episode(4, (0, 1))]
