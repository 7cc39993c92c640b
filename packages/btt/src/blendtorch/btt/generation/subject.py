"""What a preset is made for: models, which are measured, or a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blendtorch.btt.inspection import ask
from blendtorch.btt.runtimes import find_runtime
from blendtorch.core.assets import CAD_SUFFIXES, MESH_SUFFIXES, Asset, Unit, models, resolve
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.inspection import Question, Size, Survey

_TIMEOUT_S = 300.0  # of silence: a model of a gigabyte takes its time


@dataclass(frozen=True)
class Models:
    """What one entry of `assets` names.

    Attributes
    ----------
    files : str
        As the user has named them: a file, or a folder.
    category : str
    unit : str
    sizes : tuple of Size
        Of each file.
    """

    files: str
    category: str
    unit: Unit
    sizes: tuple[Size, ...]

    @property
    def radius(self) -> float:
        """Of the sphere about its origin that holds the one that needs most room, in metres."""
        return max(each.radius for each in self.sizes)

    @property
    def colored(self) -> bool:
        """Whether one has colours of its own."""
        return any(each.colored for each in self.sizes)


@dataclass(frozen=True)
class Subject:
    """Models or a scene.

    Attributes
    ----------
    scene : str
        A .blend file, as the user has named it; empty for models.
    survey : Survey or None
        What the scene has.
    models : tuple of Models
    notices : tuple of str
        What is odd about them.
    """

    scene: str = ""
    survey: Survey | None = None
    models: tuple[Models, ...] = ()
    notices: tuple[str, ...] = ()

    @classmethod
    def of(cls, paths: Sequence[str], unit: Unit | None = None, blender: str | None = None) -> Self:
        """Look at what a user has named: models are measured, and a scene is surveyed, in a Blender.

        Parameters
        ----------
        paths : sequence of str
            Models or folders of them, or one .blend file.
        unit : {'m', 'cm', 'mm', 'in'}, optional
            Of the numbers in the models. Default: what the format says, or metres.
        blender : path, optional
            Which one.

        Raises
        ------
        ConfigurationError
            If one is not there, or of no format that is read.
        BlenderNotFoundError, InstanceError
            If there is no Blender, or it cannot read one.
        """
        scenes = [path for path in paths if Path(path).suffix.lower() == ".blend"]
        if scenes:
            if len(paths) > 1:
                raise ConfigurationError(f"{scenes[0]} is a scene, and goes alone: its objects are in it")
            if not Path(scenes[0]).expanduser().is_file():
                raise ConfigurationError(f"scene {scenes[0]!r} does not exist (looked for {Path(scenes[0]).absolute()})")
            question = Question(topics=("survey",), scene=str(Path(scenes[0]).expanduser().absolute()))
            (survey,) = (each for each in ask(find_runtime(blender), question, _TIMEOUT_S) if isinstance(each, Survey))
            return cls(scene=scenes[0], survey=survey)
        assets = tuple(_asset(path, unit) for path in paths)
        resolved = resolve(assets)
        sizes: dict[str, Size] = {}
        for answer in ask(find_runtime(blender), Question(topics=("sizes",), assets=resolved), _TIMEOUT_S):
            if isinstance(answer, Size):
                sizes[answer.file] = answer
        found = []
        for asset, files in zip(assets, models(resolved), strict=True):
            measured = tuple(sizes[each.path] for each in files)
            found.append(Models(str(asset.files), asset.category or "", files[0].unit, measured))
        return cls(models=tuple(found), notices=tuple(dict.fromkeys(text for each in sizes.values() for text in each.notices)))


def _asset(path: str, unit: Unit | None) -> Asset:
    file = Path(path).expanduser()
    if not file.exists():
        raise ConfigurationError(
            f"{path!r} does not exist (looked for {file.absolute()}): name a model ({', '.join(MESH_SUFFIXES)}), a folder of "
            "models, or a scene (.blend)"
        )
    if file.suffix.lower() in (".yaml", ".yml", ".json"):
        raise ConfigurationError(f"{path!r} is no model and no scene: a configuration is named with --config {path}")
    if file.is_file() and file.suffix.lower() not in (*MESH_SUFFIXES, *CAD_SUFFIXES):
        raise ConfigurationError(f"{path!r} is no model ({', '.join(MESH_SUFFIXES)}) and no scene (.blend)")
    return Asset(files=path, category="{name}" if file.is_dir() else file.stem, unit=unit)
