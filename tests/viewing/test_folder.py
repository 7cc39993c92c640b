"""Data sets: whole samples where the format keeps them, else what it keeps."""

import numpy as np
import pytest
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.versions import Versions
from blendtorch.btt.viewing.description import describe
from blendtorch.btt.viewing.folder import FolderSource, is_data_folder
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch_images import Images

BOXES = """\
import json
import numpy as np
from blendtorch.core import Writer, hookimpl, write_atomically
from blendtorch.core.labels import LabelledObject, LabelledPicture

class Boxes(Writer):
    name = "boxes"
    interface = 1
    def open(self, folder):
        self.folder = folder
    def written(self):
        return frozenset(int(path.stem) for path in self.folder.glob("*.txt"))
    def write(self, sample):
        write_atomically(self.folder / f"{sample['meta']['index']}.txt", b"")
    def read(self, index):
        mask = np.zeros((60, 80), bool)
        mask[20:40, 30:60] = True
        seen = LabelledObject(
            category_id=1, xyxy=np.array([30.0, 20, 60, 40]), mask=mask, visibility=0.5, camera_from_object=np.eye(4),
            keypoints=np.array([[40.5, 30.5]]), states=np.array([2], np.int8))
        hidden = LabelledObject(category_id=1, ignored="hidden")
        return [LabelledPicture(camera="", image=np.full((60, 80, 3), 9, np.uint8), objects=(seen, hidden), K=np.eye(3))]

@hookimpl
def blendtorch_register_writers():
    return Boxes
"""


@pytest.fixture
def note(tmp_path):
    def note(**writer):
        DataFolder(tmp_path).note_versions(Versions(trainer={}, blender={}, writer=writer, categories={1: "part"}))

    return note


def test_whole_samples_and_those_that_are_written_meanwhile(tmp_path, make_sample, note, monkeypatch):
    monkeypatch.setattr("blendtorch.btt.viewing.folder._LOOK_S", 0.0)
    writer = Images(Images.Options())
    writer.open(tmp_path)
    for index in (4, 2):
        writer.write(make_sample(index))
    assert not is_data_folder(tmp_path)
    note(name="images", png_level=3)
    assert is_data_folder(tmp_path)
    source = FolderSource(tmp_path)
    status = source.status()
    assert (status.state, status.end) == ("recorded", 2)
    assert [source.sample(number)["meta"]["index"] for number in (0, 1)] == [2, 4]
    writer.write(make_sample(3))
    status = source.status()
    assert (status.state, status.end) == ("live", 3)
    sample = source.sample(2)
    assert sample["meta"]["index"] == 3, "a number stays what it is"
    assert (sample["image"] == make_sample(3)["image"]).all()
    assert describe(2, sample, source.categories).views[0].objects[0].category == "part"
    with pytest.raises(LookupError):
        source.sample(3)
    source.close()


def test_what_other_formats_keep(tmp_path, note):
    plugin = tmp_path / "boxes.py"
    plugin.write_text(BOXES)
    note(name="boxes")
    (tmp_path / "7.txt").touch()
    source = FolderSource(tmp_path, [str(plugin)])
    (view,) = describe(0, source.sample(0), source.categories).views
    assert [label.name for label in view.drawn] == ["boxes2d_tight", "keypoints", "poses"]
    assert [len(label.shapes) for label in view.drawn] == [1, 2, 3]
    assert [each.name for each in view.maps] == ["instance_ids"]
    assert [(each.category, each.visibility, each.box) for each in view.objects] == [
        ("part", 0.5, [30, 20, 60, 40]),
        ("part", None, None),
    ]
    assert source.sample(0)["ignored"] == ["", "hidden"]
    assert np.count_nonzero(source.sample(0)["instance_ids"]["instance_ids"]) == 600
    source.close()


def test_what_is_no_data_set_is_said(tmp_path, note):
    with pytest.raises(ConfigurationError, match="does not say what wrote"):
        FolderSource(tmp_path)
    note(name="cooc")
    with pytest.raises(PluginError, match="cooc"):
        FolderSource(tmp_path)
