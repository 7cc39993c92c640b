"""What a launch tells its consumers: addresses, commands, logs."""

import json
import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from subprocess import Popen
from typing import IO, Any, Self

import msgspec
from blendtorch.core.errors import LaunchError
from blendtorch.core.launch import KEYS
from blendtorch.core.transport import Keys


class Addresses(list[str]):
    """The addresses of one named socket, one per instance.

    Attributes
    ----------
    launch_folder : Path or None
        The private folder of the launch, where a consumer on the same machine learns how instances end.
    keys : Keys or None
        What a consumer needs to connect by tcp. They are in the launch folder; on another machine they come with the
        launch information.
    """

    launch_folder: Path | None

    def __init__(
        self, addresses: Iterable[str] = (), launch_folder: str | PathLike[str] | None = None, keys: Keys | None = None
    ) -> None:
        super().__init__(addresses)
        self.launch_folder = None if launch_folder is None else Path(launch_folder)
        if keys is None and self.launch_folder is not None and (path := self.launch_folder / KEYS).exists():
            keys = Keys.load(path).for_consumers()
        self.keys = keys

    def __reduce__(self) -> Any:
        return type(self), (list(self), self.launch_folder, self.keys)


class LaunchInfo:
    """Running Blender instances.

    Attributes
    ----------
    addresses : dict of str to Addresses
        By socket name.
    commands : list of list of str
        The command line of each instance.
    processes : list of subprocess.Popen or None
        None where it was read from a file.
    logs : list of Path
        Where each instance's output goes.
    devices : list of str
        The GPU that each instance sees; empty where `devices` was not given.
    """

    def __init__(
        self,
        addresses: dict[str, Addresses],
        commands: list[list[str]],
        processes: list[Popen[bytes]] | None = None,
        logs: Iterable[Path] = (),
        launch_folder: Path | None = None,
        devices: Iterable[str] = (),
    ) -> None:
        self.addresses = addresses
        self.commands = commands
        self.processes = processes
        self.logs = list(logs)
        self.launch_folder = launch_folder
        self.devices = list(devices)

    @staticmethod
    def save_json(file: str | PathLike[str] | IO[str], launch_info: "LaunchInfo") -> None:
        """Write everything but the processes to a path or an open text file.

        With the keys of tcp sockets, for a consumer on another machine: a path is readable for its owner alone.
        """
        keys = next((addresses.keys for addresses in launch_info.addresses.values() if addresses.keys is not None), None)
        text = json.dumps(
            {
                "addresses": launch_info.addresses,
                "commands": launch_info.commands,
                "logs": [str(log) for log in launch_info.logs],
                "launch_folder": launch_info.launch_folder and str(launch_info.launch_folder),
                "devices": launch_info.devices,
                **({} if keys is None else {"keys": msgspec.to_builtins(keys)}),
            },
            indent=4,
        )
        if isinstance(file, (str, PathLike)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
                os.fchmod(opened.fileno(), 0o600)  # it may have been there before
                opened.write(text)
        else:
            file.write(text)

    @classmethod
    def load_json(cls, file: str | PathLike[str] | IO[str]) -> Self:
        """Read what `save_json` wrote, from a path or an open text file.

        On another machine the launch folder is out of reach, and left out.

        Raises
        ------
        LaunchError
            If it is no such file.
        """
        text = Path(file).read_text() if isinstance(file, (str, PathLike)) else file.read()
        try:
            data = json.loads(text)
            folder = data.get("launch_folder")
            folder = Path(folder) if folder and Path(folder).is_dir() else None
            keys = msgspec.convert(data["keys"], Keys) if "keys" in data else None
            addresses = {name: Addresses(values, folder, keys) for name, values in data["addresses"].items()}
            logs = [Path(log) for log in data.get("logs", [])]
            return cls(addresses, data["commands"], None, logs, folder, data.get("devices", []))
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise LaunchError(f"{file} holds no launch information: {error!r}") from None
