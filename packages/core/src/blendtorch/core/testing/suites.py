"""The conformance checks as pytest suites: subclass one, name your class, done.

In a test file of a plug-in::

    from acme_centers import Centers
    from blendtorch.core.testing.suites import AnnotatorSuite


    class TestCenters(AnnotatorSuite):
        plugin = Centers

The scene is a fake one, so neither Blender nor a GPU is needed; what a plug-in cannot do without them is skipped, with the
reason. A writer gets samples of it. To test a plug-in on Blender, in a Python that has bpy, make another `stage`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from blendtorch.core.interfaces import Annotator, Plugin, Randomizer, Renderer, Writer
from blendtorch.core.sampler import Stage
from blendtorch.core.testing import checks, requirements, writing
from blendtorch.core.testing.fakes import FakeStage, found_of
from blendtorch.core.testing.subject import Subject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

__all__ = ["AnnotatorSuite", "RandomizerSuite", "RendererSuite", "WriterSuite"]


class _Suite:
    """What the suites share.

    Attributes
    ----------
    plugin : type
        The class under test.
    options : mapping
        Its options in these tests.
    """

    plugin: ClassVar[type[Plugin]]
    options: ClassVar[Mapping[str, Any]] = {}

    def stage(self) -> Stage:
        """Make the scene that the plug-in is set up with."""
        return FakeStage()

    def run_check(self, name: str) -> None:
        """Run a check, and judge it."""
        self.judge(checks.run_check(name, self.plugin, self.stage(), self.options))

    def judge(self, check: checks.Check) -> None:
        """Fail with its error, or skip with its reason."""
        if check.error:
            pytest.fail(check.error, pytrace=False)
        if check.skipped:
            pytest.skip(check.skipped)


class RendererSuite(_Suite):
    """The tests of a renderer."""

    plugin: ClassVar[type[Renderer]]

    @pytest.mark.parametrize("check", checks.names("renderer"))
    def test_conformance(self, check: str) -> None:
        """It does what the interface says."""
        self.run_check(check)


class AnnotatorSuite(_Suite):
    """The tests of an annotator."""

    plugin: ClassVar[type[Annotator]]

    @pytest.mark.parametrize("check", checks.names("annotator"))
    def test_conformance(self, check: str) -> None:
        """It does what the interface says."""
        self.run_check(check)


class RandomizerSuite(_Suite):
    """The tests of a randomizer."""

    plugin: ClassVar[type[Randomizer]]

    @pytest.mark.parametrize("check", checks.names("randomizer"))
    def test_conformance(self, check: str) -> None:
        """It does what the interface says."""
        self.run_check(check)

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(seed=st.integers(0, 2**32 - 1), others=st.lists(st.integers(0, 99), max_size=3))
    def test_any_episodes_before_make_no_difference(self, seed: int, others: list[int]) -> None:
        """An episode is the same whatever was made before it."""
        subject = Subject(found_of(self.plugin), self.stage(), self.options)
        self.judge(checks.judge("repeats", lambda: requirements.repeats_after(subject, tuple(others), seed)))


class WriterSuite(_Suite):
    """The tests of a writer."""

    plugin: ClassVar[type[Writer]]

    @pytest.mark.parametrize("check", checks.names("writer"))
    def test_conformance(self, check: str) -> None:
        """It does what the interface says."""
        self.run_check(check)

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(indexes=st.lists(st.integers(0, 10**9), unique=True, max_size=4))
    def test_any_samples_are_counted(self, indexes: list[int]) -> None:
        """Samples have any index, and come in any order."""
        subject = Subject(found_of(self.plugin), options=self.options)
        self.judge(checks.judge("counts", lambda: writing.counts_in_order(subject, tuple(indexes))))
