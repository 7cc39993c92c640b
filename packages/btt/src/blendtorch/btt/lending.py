"""What a Blender's Python lacks and ours has, linked into a folder for its PYTHONPATH: packages, plug-ins, and what names them.

Links to single packages, not our whole site-packages: that may hold another bpy.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path

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


def lend(modules: Sequence[str], present: Collection[str], folder: Path) -> None:
    """Link what another Python lacks.

    Who is lent `blendtorch.btb` is lent our plug-ins too: it is our environment that decides there. Metadata is written rather
    than linked: that of an editable installation lies apart from its source, and only its names and entry points are read.

    Parameters
    ----------
    modules : sequence of str
        Of `NEEDS`.
    present : collection of str
        Distributions of plug-ins that it has itself.
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
        for each in plugin_distributions():
            if normalized(each.name) not in present:
                for module in _modules(each):
                    _link(module, folder)
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
        target = folder.joinpath(*parts[: length - 1], source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(source)
        return source
    return None  # an entry point without a module: it is named there as it is here


def _modules(distribution: Distribution) -> Iterator[str]:
    """Name what a distribution brings: what its entry points load, and where it says so all else at the top."""
    yield from {point.value.partition(":")[0].strip() for point in distribution.entry_points if point.group == GROUP}
    tops = {file.parts[0].partition(".py")[0] for file in distribution.files or () if file.suffix == ".py"}
    yield from (top for top in tops if top.isidentifier() and top != "__pycache__")


def _write_metadata(name: str, folder: Path) -> None:
    try:
        found = distribution(name)
    except PackageNotFoundError:  # importable here without having been installed
        return
    info = folder / f"{normalized(name).replace('-', '_')}-{found.version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {found.version}\n")
    (info / "entry_points.txt").write_text(found.read_text("entry_points.txt") or "")
