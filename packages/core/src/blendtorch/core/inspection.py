"""What a trainer asks of a Blender without launching a run, and what comes back: files of one private folder.

The trainer writes `question.json` and names it on Blender's command line. Blender writes its answers to `answers.jsonl`, one a
line, as it goes: what it had said before it died is known.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
from blendtorch.core.assets import Asset
from blendtorch.core.inventory import Inventory

ANSWERS = "answers.jsonl"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer wants to know.

    Attributes
    ----------
    topics : tuple of {'inventory', 'capabilities', 'checks', 'sizes', 'survey'}
        In this order: the plug-ins there; what that Blender can do; whether its plug-ins keep their promises; how large
        models are; what a scene has.
    plugins : tuple of str
        Absolute paths of modules of plug-ins that are not packaged.
    checked : tuple of (str, str)
        Kind and name of plug-ins that are not to be checked again.
    assets : tuple of Asset
        Whose models are measured; see `blendtorch.core.assets.resolve`.
    scene : str
        Absolute path of a .blend file, to be surveyed.
    """

    topics: tuple[Literal["inventory", "capabilities", "checks", "sizes", "survey"], ...]
    plugins: tuple[str, ...] = ()
    checked: tuple[tuple[str, str], ...] = ()
    assets: tuple[Asset, ...] = ()
    scene: str = ""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, tag="capabilities"):
    """What a Blender can do on this machine.

    Attributes
    ----------
    blender : str
        Its version.
    engines : tuple of str
        As `scene.render.engine` wants them.
    device : str
        What draws Workbench and EEVEE; empty where nothing can.
    software : bool
        Whether that is a program that stands in for a GPU.
    frame_ms : float
        One Workbench frame of 320x240, read back; median of five.
    drawing_error : str
        Why nothing can be drawn.
    cycles_devices : tuple of str
        "CPU: AMD EPYC", "OPTIX: NVIDIA L4".
    cycles_memory_error : str
        Why the passes of Cycles cannot be read from memory; empty where they can.
    """

    blender: str
    engines: tuple[str, ...]
    device: str = ""
    software: bool = False
    frame_ms: float = 0.0
    drawing_error: str = ""
    cycles_devices: tuple[str, ...] = ()
    cycles_memory_error: str = ""


class CheckBegun(msgspec.Struct, frozen=True, kw_only=True, tag="check_begun"):
    """The checks of a plug-in begin: if nothing more comes, this is where Blender died."""

    kind: str
    name: str


class CheckOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a plug-in.

    Attributes
    ----------
    name : str
    error : str
        Empty where it passed.
    skipped : str
        Why it was not run.
    """

    name: str
    error: str = ""
    skipped: str = ""


class Checked(msgspec.Struct, frozen=True, kw_only=True, tag="checked"):
    """The checks of a plug-in.

    Attributes
    ----------
    kind, name : str
    outcomes : tuple of CheckOutcome
    seconds : float
    """

    kind: str
    name: str
    outcomes: tuple[CheckOutcome, ...]
    seconds: float = 0.0


class Survey(msgspec.Struct, frozen=True, kw_only=True, tag="survey"):
    """What a scene has, so that what changes in it can start from there.

    Attributes
    ----------
    objects : int
        Of interest.
    distance : float
        Of the camera from the middle of them, the mean of their origins, in scene units.
    elevation_deg, azimuth_deg : float
        Of the camera, seen from there; as the randomizer `camera_shell` counts them.
    camera_fixed, lamps_fixed : str
        Why a randomizer cannot set the camera, or the power of the lamps: a parent, an animation, or that there is none. Empty
        where it can.
    """

    objects: int
    distance: float = 0.0
    elevation_deg: float = 0.0
    azimuth_deg: float = 0.0
    camera_fixed: str = ""
    lamps_fixed: str = ""


class Size(msgspec.Struct, frozen=True, kw_only=True, tag="size"):
    """How large a model is.

    Attributes
    ----------
    file : str
        Its absolute path.
    dimensions : tuple of float
        Of its box along x, y and z, in metres.
    radius : float
        Of the sphere about its origin that holds it, in metres.
    faces : int
    colored : bool
        Whether its colours come from images, or from its vertices.
    notices : tuple of str
        What a user should know: a size that is hardly right, for example.
    """

    file: str
    dimensions: tuple[float, float, float]
    radius: float = 0.0
    faces: int = 0
    colored: bool = False
    notices: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    """The question could not be answered.

    Attributes
    ----------
    error : str
    traceback : str
        Empty where the error says all: of a file that cannot be read, for example.
    """

    error: str
    traceback: str


Answer = Inventory | Capabilities | CheckBegun | Checked | Size | Survey | Refusal
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Answer)


def decode_answer(line: bytes) -> Answer:
    """Decode one line of the answers.

    Raises
    ------
    msgspec.DecodeError
        If it is none.
    """
    answer: Answer = _decoder.decode(line)
    return answer


def answers_beside(question: Path) -> Path:
    """Name the file of the answers to a question."""
    return question.with_name(ANSWERS)
