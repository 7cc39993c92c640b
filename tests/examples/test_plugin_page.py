"""The page "Write a plug-in in ten minutes" is followed to the letter, from an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import BlendtorchError
from blendtorch.core.testing import run
from blendtorch.core.testing.fakes import FakeRenderer

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "plugins.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"[Ww]rite `([\w.]+)`(?: beside it)?:\n\n\Z")
# What a reader types, and what runs it here. The package goes into a folder of its own: this Python is for all tests.
COMMANDS = {
    "blendtorch": [sys.executable, "-m", "blendtorch.btt.command"],
    "python": [sys.executable, "-W", "ignore::UserWarning"],
    "pip": [sys.executable, "-m", "pip"],
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."],
}
PIP = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--target", "installed"]
# Blocks that only show something.
SHOWN = ("__init__(options)", "@hookimpl(optionalhook=True)", "annotators[0]: annotator 'range' is installed in the trainer")


def steps():
    """Take the page apart: files to write, commands to run, output to compare."""
    text = PAGE.read_text()
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        if content.startswith(SHOWN):
            continue
        if language in ("python", "toml"):
            name = FILE.search(text[: block.start()])
            assert name, f"the page does not say which file this is:\n{content}"
            yield "write", name[1], content
        else:
            yield {"sh": "run", "text": "compare"}[language], content, ""


def run_command(line, folder):
    """Run a line of the page, as in a shell that knows our commands."""
    words = shlex.split(line)
    environment = {**os.environ, "PYTHONPATH": str(folder / "installed"), "PYTHONDONTWRITEBYTECODE": "1"}
    while "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
    program, *arguments = words
    arguments += PIP if program == "pip" else []
    if program == "blendtorch" and "--no-blender" not in arguments:
        arguments += ["--blender", sys.executable]  # not whatever else this machine has
    result = subprocess.run(
        [*COMMANDS[program], *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def squeezed(text):
    return " ".join(text.split())


@pytest.mark.timeout(300)
def test_following_the_page(tmp_path):
    """With the Python that runs this, as its reader does."""
    output, done = "", 0
    for action, first, content in steps():
        if action == "write":
            (tmp_path / first).write_text(content)
        elif action == "run":
            output = "".join(run_command(line, tmp_path) for line in first.splitlines())
        else:
            plain = squeezed(output.replace(f"{tmp_path}/", ""))
            missing = [line for line in first.splitlines() if squeezed(line) not in plain]
            assert not missing, f"{missing} is not in\n{output}"
            done += 1
    assert done == 11


def test_a_hook_of_a_newer_core_is_no_error(tmp_path):
    (block,) = [content for _, content in BLOCK.findall(PAGE.read_text()) if content.startswith("@hookimpl(optionalhook=True)")]
    code = next(content for action, name, content in steps() if (action, name) == ("write", "acme_range.py"))
    (tmp_path / "acme_range.py").write_text(code + "\n\n" + block)
    catalogue = Catalogue([tmp_path / "acme_range.py"])
    assert catalogue.find("annotator", "range").name == "range"
    assert catalogue.problems == []


# For each row of the table of errors: what is changed in acme_range.py.
WRONG = {
    "misspelt": ("register_annotators", "register_anotators"),
    "unmarked": ("@hookimpl\n", ""),
    "argument": ("register_annotators()", "register_annotators(config)"),
    "import": ("import numpy", "import nunpy"),
    "version": ("interface = 1", "interface = 2"),
    "taken": ("return Range", "return Range"),
    "name": ('name = "range"', 'name = "ranges"'),
    "dtype": ("axis=1)", "axis=1).astype('float32')"),
    "raised": ("linalg.norm", "linalg.nrm"),
    "needs": ("interface = 1", 'interface = 1\n    needs = ("masks",)\n    providers = {"masks": "acme-masks"}'),
}


def rows():
    return [row.split(" | ")[1].strip(" |`") for row in re.findall(r"^\| .* \|$", PAGE.read_text(), re.MULTILINE)[1:]]


@pytest.mark.parametrize("case", WRONG)
def test_an_error_reads_as_the_page_says(case, tmp_path):
    code = next(content for action, name, content in steps() if (action, name) == ("write", "acme_range.py"))
    old, new = WRONG[case]
    assert old in code
    files = [tmp_path / "acme_range.py", *([tmp_path / "other.py"] if case == "taken" else [])]
    for file in files:
        file.write_text(code.replace(old, new))
    with pytest.raises(BlendtorchError) as caught:
        run(FakeRenderer, annotators=["range"], plugins=files)
    row = rows()[list(WRONG).index(case)]
    assert row in str(caught.value)


def test_absent_from_blender_reads_as_the_page_says():
    (line,) = [
        content for _, content in BLOCK.findall(PAGE.read_text()) if content.startswith("annotators[0]: annotator 'range' is")
    ]
    with pytest.raises(BlendtorchError) as caught:
        Catalogue(elsewhere={"range": "acme-range 0.1.0"}).find("annotator", "range")
    assert f"annotators[0]: {caught.value}".startswith(line.strip())


def test_the_table_has_a_test_for_each_row():
    assert len(rows()) == len(WRONG)
