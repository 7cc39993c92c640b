"""BOP data sets, read as the format's documentation says, and projected again with nothing but the numbers that were written.

Cards are flat and their labels exact, so no tolerance is needed but that of the format: a pixel belongs to a mask where its centre
lies in the projected outline, but for centres within 1e-6 px of it; depths are right to half a step.
"""

import json
import os

import msgspec
import numpy as np
import pytest
import trimesh
from blendtorch import btt
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, DecodeError
from blendtorch.core.selection import HIDDEN, INEXACT, UNSEEN, array_names, labelled_pictures
from blendtorch.core.staging import Stage
from blendtorch.core.testing.cards import CATEGORIES, labelled_sample
from blendtorch.core.testing.suites import WriterSuite
from blendtorch_bop import Bop, BopOptions
from blendtorch_bop.labelling import NO_CATEGORY, NO_POSE
from blendtorch_bop.pixels import to_steps
from blendtorch_bop.reader import IGNORED
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from PIL import Image
from pycocotools.coco import COCO

SHAPE = (72, 96)
MODELS = {1: (0.8, 0.5, 0), 2: (0.5, 0.4, 0)}  # of the cards, in scene units
INDEXES = (0, 1, 2, 5, 7, 11, 999, 1000, 2007)


class TestBop(WriterSuite):
    plugin = Bop


def sample(index, shape=SHAPE):
    made = labelled_sample(index, shape=shape)
    models = {
        str(number): [
            {"diameter": float(np.linalg.norm(size)), "low": [-each / 2 for each in size], "high": [each / 2 for each in size]}
        ]
        for number, size in MODELS.items()
    }
    legend = {**json.loads(made["meta"]["legend"]), "poses": {"models": models}}
    return {**made, "meta": {**made["meta"], "legend": json.dumps(legend)}}


def opened(folder, **options):
    folder.mkdir(exist_ok=True)
    made = Bop(BopOptions(**options))
    made.open(folder)
    return made


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bop")
    writer = opened(folder)
    for index in INDEXES:
        writer.write(sample(index))
    return folder, writer.finish(CATEGORIES)


class Scene:
    """A scene as the documentation says: keys are numbers of pictures, matrices lie row after row."""

    def __init__(self, folder):
        self.folder = folder
        self.camera, self.gt, self.info = (self._read(f"scene_{name}.json") for name in ("camera", "gt", "gt_info"))
        for entry in self.camera.values():
            assert set(entry) == {"cam_K", "depth_scale", "cam_R_w2c", "cam_t_w2c"}
            assert type(entry["depth_scale"]) is float
            self._shape(entry, "cam_K", "cam_R_w2c", t="cam_t_w2c")
        for entries in self.gt.values():
            for entry in entries:
                assert set(entry) == {"cam_R_m2c", "cam_t_m2c", "obj_id"}
                assert type(entry["obj_id"]) is int
                self._shape(entry, "cam_R_m2c", t="cam_t_m2c")

    def _read(self, name):
        return {int(key): value for key, value in json.loads((self.folder / name).read_text()).items()}

    @staticmethod
    def _shape(entry, *matrices, t):
        assert all(type(number) is float for key in (*matrices, t) for number in entry[key])
        for key in matrices:
            entry[key] = np.array(entry[key], float).reshape(3, 3)
        entry[t] = np.array(entry[t], float).reshape(3, 1)

    def pixels(self, kind, *numbers):
        return np.asarray(Image.open(self.folder / kind / ("_".join(f"{number:06}" for number in numbers) + ".png")))

    def depth(self, image):
        steps = self.pixels("depth", image)
        assert steps.dtype == np.uint16
        return steps * self.camera[image]["depth_scale"]

    def project(self, image, number, points):
        """Project points of a model, shape (N, 3), mm."""
        entry = self.gt[image][number]
        u, v, w = self.camera[image]["cam_K"] @ (entry["cam_R_m2c"] @ np.transpose(points) + entry["cam_t_m2c"])
        return np.stack([u / w, v / w], axis=1), w


def scenes(folder):
    return [Scene(each) for each in sorted((folder / "train_pbr").iterdir())]


def objects_of(folder):
    for scene in scenes(folder):
        for image, entries in scene.gt.items():
            for number, entry in enumerate(entries):
                yield scene, image, number, entry


