"""`blendtorch audit`: data sets that are wrong in one way each, and whether that is told; and one that Blender has made."""

import io
import json
import re

import numpy as np
import pytest
from blendtorch.btt.auditing.audit import audit
from blendtorch.btt.auditing.comparing import compare_pictures, match
from blendtorch.btt.auditing.data import DataSet
from blendtorch.btt.auditing.facts import thumbnail
from blendtorch.btt.auditing.sheet import draw_sheet
from blendtorch.btt.auditing.statistics import nearest_before
from blendtorch.btt.auditing.table import show, verdict
from blendtorch.btt.command import main
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.versions import Versions
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.labels import LabelledObject, LabelledPicture
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from rich.console import Console

SHAPE, COUNT, FRAMES = (48, 64), 24, 2

WRITER = '''
"""Labels in JSON that a test can edit."""
import msgspec
import numpy as np
from blendtorch.core import Writer, hookimpl, write_atomically
from blendtorch.core.labels import LabelledObject, LabelledPicture
from blendtorch.core.selection import LabelOptions, labelled_pictures, split_of

class Plain(Writer):
    """Files to edit."""
    name = "plain"
    interface = 1

    class Options(LabelOptions, frozen=True, kw_only=True):
        digits: int = 9

    def open(self, folder):
        self.folder = folder

    def written(self):
        return frozenset(int(path.stem) for path in self.folder.glob("[0-9]*.json"))

    def write(self, sample):
        index, documents = int(sample["meta"]["index"]), []
        for number, picture in enumerate(labelled_pictures(sample, self.options)):
            np.save(self.folder / f"{index}_{number}.npy", picture.image)
            documents.append({
                "camera": picture.camera,
                "split": split_of(sample["meta"], self.options.split) if len(self.options.split) > 1 else "",
                "left_out": dict(picture.left_out),
                "objects": [{
                    "category_id": each.category_id,
                    "instance_id": each.instance_id,
                    "xyxy": [round(value, self.options.digits) for value in each.xyxy.tolist()],
                    "mask": None if each.mask is None else each.mask.astype(int).tolist(),
                    "visibility": each.visibility,
                    "truncated": each.truncated,
                    "ignored": each.ignored,
                    "keypoints": None if each.keypoints is None else each.keypoints.tolist(),
                    "states": None if each.states is None else each.states.tolist(),
                    "camera_from_object": None if each.camera_from_object is None else each.camera_from_object.tolist(),
                } for each in picture.objects],
            })
        write_atomically(self.folder / f"{index}.json", msgspec.json.encode(documents))

    def read(self, index):
        def array(value, dtype):
            return None if value is None else np.array(value, dtype)
        pictures = []
        for number, document in enumerate(msgspec.json.decode((self.folder / f"{index}.json").read_bytes())):
            objects = tuple(LabelledObject(**{
                **each,
                "xyxy": array(each["xyxy"], float),
                "mask": array(each["mask"], bool),
                "visibility": np.nan if each["visibility"] is None else each["visibility"],
                "keypoints": array(each["keypoints"], float),
                "states": array(each["states"], np.int8),
                "camera_from_object": array(each["camera_from_object"], float),
            }) for each in document["objects"])
            pictures.append(LabelledPicture(
                camera=document["camera"], image=np.load(self.folder / f"{index}_{number}.npy"), objects=objects,
                left_out=document["left_out"], split=document["split"],
            ))
        return pictures

@hookimpl
def blendtorch_register_writers():
    return Plain
'''


def render(data, indexes):
    """Make card samples again, in another order: what stands for Blender here."""
    for index in reversed(indexes):
        yield labelled_sample(index, shape=SHAPE, frames_per_episode=FRAMES)


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(WRITER)
    return path


@pytest.fixture
def make(tmp_path, plugin):
    """Write a data set of cards."""

    def make(count=COUNT, name="plain", **options):
        folder = tmp_path / "data"
        folder.mkdir()
        about = DataFolder(folder)
        configuration = {"start": 0, "count": count, "frames_per_episode": FRAMES, "plugins": [str(plugin)]}
        about.note_configuration({**configuration, "scene": None, "assets": []})
        writer = {"name": name, **({"split": {"train": 0.7, "val": 0.3}} if name == "plain" else {}), **options}
        about.note_versions(Versions(trainer={}, blender={}, writer=writer, categories=CATEGORIES))
        data = DataSet(folder, [str(plugin)])
        for index in range(count):
            data.writer.write(labelled_sample(index, shape=SHAPE, frames_per_episode=FRAMES))
        data.writer.finish(CATEGORIES)
        return data

    return make


