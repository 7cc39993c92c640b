"""What a script can publish, and what it is told about the rest."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.core.errors import InstanceError, PayloadError

pytestmark = pytest.mark.blender


def test_blenders_own_types_arrive_as_float64_arrays(items_of):
    (item,) = items_of(
        """
import mathutils
from datetime import datetime
from pathlib import Path
cube = bpy.data.objects["Cube"]
cube["tag"] = [1, 2, 3]
cube.rotation_euler = (0.1, 0.2, 0.3)
values = dict(
    vector=mathutils.Vector((1, 2, 3)), matrix=cube.matrix_world, euler=cube.rotation_euler,
    quaternion=mathutils.Quaternion((1, 0, 0, 0)), color=mathutils.Color((0.25, 0.5, 1)),
    prop=cube.bound_box[0], box=cube.color, flags=cube.lock_location, custom=cube["tag"],
)
pub.publish(
    **values, nested={"list": [mathutils.Vector((1, 2)), None, True], "tuple": (1, 2.5)}, path=Path("/a"), text="ä",
    when=datetime(2026, 1, 2), number=1 + 2j, raw=b"x" * 10000, kinds={1, 2},
)
"""
    )
    arrays = [item[name] for name in ("vector", "matrix", "euler", "quaternion", "color", "prop", "box", "flags", "custom")]
    assert all(array.dtype == np.float64 for array in arrays)
    assert [array.shape for array in arrays] == [(3,), (4, 4), (3,), (4,), (3,), (3,), (4,), (3,), (3,)]
    np.testing.assert_array_equal(item["vector"], [1, 2, 3])
    np.testing.assert_array_equal(item["color"], [0.25, 0.5, 1])
    np.testing.assert_array_equal(item["custom"], [1, 2, 3])
    np.testing.assert_array_equal(item["nested"]["list"][0], [1, 2])
    assert item["nested"]["tuple"] == (1, 2.5)
    assert (item["path"], item["text"], item["when"], item["number"]) == (Path("/a"), "ä", datetime(2026, 1, 2), 1 + 2j)
    assert item["raw"] == b"x" * 10000
    assert item["kinds"] == {1, 2}
    assert item["btid"] == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("pub.publish(obj=bpy.data.objects['Cube'])", r"obj: cannot send a \S*bpy\S*\.Object: publish numbers"),
        ("pub.publish(btid=3)", "btid: this field is added by blendtorch"),
        ("pub.publish(a=[np.array([None])])", r"a\[0\]: cannot send an array of dtype object"),
    ],
)
def test_what_cannot_be_sent_is_an_error_at_the_trainer(launch, call, text):
    with launch(call) as launcher, pytest.raises(InstanceError, match=text):
        list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))


DECLARED = """
from typing import Annotated
import msgspec
from blendtorch.core import ArraySpec
class Sample(msgspec.Struct):
    xy: Annotated[np.ndarray, ArraySpec("float64", ("points", 2), unit="px")]
    frameid: int
import mathutils
pub = btb.DataPublisher(args.btsockets["DATA"] + "2", args.btid, payload=Sample)
"""


def test_a_frame_that_does_not_fit_its_payload_is_refused_where_it_is_published(launch):
    script = DECLARED + "pub.publish(xy=np.zeros((3, 3)), frameid=1)"
    with (
        launch(script) as launcher,
        pytest.raises(InstanceError, match=r"Sample.xy: expected float64 \(points, 2\) in px, got"),
    ):
        list(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"]))


def test_the_dataset_checks_its_payload_too(launch):
    from typing import Annotated

    import msgspec
    from blendtorch.core import ArraySpec

    class Sample(msgspec.Struct):
        xy: Annotated[np.ndarray, ArraySpec("float32", (None, 2))]

    with launch("pub.publish(xy=np.zeros((2, 2), 'f4')); pub.publish(xy=np.zeros((2, 2)))") as launcher:
        items = iter(btt.RemoteIterableDataset(launcher.launch_info.addresses["DATA"], payload=Sample))
        assert next(items)["xy"].shape == (2, 2)
        with pytest.raises(PayloadError, match="Sample.xy: expected float32"):
            next(items)
