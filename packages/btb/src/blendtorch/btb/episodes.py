"""Which episodes of a script are played: all, or those from where an instance that was started again has to go on."""

from collections.abc import Generator
from contextlib import suppress
from itertools import count

from blendtorch.btb import publisher, randomness
from blendtorch.core.launch import EpisodeStart, InstanceFiles

_MANY = 1000  # notes, after which those that nobody needs are left out

_files: InstanceFiles | None = None  # of an instance that may be started again
_resume: EpisodeStart | None = None
_plays = 0  # that have begun
_notes = 0


def begin(files: InstanceFiles) -> None:
    """Find out where to go on: at the last episode before which everything was delivered."""
    global _files, _resume
    _files = files
    _resume = _last_delivered(files)


def _last_delivered(files: InstanceFiles) -> EpisodeStart | None:
    """Find the last episode before which everything was delivered."""
    starts, found = files.read_episodes(), None
    addresses = {address for start in starts for address in start.sequences}
    undelivered = {
        address: record.first_undelivered() for address in addresses if (record := files.open_record(address)) is not None
    }
    for start in starts:
        later = found is None or (start.play, start.episode) > (found.play, found.episode)
        if later and all(sequence <= undelivered[address] for address, sequence in start.sequences.items()):
            found = start
    return found


def of_script(number: int) -> Generator[tuple[int, ...]]:
    """List the episodes of one call of `AnimationController.play`, and note where their messages begin.

    Parameters
    ----------
    number : int
        How many the script asks for; -1 for no end.

    Yields
    ------
    play, episode : int
    """
    global _plays
    play, _plays = _plays, _plays + 1
    first = 0 if _resume is None or play != _resume.play else _resume.episode
    over = _resume is not None and play < _resume.play
    try:
        for episode in () if over else count(first) if number < 0 else range(first, number):
            _begin(play, episode)
            yield play, episode
    finally:
        randomness.reseed(_plays)


def _begin(play: int, episode: int) -> None:
    if _files is None:
        return
    if _resume is not None and (play, episode) == (_resume.play, _resume.episode):
        publisher.next_sequences.update(_resume.sequences)  # for those that are opened later
        for each in publisher.open_publishers:
            each.skip_to(_resume.sequences.get(each.address, each.sequence))
    sequences = {each.address: each.sequence for each in publisher.open_publishers}
    global _notes
    with suppress(OSError):  # a full disk: it would go on at an earlier episode
        _notes += 1
        if _notes % _MANY == 0 and (oldest := _last_delivered(_files)) is not None:
            place = oldest.play, oldest.episode
            _files.write_episodes([each for each in _files.read_episodes() if (each.play, each.episode) >= place])
        _files.note_episode(EpisodeStart(play=play, episode=episode, sequences=sequences))
