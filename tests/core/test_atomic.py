import os
import re
import subprocess
import sys
import time

from blendtorch.core.atomic import locked, remove_drafts

_HOLD = """
import pathlib, sys
from blendtorch.core.atomic import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
    print("done", flush=True)
"""


def test_one_process_at_a_time_is_in_a_locked_folder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout.readline() == b"held\n"
            with subprocess.Popen(
                [sys.executable, "-c", _HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as second:
                try:
                    os.set_blocking(second.stdout.fileno(), False)
                    time.sleep(1)
                    assert second.poll() is None
                    assert second.stdout.read() is None, "the second process did not wait"
                    first.kill()  # who is killed holds nothing
                    os.set_blocking(second.stdout.fileno(), True)
                    assert second.communicate(timeout=60)[0] == b"held\ndone\n"
                finally:
                    second.kill()
        finally:
            first.kill()
    with locked(tmp_path):
        pass


def test_drafts_are_removed_when_they_are_old_and_of_the_right_name(tmp_path):
    hour = time.time() - 3700
    for name, old in [("1.json.7.part", True), ("2.json.7.part", False), ("x.json.7.part", True), ("3.json.part", True)]:
        (tmp_path / name).touch()
        if old:
            os.utime(tmp_path / name, (hour, hour))
    remove_drafts(tmp_path, re.compile(r"\d\.json"))
    assert sorted(os.listdir(tmp_path)) == ["2.json.7.part", "3.json.part", "x.json.7.part"]
    remove_drafts(tmp_path, re.compile(r"\d\.json"), all_of_them=True)
    assert sorted(os.listdir(tmp_path)) == ["3.json.part", "x.json.7.part"]
