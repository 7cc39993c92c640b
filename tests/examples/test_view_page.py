"""The page "Looking at samples in the browser" is followed to the letter; a program takes the place of the browser."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "view.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def look(command, folder, environment):
    """Run a command until a sample is there; return its description."""
    program, *arguments = shlex.split(command)
    assert program == "blendtorch"
    module = [sys.executable, "-W", "ignore::UserWarning", "-m", "blendtorch.btt.command", *arguments]
    if "--no-open" not in module:
        module.append("--no-open")
    if "--port" in module:
        module[module.index("--port") + 1] = "0"  # 8000 may be in use
    with (folder / "errors").open("w+") as errors:
        process = subprocess.Popen(module, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            line = process.stdout.readline()
            assert line.startswith("The page is at http://127.0.0.1:"), (folder / "errors").read_text()
            url, _, token = line.split()[-1].partition("?")
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with urllib.request.urlopen(f"{url}samples/0?{token}", timeout=10) as response:
                    if response.status == 200:
                        return response.read().decode()
                time.sleep(0.2)
            pytest.fail(f"no sample came: {(folder / 'errors').read_text()}")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(30) == 130
            finally:
                process.kill()
                process.stdout.close()


def test_following_the_page(tmp_path, blender):
    shutil.copy(REPOSITORY / "examples" / "datagen" / "falling_cubes.blend", tmp_path)
    environment = {**os.environ, **({"BLENDTORCH_BLENDER": blender} if blender else {})}
    blocks = BLOCK.findall(PAGE)
    assert [language for language, _ in blocks] == ["sh", "python", "sh", "sh"]
    seen = []
    for language, content in blocks:
        if language == "python":
            subprocess.run([sys.executable, "-c", content], cwd=tmp_path, env=environment, check=True, timeout=60)
        else:
            seen.append(look(content.strip(), tmp_path, environment))
    assert "boxes2d_tight" in seen[0]
    assert '"name":"xy"' in seen[1]
    assert seen[1] == seen[2]