def distances(polygon, shape, margin=(0, 0)):
    """How far the pixels of a picture, with a margin, lie inside the edges of a convex polygon; negative outside."""
    x, y = np.meshgrid(np.arange(-margin[1], shape[1] + margin[1]), np.arange(-margin[0], shape[0] + margin[0]))
    edges = np.roll(polygon, -1, axis=0) - polygon
    turn = np.sign(np.cross(edges[0], edges[1]))
    found = [
        turn * (edge[0] * (y - start[1]) - edge[1] * (x - start[0])) / np.linalg.norm(edge)
        for start, edge in zip(polygon, edges, strict=True)
    ]
    return np.min(found, axis=0)


def corners(folder, number):
    """Of a card, from the file of the models."""
    about = json.loads((folder / "models" / "models_info.json").read_text())[str(number)]
    low = np.array([about["min_x"], about["min_y"], about["min_z"]])
    across, down = np.array([about["size_x"], 0, 0]), np.array([0, about["size_y"], 0])
    return np.array([low, low + across, low + across + down, low + down])


def test_samples_are_a_thousand_to_a_scene(dataset):
    folder, _ = dataset
    found = {(scene.folder.name, image) for scene in scenes(folder) for image in scene.gt}
    assert found == {(f"{index // 1000:06}", index % 1000) for index in INDEXES}
    for scene in scenes(folder):
        assert list(scene.gt) == list(scene.info) == list(scene.camera) == sorted(scene.gt)
        assert sorted(path.name for path in (scene.folder / "rgb").iterdir()) == [f"{image:06}.png" for image in scene.gt]
        masks = [f"{image:06}_{number:06}.png" for image, entries in scene.gt.items() for number in range(len(entries))]
        for kind in ("mask", "mask_visib"):
            assert sorted(path.name for path in (scene.folder / kind).iterdir()) == masks
            assert {int(value) for name in masks for value in np.unique(Image.open(scene.folder / kind / name))} <= {0, 255}


def test_masks_are_where_the_written_poses_and_camera_put_the_cards(dataset):
    folder, _ = dataset
    whole = outside = behind = 0
    for scene, image, number, entry in objects_of(folder):
        mask = scene.pixels("mask", image, number) > 0
        visible = scene.pixels("mask_visib", image, number) > 0
        assert not (visible & ~mask).any()
        outline, depth = scene.project(image, number, corners(folder, entry["obj_id"]))
        if (depth < 0).any():
            assert (depth < 0).all()
            assert not mask.any()
            behind += 1
            continue
        inside = distances(outline, mask.shape)
        assert ((inside > 0) == mask)[np.abs(inside) > 1e-6].all()
        if (outline > 0).all() and (outline < np.array(mask.shape[::-1]) - 1).all():
            y, x = np.nonzero(mask)
            # A corner may be so sharp that no centre of a pixel lies in it: not on average.
            off = np.array([[x.min(), y.min()] - outline.min(axis=0), outline.max(axis=0) - [x.max(), y.max()]])
            assert (off > 0).all()
            assert off.max() < 2
            whole += 1
        else:
            outside += 1
    assert behind == len(INDEXES)
    assert min(whole, outside) > 5


def test_depths_are_those_of_the_cards_to_half_a_step(dataset):
    folder, _ = dataset
    for scene in scenes(folder):
        for image, entries in scene.gt.items():
            camera, depth = scene.camera[image], scene.depth(image)
            assert camera["depth_scale"] == 0.1
            x, y = np.meshgrid(np.arange(depth.shape[1]), np.arange(depth.shape[0]))
            rays = np.stack([x, y, np.ones(depth.shape)], axis=-1) @ np.linalg.inv(camera["cam_K"]).T
            rest = np.ones(depth.shape, bool)
            for number, entry in enumerate(entries):
                visible = scene.pixels("mask_visib", image, number) > 0
                normal = entry["cam_R_m2c"][:, 2]
                plane = (normal @ entry["cam_t_m2c"]) / (rays[visible] @ normal)
                assert np.abs(depth[visible] - plane).max(initial=0) < 0.05 + 1e-3  # of float32, in metres: 1e-4 mm
                rest &= ~visible
            assert (depth[rest] == 0).all()


def box(mask):
    y, x = np.nonzero(mask)
    return [int(x.min()), int(y.min()), int(np.ptp(x)), int(np.ptp(y))] if len(x) else [-1] * 4


