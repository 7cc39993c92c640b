"""The run itself: samples are rendered, written and counted until all are there."""

import sys
import time
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version

import msgspec
import torch
from blendtorch.btt.generation.folder import Versions
from blendtorch.btt.generation.plan import Plan
from blendtorch.btt.generation.progress import Observer, Snapshot, progress
from blendtorch.btt.generation.writing import Record, end_workers, named, written_by_workers
from blendtorch.btt.streaming import SampleDataset
from blendtorch.core.errors import BlendtorchError, LaunchError, PluginError

FAILED, INTERRUPTED = 1, 130


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
        stream = plan.stream(item_transform=plan.writer)
        with stream as dataset:
            folder = dataset._launch_folder()
            if folder is None:
                raise LaunchError("the launch has no folder on this machine")
            python = ".".join(map(str, stream.launcher._runtime.python))
            observer = Observer(dataset, folder, plan.arguments["count"], len(plan.written))
            made, code, seen = _consume(plan, dataset, observer, python)
    written = _finish(plan)
    missing = plan.arguments["count"] - written
    return Summary(
        folder=str(plan.folder.path),
        wanted=plan.arguments["count"],
        written=written,
        missing=missing,
        made=made,
        seconds=round(time.monotonic() - begin, 3),
        images_per_s=round(seen.images_per_s, 3) if seen else 0.0,
        devices=tuple(dict.fromkeys(each.device for each in seen.instances if each.device)) if seen else (),
        restarts=sum(each.restarts for each in seen.instances) if seen else 0,
        bottleneck=seen.bottleneck if seen else "",
        exit_code=code or (FAILED if missing else 0),
    )


def _consume(plan: Plan, dataset: SampleDataset, observer: Observer, python: str) -> tuple[int, int, Snapshot]:
    """Count samples as they are written, until there is no more or somebody ends it; returns how many, and an exit code."""
    made = code = 0
    records = written_by_workers(dataset, plan.workers)  # starts processes, before there is a thread that prints
    with progress(observer) as shown:
        try:
            for record in records:
                if record.error:
                    raise PluginError(record.error)
                if not made:
                    _note_versions(plan, dataset, record, python)
                made += 1
                observer.count()
        except KeyboardInterrupt:
            code = INTERRUPTED
        except SystemExit as end:  # SIGTERM
            code = end.code if isinstance(end.code, int) else FAILED
        except RuntimeError as error:
            if isinstance(error, BlendtorchError):
                raise
            raise PluginError(
                f"a process that writes samples has died: {error}. Run the same command again to go on"
            ) from error
        finally:
            end_workers(records)  # while the instances that they talk to are there
    return made, code, shown.last


def _finish(plan: Plan) -> int:
    """Write what belongs to the whole; returns how many samples of this run there are."""
    writer = plan.writer.open()
    with named(writer, "finish"):
        written = len(writer.written().intersection(plan.indexes))
        if known := plan.folder.read_versions():
            writer.finish({number: name for each in known for number, name in each.categories.items()})
    return written


def _note_versions(plan: Plan, dataset: SampleDataset, record: Record, python: str) -> None:
    versions = Versions(
        trainer=_versions_here(plan.source),
        blender={"python": python, **msgspec.json.decode(record.versions, type=dict[str, str])},
        writer=plan.format,
        files=plan.files,
        categories=dataset.categories,
    )
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


def _versions_here(source: str) -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3])), "torch": str(torch.__version__)}
    for name in ("blendtorch-core", "blendtorch-btt", source.partition(" ")[0]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not packaged"
    return found
