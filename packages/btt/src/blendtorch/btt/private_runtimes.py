"""Private runtimes: environments with a Blender and the Python it needs, that blendtorch makes, finds and removes itself.

Each is one folder, named after its Blender. Environments cannot be moved once they are made, so one counts only when its marker
is there, which is written last.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

from blendtorch.btt import lending
from blendtorch.btt.releases import RELEASES, Release, find_python, how_to_install
from blendtorch.core.errors import BlenderNotFoundError, PrivateRuntimeError

_NAME = re.compile(r"\d+(\.\d+)+")
_MARKER = "blendtorch-runtime"  # holds when it was added, in nanoseconds
_OURS = ("blendtorch-core", "blendtorch-btb", "blendtorch-standard")  # what a Blender needs, whatever the trainer has
_STDERR = 2


@dataclass(frozen=True)
class PrivateRuntime:
    """An environment that was made by `add`.

    Attributes
    ----------
    name : str
        Its Blender's version: '4.5'.
    folder : Path
    added_ns : int or None
        When; None where it was not finished.
    """

    name: str
    folder: Path
    added_ns: int | None

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def installed(self) -> dict[str, str]:
        """List what is installed in it, name and version; starts nothing."""
        found = distributions(path=[str(site) for site in self.folder.glob("lib/python3.*/site-packages")])
        return {lending.normalized(each.name): each.version for each in found if "Name" in each.metadata}

    def python_version(self) -> str:
        """Major and minor version of its Python; empty where it has none."""
        return next((site.name.removeprefix("python") for site in self.folder.glob("lib/python3.*")), "")

    def size(self) -> int:
        """Bytes on disk."""
        files = (Path(parent, name).lstat() for parent, _, names in os.walk(self.folder) for name in names)
        return sum(status.st_blocks * 512 for status in files)


def root() -> Path:
    """Where private runtimes are: `$XDG_DATA_HOME/blendtorch/runtimes`, by default in `~/.local/share`.

    References
    ----------
    XDG Base Directory Specification 0.8: a relative path in the variable is to be ignored.

    Raises
    ------
    PrivateRuntimeError
        If this user has no home.
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    try:
        folder = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:
        raise PrivateRuntimeError("this user has no home for private runtimes: set HOME, or XDG_DATA_HOME") from None
    return folder / "blendtorch" / "runtimes"


def is_name(value: str) -> bool:
    """Tell whether this names a private runtime, rather than a file or folder."""
    return _NAME.fullmatch(value) is not None


def find_all() -> list[PrivateRuntime]:
    """Find the private runtimes, unfinished ones too; the one that was added last comes first."""
    try:
        folders = [folder for folder in root().iterdir() if is_name(folder.name)]
    except (OSError, PrivateRuntimeError):
        return []
    found = [PrivateRuntime(folder.name, folder, _added(folder)) for folder in folders]
    return sorted(found, key=lambda each: each.added_ns or 0, reverse=True)


def find(name: str) -> PrivateRuntime:
    """Find a private runtime by its name.

    Raises
    ------
    BlenderNotFoundError
        If it is not there, or not whole; says what to do.
    """
    runtime = next((each for each in find_all() if each.name == name), None)
    if runtime is None and name not in RELEASES:
        raise BlenderNotFoundError(_no_release(name))
    if runtime is None:
        raise BlenderNotFoundError(f"there is no private runtime {name}: make it with: blendtorch runtime add {name}")
    if runtime.added_ns is None:
        raise BlenderNotFoundError(f"the private runtime {name} was not finished: make it with: blendtorch runtime add {name}")
    if not runtime.python.exists():  # its link leads to the Python that it was made with
        raise BlenderNotFoundError(f"the Python of {runtime.python} is gone: run: blendtorch runtime add --force {name}")
    return runtime


def add(name: str, say: Callable[[str], None]) -> PrivateRuntime:
    """Make a private runtime, with this Python's blendtorch and plug-ins; one of this name makes room once it is done.

    Parameters
    ----------
    name : str
        One of `RELEASES`.
    say : callable
        Told what happens. pip's own words go to stderr.

    Raises
    ------
    PrivateRuntimeError
        If this cannot be done; says what is missing. Nothing has changed then.
    """
    if name not in RELEASES:
        raise PrivateRuntimeError(_no_release(name))
    release = RELEASES[name]
    base = find_python(release.python)
    if base is None:
        raise PrivateRuntimeError(
            f"Blender {name} needs Python {release.python}, and there is none that makes environments, on PATH or among those "
            f"of pyenv or uv. Install it with one of:\n{how_to_install(release.python)}"
        )
    requirements = [*release.requirements, *our_requirements()]
    folder = root() / name
    aside = root() / f".{name}.before"
    with _alone():
        _delete(aside)  # what an `add` that was killed has left
        if folder.exists():
            folder.rename(aside)
        try:
            _make(folder, base, release, requirements, say)
        except BaseException:  # Ctrl-C too
            _delete(folder)
            if _added(aside) is not None:
                aside.rename(folder)
            raise
        _delete(aside)
    return PrivateRuntime(name, folder, _added(folder))


