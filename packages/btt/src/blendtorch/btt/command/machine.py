"""What this machine and this Python have, whichever Blender there is."""

import msgspec
import psutil
import torch
from blendtorch.btt.cpus import allowed_cpus
from blendtorch.btt.system_libraries import find_missing, missing_libraries


class MissingLibrary(msgspec.Struct, frozen=True, kw_only=True):
    """A system library that the bpy module needs; `apt` and `conda` name the packages that have it."""

    library: str
    apt: str
    conda: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What `this_machine` found.

    Attributes
    ----------
    cpus : int
        That affinity and control groups allow.
    memory_gib, memory_free_gib : float
    torch : str
        Its version.
    cuda : tuple of str
        The GPUs that torch can use.
    missing_libraries : tuple of MissingLibrary
    install : str
        How to install them.
    """

    cpus: int
    memory_gib: float
    memory_free_gib: float
    torch: str
    cuda: tuple[str, ...]
    missing_libraries: tuple[MissingLibrary, ...]
    install: str


def this_machine() -> Machine:
    """Look at this machine."""
    memory = psutil.virtual_memory()
    missing = [MissingLibrary(library=name, apt=apt, conda=conda) for name, (apt, conda) in find_missing().items()]
    return Machine(
        cpus=allowed_cpus(),
        memory_gib=round(memory.total / 2**30, 1),
        memory_free_gib=round(memory.available / 2**30, 1),
        torch=str(torch.__version__),
        cuda=tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())),
        missing_libraries=tuple(missing),
        install=missing_libraries(),
    )
