"""The page "In the formats that others read" is followed to the letter, from an empty folder; with small pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = "--set resolution=[64,48] --set renderer=workbench"


def steps():
    """Give the commands and programs with the output that the page shows for each."""
    found = []
    for language, content in BLOCK.findall(PAGE):
        if language in ("sh", "python"):
            found.append((language, content, []))
        elif language == "text":
            found[-1][2].extend(content.splitlines())
    return found


@pytest.mark.timeout(300)
def test_following_the_page(tmp_path, blender):
    (model,) = [content for language, content in BLOCK.findall(PAGE) if language == "obj"]
    (tmp_path / "bracket.obj").write_text(model)
    program = f"{sys.executable} -W ignore::UserWarning -m blendtorch.btt.command"
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment = {**os.environ, **home, **({"BLENDTORCH_BLENDER": blender} if blender else {})}
    for language, content, expected in steps():
        text = re.sub(r"^blendtorch generate", f"{program} generate {SMALL}", content, flags=re.MULTILINE)
        text = re.sub(r"^blendtorch", program, text, flags=re.MULTILINE)
        command = ["bash", "-euc", text] if language == "sh" else [sys.executable, "-c", content]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert result.returncode == 0, f"{content}\n{result.stderr}"
        said = (result.stdout + result.stderr).replace(f"{tmp_path}/", "")
        assert [line for line in expected if line not in said] == [], said


def test_every_format_is_on_the_page():
    from blendtorch.core.discovery import Catalogue

    names = {found.name for found in Catalogue().all() if found.kind == "writer"}
    assert names >= {"coco", "yolo", "bop", "webdataset", "huggingface", "images", "recording"}
    assert [name for name in names if f"`{name}`" not in PAGE] == []
