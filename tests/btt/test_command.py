"""`blendtorch plugins` and `blendtorch doctor`: what they list, what they find wrong, and how they end."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
from blendtorch.btt import inspection, lending, runtimes
from blendtorch.btt.command import blenders, main
from blendtorch.btt.cpus import allowed_cpus
from blendtorch.core.discovery import DISABLE_VARIABLE
from blendtorch.core.errors import InstanceError
from blendtorch.core.inspection import Question

CENTERS = """
    from typing import Annotated, Literal
    import msgspec
    import numpy as np
    from blendtorch.core import Annotator, ArraySpec, Options, Uniform, hookimpl
    from blendtorch.core.distributions import Distribution

    class Centers(Annotator):
        '''Centres of objects.'''
        name = "centers"
        interface = 1
        uses = ("depth",)

        class Options(Options, frozen=True, kw_only=True):
            mode: Literal["root", "box"] = "root"
            spread: Distribution | None = None
            limit: Annotated[int, msgspec.Meta(ge=1)] | None = 4

        @property
        def emits(self):
            return {"xy": ArraySpec("float64", ("objects", 2), unit="px"), "valid": ArraySpec("bool", ("objects",))}

        def annotate(self, moment, camera, inputs):
            from blendtorch.btb import blender

            world = [blender.world_matrix(obj.root)[:3, 3] for obj in moment.objects]
            xy, depth = camera.project(np.reshape(world, (-1, 3)))
            xy[depth <= 0] = np.nan
            return {"xy": xy, "valid": depth > 0}

    @hookimpl
    def blendtorch_register_annotators():
        return [Centers]
"""
MISSPELT = """
    from blendtorch.core import hookimpl

    @hookimpl
    def blendtorch_register_anotators():
        return []
"""
WITH_ARGUMENT = """
    from blendtorch.core import hookimpl

    @hookimpl
    def blendtorch_register_annotators(config):
        return []
"""
MISBEHAVING = """
    from blendtorch.core import Annotator, ArraySpec, hookimpl
    import numpy as np

    class Narrow(Annotator):
        name = "narrow"
        interface = 1

        @property
        def emits(self):
            return {"xy": ArraySpec("float64", (2,))}

        def annotate(self, moment, camera, inputs):
            return {"xy": np.zeros(3)}

    class Fatal(Narrow):
        name = "fatal"

        def annotate(self, moment, camera, inputs):
            import os
            print("good bye", flush=True)
            os._exit(3)

    class Leaving(Narrow):
        name = "leaving"

        def setup(self, context):
            raise SystemExit("enough")

    class Last(Narrow):
        name = "last"

        def annotate(self, moment, camera, inputs):
            return {"xy": np.zeros(2)}

    @hookimpl
    def blendtorch_register_annotators():
        return [Narrow, Fatal, Leaving, Last]
"""


@pytest.fixture
def install(tmp_path):
    """Write a distribution as pip would, into a folder for sys.path or PYTHONPATH; returns the folder."""
    folder = tmp_path / "site"

    def install(name, text, point="centers", version="1.2"):
        module = name.replace("-", "_")
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[blendtorch]\n{point} = {module}\n")
        (folder / f"{module}.py").write_text(textwrap.dedent(text))
        return folder

    return install


WRITER = """
    import acme_codec
    from blendtorch.core import Writer, hookimpl

    class Tar(Writer):
        '''A tar file of samples.'''
        name = "tar"
        interface = 1
        open = written = write = None

    @hookimpl
    def blendtorch_register_writers():
        return Tar
