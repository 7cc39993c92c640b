"""Everything that is run here, by hand and by CI.

    python3 noxfile.py -s demo      makes its own environment, then runs the main job
    python3 noxfile.py -s tests     the same, then passes the tests

With any Python 3.11; nothing else needs to be installed. `python3 noxfile.py --list` shows the rest.
"""

import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".nox"
NOX = "nox>=2025"


def load(module):
    """Read a module of ours that knows the standard library only: nothing of ours is installed here."""
    return runpy.run_path(str(ROOT / "packages/btt/src/blendtorch/btt" / module))


RELEASES, find_python = (load("releases.py")[name] for name in ("RELEASES", "find_python"))


def start_nox() -> int:
    """Run nox from an environment of its own: this Python needs to have nothing, and may be managed by the system."""
    if missing := load("system_libraries.py")["missing_libraries"]():
        print(missing, file=sys.stderr)
        return 1
    python = sys.executable if sys.version_info[:2] == (3, 11) else find_python("3.11")
    if python is None:
        print("Python 3.11 is needed, as Blender 4.5 LTS has it: install it, then run python3.11 noxfile.py", file=sys.stderr)
        return 1
    nox_python = ENVIRONMENTS / "nox" / "bin" / "python"
    if subprocess.run([nox_python, "-c", "import nox"], capture_output=True).returncode if nox_python.exists() else True:
        print("Making an environment for nox ...", flush=True)
        if subprocess.run([python, "-m", "venv", "--clear", ENVIRONMENTS / "nox"]).returncode:
            print("This Python lacks venv. On Debian and Ubuntu: apt-get install -y python3-venv", file=sys.stderr)
            return 1
        subprocess.run([nox_python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", NOX], check=True)
    return subprocess.run([nox_python, "-m", "nox", "--noxfile", __file__, *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(start_nox())

import nox  # noqa: E402 - only nox itself gets here, and no other Python needs to have it

nox.needs_version = ">=2025"
nox.options.sessions = ["tests", "lint", "types", "imports"]
nox.options.default_venv_backend = "none"  # the environments below are shared: torch and bpy are 1.8 GB

TORCH = "torch==2.13.0"
CORE, BTT, BTB, BTB_WITH_BPY = "packages/core", "packages/btt", "packages/btb", "packages/btb[bpy]"
STANDARD, IMAGES = "plugins/blendtorch-standard", "plugins/blendtorch-images"  # what btb and btt need of plugins/
EXAMPLE = "plugins/blendtorch-example"
IN_BLENDER = [STANDARD, "plugins/blendtorch-cycles", "plugins/blendtorch-gbuffer", EXAMPLE]
WRITERS = [IMAGES, *(f"plugins/blendtorch-{name}" for name in ("coco", "yolo", "bop", "webdataset", "huggingface"))]
PLUGINS = [*IN_BLENDER, *WRITERS]
TEST_TOOLS = ["pytest>=9", "pytest-timeout", "hypothesis", "jsonschema", "hatchling", "types-psutil", "types-PyYAML"]
BROWSER = ["playwright"]  # drives the Chromium of the system, and downloads none
READERS = ["pycocotools", "webdataset", "datasets", "ultralytics"]  # of the formats that we write
DETECTOR = [
    "torchvision==0.28.0",
    "torchmetrics[detection]",
    "trimesh",
]  # torchvision goes with TORCH; trimesh is what tests make meshes with
MAIN = "bpy-4.5"  # the environment of most sessions: a trainer and Blender in one Python 3.11
OTHER_RUNTIMES = {f"bpy-{name}": release for name, release in RELEASES.items() if f"bpy-{name}" != MAIN}
SOURCES = ["packages", "plugins", "examples", "tests", "benchmarks", "noxfile.py"]


def environment(session, name, version, requirements, ours):
    """Make an environment, or make it anew when what goes into it has changed; return its Python.

    `ours` are packages of this repository, installed in editable form.
    """
    folder = ENVIRONMENTS / name
    python, stamp = str(folder / "bin" / "python"), folder / "blendtorch.sha256"
    projects = [(ROOT / project.partition("[")[0] / "pyproject.toml").read_text() for project in ours]
    digest = hashlib.sha256(json.dumps([version, requirements, ours, projects]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    base = find_python(version)
    if base is None:
        session.error(f"The environment {name} needs Python {version}: install it, so that python{version} is on PATH")
    session.log(f"Making the environment {folder.relative_to(ROOT)}; the first time this takes minutes")
    session.run(str(base), "-m", "venv", "--clear", str(folder), external=True, silent=True)
    editable = [argument for project in ours for argument in ("--editable", project)]
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--progress-bar=off"]
    session.run(*pip, *requirements, *editable, external=True)
    stamp.write_text(digest)
    return python


def main_environment(session):
    requirements = [TORCH, *TEST_TOOLS, *BROWSER, *READERS, *DETECTOR]
    return environment(session, MAIN, "3.11", requirements, [CORE, BTT, BTB_WITH_BPY, *PLUGINS])


def tool_environment(session):
    tools = ["ruff==0.17.6", "mypy==2.4.1", "import-linter==2.16", "build", "hatchling"]
    return environment(session, "tools", "3.11", tools, [])


def find_blender(session):
    blender = shutil.which("blender")
    if blender is None:
        session.error("No blender executable is on PATH. On Debian: apt-get install -y --no-install-recommends blender xvfb")
    return blender


@nox.session
def demo(session):
    """Run the main job: falling cubes, streamed from Blender, as pictures in ./tmp."""
    python = main_environment(session)
    session.run(python, "examples/datagen/generate.py", "falling_cubes", *session.posargs, external=True)


@nox.session
def tests(session):
    """Run the tests, with Blender 4.5 LTS. Arguments go to pytest."""
    session.run(main_environment(session), "-m", "pytest", *session.posargs, external=True)


@nox.session
def fuzz(session):
    """Decode millions of broken and hostile messages: minutes. `-- --fuzz-seed N` repeats a run."""
    session.run(main_environment(session), "-m", "pytest", "tests/fuzz", *session.posargs, external=True)


@nox.session
def faults(session):
    """Run the tests that mount file systems of their own (root, or user namespaces, are needed) and the soak."""
    session.run(main_environment(session), "-m", "pytest", "-m", "mounts or soak", *session.posargs, external=True)


@nox.session
def matrix(session):
    """Run the tests of what crosses to Blender with every other runtime, and with a real window."""
    python = main_environment(session)
    pytest = [python, "-m", "pytest", "-m", "blender and not mounts and not soak", *session.posargs]
    for name, (version, requirements) in OTHER_RUNTIMES.items():
        ours = [CORE, BTB_WITH_BPY if name == "bpy-5.2" else BTB, *IN_BLENDER]  # what its extra chooses for Python 3.13
        runtime = environment(session, name, version, requirements, ours)
        session.run(*pytest, f"--blender={runtime}", external=True)
    blender = find_blender(session)
    session.run(*pytest, f"--blender={blender}", external=True)
    if shutil.which("xvfb-run") is None:
        session.error("xvfb-run is missing. On Debian: apt-get install -y --no-install-recommends xvfb xauth")
    window = [python, "-m", "pytest", "-m", "window", f"--blender={blender}", *session.posargs]
    session.run("xvfb-run", "--auto-servernum", "--server-args=-screen 0 1280x1024x24", *window, external=True)


@nox.session
def browser(session):
    """Run the tests of the page of `blendtorch view` in Chromium. `-- --update-pictures` writes its picture in the docs."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        session.error("No Chromium is on PATH. On Debian: apt-get install -y --no-install-recommends chromium")
    python = main_environment(session)
    session.run(python, "-m", "pytest", "tests/viewing", "-m", "browser", *session.posargs, external=True)


@nox.session
def runtimes(session):
    """Make private runtimes and stream from them, with our main trainer and one on Python 3.12 with numpy 2 and no bpy."""
    pytest = ["-m", "pytest", "tests/runtimes", "-m", "runtimes", *session.posargs]
    session.run(main_environment(session), *pytest, external=True)
    requirements = [TORCH, "numpy>=2", "pytest>=9", "pytest-timeout"]
    session.run(environment(session, "trainer-3.12", "3.12", requirements, [CORE, IMAGES, BTT]), *pytest, external=True)


@nox.session
def lint(session):
    """Check style and format. With `-- --fix`: mend what can be mended."""
    ruff = [tool_environment(session), "-m", "ruff"]
    fix = "--fix" in session.posargs
    session.run(*ruff, "check", *(["--fix"] if fix else []), *SOURCES, external=True)
    session.run(*ruff, "format", *([] if fix else ["--check"]), *SOURCES, external=True)


@nox.session
def types(session):
    """Check the types of our sources, strictly."""
    python, tools = main_environment(session), tool_environment(session)
    plugins = [Path(plugin).name.replace("-", "_") for plugin in PLUGINS if plugin != EXAMPLE]
    names = ["blendtorch.core", "blendtorch.btt", "blendtorch.btb", *plugins]
    packages = [argument for name in names for argument in ("-p", name)]
    session.run(tools, "-m", "mypy", f"--python-executable={python}", *packages, external=True)


@nox.session
def imports(session):
    """Check who may import whom."""
    python = tool_environment(session)
    sources = os.pathsep.join(str(ROOT / project / "src") for project in (CORE, BTT, BTB, *PLUGINS))
    lint_imports = str(Path(python).with_name("lint-imports"))
    session.run(lint_imports, "--no-cache", external=True, env={"PYTHONPATH": sources})


@nox.session
def bench(session):
    """Measure the stream beside the bare render loop. `-- --json FILE` for programs."""
    session.run(main_environment(session), "benchmarks/bench.py", *session.posargs, external=True)


@nox.session
def wheels(session):
    """Build each package, and install each wheel alone into an empty environment."""
    python, dist = tool_environment(session), ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for project in (CORE, BTT, BTB, *PLUGINS):
        build = ["--wheel", "--no-isolation", "--outdir", str(dist), project]
        session.run(python, "-m", "build", *build, external=True, silent=True)
    for name in ("core", "btt", "btb"):
        folder = Path(session.create_tmp()) / name
        session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True, silent=True)
        alone = str(folder / "bin" / "python")
        pip = [alone, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--find-links={dist}"]
        # Here bpy is not there: importing btb must fail for its lack, and for nothing else.
        check = f"import blendtorch.{name} as module; print(module.__name__, 'works alone')"
        if name == "btb":
            check = (
                "try:\n import blendtorch.btb\nexcept ModuleNotFoundError as error:\n"
                " assert error.name == 'bpy', error\n print('blendtorch.btb lacks bpy alone')"
            )
        session.run(*pip, *([TORCH] if name == "btt" else []), f"blendtorch-{name}==1.0.0.dev0", external=True)
        session.run(alone, "-c", check, external=True)
        shutil.rmtree(folder)
