"""One small document for each sample, until all are there: what formats gather in a common file is kept so meanwhile.

Documents stay, so that a later run may add samples, and the common files can be made anew of all of them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from blendtorch.core.atomic import write_atomically

_NAME = re.compile(r"(\d{6,})\.[a-z]+")
_DRAFT = re.compile(r"\d{6,}\.[a-z]+\.\d+\.part")


class Stage:
    """The documents of a folder; several processes may write at the same time.

    Parameters
    ----------
    folder : Path
        Theirs alone; made where it is not there.
    suffix : str
        Of their names, with the dot.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stage = Stage(Path(folder) / ".samples", ".json")
    ...     stage.put(7, b"{}")
    ...     print(sorted(stage.indexes()), stage.get(7), list(stage))
    [7] b'{}' [7]
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self._suffix = suffix
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, index: int) -> Path:
        """Return where the document of a sample is, or would be."""
        return self.folder / f"{index:06}{self._suffix}"

    def indexes(self) -> frozenset[int]:
        """List the samples that have a document."""
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir() if path.suffix == self._suffix)
        numbers = (int(match[1]) for match in matches if match and match[1] == f"{int(match[1]):06}")
        return frozenset(numbers)

    def __iter__(self) -> Iterator[int]:
        """Go through the samples that have a document, in order."""
        return iter(sorted(self.indexes()))

    def put(self, index: int, content: bytes) -> None:
        """Write the document of a sample, as a whole."""
        write_atomically(self.path(index), content)

    def get(self, index: int) -> bytes:
        """Read it.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        return self.path(index).read_bytes()

    def clear(self) -> None:
        """Remove all documents, drafts of killed processes too, and the folder, if nothing else is in it."""
        for path in list(self.folder.iterdir()):
            if (_NAME.fullmatch(path.name) and path.suffix == self._suffix) or _DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
