"""The shared libraries that the bpy module takes from the system. Knows the standard library only."""

import ctypes
import sys

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
    if not sys.platform.startswith("linux"):
        return ""
    missing = [library for library in _LIBRARIES if not _loads(library)]
    if not missing:
        return ""
    apt, conda = (" ".join(_LIBRARIES[library][column] for library in missing) for column in (0, 1))
    return (
        f"Blender needs system libraries that are not installed: {', '.join(missing)}. Install them first:\n"
        f"    apt-get install -y {apt}        (Debian, Ubuntu; as root)\n"
        f"    conda install -c conda-forge {conda}        (without root)"
    )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
