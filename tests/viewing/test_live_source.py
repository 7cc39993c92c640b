"""What is kept of a live stream."""

import time

import pytest
from blendtorch.btt.viewing import live
from blendtorch.btt.viewing.live import LiveSource
from blendtorch.core.errors import LaunchError

SCRIPT = """\
for number in range(300):
    pub.publish(image=np.full((60, 80, 3), number % 256, np.uint8), number=number)
"""


def wait_for_the_end(source):
    deadline = time.monotonic() + 60
    while (status := source.status()).state not in ("ended", "failed") and time.monotonic() < deadline:
        time.sleep(0.1)
    return status


def test_the_last_samples_are_kept_and_few_of_a_fast_stream(launch, monkeypatch):
    monkeypatch.setattr(live, "_KEEP", 5)
    with launch(SCRIPT) as launcher:
        with pytest.raises(LaunchError, match="no socket 'IMAGES': it has 'DATA'"):
            LiveSource(launcher.launch_info, "script", socket="IMAGES")
        with LiveSource(launcher.launch_info, "script") as source:
            status = wait_for_the_end(source)
            assert (status.state, status.total, status.problem) == ("ended", 300, "")
            assert status.instances[0].samples == 300
            assert status.end - status.first == 5
            assert 10 <= status.end < 100, "a burst, then ten per second"
            numbers = [source.sample(number)["number"] for number in range(status.first, status.end)]
            assert numbers == sorted(numbers)
            assert source.sample(status.first)["btid"] == 0
            for gone in (status.first - 1, status.end, -1):
                with pytest.raises(LookupError, match="is not kept"):
                    source.sample(gone)


def test_no_more_memory_is_taken_than_is_allowed(launch, monkeypatch):
    monkeypatch.setattr(live, "_KEEP_BYTES", 3 * 60 * 80 * 3 + 1000)
    with launch(SCRIPT) as launcher, LiveSource(launcher.launch_info, "script") as source:
        status = wait_for_the_end(source)
        assert status.end - status.first == 3


def test_whatever_ends_it_is_said(launch, monkeypatch, caplog):
    def fail(sample):
        raise MemoryError("no room for the copy")

    monkeypatch.setattr(live, "_copied", fail)
    with launch(SCRIPT) as launcher, LiveSource(launcher.launch_info, "script") as source:
        status = wait_for_the_end(source)
        assert (status.state, status.end) == ("failed", 0)
        assert status.problem == "no more samples are taken: MemoryError: no room for the copy"
    assert "Traceback" in caplog.text