def test_what_is_said_of_objects_is_what_their_masks_show(dataset):
    folder, _ = dataset
    cut = 0
    for scene, image, number, entry in objects_of(folder):
        mask, visible = (scene.pixels(kind, image, number) > 0 for kind in ("mask", "mask_visib"))
        said = scene.info[image][number]
        assert said["px_count_all"] == mask.sum()
        assert said["px_count_visib"] == visible.sum()
        assert said["px_count_valid"] == (mask & (scene.depth(image) > 0)).sum()
        assert said["visib_fract"] == pytest.approx(visible.sum() / max(mask.sum(), 1), abs=1e-12)
        assert said["bbox_visib"] == box(visible)
        assert all(type(each) is int for each in (*said["bbox_obj"], *said["bbox_visib"]))
        if not visible.any():
            assert said["bbox_obj"] == [-1] * 4
            continue
        outline, _ = scene.project(image, number, corners(folder, entry["obj_id"]))
        inside = distances(outline, mask.shape, margin=mask.shape) > 0
        x, y, across, down = box(inside)
        ends = np.array([x - mask.shape[1], y - mask.shape[0], x + across - mask.shape[1], y + down - mask.shape[0]])
        found = np.array([*said["bbox_obj"][:2], *np.add(said["bbox_obj"][:2], said["bbox_obj"][2:])])
        if inside.sum() == mask.sum():
            assert (found == ends).all()
        else:  # around the projected corners, which may be so sharp that no centre of a pixel lies in them
            cut += 1
            assert (np.abs(found - ends) <= 2).all()
    assert cut > 3


def test_coco_lists_what_is_seen_and_ignores_what_is_hidden(dataset, capsys):
    folder, told = dataset
    ignored = seen = 0
    for scene in scenes(folder):
        coco = COCO(scene.folder / "scene_gt_coco.json")
        assert {each["id"]: each["name"] for each in coco.cats.values()} == CATEGORIES
        assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
        for image, entries in scene.gt.items():
            about = coco.imgs[image]
            assert np.asarray(Image.open(scene.folder / about["file_name"])).shape == (about["height"], about["width"], 3)
            annotations = iter(coco.imgToAnns[image])
            for number, entry in enumerate(entries):
                mask, visible = (scene.pixels(kind, image, number) > 0 for kind in ("mask", "mask_visib"))
                if not visible.any():
                    continue
                each = next(annotations)
                assert (each["category_id"], each["iscrowd"], each["area"]) == (entry["obj_id"], 0, visible.sum())
                assert np.array_equal(coco.annToMask(each), visible)
                assert each["bbox"] == [a + b for a, b in zip(box(mask), (0, 0, 1, 1), strict=True)]
                # The fifth card is flagged as not exact.
                assert each["ignore"] == (scene.info[image][number]["visib_fract"] < 0.1 or number == 4)
                ignored += each["ignore"]
                seen += 1
            assert not list(annotations)
    left_out = 5 * len(INDEXES) - seen
    assert f"{left_out} objects have no annotation in scene_gt_coco.json: {left_out} {UNSEEN}" in told
    (sentence,) = [each for each in told if "ignored" in each]
    assert sentence.startswith(f"{ignored} objects are ignored")
    assert INEXACT in sentence


def test_models_and_camera_are_in_millimetres(dataset):
    folder, _ = dataset
    found = json.loads((folder / "models" / "models_info.json").read_text())
    assert list(found) == ["1", "2"]
    for number, size in MODELS.items():
        about = found[str(number)]
        ends = corners(folder, number)
        assert about["diameter"] == pytest.approx(np.linalg.norm(ends[:, None] - ends, axis=-1).max())
        assert [about[f"size_{axis}"] for axis in "xyz"] == pytest.approx([side * 1000 for side in size])
        assert [about[f"min_{axis}"] for axis in "xyz"] == pytest.approx([-side * 500 for side in size])
    camera = json.loads((folder / "camera.json").read_text())
    K = labelled_sample(0, shape=SHAPE)["camera"]["K"]
    assert camera == {
        "fx": K[0, 0],
        "fy": K[1, 1],
        "cx": K[0, 2] - 0.5,
        "cy": K[1, 2] - 0.5,
        "width": 96,
        "height": 72,
        "depth_scale": 0.1,
    }


