"""Choosing the addresses of a launch."""

import contextlib
import itertools
import socket
import tempfile
from pathlib import Path

from blendtorch.core.errors import AddressError, LaunchError
from blendtorch.core.transport import MAX_IPC_PATH_BYTES, check_address

DEFAULT_START_PORT = 11000


def make_launch_folder() -> Path:
    """Make a private folder (0700), with a path short enough for the sockets in it."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a private folder in it
        folder = Path(tempfile.mkdtemp(prefix="blendtorch-", dir=parent))
        if len(str(folder)) <= MAX_IPC_PATH_BYTES - 32:
            break
        folder.rmdir()
    return folder


def make_addresses(
    names: list[str], num_instances: int, folder: Path, proto: str, bind_addr: str, start_port: int
) -> dict[str, list[str]]:
    """Choose an address for each named socket of each instance.

    Parameters
    ----------
    names : list of str
    num_instances : int
    folder : Path
        Where ipc sockets lie.
    proto : {'ipc', 'tcp'}
    bind_addr : str
        For tcp: a host, or 'primaryip' for this machine's address in its network.
    start_port : int
        For tcp: the first of consecutive ports.

    Raises
    ------
    AddressError
        If an address is malformed, or a port is in use.
    LaunchError
        If a name or the protocol is none.
    """
    for name in names:
        if not name or not set(name) <= _NAME_CHARACTERS:
            raise LaunchError(f"socket name {name!r}: use letters, digits, '_' and '-'")
    if proto == "ipc":
        addresses = {name: [f"ipc://{folder / name}-{number}" for number in range(num_instances)] for name in names}
    elif proto == "tcp":
        host, ports = _primary_ip() if bind_addr == "primaryip" else bind_addr, itertools.count(start_port)
        addresses = {name: [f"tcp://{host}:{next(ports)}" for _ in range(num_instances)] for name in names}
    else:
        raise LaunchError(f"proto {proto!r}: expected 'ipc' or 'tcp'")
    for address in itertools.chain(*addresses.values()):
        check_address(address)
        if proto == "tcp":
            _check_free(address)
    return addresses


_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def _check_free(address: str) -> None:
    """Say before Blender starts what its socket would say seconds later."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, OverflowError) as error:
        raise AddressError(
            f"cannot listen on {address}: {error}. Another launch may listen there: end it, or choose another start_port"
        ) from None


def _primary_ip() -> str:
    """Find the address that this machine has in its network; 127.0.0.1 without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("10.255.255.255", 1))  # a datagram socket sends nothing to connect: it only picks a route
        return str(probe.getsockname()[0])
    return "127.0.0.1"