def edit(data, index, change):
    """Change the first picture of a stored sample."""
    path = data.folder.path / f"{index}.json"
    document = json.loads(path.read_text())
    change(document[0])
    path.write_text(json.dumps(document))


def audited(data, **arguments):
    """Audit all samples of a data set of cards."""
    return audit(data, render, **{"samples": COUNT, **arguments})


def findings(report, wrong=True):
    return {each.what: each.where for each in report.statistics.findings if each.wrong == wrong}


@pytest.mark.parametrize("options", [{}, {"digits": 0}, {"min_visibility": 0.5, "min_pixels": 20}])
def test_what_was_not_touched_agrees_whatever_the_format_rounds(make, options):
    report = audited(make(**options)).report
    assert (report.agree, report.exit_code) == (True, 0)
    assert len(report.compared) == len(report.chosen) == COUNT
    assert (report.box_iou, report.mask_iou) == (1, 1)
    assert [each.differing for each in report.compared] == [0] * COUNT
    assert sum(report.statistics.splits.values()) == report.statistics.pictures == COUNT
    assert set(report.statistics.splits) == {"train", "val"}
    assert sum(report.statistics.classes.values()) == report.statistics.objects
    assert findings(report) == {}


@pytest.mark.parametrize("name", ["images", "coco", "yolo", "bop", "webdataset", "huggingface", "recording"])
def test_every_format_of_ours_can_be_audited(make, name):
    """What is rendered again agrees; where something else is rendered for one sample, that one is named."""
    data = make(count=4, name=name)
    assert [each.problems for each in audited(data).report.compared] == [[]] * 4

    def render_wrong(data, indexes):
        for sample in render(data, indexes):
            if sample["meta"]["index"] == 2:
                other = labelled_sample(2, seed=1, shape=SHAPE, frames_per_episode=FRAMES)
                sample.update({key: value for key, value in other.items() if key != "meta"})
            yield sample

    report = audit(data, render_wrong, samples=4).report
    data.close()
    assert [each.picture for each in report.compared if each.problems] == ["sample 2"]
    assert report.box_iou < 0.5
    assert report.exit_code == 1


def shrink(picture):
    mask = np.zeros(SHAPE, int)
    mask[10, 20:22] = 1
    picture["objects"][0].update(mask=mask.tolist(), xyxy=[20, 10, 22, 11])


def test_the_counts_are_those_of_the_samples(make):
    data = make()
    edit(data, 0, shrink)
    report = audited(data, samples=0).report
    pictures = [picture for index in data.indexes for picture in data.read(index)]
    objects = [each for picture in pictures for each in picture.objects]
    counted = report.statistics
    assert counted.classes == {name: sum(each.category_id == number for each in objects) for number, name in CATEGORIES.items()}
    assert counted.tiny == sum(np.count_nonzero(each.mask) < SHAPE[0] * SHAPE[1] / 1000 for each in objects) == 1
    assert counted.hidden == sum(each.visibility < 0.5 for each in objects) > 0
    assert counted.truncated >= sum(each.truncated for each in objects) > 0
    assert sum(counted.ignored.values()) == sum(bool(each.ignored) for each in objects) > 0
    assert counted.left_out["not seen in the picture"] >= COUNT
    assert (report.compared, report.chosen, report.agree) == ([], [], True)


def shift(pixels):
    def change(picture):
        picture["objects"][0]["xyxy"] = [value + pixels for value in picture["objects"][0]["xyxy"]]

    return change


def swap_class(picture):
    picture["objects"][0]["category_id"] = 3 - picture["objects"][0]["category_id"]


def drop(picture):
    del picture["objects"][0]


def mirror(picture):
    picture["objects"][0]["mask"] = [row[::-1] for row in picture["objects"][0]["mask"]]


def move_keypoint(picture):
    picture["objects"][0]["keypoints"][0][0] += 0.5


def turn(picture):
    pose = picture["objects"][0]["camera_from_object"]
    pose[0], pose[1] = pose[1], pose[0]