def test_what_is_read_back_is_what_was_written(dataset):
    folder, _ = dataset
    for index in INDEXES:
        (found,), (expected,) = opened(folder).read(index), labelled_pictures(sample(index), BopOptions())
        assert np.array_equal(found.image, expected.image)
        assert found.split == "train_pbr"
        np.testing.assert_allclose(found.K, expected.K, rtol=0, atol=1e-12)
        assert found.left_out == expected.left_out
        for one, two in zip(found.objects, expected.objects, strict=True):
            assert one.category_id == two.category_id
            assert np.array_equal(one.mask, two.mask)
            assert np.array_equal(one.xyxy, two.xyxy)
            np.testing.assert_allclose(one.camera_from_object, two.camera_from_object, rtol=0, atol=1e-12)
            assert one.visibility == pytest.approx(two.visibility)
            assert one.truncated == two.truncated
            assert one.ignored == (IGNORED if two.ignored else "")


def test_whoever_writes_and_in_whatever_order_the_files_are_the_same(dataset, tmp_path):
    folder, _ = dataset
    one, two = opened(tmp_path), opened(tmp_path)
    for writer, index in zip((one, two) * 5, reversed(INDEXES), strict=False):
        writer.write(sample(index))
        if index == 1000:
            assert one.finish(CATEGORIES) is not None  # and more come later
    two.finish(CATEGORIES)
    assert contents(tmp_path) == contents(folder)


def test_a_sample_that_another_process_replaces_is_gathered_by_that_one(tmp_path, monkeypatch):
    writer = opened(tmp_path)
    for index in range(3):
        writer.write(sample(index))
    (tmp_path / ".bop" / "000001.json").unlink()  # as write does, after it was listed
    with monkeypatch.context() as patched:
        patched.setattr(Stage, "__iter__", lambda _: iter(range(3)))
        writer.finish(CATEGORIES)
    assert set(Scene(tmp_path / "train_pbr" / "000000").gt) == {0, 2}
    writer.write(sample(1))
    writer.finish(CATEGORIES)
    assert set(Scene(tmp_path / "train_pbr" / "000000").gt) == {0, 1, 2}


def test_it_removes_what_it_made_and_nothing_else(dataset, tmp_path):
    writer = opened(tmp_path, split={"train_pbr": 1, "val": 1})
    for index in INDEXES[:4]:
        writer.write(sample(index))
    draft = tmp_path / "train_pbr" / "000000" / "mask" / "000123_000001.png.77.part"  # of a process that was killed
    draft.touch()
    os.utime(draft, (0, 0))
    writer.finish(CATEGORIES)
    assert not draft.exists()
    assert (tmp_path / "val").is_dir()
    assert (tmp_path / "train_pbr").is_dir()
    (tmp_path / "train_pbr" / "000000" / "rgb" / "000123.png.77.part").touch()
    others = ["train_pbr/notes.txt", "train_pbr/000000/rgb/mine.png", "models/obj_000001.ply", "000001.png"]
    for name in others:
        (tmp_path / name).write_text("mine")
    opened(tmp_path).clear()
    assert sorted(contents(tmp_path)) == sorted(others)
    assert opened(tmp_path).written() == frozenset()


