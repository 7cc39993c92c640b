"""The page "Say what you publish" is followed to the letter, from an empty folder."""

import doctest
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from blendtorch.core import Frame, wire
from blendtorch.core.errors import DecodeError, EncodeError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "payloads.md").read_text()
FILES = dict(re.findall(r"^Write `([\w.]+)`:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
EXAMPLES = re.findall(r"^```python\n(>>> .*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
TEXTS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_every_block_is_run():
    assert list(FILES) == ["sample.py", "sample.blend.py", "train.py"]
    assert len(EXAMPLES) == 1
    assert len(TEXTS) == 3
    assert PAGE.count("\n```python\n") == 4
    assert re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) == ["python train.py\n"]


@pytest.mark.blender
def test_both_ends(blender, folder):
    result = subprocess.run(
        [sys.executable, "-W", "ignore::UserWarning", "train.py"],
        cwd=folder,
        env={**os.environ, **({"BLENDTORCH_BLENDER": blender} if blender else {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, TEXTS[0]), result.stderr


def test_refusals_read_as_the_page_says(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "sample", raising=False)
    try:
        test = doctest.DocTestParser().get_doctest(EXAMPLES[0], {}, "payloads.md", None, 0)
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    finally:
        sys.modules.pop("sample", None)
    assert result.failed == 0
    assert result.attempted >= 10


def test_pickles_are_refused_as_the_page_says():
    frame = Frame(btid=0, sequence=0, data={"exposure": Fraction(1, 60)})
    with pytest.raises(EncodeError) as caught:
        wire.encode(frame)
    assert str(caught.value) == TEXTS[1].strip()
    with pytest.raises(DecodeError) as caught:
        wire.decode(wire.encode(frame, allow_pickle=True))
    assert str(caught.value) == TEXTS[2].strip()
