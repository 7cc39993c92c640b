"""What a Blender's Python lacks and ours has, linked into a folder for its PYTHONPATH: packages, plug-ins, what these require.

Links to single packages, not our whole site-packages: that may hold another bpy.
"""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

GROUP = "blendtorch"  # of the entry points of plug-ins
# What an instance imports; with each, the folders of shared libraries that its wheel puts beside it.
NEEDS = {
    "numpy": ["numpy.libs"],
    "zmq": ["pyzmq.libs"],
    "msgspec": [],
    "pluggy": [],
    "blendtorch.core": [],
    "blendtorch.btb": [],
}
# What plug-ins require and are not lent for it: the distributions of these modules, and what belongs to one side alone.
_NOT_REQUIRED = {"numpy", "pyzmq", "msgspec", "pluggy", "bpy", "blendtorch-core", "blendtorch-btb", "blendtorch-btt"}


def lend(modules: Sequence[str], present: Collection[str], folder: Path) -> None:
    """Link what another Python lacks.

    Who is lent `blendtorch.btb` is lent our plug-ins too, and the distributions that they require: it is our environment that
    decides there. Metadata is written rather than linked: that of an editable installation lies apart from its source, and only
    its names and entry points are read.

    Parameters
    ----------
    modules : sequence of str
        Of `NEEDS`.
    present : collection of str
        Distributions that it has itself.
    folder : Path
    """
    for name in modules:
        source = _link(name, folder)
        for libraries in NEEDS[name]:
            if source and (source.parent / libraries).is_dir():
                (folder / libraries).symlink_to(source.parent / libraries)
        if name.startswith("blendtorch."):
            _write_metadata(name.replace(".", "-"), folder)
    if "blendtorch.btb" in modules:
        for each in _with_required(plugin_distributions(), present):
            for point in each.entry_points:
                if point.group == GROUP:
                    _link(point.value.partition(":")[0].strip(), folder)  # of an editable installation nothing else is known
            for part in sorted(_parts(each)):
                _place(Path(str(each.locate_file(part))), folder / part)
            _write_metadata(each.name, folder)


def plugin_distributions() -> list[Distribution]:
    """Find the distributions that have plug-ins, by their metadata; imports nothing."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        if any(point.group == GROUP for point in each.entry_points) and "Name" in each.metadata:
            found.setdefault(normalized(each.name), each)  # what is further down the path is not imported
    return [found[name] for name in sorted(found)]


def normalized(name: str) -> str:
    """Write the name of a distribution in the one way that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_present(name: str) -> bool:
    """Tell whether a module is installed here, without importing it."""
    return _origin(name) is not None


def _origin(name: str) -> tuple[Path, bool] | None:
    """Find the file of a module, and whether it is a package's."""
    try:
        spec = find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin), spec.submodule_search_locations is not None


def _link(name: str, folder: Path) -> Path | None:
    """Link the outermost package that holds a module and is no namespace; return where it is."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        if (origin := _origin(".".join(parts[:length]))) is None:
            continue
        file, is_package = origin
        source = file.parent if is_package else file
        _place(source, folder.joinpath(*parts[: length - 1], source.name))
        return source
    return None  # an entry point without a module: it is named there as it is here


def _with_required(wanted: Sequence[Distribution], present: Collection[str]) -> list[Distribution]:
    """Add what distributions require, with what that requires in turn.

    What is `present` is left out, and what is not installed here: who imports it will say so.
    """
    found: dict[str, Distribution] = {}
    waiting = [(each, frozenset({""})) for each in wanted]
    seen = set()
    for each, extras in waiting:  # grows on the way
        name = normalized(each.name)
        if (name, extras) in seen or name in present or name in _NOT_REQUIRED:
            continue
        seen.add((name, extras))
        found[name] = each
        for requirement in map(Requirement, each.requires or ()):
            # The Python that it is lent to is of our minor version, and runs on this machine.
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                with suppress(PackageNotFoundError):
                    waiting.append((distribution(requirement.name), frozenset({"", *requirement.extras})))
    return list(found.values())


def _parts(distribution: Distribution) -> set[Path]:
    """Name what a distribution has brought, by paths below its site-packages: its outermost packages, and all files in none.

    Such as the shared libraries that a wheel puts beside its package.
    """
    found = set()
    for file in distribution.files or ():
        if not {"..", "__pycache__"}.isdisjoint(file.parts) or file.parts[0].endswith((".dist-info", ".egg-info", ".pth")):
            continue
        folders = reversed(file.parents[:-1])
        packages = (each for each in folders if Path(str(distribution.locate_file(each / "__init__.py"))).exists())
        found.add(Path(next(packages, file)))
    return found


def _place(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def _write_metadata(name: str, folder: Path) -> None:
    try:
        found = distribution(name)
    except PackageNotFoundError:  # importable here without having been installed
        return
    info = folder / f"{normalized(name).replace('-', '_')}-{found.version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {found.version}\n")
    (info / "entry_points.txt").write_text(found.read_text("entry_points.txt") or "")
