"""Models in files: which are meant, and what is said of those that are not right."""

from pathlib import Path

import pytest
from blendtorch.core.assets import Asset, check_format, models, resolve, size_notice
from blendtorch.core.configuration import run_configuration
from blendtorch.core.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("part.glb", "distractors/b.obj", "distractors/a.STL", "distractors/notes.txt", "cad/part.step", "empty/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("part.glb", ["part.glb"]),
        ("distractors", ["distractors/a.STL", "distractors/b.obj"]),
        ("distractors/*.obj", ["distractors/b.obj"]),
        ("**/*.obj", ["distractors/b.obj"]),
        (("part.glb", "distractors", "part.glb"), ["part.glb", "distractors/a.STL", "distractors/b.obj"]),
    ],
)
def test_files_folders_and_patterns_name_models(folder, files, expected):
    [asset] = resolve([Asset(files=files)])
    assert asset.files == tuple(str(folder / each) for each in expected)
    assert resolve([asset]) == (asset,)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ("prat.glb", r"assets\[0\].files: 'prat.glb' names no file \(looked for /"),
        ("empty", r"assets\[0\].files: the folder /.*/empty has no models: .glb"),
        ("*/*.dae", r"names no file"),
        (
            "cad/part.step",
            r"part.step is a CAD file .* pip install cascadio, then python -c .*step_to_glb\('part.step', 'part.glb'\)",
        ),
        ("empty/x.txt", r"x.txt is of no format that is read here: .glb, .gltf"),
        ((), "it is empty"),
    ],
)
def test_what_names_no_model_is_refused_with_a_way_out(folder, files, reason):
    with pytest.raises(ConfigurationError, match=reason):
        resolve([Asset(files=files)])


def test_iges_is_refused_too():
    with pytest.raises(ConfigurationError, match="export glTF, OBJ or STL from your CAD program"):
        check_format(Path("part.iges"), "scene")


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"files": "a.glb", "count": [3, 1]}, "count is"),
        ({"files": "a.glb", "count": 0}, "count is 0"),
        ({"files": "a.glb", "count": [-1, 1]}, "count is"),
        ({"files": "a.glb", "category": " "}, "category is empty"),
        ({"files": "a.glb", "unit": "km"}, r"unit"),
        ({"files": "a.glb", "color": "red"}, "color"),
    ],
)
def test_wrong_entries_are_refused_with_their_path(entry, path):
    with pytest.raises(ConfigurationError, match=rf"{path}.*\$.assets\[0\]|\$.assets\[0\].*{path}"):
        run_configuration(assets=[entry])


def test_an_entry_without_category_is_a_distractor_unless_all_are():
    bracket, clutter = Asset(files=("/m/part.glb",), category="bracket"), Asset(files=("/m/a.obj", "/m/b.obj"))
    assert [[each.category for each in entry] for entry in models([bracket, clutter])] == [["bracket"], ["", ""]]
    assert [[each.category for each in entry] for entry in models([clutter])] == [["a", "b"]]
    named = Asset(files=("/m/a.obj",), category="part_{name}")
    assert models([named])[0][0].category == "part_a"


def test_a_folder_of_bop_models_works_as_it_is():
    [entry] = models([Asset(files=("/lm/models/obj_000001.ply", "/lm/models/obj_000015.ply"))])
    assert [(each.category, each.category_id, each.unit, each.origin) for each in entry] == [
        ("obj_000001", 1, "mm", "file"),
        ("obj_000015", 15, "mm", "file"),
    ]
    [[own]] = models([Asset(files=("/lm/models/obj_000001.ply",), category="ape", unit="m", origin="center")])
    assert (own.category, own.category_id, own.unit, own.origin) == ("ape", 0, "m", "center")


@pytest.mark.parametrize(
    ("longest", "unit", "expected"),
    [
        (0.3, "m", ""),
        (10.0, "m", ""),
        (0.001, "mm", ""),
        (120.0, "m", "over 10 m: try unit: mm (0.12 m) or cm (1.2 m) or in (3.05 m)"),
        (12.0, "m", "over 10 m: try unit: mm (0.012 m) or cm (0.12 m) or in (0.305 m)"),
        (0.0002, "mm", "under 1 mm: try unit: m (0.2 m) or in (0.00508 m)"),
        (1e9, "m", "is the file right?"),
    ],
)
def test_an_unbelievable_size_names_the_unit_to_try(longest, unit, expected):
    notice = size_notice("part.stl", (longest / 2, longest, 0.0), unit)
    assert notice.endswith(expected)
    assert bool(notice) == bool(expected)
