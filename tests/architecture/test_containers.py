"""The recipes of containers have what blendtorch's own lists have."""

import re
import shlex
from pathlib import Path

import pytest
from blendtorch.btt.system_libraries import _LIBRARIES

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = ["containers/Dockerfile", "containers/blendtorch.def"]


def arguments_of(recipe, command):
    """What a command of a recipe installs; lines that go on in the next are joined."""
    text = (REPOSITORY / recipe).read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if f"{command} " in line and not line.lstrip().startswith("#")]
    words = shlex.split(line.partition(f"{command} ")[2].partition("&&")[0])
    return [word for word in words if not word.startswith("-")]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_system_libraries_are_those_that_blender_needs(recipe):
    packages = arguments_of(recipe, "apt-get install")
    assert packages == ["python3", "python3-venv", *(apt for apt, _ in _LIBRARIES.values())]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_distribution_of_the_tree_is_installed(recipe):
    installed = arguments_of(recipe, "pip install")
    folders = {path.parent for name in ("packages", "plugins") for path in (REPOSITORY / name).glob("*/pyproject.toml")}
    folders.remove(REPOSITORY / "plugins" / "blendtorch-example")
    assert {(REPOSITORY / each.removesuffix("[bpy]")).resolve() for each in installed} == folders
    assert "./packages/btb[bpy]" in installed


def test_both_recipes_are_of_one_base():
    docker, apptainer = ((REPOSITORY / recipe).read_text() for recipe in RECIPES)
    assert re.search(r"^FROM (.*)$", docker, re.MULTILINE)[1] == re.search(r"^From: (.*)$", apptainer, re.MULTILINE)[1]
