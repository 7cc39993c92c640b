"""The page "From a model to a data set" is followed to the letter, from an empty folder; with small pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "generate.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = "--set resolution=[64,48] --set renderer.samples=1"


def steps():
    """Give the commands with the output that the page shows for each."""
    found = []
    for language, content in BLOCK.findall(PAGE):
        if language == "sh":
            found.append((content, []))
        elif language == "text":
            found[-1][1].extend(content.splitlines())
    return found


@pytest.mark.timeout(300)
def test_following_the_page(tmp_path, blender):  # with one Blender: test_generate.py runs with each
    (model,) = [content for language, content in BLOCK.findall(PAGE) if language == "obj"]
    (tmp_path / "bracket.obj").write_text(model)
    program = f"{sys.executable} -W ignore::UserWarning -m blendtorch.btt.command"
    environment = {**os.environ, **({"BLENDTORCH_BLENDER": blender} if blender else {})}
    for commands, expected in steps():
        text = re.sub(r"^blendtorch generate", f"{program} generate {SMALL}", commands, flags=re.MULTILINE)
        text = re.sub(r"^blendtorch", program, text, flags=re.MULTILINE)
        result = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert result.returncode == 0, f"{commands}\n{result.stderr}"
        said = result.stderr.replace(f"{tmp_path}/", "")
        assert [line for line in expected if line not in said] == [], said
    data = {path.name for path in (tmp_path / "data").iterdir()}
    named = {name for row in re.findall(r"^\| `(.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"[\w.]+\.\w+", row)}
    assert named >= {"000000.json", "configuration.yaml"}
    assert named <= data
    assert {path.name for path in (tmp_path / "array").glob("??????.json")} == {"000006.json", "000007.json"}
    assert len(list((tmp_path / "near").glob("??????.json"))) == 2


def test_every_block_is_known():
    assert {language for language, _ in BLOCK.findall(PAGE)} == {"obj", "sh", "text", "yaml"}
    assert len(steps()) == 9
