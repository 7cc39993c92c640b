"""Write the golden bytes of messages that have none yet. What is there is never rewritten."""

import importlib.util
from pathlib import Path

import msgspec
from blendtorch.core import wire

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("test_wire", HERE / "test_wire.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for name, message in module.MESSAGES.items():
    path = HERE / "golden" / f"{name}.bin"
    if not path.exists():
        path.write_bytes(msgspec.msgpack.encode([bytes(part) for part in wire.encode(message)]))
        print("wrote", path)
