"""Files that are there whole or not at all, whatever becomes of who writes them."""

import os
from pathlib import Path

DRAFT = ".part"  # how the name of a file ends that is not whole yet


def draft_of(path: Path) -> Path:
    """Name what a process writes a file under, before it gives it its name: several may write one at the same time."""
    return path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers never see half of it.

    A process that is killed meanwhile leaves what was there before, and a draft whose name ends in `.part`.
    """
    draft = draft_of(path)
    draft.write_bytes(content)
    draft.replace(path)
