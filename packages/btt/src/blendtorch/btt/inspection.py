"""Asking a Blender what it has and what it can do, in a process of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from blendtorch.btt import processes
from blendtorch.btt.runtimes import Runtime
from blendtorch.core.errors import InstanceError
from blendtorch.core.inspection import Answer, Question, Refusal, answers_beside, decode_answer

_POLL_S = 0.05


def ask(runtime: Runtime, question: Question, timeout_s: float) -> Iterator[Answer]:
    """Ask a Blender a question, and yield its answers as they come.

    Its process, and whatever that has started, is gone when this ends, and so are its files. Nothing of what it writes is
    executed.

    Parameters
    ----------
    runtime : Runtime
    question : Question
    timeout_s : float
        How long it may be silent.

    Raises
    ------
    InstanceError
        If it dies, or is silent for too long, or says that it cannot answer; with its traceback or the end of its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="blendtorch-ask-"))
    process = None
    try:
        path, log = folder / "question.json", folder / "log"
        path.write_bytes(msgspec.json.encode(question))
        with log.open("wb") as output:
            process = subprocess.Popen(
                runtime.inspection_command(path),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(runtime, folder),
                start_new_session=True,  # a process group to end as a whole
            )
        answered = False
        for answer in _read(process, answers_beside(path), timeout_s, log):
            if isinstance(answer, Refusal):
                if not answer.traceback:  # it says all that there is to say
                    raise InstanceError(answer.error)
                raise InstanceError(f"it cannot answer: {answer.error}\n\n{answer.traceback.rstrip()}")
            yield answer
            answered = True
        if process.returncode or not answered:
            raise InstanceError(_describe_end(process.returncode, answered) + _tail(log))
    finally:
        if process is not None:
            if process.poll() is None:
                processes.end_trees([process.pid])
                process.wait()
            processes.end_group(process.pid)
        shutil.rmtree(folder, ignore_errors=True)


def _read(process: subprocess.Popen[bytes], path: Path, timeout_s: float, log: Path) -> Iterator[Answer]:
    """Yield the lines of a file as another process completes them, until it ends."""
    position, deadline = 0, time.monotonic() + timeout_s
    while True:
        ended = process.poll() is not None  # before the look: what it wrote last is seen
        written = path.read_bytes()[position:] if path.exists() else b""
        whole = written[: written.rfind(b"\n") + 1]
        position += len(whole)
        for line in whole.splitlines():
            try:
                yield decode_answer(line)
            except msgspec.DecodeError as error:
                raise InstanceError(f"it wrote something that is no answer: {error}{_tail(log)}") from None
            deadline = time.monotonic() + timeout_s
        if ended:
            return
        if time.monotonic() > deadline:
            raise InstanceError(f"nothing came for {timeout_s:g} s, it was ended{_tail(log)}")
        if not whole:
            time.sleep(_POLL_S)


def _describe_end(code: int, answered: bool) -> str:
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    if answered:
        return f"it ended with {how}"
    return f"it ended with {how} before it answered: is its blendtorch-btb of the same version as here?"


def _environment(runtime: Runtime, folder: Path) -> dict[str, str]:
    temporary = folder / "tmp"  # Blender makes a folder in it, and leaves it when it is ended
    temporary.mkdir()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
    if lent := runtime.lend(folder / "python"):
        environment["PYTHONPATH"] = os.pathsep.join([str(lent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def _tail(log: Path) -> str:
    text = "\n".join(log.read_text(errors="replace").splitlines()[-15:]).strip()
    return f". The end of its log:\n\n{text}" if text else ""
