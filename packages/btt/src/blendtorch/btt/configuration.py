"""Descriptions of runs in files."""

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import yaml
from blendtorch.core.errors import ConfigurationError


class _Loader(yaml.SafeLoader):
    """YAML as people write it: plain data, and numbers such as 1e-3, which YAML 1.1 reads as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, origin: str) -> Any:
    """Read YAML as `load_configuration` does.

    Parameters
    ----------
    text : str
    origin : str
        Where it comes from, for the error.

    Raises
    ------
    ConfigurationError
        If it is no YAML; names the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigurationError(f"cannot read {origin}: {error}") from None


def load_configuration(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the arguments of `btt.stream` from a YAML or JSON file: `btt.stream(**btt.load_configuration("run.yaml"))`.

    Parameters
    ----------
    path : path
        Of a file that ends with .yaml, .yml or .json, with a mapping.

    Raises
    ------
    ConfigurationError
        If it cannot be read; names the line.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text()
        loaded = json.loads(text) if file.suffix == ".json" else parse_yaml(text, str(file))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from None
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{file}: expected a mapping with the arguments of btt.stream, got {type(loaded).__name__}")
    return loaded
