"""`blendtorch runtime`: private Blenders, each with the Python that it needs."""

import argparse
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import msgspec
from blendtorch.btt import private_runtimes
from blendtorch.btt.command.blenders import say
from blendtorch.btt.command.text import fields
from blendtorch.btt.private_runtimes import PrivateRuntime
from blendtorch.btt.releases import RELEASES
from blendtorch.btt.runtimes import find_runtime

SUMMARY = "add, list and remove private Blenders, each with the Python that it needs"
DESCRIPTION = f"""\
Make environments that hold a Blender and the Python it needs, and that a launch finds by itself: this Python, the trainer's,
needs no bpy then, and may be another version or have another numpy.

    blendtorch runtime add 4.5                  make one: {", ".join(RELEASES)}
    blendtorch runtime list                     what there is
    blendtorch runtime pip 4.5 install pandas   run pip in one
    blendtorch runtime remove 4.5               delete one

btt.stream(blender="4.5"), BLENDTORCH_BLENDER=4.5 and `--blender 4.5` name one. Where nothing is named, a launch takes this
Python if it has bpy, else the private runtime that was added last, else `blender` on PATH.
"""
_ADD = f"""\
Make a private runtime: an environment with Blender (1 GB on disk, 400 MB of it to download the first time), blendtorch and
this Python's plug-ins, all of the same versions as here; editable where they are editable here. An interruption leaves nothing.

It needs a Python of the version that Blender was built for, which is looked for here, on PATH, and among those of pyenv and uv:
{"".join(f"{chr(10)}    Blender {name}   Python {release.python}" for name, release in RELEASES.items())}
"""
_STYLE = argparse.RawDescriptionHelpFormatter


class RuntimeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A private runtime, as `--json` prints it.

    Attributes
    ----------
    name, path : str
        Its name, and that of its Python.
    is_whole : bool
        False where an `add` was killed.
    blender, python, blendtorch : str
        Versions.
    size_mb : int
        On disk, 10^6 bytes.
    is_current : bool
        Its blendtorch is of this Python's version.
    """

    name: str
    path: str
    is_whole: bool
    blender: str
    python: str
    blendtorch: str
    size_mb: int
    is_current: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make one", description=_ADD, formatter_class=_STYLE)
    add.add_argument("name", metavar="VERSION", choices=list(RELEASES), help=", ".join(RELEASES))
    add.add_argument("--force", action="store_true", help="make it anew where it is there; what you installed into it goes")
    listing = actions.add_parser("list", help="list what there is")
    pip = actions.add_parser("pip", help="run pip in one", usage="blendtorch runtime pip VERSION [ARGUMENT ...]")
    pip.add_argument("name", metavar="VERSION")
    pip.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="for pip: install pandas")
    remove = actions.add_parser("remove", help="delete one")
    remove.add_argument("name", metavar="VERSION")
    for each in (add, listing, remove):
        each.add_argument("--json", action="store_true", help="print JSON, for scripts; progress goes to stderr")


def run(options: argparse.Namespace) -> int:
    """Do what was asked."""
    match options.action:
        case "add":
            return _add(options.name, options.force, options.json)
        case "pip":
            return private_runtimes.pip(options.name, options.arguments)
        case "remove":
            private_runtimes.remove(options.name)
            say(f"The private runtime {options.name} is removed")
    reports = [_report(each) for each in private_runtimes.find_all()] if options.action == "list" else []
    if options.json:
        _print_json(reports)
    elif options.action == "list":
        print("\n\n".join(map(_text, reports)) or "No private runtimes: make one with: blendtorch runtime add 4.5")
    return 0


def _add(name: str, force: bool, as_json: bool) -> int:
    known = next((each for each in private_runtimes.find_all() if each.name == name and each.added_ns is not None), None)
    if known is not None and not force:
        say(f"The private runtime {name} is there already; --force makes it anew")
        runtime = known
    else:
        runtime = private_runtimes.add(name, say)
    say(f'Ready: {find_runtime(name)}. Name it with blender="{name}", or let a launch find it')
    if as_json:
        _print_json([_report(runtime)])
    return 0


def _report(runtime: PrivateRuntime) -> RuntimeReport:
    installed = runtime.installed()
    core = installed.get("blendtorch-core", "")
    return RuntimeReport(
        name=runtime.name,
        path=str(runtime.python),
        is_whole=runtime.added_ns is not None,
        blender=installed.get("bpy", ""),
        python=runtime.python_version(),
        blendtorch=core,
        size_mb=round(runtime.size() / 1e6),
        is_current=core == version("blendtorch-core"),
    )


def _text(report: RuntimeReport) -> str:
    return "\n".join([report.name, *fields(list(_facts(report)))])


def _facts(report: RuntimeReport) -> Iterator[tuple[str, str]]:
    if not report.is_whole:
        yield "unfinished", f"make it with: blendtorch runtime add {report.name}"
    yield "Blender", report.blender or "none"
    yield "Python", f"{report.python} ({report.path})"
    fits = "as the trainer's" if report.is_current else f"the trainer's is {version('blendtorch-core')}"
    remedy = "" if report.is_current else f": run: blendtorch runtime add --force {report.name}"
    yield "blendtorch", f"{report.blendtorch or 'none'}, {fits}{remedy}"
    yield "on disk", f"{report.size_mb} MB"


def _print_json(reports: Sequence[RuntimeReport]) -> None:
    print(msgspec.json.format(msgspec.json.encode(reports)).decode())
