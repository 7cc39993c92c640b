"""What BOP's JSON files say of one picture, as it is kept for each sample until the files of a scene are made of it.

The fields of the four entries are named as BOP names them.
"""

from typing import Any, Literal

import msgspec
from blendtorch.core.errors import ConfigurationError, DecodeError
from blendtorch.core.selection import check_part

PICTURES_PER_SCENE = 1000
_ROUNDING = 1e-6  # of a diameter: how far models may differ that another CPU has measured


class Shot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One picture of one camera.

    Attributes
    ----------
    size : tuple of int
        Width and height in pixels.
    camera : dict
        Its entry in `scene_camera.json`.
    gt, info : list of dict
        Its entries in `scene_gt.json` and `scene_gt_info.json`, one for each object.
    annotations : list of dict
        Those of `scene_gt_coco.json`, without ids.
    ignored, unlabelled : dict of str to int
        How many objects are ignored there, and how many are not in it, by reason.
    too_far : int
        How many pixels have no depth since they are too far.
    cut : int
        How many objects the border cuts, where nobody counted what lies beyond it.
    """

    size: tuple[int, int]
    camera: dict[str, Any]
    gt: list[dict[str, Any]]
    info: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    ignored: dict[str, int]
    unlabelled: dict[str, int]
    too_far: int
    cut: int


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample.

    Attributes
    ----------
    format : str
    split : str
        The folder that it is in.
    shots : dict of str to Shot
        By the names of the cameras; the first has an empty one.
    """

    format: Literal["blendtorch-bop/1"] = "blendtorch-bop/1"
    split: str
    shots: dict[str, Shot]

    def __post_init__(self) -> None:
        """Refuse a folder that is elsewhere."""
        check_part(self.split)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a category, as the annotator `poses` describes it, in scene units."""

    diameter: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    mirrored: bool = False

    @property
    def size(self) -> tuple[float, ...]:
        """Its extent along the axes of its frame."""
        return tuple(high - low for low, high in zip(self.low, self.high, strict=True))

    def is_like(self, other: "Model") -> bool:
        """Whether it is the same but for rounding."""
        own, theirs = ((each.diameter, *each.low, *each.high) for each in (self, other))
        far = _ROUNDING * self.diameter
        return self.mirrored == other.mirrored and all(abs(one - two) <= far for one, two in zip(own, theirs, strict=True))


def read_document(content: bytes) -> Document:
    """Read a sample.

    Raises
    ------
    DecodeError
    """
    try:
        return msgspec.json.decode(content, type=Document)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the document of a sample cannot be read: {error}") from None


def read_models(legend: dict[str, Any]) -> dict[int, Model]:
    """Read the models of the categories of a run, if `poses` describes them.

    Parameters
    ----------
    legend : dict
        Of a sample.

    Raises
    ------
    ConfigurationError
        If a category has several: an obj_id of BOP is one model.
    """
    described = legend.get("poses", {}).get("models", {})
    models = msgspec.convert(described, dict[int, list[Model]], strict=False)
    names = legend.get("categories", {})
    for category, each in models.items():
        if len(each) > 1:
            sizes = " and ".join(_told(model) for model in each[:3])
            raise several_models(f"category {category} {names.get(str(category), '')!r} has models of {sizes}")
    return {category: model for category, (model, *_) in models.items()}


def several_models(what: str) -> ConfigurationError:
    """Make the error for what an obj_id of BOP cannot be."""
    return ConfigurationError(
        f"{what}, and BOP has one rigid model for each: give objects of different size or shape category ids of their own, "
        "and draw no scale and no parts that come and go"
    )


def _told(model: Model) -> str:
    sides = " x ".join(f"{side:.6g}" for side in model.size)
    return f"{sides} (diameter {model.diameter:.6g}{', mirrored' if model.mirrored else ''})"