def invent(picture):
    picture["objects"].append({**picture["objects"][0], "instance_id": 9, "xyxy": [0, 0, 3, 3], "mask": None})


def move_to_other_split(picture):
    picture["split"] = "val" if picture["split"] == "train" else "train"


WRONG = [
    (shift(0.5), r"object \d \(\w+\): box IoU 0\.\d+, an edge is 0\.5 px off"),
    (shift(-1), r"object \d \(\w+\): box IoU 0\.\d+, an edge is 1 px off"),
    (swap_class, r"object \d \(\w+\): its class is (card|stamp), and it was rendered as (card|stamp)"),
    (drop, r"object \d \(\w+\): it was rendered, and has no label"),
    (invent, r"object 9 \(\w+\): it has a label, and was not rendered"),
    (mirror, r"object \d \(\w+\): mask IoU 0\.\d+"),
    (move_keypoint, r"object \d \(\w+\): a keypoint is 0\.5 px off"),
    (turn, r"object \d \(\w+\): its pose is [\d.]+ off"),
    (move_to_other_split, r"it is in '\w+', and belongs into '\w+'"),
]


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize(("change", "text"), WRONG)
def test_one_wrong_label_is_found_and_named(make, change, text, with_ids, monkeypatch):
    data = make(count=6)
    if not with_ids:  # as in formats that keep none
        read = data.writer.read

        def without(pictures):
            return [
                LabelledPicture(
                    **{**vars(each), "objects": tuple(LabelledObject(**{**vars(o), "instance_id": 0}) for o in each.objects)}
                )
                for each in pictures
            ]

        monkeypatch.setattr("blendtorch.btt.auditing.audit.as_stored", lambda data, sample: without(_stored(data, sample)))
        monkeypatch.setattr(data, "read", lambda index: without(read(index)))
        text = re.sub(r"^object \S+ ", "(the )?object[^(]*(at .*)? ", text)
    edit(data, 3, change)
    report = audited(data).report
    assert (report.agree, report.exit_code) == (False, 1)
    (bad,) = [each for each in report.compared if each.problems]
    assert (bad, bad.picture) == (report.compared[0], "sample 3")
    assert re.search(text, "\n".join(bad.problems)), bad.problems
    assert (bad.box_iou, bad.mask_iou) == (report.box_iou, report.mask_iou)


def _stored(data, sample):
    from blendtorch.btt.auditing.rendering import as_stored

    return as_stored(data, sample)


def swap_pictures(folder):
    (folder / "1_0.npy").rename(folder / "x")
    (folder / "2_0.npy").rename(folder / "1_0.npy")
    (folder / "x").rename(folder / "2_0.npy")


def invert(folder):
    np.save(folder / "1_0.npy", 255 - np.load(folder / "1_0.npy"))


def noise(folder):
    """What another device may do: a few levels everywhere, and some pixels far off."""
    rng = np.random.default_rng(0)
    picture = np.load(folder / "1_0.npy").astype(int) + rng.integers(-6, 7, (*SHAPE, 3))
    picture[rng.uniform(size=SHAPE) < 0.03] = 255
    np.save(folder / "1_0.npy", picture.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [(swap_pictures, ["sample 1", "sample 2"]), (invert, ["sample 1"]), (noise, [])],
)
def test_another_picture_is_found_where_the_same_versions_rendered(make, change, wrong):
    data = make(count=4)
    change(data.folder.path)
    report = audited(data).report
    assert sorted(each.picture for each in report.compared if each.problems) == wrong
    assert all(
        "it is another picture than was rendered: its pixels " in each.problems[0] for each in report.compared[: len(wrong)]
    )
    assert (report.agree, report.exit_code) == ((False, 1) if wrong else (True, 0))

    class Other:
        differing = ["blender 4.2.0 then, 5.0.0 now"]
        __call__ = staticmethod(render)

    report = audit(data, Other(), samples=4).report
    assert (report.agree, report.exit_code) == (True, 0)
    assert sorted(each.picture for each in report.compared if each.other) == wrong
    show(report, console := Console(width=100, file=io.StringIO()))
    assert (f"{len(wrong)} pictures look otherwise now" in console.file.getvalue()) == bool(wrong)


