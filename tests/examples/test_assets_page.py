"""The page "Your own models" runs, in a folder with the models that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trimesh
from blendtorch.core.assets import MESH_SUFFIXES, Asset

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "assets.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_it_names_every_field_and_format():
    for field in msgspec.structs.fields(Asset):
        assert f"| `{field.name}` |" in PAGE
    for suffix in MESH_SUFFIXES:
        assert f"`{suffix}`" in PAGE or suffix.startswith(".usd")


@pytest.mark.blender
@pytest.mark.parametrize(
    ("block", "expected"),
    [(BLOCKS[0], r"^(\(480, 640, 3\) \(1, 4, 4\)\n){2}$"), (BLOCKS[1], r"^(\[1 1 1\] \[.*\]\n){4}$")],
)
def test_its_programs_run(blender, tmp_path, block, expected):
    (tmp_path / "distractors").mkdir()
    (tmp_path / "part.glb").write_bytes(trimesh.creation.annulus(0.03, 0.06, 0.04).export(file_type="glb"))
    (tmp_path / "distractors" / "die.obj").write_text(trimesh.creation.box(extents=(0.05,) * 3).export(file_type="obj"))
    result = subprocess.run(
        [sys.executable, "-W", "ignore::UserWarning", "-c", block],
        cwd=tmp_path,
        env={**os.environ, **({"BLENDTORCH_BLENDER": blender} if blender else {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.match(expected, result.stdout), result.stdout
    assert "part.glb: 0.12 x 0.12 x 0.04 m" in result.stderr or "part.glb: 0.12 x 0.04 x 0.12 m" in result.stderr
