"""The Blenders of the Python package registry: what each needs, and where its Python is. Knows the standard library only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_S = 30


class Release(NamedTuple):
    """What a Blender needs.

    Attributes
    ----------
    python : str
        The one minor version that its wheel is for.
    requirements : tuple of str
        For pip.
    """

    python: str
    requirements: tuple[str, ...]


# By the name of their private runtime. 4.5 and 5.0 were built against numpy 1, and not every wheel of them says so.
RELEASES = {
    "4.2": Release("3.11", ("bpy==4.2.*",)),
    "4.5": Release("3.11", ("bpy==4.5.*", "numpy<2")),
    "5.0": Release("3.11", ("bpy==5.0.*", "numpy<2")),
    "5.2": Release("3.13", ("bpy==5.2.*",)),
}


def find_python(version: str) -> Path | None:
    """Find an interpreter that makes environments: this one, on PATH, pyenv's, uv's.

    Each is run, for pyenv's shims are there for versions, too, that are not switched on, and Debian splits venv off.

    Parameters
    ----------
    version : str
        Major and minor: '3.11'.
    """
    return next((candidate for candidate in _candidates(version) if _works(candidate, version)), None)


def how_to_install(version: str) -> str:
    """Say how to install a Python, a line for each way."""
    return (
        f"    apt-get install -y python{version} python{version}-venv        (Debian, Ubuntu; as root)\n"
        f"    uv python install {version}        (without root)\n"
        f"    pyenv install {version}        (without root; builds it)"
    )


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))  # noqa: PTH111 - raises nothing without a home
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    if (uv := shutil.which("uv")) and (found := _output([uv, "python", "find", version])):
        yield Path(found)


def _works(python: Path, version: str) -> bool:
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    return _output([str(python), "-I", "-c", code]) == version


def _output(command: list[str]) -> str:
    """Run a program; what it prints, empty where it fails."""
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
