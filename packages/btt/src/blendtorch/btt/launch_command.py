"""`blendtorch-launch`: launch Blender instances from the command line, for consumers that connect from elsewhere."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blendtorch.btt.launch_info import LaunchInfo
from blendtorch.btt.launcher import BlenderLauncher
from blendtorch.core.errors import BlendtorchError

_DESCRIPTION = """\
Launch Blender instances and wait until they end.

ARGUMENTS is a JSON file with the keyword arguments of btt.BlenderLauncher:

    {"scene": "cube.blend", "script": "cube.blend.py", "num_instances": 2, "named_sockets": ["DATA"], "seed": 10}

Where the instances listen is written to a file; a consumer reads it with btt.LaunchInfo.load_json and gives
launch_info.addresses["DATA"] to btt.RemoteIterableDataset. For consumers on other machines
add "bind_addr": "primaryip". Ctrl-C and SIGTERM end the instances.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "blendtorch-launch", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arguments", metavar="ARGUMENTS", help="JSON file with arguments for btt.BlenderLauncher")
    parser.add_argument(
        "--out-launch-info",
        default="launch_info.json",
        metavar="FILE",
        help="where to write the addresses (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with BlenderLauncher(**_read(options.arguments)) as launcher:
            if launcher.launch_info is not None:
                LaunchInfo.save_json(options.out_launch_info, launcher.launch_info)
            launcher.wait()
    except (BlendtorchError, TypeError) as error:  # TypeError: an argument that BlenderLauncher does not have
        print(f"blendtorch-launch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _terminate(number: int, _frame: object) -> None:
    """End as Ctrl-C does: services and containers are stopped with SIGTERM."""
    sys.exit(128 + number)


def _read(path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise BlendtorchError(f"cannot read {path}: {error}") from None
    if not isinstance(arguments, dict):
        raise BlendtorchError(f"{path}: expected a JSON object with the arguments of btt.BlenderLauncher")
    return arguments