def test_another_object_is_found_before_a_plain_background():
    def picture(level):
        image = np.full((200, 200, 3), 90, np.uint8)
        image[20:34, 30:44] = level  # half a percent
        found = LabelledObject(category_id=1, xyxy=np.array([30.0, 20, 44, 34]))
        return LabelledPicture(camera="", image=image, objects=(found,))

    (other,) = compare_pictures(0, [picture(200)], [picture(20)], {1: "cube"}, 1.0)
    (text,) = other.problems
    assert text.endswith("its pixels within boxes are 180 levels off in the mean, 100% of them by more than 16")
    (near,) = compare_pictures(0, [picture(200)], [picture(194)], {1: "cube"}, 1.0)
    assert near.problems == []


def test_a_smaller_iou_can_be_allowed(make):
    data = make(count=4)
    edit(data, 2, shift(0.01))
    assert not audited(data).report.agree
    assert audited(data, min_iou=0.95).report.agree


def test_a_format_that_keeps_everything(make):
    report = audited(make(count=4)).report
    assert (report.format_box_iou, report.format_box_px, report.moves_boxes) == (1, 0, False)


def test_a_writer_that_is_half_a_pixel_off_is_told_though_all_agrees(make, plugin):
    """It writes the same again: what was rendered tells."""
    plugin.write_text(WRITER.replace("for value in each.xyxy.tolist()", "for value in (each.xyxy + 0.5).tolist()"))
    report = audited(make(count=4)).report
    assert report.agree
    assert (report.format_box_px, report.moves_boxes) == (0.5, True)
    assert report.format_box_iou < 1


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (shift(-70), "boxes outside of the picture", "the picture 64 x 48"),
        (lambda picture: picture["objects"][0].update(xyxy=[5, 5, 5, 9]), "boxes without area", "[5 5 5 9]"),
        (mirror, "boxes that are not those of their masks", "its mask ["),
        (lambda picture: picture["objects"][0].update(category_id=7), "objects of unknown categories", "category 7"),
    ],
)
def test_what_cannot_be_right_is_found_without_rendering(make, change, kind, text):
    data = make(count=6)
    edit(data, 4, change)
    report = audited(data, samples=0).report
    places = findings(report)[kind]
    assert places
    assert all(place.startswith("sample 4, object ") and text in place for place in places)
    assert report.exit_code == 1


def test_a_sample_that_cannot_be_read_is_told_with_the_others_looked_at(make):
    data = make(count=6)
    (data.folder.path / "2.json").write_text("{")
    report = audited(data).report
    ((place,),) = [findings(report)["samples that cannot be read"]]
    assert place.startswith("sample 2: writer 'plain'")
    assert f"samples that cannot be read (1; {place})" in " ".join(verdict(report))
    assert report.statistics.pictures == 5
    assert report.exit_code == 1
    assert 2 not in report.chosen


def test_pictures_that_are_there_twice(make):
    data = make(count=12)
    files = {index: data.folder.path / f"{index}_0.npy" for index in range(12)}
    splits = {index: data.read(index)[0].split for index in range(12)}
    train = [index for index, split in splits.items() if split == "train"]
    val = next(index for index, split in splits.items() if split == "val")
    first, same, nearly = train[0], train[1], train[2]
    picture = np.load(files[first])
    np.save(files[same], picture)
    np.save(
        files[nearly], np.minimum(picture, 254) + np.uint8(1) * (picture < 254) * (np.arange(64) % 2)[:, None].astype(np.uint8)
    )
    report = audited(data, samples=0).report
    assert findings(report) == {}
    assert findings(report, wrong=False) == {
        "pictures that are there twice": [f"sample {same} is sample {first}"],
        "pictures that are nearly the same": [f"sample {nearly} is nearly sample {first}"],
    }
    assert report.exit_code == 0
    np.save(files[val], picture)
    report = audited(data, samples=0).report
    (leak,) = findings(report)["the same picture in two splits"]
    assert f"sample {val}" in leak
    assert report.exit_code == 1


def test_an_episode_in_two_splits_leaks(make):
    data = make(count=12)
    edit(data, 7, move_to_other_split)
    report = audited(data, samples=0).report
    (leak,) = findings(report)["episodes in two splits"]
    assert re.fullmatch(r"episode 3: sample 6 is in '\w+', sample 7 in '\w+'", leak)
    assert report.exit_code == 1


