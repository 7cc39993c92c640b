"""What a stream records: the processes of one dataset, under one prefix."""

import functools
import os
from pathlib import Path
from typing import Any

from blendtorch.btt.recording import files
from blendtorch.btt.recording.locks import PrefixLock
from blendtorch.btt.recording.recorder import Recorder, new_identity
from blendtorch.core.errors import RecordingError
from torch.utils.data import get_worker_info


class Recording:
    """A recording that is being made; goes to workers.

    Parameters
    ----------
    prefix : path
        Of its files.
    allow_pickle : bool

    Raises
    ------
    RecordingError
        If there is a recording with this prefix already, or somebody else makes one just now.
    """

    def __init__(self, prefix: str | os.PathLike[str], allow_pickle: bool) -> None:
        check_prefix(prefix)
        self.prefix = Path(prefix).absolute()  # workers may be elsewhere
        self._lock: PrefixLock | None = PrefixLock(self.prefix)
        check_prefix(prefix)  # somebody else may have been faster
        self._identity = new_identity()
        self._allow_pickle = allow_pickle

    def recorder(self) -> Recorder:
        """Make the recorder of this process."""
        info = get_worker_info()
        worker = 0 if info is None else info.id
        create = functools.partial(files.create, self.prefix, worker)
        return Recorder(create, self._identity, worker, self._allow_pickle)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}


def check_prefix(prefix: str | os.PathLike[str]) -> None:
    """Refuse a prefix that cannot be recorded to.

    Raises
    ------
    RecordingError
        If it has a recording already, or its folder is not there.
    """
    path = Path(prefix).absolute()
    if not path.name or not path.parent.is_dir():
        raise RecordingError(f"cannot record to {os.fspath(prefix)}: there is no folder {path.parent}. Make it first")
    if there := files.files_of(path):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise RecordingError(
            f"there is a recording with the prefix {os.fspath(prefix)} already ({there[0].name}{more}): nothing recorded is "
            "overwritten. Remove its files, or give another prefix"
        )
