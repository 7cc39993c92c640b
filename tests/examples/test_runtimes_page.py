"""The page "A Blender with its own Python": its commands are there, its program runs, its error reads as it says."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from blendtorch.btt import private_runtimes
from blendtorch.btt.command.arguments import make_parser
from blendtorch.btt.runtimes import find_runtime
from blendtorch.core.errors import BlenderNotFoundError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runtimes.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_every_block_is_tested():
    assert [language for language, _ in BLOCKS] == ["sh", "python", "text", "text", "sh"]


def test_the_commands_are_there():
    parser = make_parser()
    lines = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
    parsed = [parser.parse_args(shlex.split(line)[1:]) for line in lines if shlex.split(line)[0] == "blendtorch"]
    assert len(parsed) == len(lines) == 5
    assert {(each.command, each.action) for each in parsed} == {
        ("runtime", action) for action in ("add", "list", "pip", "remove")
    }


@pytest.mark.blender
def test_the_program_runs_with_a_private_runtime(no_private_runtimes, tmp_path):
    """Making one for real is tests/runtimes' to do: this one has what this Python has."""
    folder = no_private_runtimes / "4.5"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3.*/site-packages")
    (site / "all.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    (folder / private_runtimes._MARKER).write_text("1")
    (tmp_path / "look.py").write_text(BLOCKS[1][1])
    result = subprocess.run(
        [sys.executable, "-W", "ignore::UserWarning", "look.py"],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, BLOCKS[2][1]), result.stderr


def test_the_error_reads_as_the_page_says():
    with pytest.raises(BlenderNotFoundError) as caught:
        find_runtime("5.2")
    assert BLOCKS[3][1] in str(caught.value)
