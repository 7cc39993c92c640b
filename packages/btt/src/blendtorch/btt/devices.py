"""Which GPU each instance computes on: environment variables that its drivers read."""

import os
from collections.abc import Sequence

from blendtorch.core.errors import LaunchError

# CUDA's drivers read the first, AMD's both, and the second before the first.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def deal_devices(devices: Sequence[int | str] | None, num_instances: int) -> list[str]:
    """Deal GPUs to instances in turn.

    Parameters
    ----------
    devices : sequence of int or str, optional
        Numbers as torch counts them in this process, so among those that the environment variables leave it; or text, passed on
        as it is: a UUID such as 'GPU-8932f937', or a number of the machine.
    num_instances : int

    Returns
    -------
    list of str
        What `VARIABLES` are to be for each instance. Empty where no devices were given.

    Raises
    ------
    LaunchError
        If there is none among them, or one that cannot be.

    References
    ----------
    NVIDIA, CUDA C++ Programming Guide, CUDA environment variables; AMD, ROCm, GPU isolation techniques.

    Examples
    --------
    >>> deal_devices(["GPU-5", "GPU-7"], 3)
    ['GPU-5', 'GPU-7', 'GPU-5']
    """
    if devices is None:
        return []
    if isinstance(devices, (str, int)) or not (chosen := list(devices)):
        raise LaunchError(f"devices is {devices!r}: expected one GPU or more, such as [0, 1]; leave it out for all of them")
    names = [_name(device, place) for place, device in enumerate(chosen)]
    return [names[number % len(names)] for number in range(num_instances)]


def _name(device: int | str, place: int) -> str:
    if isinstance(device, bool) or not isinstance(device, (int, str)) or device == "":
        raise LaunchError(f"devices[{place}] is {device!r}: expected the number of a GPU, or its UUID as text")
    if isinstance(device, str):
        return device
    seen = {variable: os.environ[variable] for variable in reversed(VARIABLES) if variable in os.environ}
    if not seen:
        if device < 0:
            raise LaunchError(f"devices[{place}] is {device}: expected 0 or more")
        return str(device)
    variable, text = next(iter(seen.items()))
    left = [name.strip() for name in text.split(",") if name.strip()]
    if not 0 <= device < len(left):
        raise LaunchError(
            f"devices[{place}] is {device}, and {variable}={text!r} leaves this process {len(left)}, counted from 0: "
            f"choose one of these, or pass {str(device)!r}, as text, to name it beyond them"
        )
    return left[device]
