"""What an address looks like, and where one may listen."""

import errno
import ipaddress
import socket
import time

import zmq
from blendtorch.core.errors import AddressError

MAX_IPC_PATH_BYTES = 107  # sockaddr_un.sun_path, with its final zero


def check_address(address: str) -> None:
    """Refuse an address that no socket understands.

    Raises
    ------
    AddressError
        Says what an address looks like.
    """
    protocol, separator, rest = address.partition("://")
    if not separator or not rest or protocol not in ("tcp", "ipc"):
        raise AddressError(f"{address!r} is no address: expected tcp://host:port or ipc:///path")
    if protocol == "ipc" and len(rest.encode()) > MAX_IPC_PATH_BYTES:
        raise AddressError(
            f"{address} is too long for a socket, {MAX_IPC_PATH_BYTES} bytes at most: "
            "use a shorter socket name, or a shorter TMPDIR"
        )
    if protocol == "tcp" and not rest.rpartition(":")[2].isdigit():
        raise AddressError(f"{address!r} has no port: expected tcp://host:port")


def is_loopback(address: str) -> bool:
    """Whether a tcp address is within this machine, as it is written; names other than localhost are not looked up."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_taken_path(address: str) -> None:
    """Refuse an ipc address where somebody listens: libzmq would take it over, and the other would wait for ever."""
    if _listens(address):
        raise AddressError(f"{address} is in use: another publisher listens there")


def wait_for_free_path(address: str) -> None:
    """Wait until nobody listens at an ipc address, a second at most: libzmq closes a socket after its `close` has returned."""
    deadline = time.monotonic() + 1.0
    while _listens(address) and time.monotonic() < deadline:
        time.sleep(0.001)


def _listens(address: str) -> bool:
    if not address.startswith("ipc://"):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("ipc://")) == 0


def bind_error(address: str, error: zmq.ZMQError) -> AddressError:
    """Say why nobody can listen at an address."""
    if error.errno == errno.EADDRINUSE:
        return AddressError(f"{address} is in use: another launch listens there; end it, or choose another start_port")
    return AddressError(f"cannot listen on {address}: {error.strerror}")