"""


@pytest.fixture
def alone(monkeypatch):
    """Switch off what is installed: what is under test are the plug-ins of the test."""
    names = ",".join(lending.normalized(each.name) for each in lending.plugin_distributions())
    monkeypatch.setenv(DISABLE_VARIABLE, names)


@pytest.fixture
def report(capsys):
    """Run the command with `--json`; returns its exit code and what it reports."""

    def report(*arguments):
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return report


@pytest.fixture
def named(blender):
    """The arguments that name the Blender under test."""
    return ["--blender", blender or sys.executable]


def names(inventory):
    return [plugin["name"] for plugin in inventory["plugins"]]


def test_help_helps(capsys):
    for arguments, sentence in (
        ([], "blendtorch doctor "),
        (["plugins"], "something is wrong, and is listed"),
        (["doctor"], "leave out the conformance checks"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])
        assert ended.value.code == 0
        assert sentence in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["plugin"])
    assert ended.value.code == 2


def test_the_trainers_plugins_are_listed(alone, install, monkeypatch, capsys):
    monkeypatch.syspath_prepend(install("acme-listed", CENTERS))
    assert main(["plugins", "--no-blender", "--verbose"]) == 0
    output, progress = capsys.readouterr()
    lines = [line.strip() for line in output.splitlines()]
    assert "annotators (hook blendtorch_register_annotators)" in lines
    assert "centers   acme-listed 1.2   xy: float64 (objects, 2) in px" in lines
    assert "valid: bool (objects,)" in lines
    assert "Centres of objects." in lines
    assert "uses, where the run has it: depth" in lines
    assert "option mode: 'root' | 'box' = 'root'" in lines
    assert "option spread: Distribution | None = None" in lines
    assert "option limit: int (ge=1) | None = 4" in lines
    assert "Problems: none" in lines
    assert any(line.startswith("switched off: blendtorch-standard") for line in lines)
    assert progress == ""


def test_each_broken_distribution_is_named_with_the_reason(alone, install, monkeypatch, report, tmp_path):
    install("acme-first", CENTERS)
    install("acme-import", "import nothing_of_the_kind", "broken")
    install("acme-hook", MISSPELT)
    install("acme-argument", WITH_ARGUMENT)
    faulty = CENTERS.replace('name = "centers"', 'name = "faulty"').replace("return {", "return self.missing or {", 1)
    install("acme-emits", faulty, "faulty")
    monkeypatch.syspath_prepend(install("acme-twice", CENTERS))
    code, found = report("plugins", "--no-blender", "--plugin", tmp_path / "nowhere.py")
    assert code == 1
    reasons = {(each["distribution"], *each["entry_points"]): each["reason"] for each in found["trainer"]["problems"]}
    assert "No module named 'nothing_of_the_kind'" in reasons["acme-import", "broken"]
    assert "did you mean blendtorch_register_annotators?" in reasons["acme-hook", "centers"]
    assert "has the argument 'config': hooks take nothing" in reasons["acme-argument", "centers"]
    assert "annotator 'faulty' cannot say what it emits: AttributeError" in reasons["acme-emits", "faulty"]
    assert "annotator 'centers' is there already, in acme-first 1.2" in reasons["acme-twice", "centers"]
    assert "there is no such file" in reasons["",]
    assert len(found["problems"]) == len(found["trainer"]["problems"]) == 6
    assert all(text.endswith("\n  in the trainer") for text in found["problems"])
    assert "centers" in names(found["trainer"]), "one that works is not hidden by those that do not"


def test_it_is_a_command(tmp_path):
    """In a process of its own: what a plug-in prints as it is imported does not spoil the JSON."""
    (tmp_path / "loud.py").write_text("print('I am here')\n" + textwrap.dedent(CENTERS))
    command = [sys.executable, "-m", "blendtorch.btt.command", "plugins", "--no-blender", "--json", "--plugin", "loud.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "I am here" in result.stderr
    assert "centers" in names(json.loads(result.stdout)["trainer"])


@pytest.mark.blender
def test_plugins_of_the_blender_are_listed_and_its_problems_named(alone, install, monkeypatch, named, report):
    install("acme-import-there", "import nothing_of_the_kind", "broken")
    folder = install("acme-there", CENTERS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    code, found = report("plugins", *named)
    (blender,) = found["blenders"]
    assert names(blender["inventory"]) == ["centers"]
    assert blender["inventory"]["plugins"] == found["trainer"]["plugins"]
    assert code == 1
    (problem,) = found["problems"]
    assert problem.startswith("acme-import-there 1.2 (entry point broken = acme_import_there): cannot be imported")
    assert problem.endswith(f"\n  in the trainer\n  in {blender['name']}")


@pytest.mark.blender
def test_what_the_blender_lacks_is_lent_or_said(alone, install, monkeypatch, blender, named, report):
    """A Python without the Blender side takes ours, with our plug-ins; another decides itself what it has."""
    monkeypatch.syspath_prepend(install("acme-here-only", CENTERS))
    code, found = report("plugins", *named)
    (there,) = found["blenders"]
    runtime = runtimes.find_runtime(blender or sys.executable)
    assert there["lent"] == list(runtime.missing)
    if "blendtorch.btb" in runtime.missing:
        assert (code, names(there["inventory"])) == (0, ["centers"])
        assert "blendtorch-standard" in there["inventory"]["distributions"]
        return
    assert (code, names(there["inventory"])) == (1, [])
    interpreter = there["inventory"]["interpreter"]
    (text,) = [text for text in found["problems"] if "acme-here-only" in text]
    assert text == (
        f"acme-here-only 1.2 is installed here, absent from {there['name']}: run {interpreter} -m pip install acme-here-only"
    )
    answer = subprocess.run([interpreter, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() in str(runtime.path), "the Python to run pip with is that Blender's"


@pytest.mark.blender
def test_a_writer_is_listed_and_not_missed_in_a_blender(alone, install, monkeypatch, tmp_path, named, capsys):
    """Nor what it needs, where it is lent."""
    monkeypatch.syspath_prepend(install("acme-tar", WRITER, "tar"))
    (tmp_path / "site" / "acme_codec.py").write_text("")
    assert main(["plugins", *named]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "writers (hook blendtorch_register_writers)" in lines
    assert "tar acme-tar 1.2 A tar file of samples." in lines
    assert "the same 0 plug-ins" in lines


@pytest.mark.blender
def test_doctor_says_what_the_machine_and_its_blender_can_do(alone, blender, named, report):
    code, found = report("doctor", *named, "--quick")
    assert found["machine"]["cpus"] == allowed_cpus()
    assert found["machine"]["missing_libraries"] == []
    (there,) = found["blenders"]
    can = there["capabilities"]
    version = ".".join(map(str, runtimes.find_runtime(blender or sys.executable).version))
    assert can["blender"].startswith(version)
    assert {"BLENDER_WORKBENCH", "CYCLES"} < set(can["engines"])
    assert any("EEVEE" in engine for engine in can["engines"])
    assert can["device"]
    assert can["drawing_error"] == ""
    assert 0 < can["frame_ms"] < 2000
    assert any(device.startswith("CPU: ") for device in can["cycles_devices"])
    assert (can["cycles_memory_error"] == "") == (not version.startswith("3.")), "3.4 reads no pass with several channels"
    assert there["inventory"]["packages"]["blendtorch-core"] == found["trainer"]["packages"]["blendtorch-core"]
    assert there["checks"] == []
    assert (code, found["problems"]) == (0, []), "what is switched off may be absent"


@pytest.mark.blender
def test_doctor_checks_plugins_inside_the_blender_whatever_they_do_to_it(alone, tmp_path, named, report):
    (tmp_path / "good.py").write_text(textwrap.dedent(CENTERS))
    (tmp_path / "bad.py").write_text(textwrap.dedent(MISBEHAVING))
    code, found = report("doctor", *named, "--plugin", tmp_path / "good.py", "--plugin", tmp_path / "bad.py")
    assert code == 1
    (there,) = found["blenders"]
    errors = {
        checked["name"]: {each["name"]: each["error"] for each in checked["outcomes"] if each["error"]}
        for checked in there["checks"]
    }
    assert list(errors) == ["centers", "narrow", "fatal", "leaving", "last"]
    assert errors["centers"] == {}
    assert "expected float64 (2,)" in errors["narrow"]["emits what it declares"]
    assert "it ended with exit code 3" in errors["fatal"]["lets Blender go on"]
    assert "good bye" in errors["fatal"]["lets Blender go on"]
    assert "SystemExit: enough" in errors["leaving"]["lets Blender go on"]
    assert errors["last"] == {}, "those after it are checked nevertheless"
    assert there["capabilities"] is not None
    assert any(text.startswith("annotator fatal: lets Blender go on: ") for text in found["problems"])


@pytest.mark.blender
def test_doctor_is_readable(alone, named, capsys):
    assert main(["doctor", "--quick", *named]) == 0
    output, progress = capsys.readouterr()
    assert f"CPUs allowed       {allowed_cpus()}" in output
    assert "system libraries   all that Blender needs" in output
    assert ": asking ..." in progress
    facts = dict(
        line.strip().split("   ", 1)
        for line in output.split("\nBlender ", 1)[1].split("\n\n")[0].splitlines()
        if line[:2] == "  "
    )
    assert facts["engines"].strip().startswith("BLENDER_WORKBENCH, ")
    assert facts["Workbench"].strip().endswith("ms for a frame of 320x240")
    assert facts["blendtorch"].strip().endswith(", as the trainer's")
    assert facts["checks"].strip() == "left out"


def broken_blender(folder, text):
    path = folder / "blender"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_blender_that_cannot_be_used_is_listed_with_the_way_out(alone, tmp_path, capsys, monkeypatch):
    text = "blender: error while loading shared libraries: libEGL.so.1: cannot open shared object file"
    path = broken_blender(tmp_path, f"echo '{text}' >&2; exit 127")
    assert main(["doctor", "--quick", "--blender", str(path)]) == 1
    output = capsys.readouterr().out
    assert f"--blender {path}: {path} is no Blender and no Python with bpy (exit code 127): {text}" in output
    assert "apt-get install -y libegl1 " in output
    monkeypatch.setenv(runtimes.VARIABLE, str(path))
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["plugins"]) == 1
    output = capsys.readouterr().out
    assert "a launch finds no Blender that it can use:" in output
    assert 'pip install "blendtorch-btb[bpy]"' in output


def test_a_blender_that_is_silent_is_ended_with_all_it_started(tmp_path):
    path = broken_blender(tmp_path, "echo before the silence\nsleep 1000 &\nsleep 1000")
    runtime = runtimes.Runtime("executable", path, (4, 5, 0), sys.version_info[:2])
    begin = time.monotonic()
    with pytest.raises(InstanceError, match=r"(?s)nothing came for 0.5 s, it was ended.*before the silence"):
        list(inspection.ask(runtime, Question(topics=("inventory",)), 0.5))
    assert time.monotonic() - begin < 10
    # That nothing is left of it is looked at after each test.


def test_what_is_no_answer_is_an_error(tmp_path):
    question = "$(printf '%s' \"$*\" | sed \"s/.*main('//; s/').*//\")"
    path = broken_blender(tmp_path, f'echo \'[1, 2\' > "$(dirname "{question}")/answers.jsonl"')
    runtime = runtimes.Runtime("executable", path, (4, 5, 0), sys.version_info[:2])
    with pytest.raises(InstanceError, match="something that is no answer"):
        list(inspection.ask(runtime, Question(topics=("inventory",)), 5))


def test_a_blender_that_does_not_answer_is_a_problem_and_no_crash(alone, tmp_path, capsys, monkeypatch):
    facts = {"blender": "4.5.0", "python": list(sys.version_info[:2]), "interpreter": "p", "missing": [], "installed": []}
    path = broken_blender(tmp_path, f"echo '{runtimes._MARK}{json.dumps(facts)}'; exit 5")
    monkeypatch.setattr(blenders, "_TIMEOUT_S", 10)
    assert main(["plugins", "--blender", str(path)]) == 1
    output = capsys.readouterr().out
    assert "it ended with exit code 5 before it answered" in output
    assert os.fspath(path) in output
