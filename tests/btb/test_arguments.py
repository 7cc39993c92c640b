import pytest
from blendtorch import btb
from blendtorch.core.errors import LaunchError

SOCKETS = ["-btsockets", "DATA=tcp://127.0.0.1:11000", "CTRL=ipc:///tmp/a=b"]


def test_arguments_and_remainder():
    args, remainder = btb.parse_blendtorch_args(
        ["blender", "--background", "--", *SOCKETS, "-btid", "2", "-btseed", "9", "x", "-y"]
    )
    assert (args.btid, args.btseed) == (2, 9)
    assert args.btsockets == {"DATA": "tcp://127.0.0.1:11000", "CTRL": "ipc:///tmp/a=b"}
    assert remainder == ["x", "-y"]


def test_no_sockets_and_no_seed():
    args, remainder = btb.parse_blendtorch_args(["--"])
    assert (args.btid, args.btseed, args.btsockets, remainder) == (0, 0, {}, [])


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["blender"], "start it with btt.BlenderLauncher, or by hand with: -- -btid 0"),
        (["--", "-btid", "many"], "cannot read the arguments behind --: argument -btid: invalid int value"),
        (["--", "-btsockets", "DATA"], "expected NAME=ADDRESS"),
    ],
)
def test_what_cannot_be_read_is_said(argv, text):
    with pytest.raises(LaunchError, match=text):
        btb.parse_blendtorch_args(argv)


def test_callbacks_can_be_added_and_removed_while_they_are_called():
    signal, calls = btb.Signal(), []
    handle = signal.add(lambda *args, **kwargs: calls.append((args, kwargs)), 1, a=2)
    signal.add(lambda *_: signal.remove(handle) if handle in signal.slots else None)
    signal.invoke("first")
    signal("second")
    assert calls == [((1, "first"), {"a": 2})]
    with pytest.raises(ValueError):
        signal.remove(handle)
