"""Discovery, with distributions as pip installs them: a module, and a dist-info folder with metadata and entry points."""

import importlib
import subprocess
import sys
import textwrap

import msgspec
import pytest
from blendtorch.core import discovery
from blendtorch.core.discovery import DISABLE_VARIABLE, Catalogue
from blendtorch.core.errors import PluginError

PLUGIN = """
from blendtorch.core import Annotator, ArraySpec, Options, Randomizer, Renderer, hookimpl

class Dots(Annotator):
    name = "dots"
    interface = 1
    emits = {"xy": ArraySpec("float64", (2,))}

    def annotate(self, moment, camera, inputs):
        raise NotImplementedError

"""
HOOK = """
@hookimpl
def blendtorch_register_annotators():
    return [Dots]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with one module, `code` after the plug-in above; removed from sys.modules in the end."""
    site, modules = tmp_path / "site", []
    site.mkdir()

    def install(code=HOOK, name="acme-dots", module="acme_dots", version="1.2", entries="dots = {module}", head=PLUGIN):
        (site / f"{module}.py").write_text(head + textwrap.dedent(code))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[blendtorch]\n" + entries.format(module=module) + "\n")
        modules.append(module)
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for module in modules:
        sys.modules.pop(module, None)
    importlib.invalidate_caches()


def error_of(call):
    with pytest.raises(PluginError) as caught:
        call()
    return str(caught.value)


def test_an_installed_class_is_found_and_says_where_it_is_from(install):
    install()
    found = Catalogue().find("annotator", "dots")
    assert (found.cls.__name__, found.kind) == ("Dots", "annotator")
    assert str(found.source) == "acme-dots 1.2 (entry point dots = acme_dots)"


def test_a_hook_may_return_one_class_and_a_name_need_not_be_an_entry_point(install):
    install(HOOK.replace("[Dots]", "Dots"), entries="acme = {module}")
    assert Catalogue().find("annotator", "dots").cls.__name__ == "Dots"


def test_what_a_run_does_not_name_is_not_imported(install):
    """Neither a distribution that would fail, nor ours."""
    site = install()
    install("raise RuntimeError('imported')", name="acme-bad", module="acme_bad", entries="other = {module}")
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
from blendtorch.core.discovery import Catalogue
catalogue = Catalogue()
catalogue.claims()
assert "acme_dots" not in sys.modules
catalogue.find("annotator", "dots")
assert "acme_dots" in sys.modules
assert not [name for name in sys.modules if name.startswith(("acme_bad", "blendtorch_standard"))]
assert catalogue.problems == []
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


