"""What a DataLoader worker process needs to know of its parent."""

import multiprocessing
import os
import sys
import threading
import time
from typing import Any

from torch.utils.data import get_worker_info

_POLL_S = 0.5


_watched: set[int] = set()  # processes; a forked one inherits its parent's


def end_with_parent() -> None:
    """In a worker: end this process soon after its parent has died.

    PyTorch's own watch looks only while a worker waits for work: workers that waited for a frame outlived a killed
    trainer for 12 s.
    """
    if get_worker_info() is not None and os.getpid() not in _watched:
        _watched.add(os.getpid())
        threading.Thread(target=_watch, args=(os.getppid(),), name="blendtorch-parent", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_POLL_S)
    os._exit(1)


def stop_event() -> Any:
    """Find the event that tells this worker that its DataLoader is shutting down; None outside of a worker.

    A `break` in the training loop would otherwise wait until each worker has filled the batch that it is at. PyTorch
    shows a dataset no sign of it, so this looks for the event that `_worker_loop` holds; where that has another name
    one day, this returns None: `break` takes longer, and nothing else happens.
    """
    frame: Any = sys._getframe() if get_worker_info() is not None else None
    while frame is not None:
        if frame.f_code.co_name == "_worker_loop":
            return frame.f_locals.get("done_event")
        frame = frame.f_back
    return None


def loader_number() -> int:
    """Compute a number that the workers of one DataLoader iterator share, and those of no other; 0 outside of a worker.

    An iterator starts its workers one after the other, and multiprocessing numbers processes as they are made. (The
    base seed that PyTorch gives the workers would not do: scripts set the same seed before each epoch.)
    """
    info, parent = get_worker_info(), multiprocessing.parent_process()
    if info is None or parent is None:
        return 0
    first = int(multiprocessing.current_process()._identity[-1]) - info.id
    return (int(parent.pid or 0) << 31) + first  # several trainers may share one dataset
