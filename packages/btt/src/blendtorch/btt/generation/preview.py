"""A look at what a run makes, before it is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendtorch.btt.drawing import contact_sheet
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.plan import check_generation
from blendtorch.btt.streaming import stream
from blendtorch.core.composition import compose
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, LaunchError


def preview(configuration: Mapping[str, Any], origin: str, output: str | None, count: int) -> tuple[Path, str]:
    """Make the first samples of a run, and draw them with all their labels on one sheet.

    Parameters
    ----------
    configuration : mapping
        The arguments of `btt.stream`.
    origin : str
        Where they come from, for errors.
    output : str, optional
        The folder of the data, which gets the sheet. Default: the current one.
    count : int
        How many samples.

    Returns
    -------
    path : Path
        Of the sheet.
    notice : str
        What is wrong with what it shows; "" for nothing.

    Raises
    ------
    ConfigurationError
        If something is wrong, before a Blender starts.
    InstanceError
        If Blender fails.
    """
    if count < 1:
        raise ConfigurationError(f"--preview {count}: expected 1 or more samples")
    arguments = check_generation({**configuration, "count": count}, origin)
    made = stream(**arguments, shard=(0, 1))
    compose(made.configuration, Catalogue(made.configuration.plugins))
    folder = DataFolder(output or ".")
    folder.make()
    with made as dataset:
        samples = sorted(dataset, key=lambda sample: int(sample["meta"]["index"]))
    if not samples:
        raise LaunchError("no sample came")
    sheet = contact_sheet(samples, apart=True)
    sheet.savefig(folder.preview)
    empty = not any(_shows_something(sample) for sample in samples)
    notice = "No object of interest is seen in any of these samples: look at the sizes of the models and where the camera is"
    return folder.preview, notice if empty else ""


def _shows_something(sample: Mapping[str, Any]) -> bool:
    """Whether labels say that an object is seen; also where none of them says so."""
    seen = [bool(label["valid"].any()) for name, label in sample.items() if name.startswith("boxes2d_")]
    seen += [bool(label["instance_ids"].any()) for name, label in sample.items() if name == "instance_ids"]
    return any(seen) or not seen
