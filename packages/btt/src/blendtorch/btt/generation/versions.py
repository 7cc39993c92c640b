"""What made samples: what is noted of it, and what samples say themselves."""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import torch
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.labels import legend_of


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What made samples.

    Attributes
    ----------
    trainer : dict of str to str
        Versions of Python, torch, blendtorch and the writer's distribution, where they were written.
    blender : dict of str to str
        Of Blender, its Python, blendtorch and the distributions of the plug-ins, where they were rendered. Empty until the
        first sample has said it.
    writer : dict
        The format's name and its options.
    files : dict of str to str
        Checksums (SHA-256) of the scene, the models and the files of plug-ins, by their paths.
    categories : dict of int to str
        What objects of interest are labelled as.
    """

    trainer: dict[str, str]
    blender: dict[str, str]
    writer: dict[str, Any]
    files: dict[str, str] = {}
    categories: dict[int, str] = {}


class ExportedRecording(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder was exported from.

    Attributes
    ----------
    recording : str
        Where it was: a prefix, a folder or a file.
    ids : tuple of str
        Of the recordings in it, sorted.
    """

    recording: str
    ids: tuple[str, ...]


def versions_here(source: str) -> dict[str, str]:
    """List the versions of Python, torch, blendtorch and a writer's distribution.

    Parameters
    ----------
    source : str
        Of the writer.
    """
    found = {"python": ".".join(map(str, sys.version_info[:3])), "torch": str(torch.__version__)}
    for name in ("blendtorch-core", "blendtorch-btt", source.partition(" ")[0]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not packaged"
    return found


def versions_in(text: str) -> dict[str, str]:
    """Read the versions in the `meta` of a sample.

    Raises
    ------
    ConfigurationError
        If they are damaged.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"the versions of a sample are none: {error}") from None


def categories_in(legend: str) -> dict[int, str]:
    """Read the names of the categories in the `meta` of a sample; none where it does not say them.

    Raises
    ------
    ConfigurationError
        If it is damaged.
    """
    try:
        return msgspec.convert(legend_of({"meta": {"legend": legend}}).get("categories", {}), dict[int, str], strict=False)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"the legend of a sample does not name categories: {error}") from None
