"""Files that are there whole or not at all, whatever becomes of who writes them."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers never see half of it.

    A process that is killed meanwhile leaves what was there before, and a draft whose name ends in `.part`.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")  # several processes may write one at the same time
    draft.write_bytes(content)
    draft.replace(path)