def test_episodes_that_are_not_known_are_said_to_be(make, plugin):
    data = make(count=12)
    edit(data, 7, move_to_other_split)
    data.folder.configuration.unlink()
    report = audited(DataSet(data.folder.path, [str(plugin)]), samples=0).report
    assert findings(report) == {}
    (text,) = findings(report, wrong=False)["episodes are not known"]
    assert text == "whether one is in several of train, val cannot be told without the configuration of the run"
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (0, "black"),
        (130, "of one colour"),
        (255, "of one colour"),
        ([[[255]] * 33 + [[90]] * 31], "burnt out: half of it is white"),
    ],
)
def test_pictures_that_show_nothing(make, level, text):
    data = make(count=4)
    np.save(data.folder.path / "1_0.npy", np.full((*SHAPE, 3), level, np.uint8))
    report = audited(data, samples=0).report
    assert findings(report, wrong=False)["pictures that show nothing"] == [f"sample 1: {text}"]


def test_several_processes_read_the_same(make):
    data = make()
    alone = audited(data, samples=0).report
    assert audited(data, samples=0, workers=2).report == alone


def test_what_does_not_come_again_is_wrong(make):
    data = make(count=4)
    report = audit(data, lambda data, indexes: list(render(data, indexes))[1:], samples=4).report
    assert [each.problems for each in report.compared if each.problems] == [["it was not rendered again"]]
    assert report.exit_code == 1


def test_the_table_and_the_sheet_say_it(make):
    data = make(count=6)
    edit(data, 3, mirror)
    edit(data, 5, drop)
    found = audited(data)
    console = Console(width=100, file=io.StringIO())
    show(found.report, console)
    text = console.file.getvalue()
    assert "2 of 6 pictures, or their labels, are not what was rendered again." in text
    assert re.search(r"sample 5\s+\d\s+0.0000\s+0.0000\s+0.00%", text)
    assert "boxes that are not those of their masks: 1" in text
    sheet = draw_sheet(found)
    titles = [axes.get_title(loc="left") for axes in sheet.axes]
    assert titles[:3] == [
        "objects of each class",
        "size of objects: square root of their pixels",
        "how much of an object is seen",
    ]
    assert [title.partition(" (")[0] for title in titles[3:5]] == ["sample 3", "sample 5"]
    assert len(titles) == 9
    sheet.canvas.draw()


def test_matching_goes_by_overlap_within_a_class_first():
    def made(category, x, instance=0):
        return LabelledObject(category_id=category, instance_id=instance, xyxy=np.array([x, 0, x + 10.0, 10]))

    assert sorted(match([made(1, 0), made(2, 1)], [made(2, 0), made(1, 1)])) == [(0, 1), (1, 0)]
    assert match([made(1, 0)], [made(2, 1)]) == [(0, 0)]  # another class
    assert match([made(1, 0)], [made(1, 30)]) == [(0, None), (None, 0)]
    assert sorted(match([made(1, 0, 1), made(1, 30, 2)], [made(1, 0, 2), made(1, 30, 1)])) == [(0, 1), (1, 0)]


def test_boxes_alone_can_be_compared():
    def picture(x):
        found = LabelledObject(category_id=1, xyxy=np.array([x, 0, x + 10.0, 10]))
        return LabelledPicture(camera="", image=np.zeros((*SHAPE, 3), np.uint8), objects=(found,))

    (same,) = compare_pictures(0, [picture(0)], [picture(0)], {1: "cube"}, 1.0)
    assert same.problems == []
    assert same.box_iou == 1
    assert np.isnan(same.mask_iou)
    (off,) = compare_pictures(0, [picture(0)], [picture(0.1)], {1: "cube"}, 1.0)
    assert off.problems == ["the object at (5, 5) (cube): box IoU 0.9801, an edge is 0.1 px off"]


def test_near_pictures_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (40, 64)).astype(np.float32)[rng.integers(0, 40, 3000)]
    pictures += rng.normal(0, 0.2, pictures.shape).astype(np.float32)
    found = nearest_before(pictures)
    for place in (0, 1, 2047, 2048, 2999):
        near = np.flatnonzero(np.sqrt(((pictures[:place] - pictures[place]) ** 2).mean(axis=1)) <= 1)
        assert found[place] == (near[0] if len(near) else -1)


@pytest.mark.parametrize("shape", [(16, 16), (480, 640), (37, 53), (5, 7), (1, 1)])
def test_thumbnails_of_any_size(shape):
    image = np.full((*shape, 3), 90, np.uint8)
    assert np.allclose(thumbnail(image), 90)


