"""Finding a Blender to launch: a Python that has the bpy module, a private runtime, or a `blender` executable."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from blendtorch.btt import lending, private_runtimes
from blendtorch.btt.system_libraries import missing_libraries, packages_for
from blendtorch.core.errors import BlenderNotFoundError
from blendtorch.core.launch import InstanceSpec

VARIABLE = "BLENDTORCH_BLENDER"
HOW_TO_INSTALL = (
    "Install Blender, with the Python that it needs, with: blendtorch runtime add 4.5\n"
    'or into this Python with: pip install "blendtorch-btb[bpy]"  (Python 3.11 or 3.13)'
)
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 13)
_PROBE_TIMEOUT_S = 60
# Of every executable. Its sound system is PulseAudio where Debian builds it, whose client leaves a folder in the temporary
# folder for each home that has none yet.
_FLAGS = ("-noaudio", "--factory-startup", "--python-use-system-env")
_MARK = "blendtorch-probe:"
_PROBE = f"""
import json, os, sys
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
def found(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
app = getattr(sys.modules.get("bpy"), "app", None)
try:
    blender = ".".join(map(str, app.version)) if app else version("bpy")
except PackageNotFoundError:
    blender = ""
missing = [name for name in {list(lending.NEEDS)} if not found(name)]
installed = [d.metadata["Name"] for d in distributions() if "Name" in d.metadata]
own = os.path.join(sys.prefix, "bin", "python%d.%d" % sys.version_info[:2])
interpreter = own if os.path.exists(own) else sys.executable  # where embedded, the latter may be any on PATH
facts = dict(blender=blender, python=list(sys.version_info[:2]), interpreter=interpreter, missing=missing, installed=installed)
print({_MARK!r} + json.dumps(facts))
"""


@dataclass(frozen=True)
class Runtime:
    """A Blender that can be launched.

    Attributes
    ----------
    kind : {'module', 'executable'}
        A Python that has the bpy module, or a blender executable.
    path : Path
        Of that Python, or of the executable.
    version : tuple of int
        Blender's.
    python : tuple of int
        Major and minor version of its Python.
    missing : tuple of str
        Modules that its Python lacks and that we lend it from ours: its minor version is the same.
    installed : tuple of str
        Distributions that its Python has.
    """

    kind: Literal["module", "executable"]
    path: Path
    version: tuple[int, ...]
    python: tuple[int, int]
    missing: tuple[str, ...] = ()
    installed: tuple[str, ...] = ()

    def __str__(self) -> str:
        version = ".".join(map(str, self.version))
        return f"Blender {version} ({self.kind} {self.path}, Python {self.python[0]}.{self.python[1]})"

    def command(self, spec: InstanceSpec, spec_path: Path) -> list[str]:
        """Compose the command line of an instance whose specification lies at `spec_path`."""
        background = spec.opens_scene  # in a window the executable opens it, with the file's own window layout
        if self.kind == "module":
            return [str(self.path), "-P", "-m", "blendtorch.btb", str(spec_path), "--", *spec.arguments]
        return [
            str(self.path),
            *(["--background"] if background else []),
            *_FLAGS,
            "--enable-autoexec" if spec.autoexec else "--disable-autoexec",
            *("--threads", str(spec.threads)),
            *([spec.blend] if spec.blend and not background else []),
            *("--python-exit-code", "1"),
            *("--python-expr", f"from blendtorch.btb import instance; instance.run({str(spec_path)!r})"),
            *("--", *spec.arguments),
        ]

    def inspection_command(self, question: Path) -> list[str]:
        """Compose the command line that answers a `blendtorch.core.inspection.Question`."""
        if self.kind == "module":
            return [str(self.path), "-P", "-m", "blendtorch.btb.inspection", str(question)]
        return [
            *(str(self.path), "--background", *_FLAGS, "--disable-autoexec"),
            *("--python-exit-code", "1"),
            *("--python-expr", f"from blendtorch.btb import inspection; inspection.main({str(question)!r})"),
        ]

    def lend(self, folder: Path) -> Path | None:
        """Link what this runtime's Python lacks into a folder for its PYTHONPATH; None where nothing is missing."""
        if not self.missing:
            return None
        lending.lend(self.missing, self.installed, folder)
        return folder


@dataclass(frozen=True)
class Candidate:
    """A place where a Blender was looked for.

    Attributes
    ----------
    origin : str
        What named it: an argument, the environment variable, this Python, a private runtime, PATH.
    runtime : Runtime or None
    reason : str
        Why there is none.
    path : Path or None
        What is there, usable or not.
    is_default : bool
        A launch that names no Blender takes this one.
    """

    origin: str
    runtime: Runtime | None
    reason: str = ""
    path: Path | None = None
    is_default: bool = False


def discover_blender(additional_blender_paths: str | os.PathLike[str] | None = None) -> dict[str, Any] | None:
    """Find the Blender that a launch would use.

    Parameters
    ----------
    additional_blender_paths : path, optional
        As `blend_path` of `BlenderLauncher`.

    Returns
    -------
    dict or None
        `path`, `major`, `minor`, `kind` ('module' or 'executable') and `python` ((3, 11), say); None where there is none.
    """
    try:
        runtime = find_runtime(additional_blender_paths)
    except BlenderNotFoundError:
        return None
    major, minor = (*runtime.version, 0, 0)[:2]
    return {"path": runtime.path, "major": major, "minor": minor, "kind": runtime.kind, "python": runtime.python}


def find_runtime(blend_path: str | os.PathLike[str] | None = None, background: bool = True) -> Runtime:
    """Find a Blender, and check that it can run the Blender side of blendtorch.

    Parameters
    ----------
    blend_path : path, optional
        A blender executable, a Python that has bpy, or folders to look for one in, separated as in PATH; or the name of a
        private runtime, such as '5.2' (a folder of this name is './5.2'). Nothing else is tried then. Default: the environment
        variable BLENDTORCH_BLENDER, read in the same way; then the Python that runs this, if it has bpy; then the private
        runtimes, the one that was added last first, for that is the one its user has just asked for; then `blender` on PATH.
    background : bool
        Without a window; only an executable can open one.

    Raises
    ------
    BlenderNotFoundError
        Lists what was tried, and why each does not do.
    """
    tried = []
    for origin, path in _candidates(blend_path):
        try:
            return _usable(path, background)
        except BlenderNotFoundError as error:
            tried.append(f"{origin}: {error}")
    hint = f"{HOW_TO_INSTALL},\nor name a blender executable, or a Python that has bpy, with blend_path or {VARIABLE}."
    lines = "\n".join(f"  - {line}" for line in tried)
    raise BlenderNotFoundError(f"No usable Blender was found. Tried:\n{lines}\n{hint}")


def find_candidates(blend_path: str | os.PathLike[str] | None = None) -> list[Candidate]:
    """Look at every place where a Blender may be, where `find_runtime` is content with the first that will do.

    Parameters
    ----------
    blend_path : path, optional
        As in `find_runtime`. Nothing else is looked at then.
    """
    places = list(_candidates(blend_path))
    others = _on_this_machine() if blend_path is None and os.environ.get(VARIABLE) else ()
    found: list[Candidate] = []
    for number, (origin, path) in enumerate([*places, *others]):
        if path in [each.path for each in found]:
            continue
        runtime, reason = None, ""
        try:
            runtime = _usable(path, background=True)
        except BlenderNotFoundError as error:
            reason = str(error)
        launched = blend_path is None and number < len(places)  # the others are shown only
        is_default = launched and runtime is not None and not any(each.is_default for each in found)
        found.append(Candidate(origin, runtime, reason, path if isinstance(path, Path) else None, is_default))
    return found


def _candidates(blend_path: str | os.PathLike[str] | None) -> Iterator[tuple[str, Path | str]]:
    """Name the places to look, with the path of a candidate or the reason why there is none."""
    for origin, value in (("blend_path", blend_path), (VARIABLE, os.environ.get(VARIABLE))):
        if value:
            try:
                name = os.fspath(value)
            except TypeError:  # YAML reads 4.5 as a number
                raise BlenderNotFoundError(f"{origin} is {value!r}: expected text, a path or a name such as '4.5'") from None
            paths = [_private(name)] if private_runtimes.is_name(name) else _in_path(name)
            yield from ((f"{origin}={value}", path) for path in paths)
            return
    yield from _on_this_machine()


def _on_this_machine() -> Iterator[tuple[str, Path | str]]:
    own = Path(sys.executable)
    yield f"this Python ({own})", own if find_spec("bpy") else "has no bpy module"
    for each in private_runtimes.find_all():
        yield f"private runtime {each.name}", _private(each.name)
    on_path = shutil.which("blender")
    yield "blender on PATH", Path(on_path) if on_path else "there is none"


def _private(name: str) -> Path | str:
    try:
        return private_runtimes.find(name).python
    except BlenderNotFoundError as error:
        return str(error)


def _in_path(value: str) -> Iterator[Path | str]:
    if Path(value).is_file():
        yield Path(value)
        return
    for folder in value.split(os.pathsep):
        for name in ("blender", "bin/python", "python"):
            if (found := Path(folder, name)).is_file():
                yield found
                return
    yield "neither a file, nor a folder that holds blender or bin/python"


def _usable(path: Path | str, background: bool) -> Runtime:
    if isinstance(path, str):
        raise BlenderNotFoundError(path)
    kind: Literal["module", "executable"] = "module" if path.name.startswith("python") else "executable"
    if kind == "module" and not background:
        raise BlenderNotFoundError("the bpy module has no window: background=False needs a blender executable")
    if kind == "module" and (lacks := missing_libraries()):
        raise BlenderNotFoundError(lacks)
    facts = _probe(path, kind, path.stat().st_mtime_ns)
    python = (facts["python"][0], facts["python"][1])
    version = ".".join(map(str, python))
    if not facts["blender"]:
        raise BlenderNotFoundError(f"{path} (Python {version}) has no bpy module")
    if not _OLDEST_PYTHON <= python <= _NEWEST_PYTHON:
        raise BlenderNotFoundError(
            f"Blender {facts['blender']} carries Python {version}, and blendtorch needs 3.11 to 3.13: "
            "use Blender 4.1 or newer (or one built with Python 3.11)"
        )
    missing = tuple(facts["missing"])
    if missing and python != sys.version_info[:2]:
        raise BlenderNotFoundError(
            f"its Python {version} lacks {', '.join(missing)}, and this Python {sys.version_info[0]}.{sys.version_info[1]} "
            f"cannot lend them: run {facts['interpreter']} -m pip install blendtorch-btb"
        )
    if absent := [name for name in missing if not lending.is_present(name)]:
        raise BlenderNotFoundError(f"{', '.join(absent)} is missing there and here: pip install blendtorch-btb")
    installed = tuple(lending.normalized(name) for name in facts["installed"])
    return Runtime(kind, path, tuple(int(part) for part in facts["blender"].split(".")[:3]), python, missing, installed)


@functools.lru_cache(maxsize=16)
def _probe(path: Path, kind: str, modified_ns: int) -> dict[str, Any]:  # noqa: ARG001 - a changed file is asked again
    """Ask a runtime what it is; once per file and process."""
    command = [str(path), "-c", _PROBE] if kind == "module" else [str(path), "--background", *_FLAGS, "--python-expr", _PROBE]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BlenderNotFoundError(f"{path} cannot be run: {error}") from None
    for line in result.stdout.splitlines():
        if line.startswith(_MARK):
            facts: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return facts
    end = "\n".join((result.stderr or result.stdout).strip().splitlines()[-5:])
    hint = f"\n{packages}" if (packages := packages_for(end)) else ""
    raise BlenderNotFoundError(f"{path} is no Blender and no Python with bpy (exit code {result.returncode}): {end}{hint}")
