"""The shared libraries that the bpy module takes from the system. Knows the standard library only."""

import ctypes
import sys
from collections.abc import Collection

# Library, and the package that has it: Debian's and Ubuntu's name, conda-forge's name.
_LIBRARIES = {
    "libGL.so.1": ("libgl1", "libgl"),
    "libEGL.so.1": ("libegl1", "libegl"),
    "libX11.so.6": ("libx11-6", "xorg-libx11"),
    "libXrender.so.1": ("libxrender1", "xorg-libxrender"),
    "libXfixes.so.3": ("libxfixes3", "xorg-libxfixes"),
    "libXi.so.6": ("libxi6", "xorg-libxi"),
    "libXxf86vm.so.1": ("libxxf86vm1", "xorg-libxxf86vm"),
    "libxkbcommon.so.0": ("libxkbcommon0", "libxkbcommon"),
    "libSM.so.6": ("libsm6", "xorg-libsm"),
}


def missing_libraries() -> str:
    """Say which system libraries Blender lacks and how to install them; empty where none is missing."""
    missing = find_missing()
    if not missing:
        return ""
    names = ", ".join(missing)
    return f"Blender needs system libraries that are not installed: {names}. Install them first:\n{_commands(missing)}"


def packages_for(text: str) -> str:
    """Say how to install the system libraries that a loader's message names; empty where it names none that we know."""
    named = [library for library in _LIBRARIES if library in text]
    return f"Install what is missing:\n{_commands(named)}" if named else ""


def find_missing() -> dict[str, tuple[str, str]]:
    """Find the missing libraries, each with the package that has it: Debian's and Ubuntu's name, conda-forge's name."""
    if not sys.platform.startswith("linux"):
        return {}
    return {library: packages for library, packages in _LIBRARIES.items() if not _loads(library)}


def _commands(libraries: Collection[str]) -> str:
    apt, conda = (" ".join(_LIBRARIES[library][column] for library in libraries) for column in (0, 1))
    return (
        f"    apt-get install -y {apt}        (Debian, Ubuntu; as root)\n"
        f"    conda install -c conda-forge {conda}        (without root)"
    )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
