"""Recording and replaying: Arrow streams of exact messages, with an index beside each."""

from blendtorch.btt.recording.dataset import FileDataset
from blendtorch.btt.recording.file_recorder import FileRecorder
from blendtorch.btt.recording.reader import FileReader

__all__ = ["FileDataset", "FileReader", "FileRecorder"]
