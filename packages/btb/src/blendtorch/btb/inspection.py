"""What runs inside a Blender for `blendtorch plugins` and `blendtorch doctor`: answers one question, and ends.

`python -m blendtorch.btb.inspection QUESTION` in a Python that has the bpy wheel; an executable calls `main`.
"""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import bpy
import msgspec
import numpy as np
from blendtorch.btb import assets, blender
from blendtorch.btb.blender import capabilities
from blendtorch.btb.pipeline import SceneStage
from blendtorch.core.assets import models
from blendtorch.core.configuration import run_configuration
from blendtorch.core.discovery import Catalogue, Found
from blendtorch.core.errors import ConfigurationError, SceneError
from blendtorch.core.inspection import (
    Answer,
    Capabilities,
    CheckBegun,
    Checked,
    CheckOutcome,
    Question,
    Refusal,
    Size,
    Survey,
    answers_beside,
)
from blendtorch.core.inventory import take_inventory

_CHECKED_RESOLUTION = (64, 48)  # enough to see something; EEVEE in software takes its time for more


def main(path: str) -> None:
    """Answer the question in a file, in a file beside it; the process ends here.

    Parameters
    ----------
    path : str
        Of a `Question` in a private folder.
    """
    question = msgspec.json.decode(Path(path).read_bytes(), type=Question)
    code = 0
    with answers_beside(Path(path)).open("ab", buffering=0) as file:
        try:
            for answer in answers(question):
                file.write(msgspec.json.encode(answer) + b"\n")
        except BaseException as error:  # noqa: BLE001 - a plug-in that calls sys.exit too is to be named
            if isinstance(error, (ConfigurationError, SceneError)):  # about what was asked, and not about Blender
                refusal = Refusal(error=str(error), traceback="")
            else:
                text = "".join(traceback.format_exception_only(error)).strip()
                refusal = Refusal(error=text, traceback=traceback.format_exc())
            file.write(msgspec.json.encode(refusal) + b"\n")
            code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without tearing Blender down: a window or an add-on may have other ideas


def answers(question: Question) -> Iterator[Answer]:
    """Answer a question, topic by topic."""
    if "inventory" in question.topics:
        yield take_inventory(question.plugins)
    if "capabilities" in question.topics:
        yield measure()
    if "checks" in question.topics:
        for found in Catalogue(question.plugins).all():
            if found.kind != "writer" and (found.kind, found.name) not in question.checked:  # writers run in the trainer
                yield CheckBegun(kind=found.kind, name=found.name)
                yield check(found)
    if "sizes" in question.topics:
        yield from sizes(question)
    if "survey" in question.topics:
        yield survey(question.scene)


def sizes(question: Question) -> Iterator[Size]:
    """Measure models, each in a scene of its own."""
    for model in (model for entry in models(question.assets) for model in entry):
        blender.open_scene("", run_scripts=False)
        loaded = assets.load(model)
        x, y, z = (loaded.high - loaded.low).tolist()
        yield Size(
            file=model.path,
            dimensions=(x, y, z),
            radius=loaded.radius,
            faces=len(loaded.data.polygons),
            colored=loaded.colored,
            notices=loaded.notices,
        )


def survey(scene: str) -> Survey:
    """Look at a scene: where its camera is, and what of it a randomizer may set."""
    blender.open_scene(scene, run_scripts=False)
    stage = SceneStage(run_configuration(), notify=lambda _: None)
    roots = [obj for each in stage.objects for obj in ((each.root,) if each.root is not None else each.parts)]
    if not roots:
        return Survey(objects=0)
    camera = stage.cameras[0]
    middle = np.mean([blender.world_matrix(obj)[:3, 3] for obj in roots], axis=0)
    away = blender.world_matrix(camera)[:3, 3] - middle
    lamps = [obj.data for obj in stage.scene.objects if obj.type == "LIGHT"]
    ridden = f"it hangs on {camera.parent.name!r}" if camera.parent is not None else ""
    moved = [stage.overwritten(camera, path, "episode") for path in ("location", blender.rotation_path(camera))]
    return Survey(
        objects=len(stage.objects),
        distance=float(np.linalg.norm(away)),
        elevation_deg=float(np.degrees(np.arctan2(away[2], np.hypot(away[0], away[1])))),
        azimuth_deg=float(np.degrees(np.arctan2(away[1], away[0]))),
        camera_fixed=ridden or next(filter(None, moved), ""),
        lamps_fixed=next(filter(None, (stage.overwritten(lamp, "energy", "episode") for lamp in lamps)), "")
        if lamps
        else "there is none",
    )


def measure() -> Capabilities:
    """Try out what this Blender can do."""
    blender.open_scene("", run_scripts=False)
    device, error, frame_ms = "", "", 0.0
    try:
        device = blender.gpu_device()
        frame_ms = capabilities.workbench_frame_ms()
    except Exception as reason:  # noqa: BLE001 - drivers fail in many ways, and each is worth reading
        error = f"{type(reason).__name__}: {reason}"
    return Capabilities(
        blender=bpy.app.version_string,
        engines=capabilities.engines(),
        device=device,
        software=capabilities.is_software(device),
        frame_ms=frame_ms,
        drawing_error=error,
        cycles_devices=capabilities.cycles_devices(),
        cycles_memory_error=capabilities.cycles_memory_error(),
    )


def check(found: Found) -> Checked:
    """Run the conformance checks of a plug-in in Blender's factory scene."""
    from blendtorch.core.testing import checks  # not imported where nothing is checked

    begin = time.perf_counter()
    blender.open_scene("", run_scripts=False)  # what the plug-in before has left behind is not this one's to bear
    stage = SceneStage(run_configuration(resolution=_CHECKED_RESOLUTION), notify=lambda _: None)
    outcomes = [
        CheckOutcome(name=each.name, error=str(each.error or ""), skipped=str(each.skipped or ""))
        for each in checks.run_checks(found, stage)
    ]
    return Checked(kind=found.kind, name=found.name, outcomes=tuple(outcomes), seconds=time.perf_counter() - begin)


if __name__ == "__main__":
    main(sys.argv[1])
