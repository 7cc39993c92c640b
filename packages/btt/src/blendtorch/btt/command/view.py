"""`blendtorch view`: a page in the browser to look at samples."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from blendtorch.btt.command.blenders import say
from blendtorch.btt.command.run_arguments import add_run_arguments, read_run
from blendtorch.btt.generation.arguments import check_arguments
from blendtorch.btt.launch_info import LaunchInfo
from blendtorch.btt.streaming import stream
from blendtorch.btt.viewing.folder import FolderSource, is_data_folder
from blendtorch.btt.viewing.live import LiveSource
from blendtorch.btt.viewing.opening import opened
from blendtorch.btt.viewing.recorded import RecordedSource, is_recording
from blendtorch.btt.viewing.source import Source
from blendtorch.core.errors import ConfigurationError, LaunchError

SUMMARY = "look at samples and their labels in the browser: of a recording, of a data set, or live"
DESCRIPTION = """\
Open a page in the browser: the latest samples with their labels drawn, what was drawn at random, and how the instances fare.

    blendtorch view out                       a recording: its prefix, folder or file; one that still grows is followed
    blendtorch view data                      what `blendtorch generate -o data` has written, or is writing
    blendtorch view bracket.glb               a live stream of your models, or of a scene, which nothing is written of
    blendtorch view --config run.yaml         the same by a configuration, as for `blendtorch generate`
    blendtorch view launch_info.json          instances that run already: two samples per second at most are taken for the
                                              page, and those do not reach the others that listen

It runs until Ctrl-C, which ends the Blenders that it has started too.

The page is served to this machine alone, at an address with a token. To look from another machine, let ssh carry it:

    ssh -L 8000:127.0.0.1:8000 thismachine    on the other machine, then, in that shell:
    blendtorch view out --port 8000 --no-open

and open the address that it prints on the other machine. With --host 0.0.0.0 whoever reaches this machine and has the token can
look; nothing is encrypted then.

exit codes:
  1    nothing to look at, or Blender cannot be started; what fails later is said on the page, which stays
  2    wrong arguments
  130  interrupted by Ctrl-C, 143 by SIGTERM
"""
_GENTLE_S = 0.5  # between two samples that are taken from others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "subject",
        metavar="RECORDING|DATA|LAUNCH_INFO|MODEL|SCENE",
        nargs="*",
        help="a recording, a data set, the file that blendtorch-launch writes, or what to stream: models, or a .blend",
    )
    add_run_arguments(parser)
    parser.add_argument("--count", metavar="N", type=int, help="how many samples of a stream of its own (default: no end)")
    parser.add_argument("--socket", metavar="NAME", default="DATA", help="which socket of a running launch (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="where the page is served (%(default)s: for this machine alone)")
    parser.add_argument("--port", metavar="N", type=int, default=0, help="on which port (default: a free one)")
    parser.add_argument("--no-open", action="store_true", help="start no browser; the address is printed anyway")


def run(options: argparse.Namespace) -> int:
    """Find what to look at, and serve the page."""
    try:
        from blendtorch.btt.viewing.server import PageServer  # other subcommands do without its libraries
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the page needs the package {error.name}: run pip install starlette uvicorn") from None
    with _source(options) as source:
        server = PageServer(source, options.host, options.port)
        print(f"The page is at {server.url}", flush=True)
        opens = not options.no_open and _has_a_screen()
        with opened(server.url) if opens else nullcontext():
            server.run()
    return 0


def _has_a_screen() -> bool:
    """Without one, a text browser would take the terminal."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@contextmanager
def _source(options: argparse.Namespace) -> Iterator[Source]:
    named = options.subject
    if len(named) == 1 and not options.config:
        if is_recording(str(Path(named[0]).expanduser())):
            yield RecordedSource(Path(named[0]).expanduser())
            return
        if is_data_folder(Path(named[0]).expanduser()):
            with closing(FolderSource(Path(named[0]).expanduser(), options.plugin)) as folder:
                yield folder
            return
        if Path(named[0]).suffix.lower() == ".json":
            with LiveSource(
                _launch_info(named[0]),
                named[0],
                socket=options.socket,
                notice="What is shown here is taken from the others that listen to these instances: two samples per second.",
                every_s=_GENTLE_S,
            ) as source:
                yield source
            return
    configuration, origin = read_run(options, named)
    arguments = check_arguments(configuration, origin)
    if options.count is None:
        arguments["count"] = None
    arguments = {name: value for name, value in arguments.items() if name not in ("epoch", "epoch_size")}
    made = stream(**{**arguments, "shard": (0, 1)})
    with made.launcher as launcher:
        if launcher.launch_info is None:
            raise LaunchError("the launcher has ended already")
        say("Blender is starting; it takes some seconds until the first sample")
        with LiveSource(launcher.launch_info, options.config or ", ".join(named)) as source:
            yield source


def _launch_info(path: str) -> LaunchInfo:
    try:
        return LaunchInfo.load_json(Path(path).expanduser())
    except OSError as error:
        raise LaunchError(f"cannot read {path}: {error.strerror}") from None