def pip(name: str, arguments: Sequence[str]) -> int:
    """Run pip in a private runtime, in this terminal; returns its exit code.

    Raises
    ------
    BlenderNotFoundError
        As `find`.
    """
    command = [*_pip(find(name).folder), *arguments]
    return subprocess.run(command, env=_environment(), check=False).returncode


def remove(name: str) -> None:
    """Delete a private runtime, finished or not.

    Raises
    ------
    PrivateRuntimeError
        If there is none, or it cannot be deleted.
    """
    runtime = next((each for each in find_all() if each.name == name), None)
    if runtime is None:
        raise PrivateRuntimeError(f"there is no private runtime {name} in {root()}")
    with _alone():
        try:
            (runtime.folder / _MARKER).unlink(missing_ok=True)  # from here on nobody takes it for whole
            shutil.rmtree(runtime.folder)
        except OSError as error:
            raise PrivateRuntimeError(f"cannot delete {runtime.folder}: {error}") from None


def our_requirements() -> list[str]:
    """List for pip what of ours this Python has for a Blender: from where it was installed from, else of the same version.

    Raises
    ------
    PrivateRuntimeError
        If blendtorch was not installed here, and so has no version.
    """
    names = [*_OURS, *(lending.normalized(each.name) for each in lending.plugin_distributions())]
    return [argument for name in dict.fromkeys(names) for argument in _requirement(name)]


def _requirement(name: str) -> list[str]:
    """Say to pip where a distribution comes from; what the trainer lacks comes from where its core does."""
    source, editable = _local_source(name) or _beside_core(name) or (None, False)
    if source is not None:
        return ["--editable", str(source)] if editable else [str(source)]
    for known in (name, "blendtorch-core"):  # ours have one version
        with contextlib.suppress(PackageNotFoundError):
            return [f"{name}=={distribution(known).version}"]
    raise PrivateRuntimeError("blendtorch-core is not installed in this Python: install it with pip, for its version is needed")


def _local_source(name: str) -> tuple[Path, bool] | None:
    """Find the folder that a distribution was installed from, and whether it is used in place.

    References
    ----------
    PyPA, Recording the Direct URL Origin of installed distributions: `direct_url.json`.
    """
    try:
        text = distribution(name).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    origin = json.loads(text or "{}")
    if "dir_info" not in origin:
        return None
    folder = Path(unquote(urlsplit(origin["url"]).path))
    return (folder, bool(origin["dir_info"].get("editable"))) if (folder / "pyproject.toml").is_file() else None


def _beside_core(name: str) -> tuple[Path, bool] | None:
    if name not in _OURS or (core := _local_source("blendtorch-core")) is None:
        return None
    packages = core[0].parent
    for folder in (packages / name.removeprefix("blendtorch-"), packages.parent / "plugins" / name):
        if (folder / "pyproject.toml").is_file():
            return folder, core[1]
    return None


def _make(folder: Path, base: Path, release: Release, requirements: list[str], say: Callable[[str], None]) -> None:
    say(f"Making an environment in {folder}, with {base} ...")
    _run([str(base), "-I", "-m", "venv", str(folder)], "venv")
    say(f"Installing {release.requirements[0]} and blendtorch: Blender is 400 MB to download where pip has not kept it ...")
    _run([*_pip(folder), "install", "--no-input", "--disable-pip-version-check", *requirements], "pip")
    (folder / _MARKER).write_text(str(time.time_ns()))


def _pip(folder: Path) -> list[str]:
    return [str(folder / "bin" / "python"), "-I", "-m", "pip"]  # by the module: a script's first line may be too long


def _run(command: list[str], what: str) -> None:
    code = subprocess.run(command, env=_environment(), stdin=subprocess.DEVNULL, stdout=_STDERR, check=False).returncode
    if code:
        raise PrivateRuntimeError(f"{what} failed with exit code {code}; its own words are above. It was run as:\n{command}")


def _environment() -> dict[str, str]:
    """Leave out what would make the trainer's packages those of the runtime."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep out others who add or remove; the kernel lets them in again when this process ends."""
    try:
        root().mkdir(parents=True, exist_ok=True)
        file = (root() / ".lock").open("a")
    except OSError as error:
        raise PrivateRuntimeError(f"cannot write in {root()}: {error}. Choose another place with XDG_DATA_HOME") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrivateRuntimeError(f"another `blendtorch runtime` is at work in {root()}: wait for its end") from None
        except OSError:  # a file system without locks: homes in a network
            pass
        yield


def _added(folder: Path) -> int | None:
    try:
        return int((folder / _MARKER).read_text())
    except (OSError, ValueError):
        return None


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _no_release(name: str) -> str:
    return f"there is no private runtime for Blender {name}: expected one of {', '.join(RELEASES)}"
