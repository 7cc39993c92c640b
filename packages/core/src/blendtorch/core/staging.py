"""One small document for each sample, until all are there: what formats gather in a common file is kept so meanwhile.

Documents stay, so that a later run may add samples, and the common files can be made anew of all of them.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from blendtorch.core.atomic import LOCK, locked, write_atomically

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

    def locked(self) -> AbstractContextManager[None]:
        """Let one process at a time gather the documents; others wait."""
        return locked(self.folder)

    def clear(self) -> None:
        """Remove all documents, drafts too, and the folder, if nothing else is in it."""
        (self.folder / LOCK).unlink(missing_ok=True)
        for path in list(self.folder.iterdir()):
            if (_NAME.fullmatch(path.name) and path.suffix == self._suffix) or _DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def picture_stems(index: int, cameras: Iterable[str]) -> dict[str, str]:
    """Name the pictures of a sample, without a suffix, by the names of their cameras.

    Examples
    --------
    >>> picture_stems(7, ["", "left", "Camera 1", "Camera:1"])
    {'': '000007', 'left': '000007_left', 'Camera 1': '000007_Camera_1', 'Camera:1': '000007_Camera_1_2'}
    """
    stems: dict[str, str] = {}
    for camera in cameras:
        # What every file system takes; some do not tell small letters from capitals.
        plain = f"{index:06}" + (f"_{re.sub(r'[^A-Za-z0-9.-]', '_', camera)}" if camera else "")
        taken = {stem.lower() for stem in stems.values()}
        tries = [plain, *(f"{plain}_{number}" for number in range(2, len(stems) + 3))]
        stems[camera] = next(each for each in tries if each.lower() not in taken)
    return stems
