"""Where the other end of a connection is: in a process of this machine, or elsewhere."""

import contextlib
import functools
import os
import secrets
from pathlib import Path

_MAX_PID = 2**31


@functools.cache
def this_machine() -> str:
    """Name the place where a process number counts: this boot of this machine, and this container."""
    with contextlib.suppress(OSError):
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{namespace}"
    return secrets.token_hex()


def local_pid(machine: str, pid: int) -> int | None:
    """Return a process number where it counts here, and is one."""
    return pid if machine == this_machine() and 0 < pid < _MAX_PID else None


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # killed, and its parent has not looked yet
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True