BROKEN = {
    "import": ("import acme_missing", "cannot be imported: ModuleNotFoundError: No module named 'acme_missing'"),
    "misspelt": (HOOK.replace("annotators", "anotators"), "there is no hook blendtorch_register_anotators: did you mean blend"),
    "argument": (HOOK.replace("()", "(config)"), "hook blendtorch_register_annotators has the argument 'config'"),
    "unmarked": (HOOK.replace("@hookimpl", ""), "hook blendtorch_register_annotators is not marked: write @hookimpl over it"),
    "none": ("", "it has none of the hooks blendtorch_register_annotators"),
    "not-a-class": (HOOK.replace("[Dots]", "[Dots, 'dots']"), "returned 'dots': expected classes derived from Annotator"),
    "other-kind": (HOOK.replace("annotators", "renderers"), "expected classes derived from Renderer"),
    "twice": (HOOK.replace("[Dots]", "[Dots, Dots]"), "two of its annotators are called 'dots'"),
    "interface": ("Dots.interface = 2" + HOOK, "annotator class Dots is written for interface 2, and this blendtorch has 1"),
    "name": ("Dots.name = 'My dots'" + HOOK, "`name` is 'My dots', expected lower-case letters"),
    "no-name": ("del Dots.name" + HOOK, "`name` is None"),
    "abstract": ("Dots.__abstractmethods__ = frozenset({'emits'})" + HOOK, "annotator class Dots lacks emits"),
    "options": ("Dots.Options = dict" + HOOK, "expected a Struct derived from blendtorch.core.Options"),
    "options-of-a-randomizer": (
        """
        class Shake(Randomizer):
            name, interface, Options = "dots", 1, Options
            randomize = None

        @hookimpl
        def blendtorch_register_randomizers():
            return Shake
        """,
        "expected a Struct derived from blendtorch.core.RandomizerOptions",
    ),
    "hook-raises": ("@hookimpl\ndef blendtorch_register_annotators():\n    return undefined", "NameError: name 'undefined'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_distribution_is_named_and_stops_only_who_asks(install, case):
    code, reason = BROKEN[case]
    install(code)
    install(name="acme-other", module="acme_other", entries="lines = {module}", head=PLUGIN.replace('"dots"', '"lines"'))
    catalogue = Catalogue()
    assert catalogue.find("annotator", "lines").name == "lines"
    text = error_of(lambda: catalogue.find("annotator", "dots"))
    assert "annotator 'dots' cannot be used. acme-dots 1.2 (entry point dots = acme_dots): " in text
    assert reason in text
    (problem,) = catalogue.problems
    assert problem.source.distribution == "acme-dots"
    assert reason in problem.reason
    if case == "import":
        assert "acme_dots.py" in text, "the traceback is part of it"


def test_optionalhook_is_for_newer_cores(install):
    newer = "\n@hookimpl(optionalhook=True)\ndef blendtorch_register_sensors():\n    return []\n"
    install(HOOK + newer)
    install(newer, name="acme-newer", module="acme_newer", entries="sensor = {module}")
    catalogue = Catalogue()
    assert catalogue.find("annotator", "dots").name == "dots"
    assert "acme_newer" not in sys.modules
    catalogue.all()
    assert "acme_newer" in sys.modules
    assert [problem for problem in catalogue.problems if "acme" in str(problem)] == []


def test_two_with_one_name_stop_who_asks_for_it(install):
    install()
    install(name="beta-dots", module="beta_dots")
    catalogue = Catalogue()
    text = error_of(lambda: catalogue.find("annotator", "dots"))
    assert "annotator 'dots' is there more than once, switch one off with BLENDTORCH_DISABLE_PLUGINS" in text
    assert "acme-dots 1.2" in text
    assert "beta-dots 1.2" in text
    (problem,) = catalogue.duplicates()
    assert "annotator 'dots' is there already, in acme-dots 1.2" in str(problem)


@pytest.mark.parametrize("switch", ["beta-dots", "some-other, beta-dots ,", "double"])
def test_the_variable_switches_off(install, monkeypatch, switch):
    install()
    install(name="Beta_Dots", module="beta_dots", entries="dots = {module}\ndouble = {module}")
    monkeypatch.setenv(DISABLE_VARIABLE, switch)
    catalogue = Catalogue()
    assert catalogue.find("annotator", "dots").source.distribution == "acme-dots"
    assert [source.distribution for source in catalogue.disabled] == ["beta-dots"]
    assert "beta_dots" not in sys.modules
    monkeypatch.setenv(DISABLE_VARIABLE, "acme-dots,beta-dots")
    assert "is switched off by BLENDTORCH_DISABLE_PLUGINS" in error_of(lambda: Catalogue().find("annotator", "dots"))


def test_a_distribution_further_down_the_path_is_hidden(install, tmp_path, monkeypatch):
    site = install()
    (tmp_path / "above").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "above"))
    info = tmp_path / "above" / "acme_dots-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Acme.Dots\nVersion: 2.0\n")
    (site / "gone-1.0.dist-info").mkdir()  # what a broken uninstallation leaves
    assert "dots" not in Catalogue().claims()


def test_files_are_plugins_and_keep_their_types(tmp_path):
    code = PLUGIN.replace(
        "class Dots", "class DotsOptions(Options, frozen=True):\n    size: Size = 3\n\nSize = int\n\nclass Dots"
    )
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        name = f"dots_{folder}"
        path = tmp_path / folder / "plugin.py"
        path.write_text(
            "from __future__ import annotations\n" + code.replace('"dots"', repr(name)) + "    Options = DotsOptions\n" + HOOK
        )
    catalogue = Catalogue([tmp_path / "one" / "plugin.py", str(tmp_path / "two" / "plugin.py")])
    for name in ("dots_one", "dots_two"):
        found = catalogue.find("annotator", name)
        assert msgspec.convert({"size": 4}, found.cls.Options).size == 4
        assert str(found.source).endswith("plugin.py")


def test_a_file_that_cannot_be_used_is_named_with_its_traceback(tmp_path):
    (tmp_path / "plugin.py").write_text("import acme_missing\n")
    (tmp_path / "plugin.txt").write_text("")
    catalogue = Catalogue([tmp_path / "plugin.py", tmp_path / "absent.py", tmp_path / "plugin.txt"])
    text = error_of(lambda: catalogue.find("annotator", "dots"))
    assert f"{tmp_path / 'plugin.py'}: cannot be imported: ModuleNotFoundError" in text
    assert "line 1, in <module>" in text
    assert "absent.py: there is no such file" in text
    assert "its name has to end with .py" in text


def test_an_unknown_name_gets_the_nearest_the_kind_or_what_to_install(install, monkeypatch):
    install()
    monkeypatch.setitem(discovery.OURS, "acme_ids", "blendtorch-acme")
    catalogue = Catalogue()
    assert "there is no annotator 'dotz'; did you mean 'dots'?" in error_of(lambda: catalogue.find("annotator", "dotz"))
    assert "'dots' is no renderer but an annotator" in error_of(lambda: catalogue.find("renderer", "dots"))
    assert "pip install blendtorch-acme" in error_of(lambda: catalogue.find("annotator", "acme_ids"))


def test_installed_here_absent_from_there():
    text = error_of(lambda: Catalogue(elsewhere={"dots": "acme-dots 1.2"}).find("annotator", "dots"))
    assert "annotator 'dots' is installed in the trainer (acme-dots 1.2), and absent from this Blender's Python: run " in text
    assert text.endswith("-m pip install acme-dots")
