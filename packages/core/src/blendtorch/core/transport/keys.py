"""CURVE: who may connect to a launch's tcp sockets, and nobody reads along.

A launch makes two key pairs: one for its publishers, one for its consumers. Publishers let in who has the consumers' secret
key, and consumers talk to who has the publishers'.
"""

import functools
import os
from pathlib import Path

import msgspec
import zmq
from blendtorch.core.errors import LaunchError
from zmq.auth.thread import ThreadAuthenticator


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a launch, as Z85 text.

    Attributes
    ----------
    server_public, server_secret : str
        Of its publishers. The secret one is empty where a consumer has no need of it.
    client_public, client_secret : str
        Of its consumers.

    Examples
    --------
    >>> keys = Keys.make()
    >>> keys
    Keys(...)
    >>> keys.for_consumers().server_secret
    ''
    """

    server_public: str
    client_public: str
    client_secret: str = ""
    server_secret: str = ""

    @classmethod
    def make(cls) -> "Keys":
        """Make new ones."""
        (server_public, server_secret), (client_public, client_secret) = zmq.curve_keypair(), zmq.curve_keypair()
        return cls(
            server_public=server_public.decode(),
            server_secret=server_secret.decode(),
            client_public=client_public.decode(),
            client_secret=client_secret.decode(),
        )

    def for_consumers(self) -> "Keys":
        """Leave out what only publishers need."""
        return msgspec.structs.replace(self, server_secret="")

    def save(self, path: Path) -> None:
        """Write them to a new file that only its owner can read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> "Keys":
        """Read what `save` wrote.

        Raises
        ------
        LaunchError
            If the file holds something else.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.DecodeError:
            raise LaunchError(f"{path} holds no keys of a launch") from None  # and is not shown

    def __repr__(self) -> str:
        return "Keys(...)"  # errors and logs show what they are given


def guard(socket: "zmq.Socket[bytes]", keys: Keys, domain: str) -> None:
    """Let only this launch's consumers connect to a socket that is about to be bound.

    Raises
    ------
    LaunchError
        If the publishers' secret key is missing.
    """
    if not keys.server_secret:
        raise LaunchError("these keys are for consumers: a publisher needs its secret key, too")
    _authenticator(os.getpid()).configure_curve_callback(domain=domain, credentials_provider=_Admission(keys.client_public))
    socket.zap_domain = domain.encode()
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = keys.server_public.encode(), keys.server_secret.encode()


def unlock(socket: "zmq.Socket[bytes]", keys: Keys) -> None:
    """Let a socket that is about to connect show a consumer's key.

    Raises
    ------
    LaunchError
        If a key is malformed.
    """
    try:
        socket.curve_serverkey = keys.server_public.encode()
        socket.curve_publickey, socket.curve_secretkey = keys.client_public.encode(), keys.client_secret.encode()
    except zmq.ZMQError:
        raise LaunchError("these keys are malformed: each has 40 characters, as Keys.make() gives them") from None


@functools.cache
def push_context(process: int) -> "zmq.Context[zmq.Socket[bytes]]":  # noqa: ARG001 - a forked process needs its own
    """Make the context of all senders of a process; it is never terminated.

    To terminate one per sender hung once in a hundred times, where a consumer left just then.
    """
    return zmq.Context()


@functools.cache
def _authenticator(process: int) -> ThreadAuthenticator:
    authenticator = ThreadAuthenticator(push_context(process))
    authenticator.start()
    return authenticator


class _Admission:
    """Answers libzmq, which knows by then that the other end has the secret key to the one it shows."""

    def __init__(self, client_public: str) -> None:
        self._client_public = client_public.encode()

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - as zmq.auth calls it
        return key == self._client_public
