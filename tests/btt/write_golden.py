"""Write the golden recordings that are not there yet. What is there is never rewritten."""

import functools
import importlib.util
from pathlib import Path

from blendtorch.btt.recording import files
from blendtorch.btt.recording.recorder import Recorder, frame_of

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("test_recording_golden", HERE / "test_recording_golden.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for name, (items, categories) in module.RECORDINGS.items():
    prefix = HERE / "golden" / name
    if files.files_of(prefix):
        continue
    recorder = Recorder(functools.partial(files.create, prefix, 0), f"{name:0<32}", 0)
    for number, item in enumerate(items):
        recorder.record(frame_of(item, number), lambda categories=categories: categories)
    recorder.close()
    print("wrote", *files.files_of(prefix))
