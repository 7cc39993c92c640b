"""The examples that open the interfaces work, on a fake scene."""

import inspect
import textwrap

import numpy as np
import pytest
from blendtorch import core
from blendtorch.core import geometry, interfaces
from blendtorch.core.testing import FakeStage, run, run_checks


def example(cls):
    """Execute the example in a docstring; return its class."""
    text = inspect.getdoc(cls)
    block = text.partition("Example::\n")[2].partition("\nAttributes\n")[0]
    names = {**vars(interfaces), **vars(core), "np": np, "__name__": __name__}
    before = set(names)
    exec(textwrap.dedent(block), names)
    (made,) = [value for name, value in names.items() if name not in before and isinstance(value, type)]
    return made


@pytest.mark.parametrize("cls", [interfaces.Renderer, interfaces.Annotator, interfaces.Randomizer, interfaces.Writer])
def test_an_example_does_what_the_interface_says(cls):
    results = run_checks(example(cls))
    judged = [check for check in results if not check.skipped]
    assert [str(check) for check in judged if check.error] == []
    assert len(judged) > 5


def test_the_examples_work_together():
    made = [example(cls) for cls in (interfaces.Renderer, interfaces.Annotator, interfaces.Randomizer)]
    made[0].shows |= {interfaces.LIGHTS}
    names = {f"{kind}s": [cls.name] for kind, cls in zip(("renderer", "annotator", "randomizer"), made, strict=True)}
    made[1].needs = ()  # `camera` is in another distribution
    (sample,) = run(*made, **names)
    assert list(sample) == ["image", "centers", "Side", "objects", "meta"]
    assert np.isfinite(sample["centers"]["xy"][sample["centers"]["valid"]]).all()


def test_a_view_projects_as_the_geometry_does():
    stage = FakeStage()
    view = stage.view(stage.cameras[0])
    points = np.array([[0.0, 0, 0], [0.5, 1, -0.25]])
    xy, depth = view.project(points)
    matrix = view.K @ view.camera_from_world[:3]
    homogeneous = np.c_[points, np.ones(2)] @ matrix.T
    assert np.allclose(xy, homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)
    assert np.allclose(depth, homogeneous[:, 2], atol=1e-12)
    assert np.allclose(xy[0], (32, 24)), "the camera looks at the origin"
    assert (view.shape, view.orthographic) == ((48, 64), False)
    assert np.array_equal(view.K, geometry.intrinsics(view.lens))


def test_a_class_without_its_methods_cannot_be_made():
    class Empty(interfaces.Annotator):
        name = "empty"

    with pytest.raises(TypeError, match="abstract method"):
        Empty(interfaces.Options())
