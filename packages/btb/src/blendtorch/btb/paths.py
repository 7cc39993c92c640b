"""Where the scene lies."""

import sys
from pathlib import Path

import bpy


def add_scene_dir_to_path() -> None:
    """Let the script import modules that lie beside its .blend file. Does nothing for a scene that was never saved."""
    if bpy.data.filepath:
        folder = str(Path(bpy.data.filepath).parent)
        if folder not in sys.path:
            sys.path.append(folder)
