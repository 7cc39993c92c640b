"""Each package works without the other side: every module is imported with the forbidden ones blocked."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BLENDER = ["bpy", "mathutils", "gpu"]
HUGGING_FACE = ["PIL", "pyarrow", "datasets", "huggingface_hub"]
FORBIDDEN = {
    "packages/core": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb"],
    "packages/btt": [*BLENDER, "blendtorch.btb"],
    "packages/btb": ["torch", "blendtorch.btt"],
    "plugins/blendtorch-standard": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb"],
    "plugins/blendtorch-cycles": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb"],
    "plugins/blendtorch-gbuffer": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb"],
    # A Blender that is lent the plug-ins has none of the libraries that write files.
    "plugins/blendtorch-images": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb", "PIL", "OpenEXR"],
    "plugins/blendtorch-coco": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb", "PIL", "pycocotools"],
    "plugins/blendtorch-yolo": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb", "PIL", "contourpy"],
    "plugins/blendtorch-bop": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb", "PIL"],
    "plugins/blendtorch-webdataset": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb", "PIL", "webdataset"],
    "plugins/blendtorch-huggingface": ["torch", *BLENDER, "blendtorch.btt", "blendtorch.btb", *HUGGING_FACE],
}
PACKAGES = [name for name in FORBIDDEN if name.startswith("packages")]
CODE = """
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == other or name.startswith(other + ".") for other in {forbidden!r}):
            raise ImportError(name + " is forbidden here")
sys.meta_path.insert(0, Block())
for name in {modules!r}:
    importlib.import_module(name)
"""


def modules(package):
    source = REPOSITORY / package / "src"
    for path in sorted(source.rglob("*.py")):
        yield ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_every_module_imports_without_the_other_side(package):
    names = list(modules(package))
    assert len(names) > 1
    code = CODE.format(forbidden=FORBIDDEN[package], modules=names)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_the_namespace_is_shared_and_typed(package):
    source = REPOSITORY / package / "src" / "blendtorch"
    assert not (source / "__init__.py").exists()
    assert (source / Path(package).name / "py.typed").exists()


def test_public_names_are_there_and_sorted():
    code = (
        "from blendtorch import btt, btb, core\nimport blendtorch.btt as again\nassert again is btt\n"
        "for module in (btt, btb, core):\n"
        "    assert module.__all__ == sorted(module.__all__, key=lambda n: (not n[0].isupper(), n)), module\n"
        "    assert all(hasattr(module, name) for name in module.__all__)\n"
        "from blendtorch.btb import utils\nimport blendtorch.btb.camera\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
