"""The page "Is the data set what it says?" is followed to the letter, from an empty folder; with small pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = "--set renderer=workbench --set resolution=[160,120]"


@pytest.mark.timeout(300)
def test_following_the_page(tmp_path, blender):  # with one Blender: labels agree with each, or test_gbuffer.py fails
    program = f"{sys.executable} -W ignore::UserWarning -m blendtorch.btt.command"
    environment = {**os.environ, **({"BLENDTORCH_BLENDER": blender} if blender else {})}
    said = ""
    for language, content in BLOCK.findall(PAGE):
        if language == "obj":
            (tmp_path / "bracket.obj").write_text(content)
        elif language == "text":
            assert [line for line in content.splitlines() if line not in said] == [], said
        else:
            text = content.replace("blendtorch generate", f"{program} generate {SMALL}")
            text = text.replace("blendtorch audit", f"{program} audit")
            command = ["bash", "-euc", text] if language == "sh" else [sys.executable, "-c", content]
            result = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
            )
            assert result.returncode == 0, f"{content}\n{result.stdout}\n{result.stderr}"
            said = (result.stdout + result.stderr).replace(f"{tmp_path}/", "")
    assert (tmp_path / "data" / "audit.png").stat().st_size > 10_000


def test_every_block_is_known():
    assert {language for language, _ in BLOCK.findall(PAGE)} == {"obj", "sh", "text", "python"}
