"""What a user can choose."""

from typing import Annotated, Literal

from blendtorch.core import Options
from msgspec import Meta

from blendtorch_cycles.passes import PASSES


class CyclesOptions(Options, frozen=True, kw_only=True):
    """Options of `cycles`.

    Attributes
    ----------
    passes : tuple of str
        What it emits: 'image', 'linear', 'depth', 'normals', 'position', 'uv', 'instance_ids'; see `blendtorch_cycles.passes`.
    samples : int
        Paths per pixel of a picture; with a noise threshold, at most.
    noise_threshold : float
        A pixel that is less noisy gets no more samples; 0 gives each the same number.
    denoiser : {'off', 'auto', 'openimagedenoise', 'optix'}
        'auto' is OptiX where OptiX renders, else OpenImageDenoise, else none: it says so then.
    device : {'auto', 'cpu', 'gpu', 'cuda', 'optix', 'hip', 'metal', 'oneapi'}
        'gpu' is the fastest interface to a GPU that is there; 'auto' the same, or the CPU where there is none.
    time_limit_s : float
        Ends the sampling of a picture, in seconds; 0 for no limit. With a limit a picture depends on how busy the machine is.
    """

    passes: tuple[str, ...] = ("image",)
    samples: Annotated[int, Meta(ge=1)] = 32
    noise_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    denoiser: Literal["off", "auto", "openimagedenoise", "optix"] = "off"
    device: Literal["auto", "cpu", "gpu", "cuda", "optix", "hip", "metal", "oneapi"] = "auto"
    time_limit_s: Annotated[float, Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        """Check the passes."""
        if unknown := [name for name in self.passes if name not in PASSES]:
            raise ValueError(f"passes: there is no pass {unknown[0]!r}; there are {', '.join(PASSES)}")
        if not self.passes:
            raise ValueError(f"passes is empty: name what it is to emit; there are {', '.join(PASSES)}")
        if len(set(self.passes)) < len(self.passes):
            raise ValueError(f"passes: {list(self.passes)} names one twice")
