"""`--set randomizers.camera_shell.distance=2`: single values of a configuration, changed on the command line."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from blendtorch.btt.configuration import parse_yaml
from blendtorch.btt.generation.arguments import argument_names, did_you_mean
from blendtorch.core.errors import ConfigurationError

_NAMES = ("as", "name", "category", "match", "files")  # what tells the entries of a list apart, the first that one has
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def override(configuration: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Change single values.

    Parameters
    ----------
    configuration : mapping
    settings : sequence of str
        `path=value`. The path has names and numbers, joined by dots: keys of mappings, and of lists either the place, from 0,
        or what an entry is called (`as`, `name`, `category`, `match`). The value is YAML. The last name may be new; an entry
        that is a bare name becomes a mapping.

    Returns
    -------
    dict
        A copy.

    Raises
    ------
    ConfigurationError
        If there is no such path; names the nearest.

    Examples
    --------
    >>> override({"renderer": "cycles", "annotators": ["depth"]}, ["renderer.samples=8", "count=20"])
    {'renderer': {'name': 'cycles', 'samples': 8}, 'annotators': ['depth'], 'count': 20}
    >>> override({"randomizers": [{"name": "pose"}]}, ["randomizers.poes.scale=2"])
    Traceback (most recent call last):
    blendtorch.core.errors.ConfigurationError: --set randomizers.poes.scale: randomizers has no 'poes'; did you mean 'pose'?
    """
    changed = copy.deepcopy(dict(configuration))
    for setting in settings:
        path, value = split(setting)
        _assign(changed, path, value, f"--set {setting.partition('=')[0]}")
    return changed


def split(setting: str) -> tuple[list[str], Any]:
    """Take `path=value` apart.

    Raises
    ------
    ConfigurationError
        If it is nothing of the kind.

    Examples
    --------
    >>> split("assets[0].count=[1, 8]")
    (['assets', '0', 'count'], [1, 8])
    """
    path, equals, text = setting.partition("=")
    path = path.strip()
    steps = [name or place for name, place in _STEP.findall(path)]
    if not equals or not steps or not re.fullmatch(r"[^.\[\]]+(\.[^.\[\]]+|\[\d+\])*", path):
        raise ConfigurationError(f"--set {setting}: expected path=value, as in --set randomizers.camera_shell.distance=2")
    return steps, parse_yaml(text, f"--set {setting}")


def _assign(configuration: dict[str, Any], path: list[str], value: Any, origin: str) -> None:
    if path[0] not in argument_names():
        raise ConfigurationError(f"{origin}: there is no argument {path[0]!r}{did_you_mean(path[0], argument_names())}")
    place: Any = configuration
    for number, step in enumerate(path):
        walked = ".".join(path[:number])
        key = _key(place, step, walked, origin)
        if number == len(path) - 1:
            place[key] = value
            return
        if isinstance(place, dict) and key not in place:
            raise ConfigurationError(f"{origin}: {walked or 'the configuration'} has no {step!r}{did_you_mean(step, place)}")
        if isinstance(place[key], str) and (isinstance(place, list) or (number == 0 and step == "renderer")):
            # A plug-in by its name alone.
            place[key] = {"name": place[key]}
        place = place[key]


def _key(place: Any, step: str, walked: str, origin: str) -> Any:
    """Find what a step of the path leads to: a key, or a place in a list."""
    if isinstance(place, dict):
        return step
    if not isinstance(place, list):
        raise ConfigurationError(f"{origin}: {walked} is {place!r}, and has nothing in it")
    if step.isdigit():
        if int(step) < len(place):
            return int(step)
        raise ConfigurationError(f"{origin}: {walked} has {len(place)} entries, counted from 0: there is no {step}")
    names = [_name(entry) for entry in place]
    if step not in names:
        raise ConfigurationError(f"{origin}: {walked} has no {step!r}{did_you_mean(step, filter(None, names))}")
    if names.count(step) > 1:
        raise ConfigurationError(f"{origin}: {walked} has {names.count(step)} entries called {step!r}: give the place, as [0]")
    return names.index(step)


def _name(entry: Any) -> str:
    if isinstance(entry, dict):
        return next((entry[key] for key in _NAMES if isinstance(entry.get(key), str)), "")
    return str(entry)
