"""What a script prints: into the log of its instance, as long as that takes it.

On a full disk `print` would raise, in the middle of somebody's script.
"""

import io
import sys
from typing import Any


class _ForgivingFile(io.FileIO):
    """A file that takes everything, and keeps what it can."""

    def write(self, data: Any) -> int:
        """Write; what does not fit is lost."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def forgive_full_disks() -> None:
    """Let `print` and the like never fail for what becomes of their text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            file = _ForgivingFile(stream.fileno(), "wb", closefd=False)
            setattr(sys, name, io.TextIOWrapper(file, stream.encoding, "backslashreplace", write_through=True))
