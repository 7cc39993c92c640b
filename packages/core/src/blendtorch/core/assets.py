"""Models of objects in files: which files an entry of `assets` names, their formats, units and categories."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from blendtorch.core.errors import ConfigurationError

Unit = Literal["m", "cm", "mm", "in"]
METRES: dict[Unit, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254}
MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".fbx", ".usd", ".usda", ".usdc", ".usdz")
CAD_SUFFIXES = (".step", ".stp", ".iges", ".igs")
# Custom properties of copies in a scene: of which entry, whether it is there in this episode, where it stands by itself.
ASSET, SHOWN, PLACE = "blendtorch_asset", "blendtorch_shown", "blendtorch_place"
_BOP = re.compile(r"obj_(\d{6})\.ply")  # of the BOP challenge: millimetres, and the number is the id of the object
_SHORT, _LONG = 0.001, 10.0  # metres, between which an object is of a believable size


class Asset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that are spawned into the scene.

    Attributes
    ----------
    files : str or tuple of str
        Paths, or patterns with `*`, `?`, `[]` and `**`, or folders: of a folder all models that lie in it. Relative ones count
        from the current folder.
    count : int or tuple of int
        How many copies there are in an episode, or the least and the most of them. Which files they are copies of is drawn too.
    category : str, optional
        What the copies are labelled as; `{name}` stands for the name of the file without its ending. Without it the copies are
        distractors, which get no labels; where no entry has one, each file is a category of its own name.
    unit : {'m', 'cm', 'mm', 'in'}, optional
        Of the numbers in the files. Default: metres, or what the format itself says; millimetres for the models of the BOP
        challenge (`obj_000001.ply`).
    origin : {'auto', 'file', 'center'}
        Where the frame of the object lies, which its pose is told for: where the file has it, or at the centre of the model's
        box. 'auto' is that of the file, unless it lies outside of the box.
    """

    files: str | tuple[str, ...]
    count: int | tuple[int, int] = 1
    category: str | None = None
    unit: Unit | None = None
    origin: Literal["auto", "file", "center"] = "auto"

    def __post_init__(self) -> None:
        """Check the numbers."""
        least, most = self.counts
        if not 0 <= least <= most or most < 1:
            raise ValueError(f"count is {self.count}: expected 1 or more, or the least and the most copies, as [1, 8]")
        if self.category is not None and not self.category.replace("{name}", "name").strip():
            raise ValueError("category is empty: name one, or leave it out for distractors")

    @property
    def counts(self) -> tuple[int, int]:
        """The least and the most copies of an episode."""
        return (self.count, self.count) if isinstance(self.count, int) else self.count


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an asset.

    Attributes
    ----------
    path : str
        Absolute.
    name : str
        Of the file, without its ending.
    category : str
        Empty for a distractor.
    category_id : int
        0 where it is not told.
    unit : str
    origin : {'auto', 'file', 'center'}
    """

    path: str
    name: str
    category: str = ""
    category_id: int = 0
    unit: Unit = "m"
    origin: Literal["auto", "file", "center"] = "auto"


def resolve(assets: Sequence[Asset]) -> tuple[Asset, ...]:
    """Find the files of each entry.

    Returns
    -------
    tuple of Asset
        The same, with `files` as absolute paths, sorted.

    Raises
    ------
    ConfigurationError
        If an entry names no model, or one of a format that Blender does not read.
    """
    return tuple(msgspec.structs.replace(asset, files=_files(asset, f"assets[{n}].files")) for n, asset in enumerate(assets))


def models(assets: Sequence[Asset]) -> list[list[Model]]:
    """List the models of each entry that `resolve` returned.

    Examples
    --------
    >>> [[model]] = models([Asset(files=("/bop/obj_000005.ply",))])
    >>> model.category, model.category_id, model.unit
    ('obj_000005', 5, 'mm')
    """
    labelled = any(asset.category is not None for asset in assets)
    return [[_model(asset, path, labelled) for path in asset.files] for asset in assets]


def is_mesh(path: str) -> bool:
    """Whether a file is a mesh, by its name, and no .blend."""
    return Path(path).suffix.lower() in MESH_SUFFIXES


def check_format(path: Path, where: str) -> None:
    """Refuse a file that Blender does not read as a mesh; says how to convert it.

    Raises
    ------
    ConfigurationError
    """
    suffix = path.suffix.lower()
    if suffix in CAD_SUFFIXES:
        mesh = path.with_suffix(".glb").name
        raise ConfigurationError(
            f"{where}: {path.name} is a CAD file of exact surfaces, and Blender reads triangles: convert it. "
            f"pip install cascadio, then python -c \"import cascadio; cascadio.step_to_glb('{path.name}', '{mesh}')\"; "
            "or export glTF, OBJ or STL from your CAD program"
            if suffix in (".step", ".stp")
            else f"{where}: {path.name} is a CAD file of exact surfaces, and Blender reads triangles: export glTF, OBJ or STL "
            "from your CAD program"
        )
    if suffix not in MESH_SUFFIXES:
        raise ConfigurationError(f"{where}: {path.name} is of no format that is read here: {', '.join(MESH_SUFFIXES)}")


def size_notice(path: str, dimensions: Sequence[float], unit: Unit) -> str:
    """Say that the size of a model is not to be believed, and which unit to try; empty where all is well.

    Parameters
    ----------
    path : str
    dimensions : sequence of float
        Of the box around it, in metres.
    unit : str
        That they were read with.

    Examples
    --------
    >>> size_notice("part.stl", (120.0, 40.0, 30.0), "m")
    'part.stl is 120 m long with unit: m, over 10 m: try unit: mm (0.12 m) or cm (1.2 m) or in (3.05 m)'
    """
    longest = max(dimensions)
    if _SHORT <= longest <= _LONG:
        return ""
    units: tuple[Unit, ...] = ("mm", "cm", "in", "m") if longest > _LONG else ("m", "in", "cm", "mm")
    believable = {each: longest / METRES[unit] * METRES[each] for each in units}
    better = [f"{each} ({size:.3g} m)" for each, size in believable.items() if each != unit and 0.005 <= size <= 5]
    limit = f"over {_LONG:g} m" if longest > _LONG else f"under {_SHORT * 1000:g} mm"
    hint = f"try unit: {' or '.join(better)}" if better else "is the file right?"
    return f"{path} is {longest:.3g} m long with unit: {unit}, {limit}: {hint}"


def _files(asset: Asset, where: str) -> tuple[str, ...]:
    found: list[Path] = []
    for pattern in (asset.files,) if isinstance(asset.files, str) else asset.files:
        path = Path(pattern).expanduser().absolute()
        if path.is_dir():
            matches = sorted(each for each in path.iterdir() if each.suffix.lower() in MESH_SUFFIXES)
            if not matches:
                raise ConfigurationError(f"{where}: the folder {path} has no models: {', '.join(MESH_SUFFIXES)}")
        elif path.is_file():
            matches = [path]
        else:
            found_there = glob.glob(str(path), recursive=True)  # noqa: PTH207 - pathlib takes no absolute pattern
            matches = sorted(each for each in map(Path, found_there) if each.is_file())
            if not matches:
                raise ConfigurationError(f"{where}: {pattern!r} names no file (looked for {path})")
        for match in matches:
            check_format(match, where)
        found += matches
    if not found:
        raise ConfigurationError(f"{where}: it is empty: name models of objects")
    return tuple(dict.fromkeys(map(str, found)))


def _model(asset: Asset, path: str, labelled: bool) -> Model:
    file = Path(path)
    bop = _BOP.fullmatch(file.name)
    category = (asset.category or "").replace("{name}", file.stem) if labelled else file.stem
    numbered = bop is not None and category == file.stem
    return Model(
        path=path,
        name=file.stem,
        category=category,
        category_id=int(bop[1]) if bop and numbered else 0,
        unit=asset.unit or ("mm" if bop else "m"),
        origin="file" if bop and asset.origin == "auto" else asset.origin,
    )