def test_wrong_folders_and_arguments(make, plugin, tmp_path, capsys):
    data = make(count=2)
    folder = data.folder.path
    (tmp_path / "empty").mkdir()
    for arguments, text in [
        ([tmp_path / "nowhere"], "is no folder"),
        ([tmp_path / "empty"], "has no versions.json"),
        ([folder, "--samples", "-1"], "--samples -1: expected 0 or more"),
        ([folder, "--min-iou", "2"], "--min-iou 2.0: expected 0 to 1"),
    ]:
        assert main(["audit", *map(str, arguments), "--plugin", str(plugin)]) == 2
        assert text in capsys.readouterr().err
    (tmp_path / "configuration.yaml").write_text((folder / "configuration.yaml").read_text())
    for line, text in (
        ("enable_autoexec: true\n", "if you trust them, say --enable-autoexec"),
        (f"record_path_prefix: {tmp_path / 'trace'}\n", "there is no argument 'record_path_prefix'"),
    ):
        (folder / "configuration.yaml").write_text((tmp_path / "configuration.yaml").read_text() + line)
        assert main(["audit", str(folder), "--plugin", str(plugin)]) == 2
        assert text in capsys.readouterr().err
    (folder / "configuration.yaml").write_text((tmp_path / "configuration.yaml").read_text())
    (folder / "configuration.yaml").rename(tmp_path / "configuration.yaml")
    assert main(["audit", str(folder), "--plugin", str(plugin)]) == 2
    assert "has no configuration.yaml" in capsys.readouterr().err
    assert main(["audit", str(folder), "--plugin", str(plugin), "--samples", "0", "--workers", "0"]) == 0
    assert "2 samples, 2 pictures" in capsys.readouterr().out
    (tmp_path / "configuration.yaml").rename(folder / "configuration.yaml")
    for path in folder.glob("[0-9]*.json"):
        path.unlink()
    assert main(["audit", str(folder), "--plugin", str(plugin)]) == 2
    assert "no whole sample" in capsys.readouterr().err
    (folder / "versions.json").unlink()
    with pytest.raises(ConfigurationError, match="has no versions"):
        DataSet(folder)


def test_a_writer_that_does_not_read_is_named(make, plugin, capsys):
    folder = make(count=2).folder.path
    plugin.write_text(WRITER.replace("def read(", "def other("))
    assert main(["audit", str(folder), "--samples", "0", "--workers", "0", "--plugin", str(plugin)]) == 1
    assert "writer 'plain': writer 'plain' does not read what it wrote" in capsys.readouterr().out


def test_blender_renders_again_what_it_has_rendered(tmp_path, plugin, blender, capsys):
    """Labels of a run are the same again; a label that is edited, and a model that has changed, are named."""
    model = tmp_path / "part.obj"
    model.write_text("v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
    named = ["--blender", blender] if blender else []
    small = ["--set", "renderer=workbench", "--set", "resolution=[160,120]", "--set", "assets[0].count=3", "--workers", "0"]
    written = ["--count", "8", "-o", str(folder := tmp_path / "data"), "--format", "plain", "--plugin", str(plugin)]
    assert main(["generate", str(model), "--unit", "m", *small, *written, *named]) == 0
    capsys.readouterr()
    named += ["--plugin", str(plugin)]
    assert main(["audit", str(folder), "--samples", "3", "--json", *named]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["box_iou"], report["mask_iou"], len(report["chosen"]), report["changed"]) == (1, 1, 3, [])
    assert (folder / "audit.png").read_bytes().startswith(b"\x89PNG")

    chosen = report["chosen"][1]
    edit(DataSet(folder, [str(plugin)]), chosen, shift(1))
    model.write_text(model.read_text() + "# another comment\n")
    assert main(["audit", str(folder), "--samples", "3", "-o", str(tmp_path / "other.png"), *named]) == 1
    output, errors = capsys.readouterr()
    assert f"{model} has changed since" in errors
    assert re.search(rf"sample {chosen}: object \d \(part\): box IoU 0\.\d+, an edge is 1 px off", output), output
    assert "1 of 3 pictures, or their labels, are not what was rendered again." in output
    assert (tmp_path / "other.png").exists()
