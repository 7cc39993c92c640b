"""The Blenders of this machine: each asked in turn, with progress on stderr, whatever becomes of it."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from blendtorch.btt.inspection import ask
from blendtorch.btt.runtimes import Candidate, Runtime, find_candidates
from blendtorch.core.errors import InstanceError
from blendtorch.core.inspection import Capabilities, CheckBegun, Checked, CheckOutcome, Question
from blendtorch.core.inventory import Inventory

# How long a Blender may be silent: it starts in 1 to 3 s. A check may render with EEVEE in software, whose first frame takes
# half a minute on a free machine.
_TIMEOUT_S, _CHECK_TIMEOUT_S = 120.0, 300.0


class BlenderReport(msgspec.Struct, kw_only=True):
    """What is known of one place where a Blender may be.

    Attributes
    ----------
    origin : str
        What named it.
    path : str
        Empty where there is nothing.
    name : str
        With version, kind, path and Python; empty where it cannot be used.
    reason : str
        Why it cannot be used.
    is_default : bool
        A launch that names no Blender takes this one.
    lent : tuple of str
        What its Python lacks, and gets from this one.
    inventory : Inventory or None
    capabilities : Capabilities or None
    checks : list of Checked
    failure : str
        Why not all of its answers came.
    """

    origin: str
    path: str = ""
    name: str = ""
    reason: str = ""
    is_default: bool = False
    lent: tuple[str, ...] = ()
    inventory: Inventory | None = None
    capabilities: Capabilities | None = None
    checks: list[Checked] = []
    failure: str = ""


def add_blender_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name Blenders and files of plug-ins, for commands that look at what is installed."""
    parser.add_argument(
        "--blender",
        metavar="PATH",
        action="append",
        help="look at this Blender and no other: an executable, a Python that has bpy, a folder with one, or a private "
        "runtime (4.5); may be repeated (default: BLENDTORCH_BLENDER, this Python, private runtimes, blender on PATH)",
    )
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        action="append",
        default=[],
        help="a Python file with plug-ins that is not packaged; may be repeated",
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts; progress goes to stderr")


def look_at(places: Sequence[str] | None, question: Question) -> list[BlenderReport]:
    """Look for Blenders and ask each a question.

    Parameters
    ----------
    places : sequence of path or None
        None for all there are on this machine.
    question : Question
    """
    say("Looking for Blenders ...")
    candidates = find_candidates() if not places else []
    for place in places or ():
        candidates += [replace(each, origin=f"--blender {place}") for each in find_candidates(place)]
    return [_look_at_one(each, question) for each in candidates]


def say(text: str) -> None:
    """Tell of progress."""
    print(text, file=sys.stderr, flush=True)


def absolute(files: Sequence[str]) -> tuple[str, ...]:
    """Name files so that a process in another folder finds them."""
    return tuple(str(Path(file).expanduser().absolute()) for file in files)


def _look_at_one(candidate: Candidate, question: Question) -> BlenderReport:
    runtime = candidate.runtime
    path = "" if candidate.path is None else str(candidate.path)
    report = BlenderReport(origin=candidate.origin, path=path, reason=candidate.reason, is_default=candidate.is_default)
    if runtime is not None:
        report.name, report.lent = str(runtime), runtime.missing
        say(f"{runtime}: asking ...")
        while (rest := _ask(runtime, question, report)) is not None:
            question = rest
    return report


def _ask(runtime: Runtime, question: Question, report: BlenderReport) -> Question | None:
    """Note the answers; returns what is still to be asked when a plug-in has brought Blender down."""
    begun: CheckBegun | None = None
    try:
        for answer in ask(runtime, question, _CHECK_TIMEOUT_S if "checks" in question.topics else _TIMEOUT_S):
            match answer:
                case Inventory():
                    report.inventory = answer
                case Capabilities():
                    report.capabilities = answer
                case CheckBegun():
                    begun = answer
                    say(f"  checking {begun.kind} {begun.name} ...")
                case Checked():
                    begun = None
                    report.checks.append(answer)
    except InstanceError as error:
        if begun is None:
            report.failure = str(error)
            return None
        outcome = CheckOutcome(name="lets Blender go on", error=str(error))
        report.checks.append(Checked(kind=begun.kind, name=begun.name, outcomes=(outcome,)))
        done = tuple((each.kind, each.name) for each in report.checks)
        return msgspec.structs.replace(question, topics=("checks",), checked=done)
    return None
