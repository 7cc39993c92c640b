"""The run itself: samples are rendered, written and counted until all are there."""

import sys
import time
from collections.abc import Mapping
from contextlib import closing

import msgspec
from blendtorch.btt.generation.counting import FAILED, count_records, finish
from blendtorch.btt.generation.instances import Observer, RunSnapshot
from blendtorch.btt.generation.plan import Plan
from blendtorch.btt.generation.progress import progress
from blendtorch.btt.generation.versions import Versions, categories_in, versions_here, versions_in
from blendtorch.btt.generation.writing import Record, in_workers
from blendtorch.btt.streaming import SampleDataset
from blendtorch.core.errors import LaunchError


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run, as `--json` prints it.

    Attributes
    ----------
    folder : str
    wanted : int
        Samples of this run.
    written, missing : int
        Of them, now.
    made : int
        By this run; the others were there before.
    seconds : float
    images_per_s : float
        From the first image on.
    devices : tuple of str
        That were rendered on.
    restarts : int
        Of instances that had failed.
    bottleneck : str
    notices : tuple of str
        What the writer says in the end: how many objects it left out, and why.
    exit_code : int
    """

    folder: str
    wanted: int
    written: int
    missing: int
    made: int = 0
    seconds: float = 0.0
    images_per_s: float = 0.0
    devices: tuple[str, ...] = ()
    restarts: int = 0
    bottleneck: str = ""
    notices: tuple[str, ...] = ()
    exit_code: int = 0


def generate(plan: Plan) -> Summary:
    """Make the samples that are missing.

    What was written stays, whatever ends this; Ctrl-C and SIGTERM end it in an orderly way, and the summary says so.

    Parameters
    ----------
    plan : Plan

    Raises
    ------
    BlendtorchError
        If an instance or the writer fails for good.
    """
    with closing(plan.writer):
        return _generate(plan)


def _generate(plan: Plan) -> Summary:
    begin = time.monotonic()
    made, code, seen = 0, 0, None
    if len(plan.written) < plan.arguments["count"]:
        plan.folder.note_configuration(plan.normal)
        plan.folder.note_beginning(_versions(plan))
        stream = plan.stream(item_transform=plan.writer)
        with stream as dataset:
            folder = dataset._launch_folder()
            if folder is None:
                raise LaunchError("the launch has no folder on this machine")
            python = ".".join(map(str, stream.launcher._runtime.python))
            observer = Observer(dataset, folder, plan.arguments["count"], len(plan.written))
            made, code, seen = _consume(plan, dataset, observer, python)
    written, notices = finish(plan.writer, plan.folder, plan.indexes)
    missing = plan.arguments["count"] - written
    return Summary(
        folder=str(plan.folder.path),
        wanted=plan.arguments["count"],
        written=written,
        missing=missing,
        made=made,
        seconds=round(time.monotonic() - begin, 3),
        images_per_s=round(seen.per_s, 3) if seen else 0.0,
        devices=tuple(dict.fromkeys(each.device for each in seen.instances if each.device)) if seen else (),
        restarts=sum(each.restarts for each in seen.instances) if seen else 0,
        bottleneck=seen.bottleneck if seen else "",
        notices=notices,
        exit_code=code or (FAILED if missing else 0),
    )


def _consume(plan: Plan, dataset: SampleDataset, observer: Observer, python: str) -> tuple[int, int, RunSnapshot]:
    """Count samples as they are written, until there is no more or somebody ends it; returns how many, and an exit code."""

    def note(record: Record) -> None:
        blender = {"python": python, **versions_in(record.versions)}
        _note_versions(plan, _versions(plan, blender, categories_in(record.legend)))

    records = in_workers(dataset, plan.workers)  # starts processes, before there is a thread that prints
    with progress(observer) as shown:
        made, code = count_records(records, observer, note)
    return made, code, shown.last


def _versions(plan: Plan, blender: Mapping[str, str] | None = None, categories: Mapping[int, str] | None = None) -> Versions:
    return Versions(
        trainer=versions_here(plan.format.source),
        blender=dict(blender or {}),
        writer=plan.format.description,
        files=plan.files,
        categories=dict(categories or {}),
    )


def _note_versions(plan: Plan, versions: Versions) -> None:
    for other in plan.folder.note_versions(versions):
        changed = [
            f"{side} {name} {there.get(name, 'none')} then, {here.get(name, 'none')} now"
            for side, there, here in (
                ("trainer", other.trainer, versions.trainer),
                ("Blender", other.blender, versions.blender),
            )
            for name in dict.fromkeys([*there, *here])
            if there.get(name) != here.get(name)
        ]
        if changed:
            print(f"Samples of this folder were made by other versions: {'; '.join(changed)}", file=sys.stderr, flush=True)
