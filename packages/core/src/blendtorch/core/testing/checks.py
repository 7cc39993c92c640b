"""Conformance checks of plug-ins, as plain functions, for pytest (`suites`) and for a real Blender (`blendtorch doctor`).

>>> from blendtorch.core.testing.fakes import FakeRenderer
>>> [check.error for check in run_checks(FakeRenderer) if check.error]
[]
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blendtorch.core.discovery import KINDS, Found, Kind
from blendtorch.core.errors import BlendtorchError, CameraError, ConfigurationError, SceneError
from blendtorch.core.interfaces import Plugin
from blendtorch.core.sampler import Stage
from blendtorch.core.testing import requirements, writing
from blendtorch.core.testing.fakes import FakeStage, found_of
from blendtorch.core.testing.scene import NeedsBlender
from blendtorch.core.testing.subject import Failed, Skipped, Subject

_ALL = tuple(KINDS)
_IN_BLENDER: tuple[Kind, ...] = ("renderer", "annotator", "randomizer")
CHECKS: dict[str, tuple[tuple[Kind, ...], Callable[[Subject], None]]] = {
    "is well-formed": (_ALL, requirements.is_well_formed),
    "imports without Blender and PyTorch": (_ALL, requirements.imports_alone),
    "has options that survive JSON": (_ALL, requirements.options_survive_json),
    "says what it does before setup": (_IN_BLENDER, requirements.declares),
    "closes without setup": (_ALL, requirements.closes_without_setup),
    "sets up and closes": (_IN_BLENDER, requirements.sets_up_and_closes),
    "emits what it declares": (("renderer", "annotator"), requirements.emits_what_it_declares),
    "draws over a transparent background": (("renderer",), requirements.emits_with_transparency),
    "keeps its arrays until the next frame": (("renderer", "annotator"), requirements.keeps_its_arrays),
    "labels a frame twice alike": (("annotator",), requirements.repeats_a_frame),
    "leaves its inputs alone": (("annotator",), requirements.leaves_its_inputs),
    "marks rows that hold no label": (("annotator",), requirements.marks_empty_rows),
    "draws from its generator alone": (("randomizer",), requirements.draws_from_its_generator),
    "names what it sets": (("randomizer",), requirements.names_what_it_sets),
    "repeats an episode after others": (("randomizer",), requirements.repeats_an_episode),
    "counts what it wrote": (("writer",), writing.counts_what_it_wrote),
    "shares its folder with others": (("writer",), writing.shares_its_folder),
    "writes a sample again": (("writer",), writing.writes_a_sample_again),
    "writes a sample without labels": (("writer",), writing.writes_without_labels),
    "leaves the sample alone": (("writer",), writing.leaves_the_sample),
    "leaves other people's files alone": (("writer",), writing.leaves_foreign_files),
    "counts no sample that was broken off": (("writer",), writing.counts_whole_samples),
    "takes samples with every label": (("writer",), writing.takes_what_it_checked),
    "finishes": (("writer",), writing.finishes),
    "reads back what it wrote": (("writer",), writing.reads_back),
    "estimates what it writes": (("writer",), writing.estimates_bytes),
}


@dataclass(frozen=True)
class Check:
    """What became of a check.

    Attributes
    ----------
    name : str
        What a plug-in is to do: "emits what it declares".
    error : str
        What is wrong; empty if nothing is.
    skipped : str
        Why it could not be judged: the plug-in needs options, another plug-in, a real Blender, or refused this scene in words.
    """

    name: str
    error: str = ""
    skipped: str = ""

    def __str__(self) -> str:
        verdict = f"failed: {self.error}" if self.error else f"skipped: {self.skipped}" if self.skipped else "passed"
        return f"{self.name}: {verdict}"


def run_checks(
    plugin: type[Plugin] | Found, stage: Stage | None = None, options: Mapping[str, Any] | None = None
) -> list[Check]:
    """Check a plug-in.

    Parameters
    ----------
    plugin : type or Found
        A class derived from Renderer, Annotator, Randomizer or Writer, or what a `Catalogue` found.
    stage : Stage, optional
        What it is set up with: a `FakeStage` by default, in Blender a `blendtorch.btb.pipeline.SceneStage`. The checks
        of a randomizer leave the scene as it set it. A writer needs none.
    options : mapping, optional
        Of the plug-in.

    Returns
    -------
    list of Check
    """
    return [run_check(name, plugin, stage, options) for name in names(_kind(plugin))]


def run_check(
    name: str, plugin: type[Plugin] | Found, stage: Stage | None = None, options: Mapping[str, Any] | None = None
) -> Check:
    """Run one of the checks in `names`; see `run_checks`."""
    return judge(name, lambda: CHECKS[name][1](_subject(plugin, stage, options)))


def judge(name: str, requirement: Callable[[], None]) -> Check:
    """Make a check of what a requirement raises."""
    try:
        requirement()
    except Skipped as skipped:
        return Check(name, skipped=str(skipped))
    except Failed as error:
        return Check(name, error=str(error))
    except (SceneError, CameraError, ConfigurationError) as error:  # said in words: this scene, or these options, cannot be
        return Check(name, skipped=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a plug-in raises
        if missing := _needs_blender(error):
            return Check(name, skipped=missing)
        return Check(name, error=_told(error))
    return Check(name)


def _subject(plugin: type[Plugin] | Found, stage: Stage | None, options: Mapping[str, Any] | None) -> Subject:
    return Subject(plugin if isinstance(plugin, Found) else found_of(plugin), stage or FakeStage(), options or {})


def names(kind: Kind) -> list[str]:
    """List the checks of a kind of plug-in."""
    return [name for name, (kinds, _) in CHECKS.items() if kind in kinds]


def _kind(plugin: type[Plugin] | Found) -> Kind:
    return plugin.kind if isinstance(plugin, Found) else next(kind for kind, base in KINDS.items() if issubclass(plugin, base))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _needs_blender(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, NeedsBlender):
            return str(cause)
        if isinstance(cause, ModuleNotFoundError) and cause.name in requirements.BLOCKED:
            return f"imports {cause.name}, which is not here"
    return ""


def _told(error: BaseException) -> str:
    """Give the text of an error, and the place in the plug-in where it came from."""
    *_, first = _causes(error)
    text = str(error) if isinstance(error, BlendtorchError) else f"{type(error).__name__}: {error}"
    place = traceback.extract_tb(first.__traceback__)[-1]
    return text if isinstance(first, BlendtorchError) else f"{text} (in {place.filename}, line {place.lineno})"
