"""The PyTorch side of blendtorch: launch Blender, receive what it renders as a dataset."""

from typing import Any

from blendtorch.btt import colors, targets
from blendtorch.btt.collation import collate
from blendtorch.btt.configuration import load_configuration
from blendtorch.btt.dataset import RemoteIterableDataset
from blendtorch.btt.drawing import contact_sheet, draw, unbatch
from blendtorch.btt.launch_info import Addresses, LaunchInfo
from blendtorch.btt.launcher import BlenderLauncher
from blendtorch.btt.recording import FileDataset, FileReader, FileRecorder
from blendtorch.btt.runtimes import discover_blender
from blendtorch.btt.streaming import SampleDataset, Stream, stream
from blendtorch.btt.supervision import RestartPolicy
from blendtorch.btt.throughput import InstanceStats, StreamStats
from blendtorch.core.errors import name_to_come

__all__ = [
    "Addresses",
    "BlenderLauncher",
    "FileDataset",
    "FileReader",
    "FileRecorder",
    "InstanceStats",
    "LaunchInfo",
    "RemoteIterableDataset",
    "RestartPolicy",
    "SampleDataset",
    "Stream",
    "StreamStats",
    "collate",
    "colors",
    "contact_sheet",
    "discover_blender",
    "draw",
    "load_configuration",
    "stream",
    "targets",
    "unbatch",
]


def __getattr__(name: str) -> Any:
    raise name_to_come("btt", name, ("DuplexChannel", "env"))
