"""The options of the writer, and what samples must have."""

from collections.abc import Collection
from typing import Annotated

import msgspec
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.selection import LabelOptions

_PROVIDERS = {
    "camera": "blendtorch-standard",
    "poses": "blendtorch-standard",
    "boxes2d_loose": "blendtorch-standard",
    "boxes2d_tight": "blendtorch-gbuffer",
    "instance_ids": "blendtorch-gbuffer",
    "visibility": "blendtorch-gbuffer",
    "masks_amodal": "blendtorch-gbuffer",
    "depth": "blendtorch-gbuffer",
}
# Of what lies beyond the border visibility counts only where it is asked to.
NEEDED = tuple({"name": name, "beyond": True} if name == "visibility" else name for name in _PROVIDERS)


class BopOptions(LabelOptions, frozen=True, kw_only=True):
    """Options of `bop`.

    Attributes
    ----------
    split : dict of str to float
        The names are those of the folders: `train_pbr`, `val`.
    unit_mm : float
        How long a scene unit is, in mm: lengths in BOP are mm.
    depth_scale : float or None
        Mm for each step of the depth maps, which have 65535: 0.1 reaches 6.5 m. What is farther has no depth then. None: for
        each picture the smallest of 0.1, 1, 10, ... that reaches all that is in it.
    png_level : int
        How hard PNG files are compressed, from 0 to 9.
    """

    split: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=lambda: {"train_pbr": 1.0})
    unit_mm: Annotated[float, msgspec.Meta(gt=0)] = 1000.0
    depth_scale: Annotated[float, msgspec.Meta(gt=0)] | None = None
    png_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1

    def __post_init__(self) -> None:
        """Refuse what the format has no place for."""
        super().__post_init__()
        if self.loose:
            raise ValueError("loose: BOP is made of masks, and loose boxes are none; write coco or yolo with it")
        if "models" in self.split:
            raise ValueError("split: BOP keeps the models in a folder 'models': choose another name, as train_pbr")


def require(names: Collection[str]) -> None:
    """Refuse samples that lack what BOP needs.

    Raises
    ------
    ConfigurationError
    """
    there = {name.partition(".")[0] for name in names}
    if "image" not in there:
        raise ConfigurationError("the samples have no image: choose a renderer that makes pictures")
    missing = [name for name in _PROVIDERS if name not in there]
    if missing:
        having = "; ".join(
            f"{provider} has {', '.join(own)}"
            for provider in dict.fromkeys(_PROVIDERS.values())
            if (own := [name for name in missing if _PROVIDERS[name] == provider])
        )
        raise ConfigurationError(
            f"the samples have no {', '.join(missing)}, which BOP needs: add {'it' if len(missing) == 1 else 'them'} to the "
            f"annotators of the configuration ({having})"
        )
