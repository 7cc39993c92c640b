"""The page "Record once, replay for ever" is followed to the letter, from an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "recording.md").read_text()
FILES = dict(re.findall(r"Write `([\w.]+)`[^\n]*:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^```sh\npython ([\w.]+)\n```$", PAGE, re.MULTILINE)
TEXTS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_following_the_page(tmp_path):
    assert list(FILES) == COMMANDS == ["record.py", "replay.py", "by_hand.py", "others.py"]
    assert PAGE.count("```python\n") == PAGE.count("```text\n") == len(FILES) == len(TEXTS)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    for name, text in zip(COMMANDS, TEXTS, strict=True):
        result = subprocess.run(
            [sys.executable, "-W", "ignore::UserWarning", name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (result.returncode, result.stdout) == (0, text), result.stderr


def test_the_tests_that_the_page_names_exist():
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").glob("*/test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 10
    assert [name for name in named if f"def {name}(" not in tests] == []
