"""What the documentation shows is what is there, and runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blendtorch import btt

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "datagen"


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def run(*command, cwd, **environment):
    """Run a Python program; warnings that PyTorch gives for few CPUs are not about it."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::UserWarning", *map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_page_shows_the_files():
    assert blocks(EXAMPLE / "README.md", "python") == [
        (EXAMPLE / "minimal.py").read_text(),
        (EXAMPLE / "cube.blend.py").read_text(),
    ]


@pytest.mark.blender
def test_minimal_prints_four_batches_and_leaves_nothing(blender, short_tmp, tmp_path):
    environment = {"BLENDTORCH_BLENDER": blender} if blender else {}
    # A new home: what a program leaves elsewhere when it runs for the first time is left here too.
    result = run(EXAMPLE / "minimal.py", cwd=short_tmp, HOME=str(tmp_path), **environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Received torch.Size([4, 480, 640, 3]) torch.Size([4, 8, 2])\n" * 4
    assert result.stderr == ""
    assert list(short_tmp.iterdir()) == []


@pytest.mark.blender
def test_generate_saves_pictures(blender, tmp_path):
    arguments = ["--count", "8", "--instances", "2", "--workers", "2", "--seed", "1"]
    environment = {"BLENDTORCH_BLENDER": blender} if blender else {}
    result = run(EXAMPLE / "generate.py", "falling_cubes", *arguments, cwd=tmp_path, **environment)
    assert result.returncode == 0, result.stderr
    assert f"The pictures are in {tmp_path / 'tmp'}" in result.stdout
    pictures = sorted((tmp_path / "tmp").iterdir())
    assert [picture.name for picture in pictures] == ["output_00.png", "output_01.png"]
    assert all(picture.stat().st_size > 10_000 for picture in pictures)


def test_generate_records_and_replays(tmp_path):
    """As typed on the page, smaller; the replay has the same pictures, and no Blender."""
    small = ["--count", "8", "--instances", "2", "--workers", "2", "--seed", "1"]
    missing = run(EXAMPLE / "generate.py", "cube", "--replay", cwd=tmp_path)
    assert "tmp has no recording: make one with --record" in missing.stderr
    result = run(EXAMPLE / "generate.py", "cube", "--record", *small, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    recorded = btt.FileDataset(tmp_path / "tmp" / "record")
    assert len(recorded) == 8
    assert recorded[0]["image"].shape == (480, 640, 3)
    assert sorted(path.name for path in (tmp_path / "tmp").glob("*.arrows")) == ["record_00.arrows", "record_01.arrows"]
    for path in (tmp_path / "tmp").glob("*.png"):
        path.unlink()
    result = run(EXAMPLE / "generate.py", "cube", "--replay", *small, cwd=tmp_path, BLENDTORCH_BLENDER="/no/blender")
    assert result.returncode == 0, result.stderr
    assert "8/8" in result.stdout
    assert sorted(path.name for path in (tmp_path / "tmp").glob("*.png")) == ["output_00.png", "output_01.png"]
    again = run(EXAMPLE / "generate.py", "cube", "--record", *small, cwd=tmp_path)
    assert again.returncode == 2
    assert "tmp has a recording already: --replay it, --overwrite it, or name another folder" in again.stderr
    assert len(btt.FileDataset(tmp_path / "tmp" / "record")) == 8


def test_generate_helps():
    result = run(EXAMPLE / "generate.py", "--help", cwd=EXAMPLE)
    assert "falling_cubes" in result.stdout
    assert "invalid choice" in run(EXAMPLE / "generate.py", "nothing", cwd=EXAMPLE).stderr


def test_the_readme_runs(tmp_path):
    """Its first two Python blocks are programs, the others are the trainer and the script of one."""
    stream, record, trainer, script = blocks(REPOSITORY / "README.md", "python")
    shutil.copy(EXAMPLE / "cube.blend", tmp_path)
    (tmp_path / "stream.py").write_text(stream)
    (tmp_path / "train.py").write_text(trainer)
    (tmp_path / "cube.blend.py").write_text(script)
    result = run("stream.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    shapes = ["torch.Size([4, 480, 640, 3])", "torch.Size([4, 1, 9, 2])", "torch.Size([4, 1, 4])"]
    assert result.stdout == f"Received {' '.join(shapes)}\n" * 4
    assert "Cube" in result.stderr  # the table of objects of interest
    (tmp_path / "record.py").write_text(record)
    result = run("record.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    *recorded, first, second = result.stdout.splitlines()
    assert recorded == [f"Recorded {index}" for index in range(8)]
    assert first == second == "Replayed torch.Size([4, 480, 640, 3]) torch.Size([4, 1, 9, 2])"
    result = run("train.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Received torch.Size([4, 480, 640, 3]) torch.Size([4, 8, 2])\n" * 4


def test_the_readme_names_every_plugin_of_ours():
    from blendtorch.core.discovery import Catalogue

    text = (REPOSITORY / "README.md").read_text()
    ours = [
        found
        for found in Catalogue().all()
        if (found.source.distribution or "").startswith("blendtorch-") and found.source.distribution != "blendtorch-example"
    ]
    assert len(ours) >= 20
    assert [found.name for found in ours if f"`{found.name}`" not in text] == []


def test_the_commands_of_the_pages_exist():
    """Each `noxfile.py -s` names sessions, each link a file, each `pip install` a package."""
    import ast

    tree = ast.parse((REPOSITORY / "noxfile.py").read_text())
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert {"demo", "tests", "matrix", "lint", "types", "imports", "bench", "wheels"} <= sessions
    pages = ("*.md", "docs/*.md", "examples/*/README.md", "containers/*.md")
    for page in (page for pattern in pages for page in REPOSITORY.glob(pattern)):
        text = page.read_text()
        for line in re.findall(r"noxfile\.py -s ([a-z ]+)", text):
            assert set(line.split()) <= sessions, page
        for link in re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", text):
            assert (page.parent / (link[0] or link[1])).exists(), (page, link)
    assert all(
        (REPOSITORY / "packages" / name).is_dir()
        for name in re.findall(r"\./packages/(\w+)", (REPOSITORY / "README.md").read_text())
    )


def test_the_test_command_of_the_readme_is_the_gates():
    command = "python3 noxfile.py -s tests"
    assert command in (REPOSITORY / "README.md").read_text()
    assert command in (REPOSITORY / ".ci" / "run").read_text()


def test_each_row_of_the_fault_table_has_its_test():
    page = (REPOSITORY / "docs" / "faults.md").read_text()
    tests = {
        name for path in (REPOSITORY / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 30
    assert sorted(set(named) - tests) == []
    for row in re.findall(r"^\| (?!what)(?!-).*$", page, re.MULTILINE):
        assert "`test_" in row or "nox -s" in row, row


@pytest.mark.blender
def test_every_label_on_one_sheet(blender, tmp_path):
    environment = {"BLENDTORCH_BLENDER": blender} if blender else {}
    result = run(REPOSITORY / "examples" / "labels" / "every_label.py", "--count", "1", cwd=tmp_path, **environment)
    assert result.returncode == 0, result.stderr
    assert "Sample 1: the objects are visible to " in result.stdout
    assert (tmp_path / "labels.png").stat().st_size > 20_000


def test_the_page_of_labels_runs(tmp_path):
    lens, sheet = blocks(REPOSITORY / "docs" / "labels.md", "python")
    shutil.copy(EXAMPLE / "cube.blend", tmp_path)
    for name, program in (("lens.py", lens), ("sheet.py", sheet)):
        (tmp_path / name).write_text(program)
        result = run(name, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        if name == "lens.py":
            assert "(120, 160, 3) [-0.2" in result.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 20_000
