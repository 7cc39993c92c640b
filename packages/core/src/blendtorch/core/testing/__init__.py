"""For authors of plug-ins: conformance checks, and fakes to run a pipeline without Blender.

`suites` has the checks as pytest suites; it is imported by itself, since a Blender has no pytest.
"""

from blendtorch.core.testing.checks import Check, run_checks
from blendtorch.core.testing.fakes import FakeObject, FakePublisher, FakeRenderer, FakeScene, FakeStage, run

__all__ = ["Check", "FakeObject", "FakePublisher", "FakeRenderer", "FakeScene", "FakeStage", "run", "run_checks"]
