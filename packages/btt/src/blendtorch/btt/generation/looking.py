"""Looking into a folder of samples: its writer is found without running anything that the folder itself names."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blendtorch.btt.configuration import load_configuration
from blendtorch.btt.generation.folder import VERSIONS, DataFolder
from blendtorch.btt.generation.format import Format, find_format
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, PluginError


def format_of(folder: DataFolder, plugins: Iterable[str] = ()) -> Format:
    """Find what wrote the samples of a folder: an installed writer, or one in a file that the user has named.

    Files that the configuration in the folder names are not run: whoever made the folder has chosen them.

    Parameters
    ----------
    folder : DataFolder
    plugins : iterable of path
        Python files with plug-ins.

    Raises
    ------
    PluginError
        If the writer is not there; says which files of plug-ins the configuration names.
    ConfigurationError
        If nothing says what wrote the samples.
    """
    versions = folder.read_versions()
    if not versions:
        raise ConfigurationError(f"{folder.versions} does not say what wrote the samples")
    files = list(dict.fromkeys(plugins))
    try:
        return find_format(versions[-1].writer, Catalogue(files), origin=VERSIONS)
    except PluginError as error:
        configuration = load_configuration(folder.configuration) if folder.configuration.is_file() else {}
        left = not_given(configuration, files)
        hint = f". Its samples were made with plug-ins of files; if you trust them, say {as_arguments(left)}" if left else ""
        raise PluginError(f"{str(error).removesuffix('.') if hint else error}{hint}") from None


def not_given(configuration: Mapping[str, Any], plugins: Sequence[str]) -> list[str]:
    """List the files of plug-ins that a configuration names and the user has not.

    Examples
    --------
    >>> not_given({"plugins": ["/a/rain.py", "/a/snow.py"]}, ["/a/snow.py"])
    ['/a/rain.py']
    """
    named = configuration.get("plugins") or ()
    given = {_place(path) for path in plugins}
    return [str(path) for path in ([named] if isinstance(named, str) else named) if _place(str(path)) not in given]


def as_arguments(files: Sequence[str]) -> str:
    """Write files of plug-ins as a shell takes them.

    Examples
    --------
    >>> as_arguments(["rain.py", "wet snow.py"])
    "--plugin rain.py --plugin 'wet snow.py'"
    """
    return " ".join(f"--plugin {shlex.quote(path)}" for path in files)


def _place(path: str) -> Path:
    return Path(path).expanduser().resolve()