def test_other_data_sets_stay_as_they_are(dataset, tmp_path):
    writer = opened(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models_info.json").write_text("theirs")
    writer.write(sample(0))
    assert "models/models_info.json was there, and is left as it is" in writer.finish(CATEGORIES)
    assert (tmp_path / "models" / "models_info.json").read_text() == "theirs"
    theirs = tmp_path / "theirs" / "train_pbr" / "000000"
    (theirs / "rgb").mkdir(parents=True)
    (theirs / "rgb" / "000000.png").write_text("theirs")
    with pytest.raises(ConfigurationError, match="train_pbr/000000.*another name in `split`"):
        opened(tmp_path / "theirs")
    opened(tmp_path / "theirs", split={"train_ours": 1.0}).write(sample(0))
    assert list(contents(theirs)) == ["rgb/000000.png"]


@given(
    some.arrays(np.float64, (3, 5), elements=st.floats(0, 1e5) | st.just(np.inf) | st.just(np.nan)),
    st.sampled_from([0.1, 0.25, 1.0]),
)
@example(np.array([[0, 0.01, 6553.5, 6553.54, 6553.56]]), 0.1)
def test_depths_never_wrap_around(depth, scale):
    steps, too_far = to_steps(depth, scale)
    near = np.isfinite(depth) & (depth > 0) & (depth / scale < 65535.5)
    assert (np.abs(steps * scale - depth)[near & (depth > scale / 2)] <= scale / 2 + 1e-9).all()
    assert (steps[near] > 0).all()
    assert (steps[~near] == 0).all()
    assert too_far == (np.isfinite(depth) & (depth / scale >= 65535.5)).sum()


def test_depths_that_are_too_far_are_told(tmp_path):
    far = sample(1)
    depth = far["depth"]["depth"]
    far["depth"] = {"depth": depth * (6.55 / np.median(depth[np.isfinite(depth)]))}  # half is beyond 65535 steps of 0.1 mm
    for name, options, scale in (("any", {}, 1.0), ("fixed", {"depth_scale": 0.1}, 0.1), ("units", {"unit_mm": 10.0}, 0.1)):
        writer = opened(tmp_path / name, **options)
        writer.write(far)
        writer.write(sample(2))
        told = writer.finish(CATEGORIES)
        scene = Scene(tmp_path / name / "train_pbr" / "000000")
        assert scene.camera[1]["depth_scale"] == scale
        expected = far["depth"]["depth"] * options.get("unit_mm", 1000)
        reached = expected / scale < 65535.5
        assert np.abs(scene.depth(1) - expected)[reached].max() < scale / 2 + 1e-3
        assert (scene.depth(1)[~reached] == 0).all()
        beyond = (~reached & np.isfinite(expected)).sum()
        assert any(each.startswith(f"{beyond} pixels have no depth") for each in told) == (name == "fixed")
        assert any("depth_scale differs" in each for each in told) == (name == "any")
        assert json.loads((tmp_path / name / "camera.json").read_text())["depth_scale"] == scale
    lengths = [
        np.linalg.norm(Scene(tmp_path / name / "train_pbr" / "000000").gt[1][0]["cam_t_m2c"]) for name in ("any", "units")
    ]
    assert lengths[0] == pytest.approx(100 * lengths[1])
    assert opened(tmp_path / "units", unit_mm=10.0).read(1)[0].objects[0].camera_from_object[:3, 3] == pytest.approx(
        labelled_pictures(far, BopOptions())[0].objects[0].camera_from_object[:3, 3]
    )


def test_a_renderer_s_depth_does(tmp_path):
    one = sample(1)
    one["depth"] = one["depth"]["depth"]
    writer = opened(tmp_path)
    writer.check(array_names(one))
    writer.write(one)
    writer.finish(CATEGORIES)
    assert Scene(tmp_path / "train_pbr" / "000000").depth(1).any()


def test_further_cameras_have_files_of_their_own(tmp_path):
    one, two = sample(1), sample(2)
    left = {key: value for key, value in two.items() if key not in ("objects", "meta")}
    writer = opened(tmp_path)
    writer.write({**one, "Cam.left": left})
    writer.finish(CATEGORIES)
    folder = tmp_path / "train_pbr" / "000000"
    for name in ("rgb_Cam-left/000001.png", "mask_visib_Cam-left/000001_000004.png", "scene_gt_Cam-left.json"):
        assert (folder / name).exists()
    coco = json.loads((folder / "scene_gt_coco_Cam-left.json").read_text())
    assert coco["images"][0]["file_name"] == "rgb_Cam-left/000001.png"
    assert (tmp_path / "camera_Cam-left.json").exists()
    first, second = writer.read(1)
    assert (first.camera, second.camera) == ("", "Cam.left")
    assert np.array_equal(second.image, two["image"])
    with pytest.raises(ConfigurationError, match="two cameras would write"):
        writer.write({**one, "a.b": left, "a b": left})


@pytest.mark.parametrize(
    ("camera", "name"), [("info", "scene_gt_info.json"), ("coco", "scene_gt_coco.json"), ("visib", "mask_visib")]
)
def test_a_camera_that_would_write_the_files_of_the_first_is_refused(camera, name, tmp_path):
    left = {key: value for key, value in sample(2).items() if key not in ("objects", "meta")}
    with pytest.raises(ConfigurationError, match=rf"two cameras would write {name}: give them other names"):
        opened(tmp_path).write({**sample(1), camera: left})
    assert not list(tmp_path.rglob("*.png"))


def test_cameras_of_different_samples_that_would_write_the_same_files_are_refused(tmp_path):
    left = {key: value for key, value in sample(2).items() if key not in ("objects", "meta")}
    writer = opened(tmp_path)
    writer.write({**sample(1), "a.b": left})
    writer.write({**sample(2), "a b": left})
    with pytest.raises(ConfigurationError, match="two cameras would write depth_a-b"):
        writer.finish(CATEGORIES)


def changed(**fields):
    """A sample with other values; `poses={"size": ...}` changes a field of `poses`."""
    made = sample(1)
    legend = json.loads(made["meta"]["legend"])
    for name, values in fields.items():
        if name == "legend":
            legend.update(values)
        else:
            made[name] = {**made[name], **values}
    return {**made, "meta": {**made["meta"], "legend": json.dumps(legend)}}


def sizes(row, factor):
    size = labelled_sample(1)["poses"]["size"].copy()
    size[row] *= factor
    return size


def mirrored(row):
    scale = np.ones((5, 3))
    scale[row] = -1
    return scale


TWO = [{"diameter": 1, "low": [0, 0, 0], "high": [side, 0.5, 0]} for side in (1, 0.5)]
REFUSED = {
    "lens": ({"camera": {"distortion": np.array([0.1, 0, 0, 0, 0])}}, "the first camera distorts.*leave `distortion` out"),
    "parallel": ({"legend": {"camera": {"orthographic": ["Top"]}}}, "orthographically: Top"),
    "models": ({"legend": {"poses": {"models": {"1": TWO}}}}, "category 1 'card' has models of 1 x 0.5 x 0 .* and 0.5 x"),
    "scale": ({"poses": {"size": sizes(2, 1.001)}}, "object 3 of category 1 is 0.8008 x .* others are 0.8 x 0.5"),
    "no legend": ({"poses": {"size": sizes(2, 2)}, "legend": {"poses": {}}}, "object 3 of category 1 is 1.6 x"),
    "mirrored": ({"poses": {"scale": mirrored(1)}}, "object 2 of category 2 is 0.5 x 0.4 x 0 mirrored"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_bop_cannot_say_is_refused_and_nothing_is_written(case, tmp_path):
    fields, reason = REFUSED[case]
    with pytest.raises(ConfigurationError, match=reason):
        opened(tmp_path).write(changed(**fields))
    assert not list(tmp_path.rglob("*.png"))
    assert opened(tmp_path).written() == frozenset()


def test_models_may_differ_by_rounding(tmp_path):
    """Another CPU, or another numpy, may compute the last digits otherwise."""
    opened(tmp_path).write(sample(0))
    stored = (tmp_path / ".bop" / "models.json").read_bytes()
    models = json.loads(sample(1)["meta"]["legend"])["poses"]["models"]
    for each in (model for (model,) in models.values()):
        each["diameter"] = np.nextafter(each["diameter"], 9)
        each["low"] = [np.nextafter(side, -9) for side in each["low"]]  # where it was 0, a very small number
    opened(tmp_path).write(changed(legend={"poses": {"models": models}}))
    assert (tmp_path / ".bop" / "models.json").read_bytes() == stored
    for change in ({"diameter": models["1"][0]["diameter"] * (1 + 1e-5)}, {"mirrored": True}, {"high": [0.4, 0.25, 1e-5]}):
        other = {**models, "1": [{**models["1"][0], **change}]}
        with pytest.raises(ConfigurationError, match="not those of the samples that are there"):
            opened(tmp_path).write(changed(legend={"poses": {"models": other}}))


def test_models_of_a_run_before_stay_the_same(tmp_path):
    opened(tmp_path).write(sample(0))
    larger = {"poses": {"models": {"1": [{"diameter": 2, "low": [0, 0, 0], "high": [1, 1, 0]}]}}}
    with pytest.raises(ConfigurationError, match="not those of the samples that are there"):
        opened(tmp_path).write(changed(legend=larger))


def test_without_a_description_of_the_models_their_file_is_missing_and_it_is_told(tmp_path):
    writer = opened(tmp_path)
    writer.write(changed(legend={"poses": {}}))
    assert any(
        "models_info.json has no entry for obj_id 1, 2: the samples do not say" in each for each in writer.finish(CATEGORIES)
    )
    assert not (tmp_path / "models").exists()


def test_objects_without_a_category_are_left_out(tmp_path):
    writer = opened(tmp_path)
    writer.write(changed(objects={"category_id": np.array([0, 2, 1, 2, 1])}))
    told = writer.finish(CATEGORIES)
    assert [each["obj_id"] for each in Scene(tmp_path / "train_pbr" / "000000").gt[1]] == [2, 1, 2, 1]
    assert any(NO_CATEGORY in each for each in told)


def test_objects_without_a_pose_are_left_out_for_a_reason_of_their_own(tmp_path):
    writer = opened(tmp_path)
    seen = sample(1)["boxes2d_tight"]["valid"]
    assert seen[1]
    writer.write(changed(poses={"valid": np.arange(5) != 1}))
    told = writer.finish(CATEGORIES)
    assert len(Scene(tmp_path / "train_pbr" / "000000").gt[1]) == 4
    assert any(f"1 {NO_POSE}" in each for each in told)
    assert not any(NO_CATEGORY in each for each in told)


def test_what_lies_beyond_the_border_is_invisible(tmp_path):
    labels = (sample(index)["visibility"] for index in range(50))
    index = next(n for n, each in enumerate(labels) if each["truncated"].any() and each["fraction"][1] > 0.2)
    plain, more = sample(index), sample(index)
    visible, amodal = (more["visibility"][name] for name in ("visible", "amodal"))
    more["visibility"] = {**more["visibility"], "beyond": np.array([0, 20 * amodal[1], 0, 0, 0])}
    told, facts, ignored = [], [], []
    for name, each in (("plain", plain), ("more", more)):
        writer = opened(tmp_path / name)
        writer.write(each)
        told.append(" ".join(writer.finish(CATEGORIES)))
        folder = tmp_path / name / "train_pbr" / "000000"
        facts.append(Scene(folder).info[index][1])
        coco = json.loads((folder / "scene_gt_coco.json").read_text())
        ignored.append({each["area"]: each["ignore"] for each in coco["annotations"]}[visible[1]])
    assert f"{plain['visibility']['truncated'].sum()} objects are cut by the border" in told[0]
    assert "the border" not in told[1]
    assert [each["px_count_all"] for each in facts] == [amodal[1], 21 * amodal[1]]
    assert [each["visib_fract"] for each in facts] == [visible[1] / amodal[1], visible[1] / (21 * amodal[1])]
    assert ignored == [False, True]


def test_min_visibility_and_inexact_are_options(tmp_path):
    index = next(
        i
        for i in range(50)
        if 0.1 < np.nanmin(np.where(sample(i)["boxes2d_tight"]["valid"], sample(i)["visibility"]["fraction"], np.nan)) < 0.6
    )
    writer = opened(tmp_path, min_visibility=0.6)
    writer.write(sample(index))
    assert any(HIDDEN in each for each in writer.finish(CATEGORIES))
    shown = next(i for i in range(50) if sample(i)["boxes2d_tight"]["valid"][4])
    with pytest.raises(ConfigurationError, match="object 5 is flagged"):
        opened(tmp_path / "refusing", inexact="refuse").write(sample(shown))


@pytest.mark.parametrize(
    ("lacks", "expected"),
    [
        (
            ["poses", "masks_amodal"],
            "no poses, masks_amodal.*add them.*blendtorch-standard has poses; blendtorch-gbuffer has masks",
        ),
        (["depth"], "no depth.*add it"),
        (["image"], "no image"),
    ],
)
def test_missing_annotators_are_named_with_who_has_them(lacks, expected):
    names = [name for name in array_names(sample(0)) if name.partition(".")[0] not in lacks]
    with pytest.raises(ConfigurationError, match=expected):
        Bop(BopOptions()).check(names)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"loose": True}, "loose: BOP is made of masks"),
        ({"split": {"models": 1}}, "choose another name"),
        ({"unit_mm": 0}, "> 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, expected):
    with pytest.raises(msgspec.ValidationError, match=expected):
        msgspec.convert(options, Catalogue().find("writer", "bop").cls.Options)


def test_files_that_are_not_what_bop_says_are_refused(tmp_path):
    writer = opened(tmp_path)
    writer.write(sample(1))
    with pytest.raises(FileNotFoundError):
        writer.read(1)  # not finished
    writer.finish(CATEGORIES)
    folder = tmp_path / "train_pbr" / "000000"
    for name, content in (
        ("scene_gt_info.json", b'{"1":[]}'),
        ("scene_camera.json", b'{"1":{"cam_K":[1]}}'),
        ("scene_gt.json", b"[1"),
        ("rgb/000001.png", b"half"),
        ("mask_visib/000001_000000.png", (folder / "depth" / "000001.png").read_bytes()),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(DecodeError):
            opened(tmp_path).read(1)
        (folder / name).write_bytes(before)
    assert len(writer.read(1)) == 1


def test_the_estimate_is_more_than_is_taken_and_not_ten_times(tmp_path):
    one = labelled_sample(1, shape=(480, 640))
    writer = opened(tmp_path)
    writer.write(one)
    arrays = {"image": one["image"], "depth.depth": one["depth"]["depth"], "masks_amodal.masks": one["masks_amodal"]["masks"]}
    estimate = writer.bytes_per_sample({name: (each.shape, str(each.dtype)) for name, each in arrays.items()})
    assert sum(map(len, contents(tmp_path).values())) < estimate * 1.3
    assert estimate < 10 * sum(map(len, contents(tmp_path).values()))


ANNOTATORS = ["camera", "poses", "boxes2d_loose", "boxes2d_tight", "instance_ids", "masks_amodal", "depth"]
ANNOTATORS.append({"name": "visibility", "beyond": True})


def test_vertices_of_a_real_mesh_lie_on_the_masks_of_a_real_run(tmp_path):
    """An L, no two of whose sides are alike: its triangles projected with what was written cover the masks and nothing else.

    Centres of pixels within 0.05 px of an edge may go either way: the GPU computes in float32.
    """
    foot = trimesh.creation.box(bounds=[[0, 0, 0], [0.12, 0.05, 0.01]])
    wall = trimesh.creation.box(bounds=[[0, 0, 0.01], [0.02, 0.05, 0.08]])
    mesh = trimesh.util.concatenate([foot, wall])
    meshes = {1: mesh, 2: trimesh.creation.box(extents=(0.05, 0.06, 0.03))}
    for name, each in zip(("bracket", "die"), meshes.values(), strict=True):
        (tmp_path / f"{name}.stl").write_bytes(each.export(file_type="stl"))
    writer = opened(tmp_path / "out")
    arguments = {
        # The die is hidden when the run begins.
        "assets": [
            {"files": [str(tmp_path / f"{name}.stl") for name in ("bracket", "die")], "count": [1, 1], "category": "{name}"},
            {"files": str(tmp_path / "bracket.stl"), "count": [1, 2], "category": "bracket"},
        ],
        "randomizers": [
            {"name": "scatter", "low": [-0.2, -0.2, 0.1], "high": [0.2, 0.2, 0.4]},
            {"name": "pose", "objects": "[bd][ri]*", "uniform_rotation": True},
        ],
    }
    with btt.stream(
        renderer="workbench", annotators=ANNOTATORS, resolution=(160, 120), count=3, seed=3, **arguments
    ) as dataset:
        for each in dataset:
            writer.check(array_names(each))
            writer.write(each)
    writer.finish({1: "bracket", 2: "die"})
    models = json.loads((tmp_path / "out" / "models" / "models_info.json").read_text())
    for number, each in meshes.items():
        about, points = models[str(number)], np.asarray(each.vertices) * 1000
        assert about["diameter"] == pytest.approx(np.linalg.norm(points[:, None] - points, axis=-1).max(), rel=1e-6)
        assert [about[f"min_{axis}"] for axis in "xyz"] == pytest.approx(points.min(axis=0), abs=1e-4)
        assert [about[f"size_{axis}"] for axis in "xyz"] == pytest.approx(np.ptp(points, axis=0), abs=1e-4)
    seen = {1: 0, 2: 0}
    for scene, image, number, entry in objects_of(tmp_path / "out"):
        mesh = meshes[entry["obj_id"]]
        mask = scene.pixels("mask", image, number) > 0
        xy, _ = scene.project(image, number, np.asarray(mesh.vertices) * 1000)
        triangles = [xy[face] for face in mesh.faces if abs(np.cross(*np.diff(xy[face], axis=0))) > 1e-6]
        depths = [
            np.max([distances(each - shift, mask.shape) for each in triangles], axis=0)
            for shift in np.array([(0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]) * 0.05
        ]
        assert (mask >= (np.min(depths, axis=0) > 0)).all()
        assert (mask <= (np.max(depths, axis=0) > 0)).all()
        seen[entry["obj_id"]] += mask.sum() > 50
    assert min(seen.values()) > 0
    assert sum(seen.values()) > 5
