"""`blendtorch init` and `blendtorch schema`: a configuration that runs as it is, and what an editor knows of it."""

import inspect
import json
import re
import struct

import jsonschema
import msgspec
import numpy as np
import pytest
from blendtorch import btt
from blendtorch.btt.command import main
from blendtorch.btt.configuration import parse_yaml
from blendtorch.btt.generation.arguments import Arguments, argument_names, check_arguments
from blendtorch.btt.generation.normalization import normalized
from blendtorch.btt.generation.plan import check_generation
from blendtorch.btt.generation.preset import make_preset
from blendtorch.btt.generation.schema import make_schema
from blendtorch.btt.generation.subject import Models, Subject
from blendtorch.core.discovery import DISABLE_VARIABLE, Catalogue
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.inspection import Size


def write_stl(path, sides):
    """Write a box with a corner at the origin, in binary STL (its 12 triangles, without normals)."""
    corners = [[side * (number >> axis & 1) for axis, side in enumerate(sides)] for number in range(8)]
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    triangles = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    content = bytes(80) + struct.pack("<I", len(triangles))
    for triangle in triangles:
        content += struct.pack("<12fH", 0, 0, 0, *(value for corner in triangle for value in corners[corner]), 0)
    path.write_bytes(content)


PLY = """ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 4
property list uchar int vertex_indices
end_header
0 0 0
90 0 0
0 60 0
0 0 30
3 0 2 1
3 0 1 3
3 0 3 2
3 1 2 3
"""


def subject(*sides):
    """Describe models of some longest sides, in metres, without a Blender."""
    sizes = [
        Size(file=f"/parts/part{number}.stl", dimensions=(side, side / 2, side / 3), radius=side * 0.7, faces=12, colored=False)
        for number, side in enumerate(sides)
    ]
    return Subject(models=tuple(Models(f"part{n}.stl", f"part{n}", "mm", (size,)) for n, size in enumerate(sizes)))


@pytest.mark.blender
def test_models_are_measured_and_the_configuration_fits_them(tmp_path, monkeypatch, capsys, blender):
    """From a file of 120 mm to samples: what `init` writes, `generate` takes as it is."""
    monkeypatch.chdir(tmp_path)
    named = ["--blender", blender] if blender else []
    write_stl(tmp_path / "bracket.stl", (120, 40, 30))
    assert main(["init", "bracket.stl", "--unit", "mm", *named]) == 0
    text = (tmp_path / "blendtorch.yaml").read_text()
    assert "# bracket.stl is 0.12 x 0.04 x 0.03 m" in text
    arguments = check_generation(btt.load_configuration("blendtorch.yaml"), "blendtorch.yaml")
    assert arguments["assets"] == [{"files": "bracket.stl", "category": "bracket", "count": [1, 8], "unit": "mm"}]
    distance = next(each for each in arguments["randomizers"] if each["name"] == "camera_shell")["distance"]
    assert 0.3 < distance["low"] < distance["high"] < 3, "metres, some lengths of the part away"
    jsonschema.validate(arguments, make_schema(Catalogue()))
    capsys.readouterr()
    assert main(["init", "bracket.stl", *named, "-o", "-"]) == 0
    output, said = capsys.readouterr()
    assert "unit: m " in output
    assert "try unit: mm (0.12 m)" in said
    code = main(["generate", "bracket.stl", "--unit", "mm", "--count", "2", "-o", "data", "--workers", "0", *named,
                 "--set", "renderer=workbench", "--set", "resolution=[64,48]"])  # fmt: skip
    said = capsys.readouterr().err
    assert code == 0, said
    assert "lights of the preset: left out, for workbench does not show what they change" in said
    made = btt.load_configuration("data/configuration.yaml")
    assert made["assets"][0]["files"] == [str(tmp_path / "bracket.stl")]
    assert "lights" not in [each["name"] for each in made["randomizers"]]
    assert {"000000.json", "000001.json", "versions.json"} <= {path.name for path in (tmp_path / "data").iterdir()}
    assert json.loads((tmp_path / "data" / "categories.json").read_text()) == {"1": "bracket"}


@pytest.mark.blender
def test_a_folder_of_the_bop_challenge_is_in_millimetres_and_each_model_a_category(tmp_path, monkeypatch, capsys, blender):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models_info.json").write_text("{}")
    for number in (1, 5):
        (tmp_path / "models" / f"obj_{number:06}.ply").write_text(PLY)
    assert main(["init", "models", "-o", "-", *(["--blender", blender] if blender else [])]) == 0
    output = capsys.readouterr().out
    assert "# obj_000001.ply is 0.09 x 0.06 x 0.03 m\n  # obj_000005.ply is 0.09 x 0.06 x 0.03 m" in output
    expected = [{"files": "models", "category": "{name}", "count": [1, 8], "unit": "mm"}]
    assert check_arguments(parse_yaml(output, "output"), "output")["assets"] == expected


@pytest.mark.parametrize("sides", [(0.02,), (0.3, 0.1, 4.0)], ids=["one", "several"])
@pytest.mark.parametrize("renderer", [None, "workbench", "eevee"])
def test_a_preset_is_checked_as_any_configuration_is(sides, renderer, tmp_path):
    """It parses, has only known keys and options, and comes back the same from the normal form that lies beside data."""
    arguments = make_preset(subject(*sides), renderer).arguments
    assert (arguments["renderer"]["name"]) == (renderer or "cycles")
    assert sum(asset["count"][1] for asset in arguments["assets"]) <= 8
    schema = make_schema(Catalogue())
    jsonschema.validate(arguments, schema)
    for number, asset in enumerate(arguments["assets"]):
        write_stl(tmp_path / f"part{number}.stl", (1, 1, 1))
        asset["files"] = str(tmp_path / f"part{number}.stl")
    normal = normalized(arguments, Catalogue())
    jsonschema.validate(normal, schema)
    assert normalized(normal, Catalogue()) == normal
    assert parse_yaml(make_preset(subject(*sides), renderer).text, "text")["seed"] == 0


def test_what_is_commented_out_fits_too(tmp_path):
    """Each entry that is switched off is right once its marks of comment are taken away, its folders being there."""
    text = make_preset(subject(0.1)).text
    uncommented = re.sub(r"^(  )# (- name: |  (?!#))", r"\1\2", text, flags=re.MULTILINE)
    uncommented = re.sub(r"^  # - (\w+ +#)", r"  - \1", uncommented, flags=re.MULTILINE)
    arguments = parse_yaml(uncommented, "uncommented")
    assert len(arguments["randomizers"]) > 6
    assert len(arguments["annotators"]) > 12
    jsonschema.validate(arguments, make_schema(Catalogue()))


def test_what_is_not_installed_is_not_used(monkeypatch):
    monkeypatch.setenv(DISABLE_VARIABLE, "blendtorch-cycles,blendtorch-gbuffer")
    preset = make_preset(subject(0.1))
    assert preset.arguments["renderer"] == {"name": "eevee"}
    assert "pip install blendtorch-cycles" in preset.notices[0]
    assert "boxes2d_loose" in preset.arguments["annotators"]
    assert "depth" not in preset.arguments["annotators"]


def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "housing.step").touch()
    for arguments, expected in (
        (["empty", "-o", "there.yaml"], "there.yaml is there already: name another file with -o, or replace it"),
        (["empty"], "has no models"),
        (["none.glb"], "'none.glb' does not exist (looked for"),
        (["housing.step"], "cascadio.step_to_glb"),
    ):
        assert main(["init", *arguments]) == 2
        assert expected in capsys.readouterr().err
    assert (tmp_path / "there.yaml").read_text() == "mine"


@pytest.mark.blender
def test_a_scene_is_surveyed_and_its_camera_moves_around_where_it_is(tmp_path, monkeypatch, capsys, blender, items_of):
    monkeypatch.chdir(tmp_path)
    named = ["--blender", blender] if blender else []
    items_of(f"""
bpy.context.scene.camera.location = (3, 4, 5)
bpy.data.objects["Cube"].location = (3, 1, 1)
bpy.ops.wm.save_as_mainfile(filepath={str(tmp_path / "free.blend")!r})
bpy.context.scene.camera.parent = bpy.data.objects["Cube"]
bpy.data.objects.remove(bpy.data.objects["Light"])
bpy.ops.wm.save_as_mainfile(filepath={str(tmp_path / "fixed.blend")!r})
""")
    (tmp_path / "free.yaml").write_text("mine")
    assert main(["init", "free.blend", "-o", "free.yaml", "--overwrite", *named]) == 0
    arguments = check_arguments(btt.load_configuration("free.yaml"), "free.yaml")
    assert arguments["scene"] == "free.blend"
    shell, lights, sensor = arguments["randomizers"]
    assert (shell["name"], lights["name"], sensor["name"]) == ("camera_shell", "lights", "sensor")
    middle = {name: (shell[name]["low"] + shell[name]["high"]) / 2 for name in ("elevation_deg", "azimuth_deg")}
    assert middle == pytest.approx({"elevation_deg": np.degrees(np.arctan(4 / 3)), "azimuth_deg": 90}, abs=1)
    assert shell["distance"]["low"] < 5 < shell["distance"]["high"]
    capsys.readouterr()
    assert main(["init", "fixed.blend", "-o", "-", *named]) == 0
    output = capsys.readouterr().out
    assert [each["name"] for each in parse_yaml(output, "text")["randomizers"]] == ["sensor"]
    assert "(off: it hangs on 'Cube')" in output
    assert "(off: there is none)" in output
    assert main(["init", "fixed.blend", "-o", "none/there.yaml", *named]) == 2
    assert "cannot write none/there.yaml" in capsys.readouterr().err


def test_a_configuration_with_an_unknown_or_wrong_key_is_refused():
    for wrong, text in (
        ({"anotators": []}, "here: there is no argument 'anotators'; did you mean 'annotators'?"),
        ({"item_transform": "f"}, "here: there is no argument 'item_transform'"),
        ({"record_path_prefix": "p"}, "here: there is no argument 'record_path_prefix'"),
        ({"resolution": [640]}, "here: Expected `array` of length 2, got 1 - at `resolution`"),
        ({"assets": [{"files": "a.glb", "cuont": 2}]}, "here: Object contains unknown field `cuont` - at `assets[0]`"),
        ({"num_instances": 0}, "here: Expected `int` >= 1 - at `num_instances`"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(text)):
            check_arguments(wrong, "here")


def test_the_schema_has_the_arguments_of_a_stream_and_the_options_of_plugins(tmp_path, capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    parameters = inspect.signature(btt.stream).parameters
    no_data = ("item_transform", "record_path_prefix")
    assert list(schema["properties"]) == [name for name in parameters if name not in no_data] == argument_names()
    defaults = {field.name: field.default for field in msgspec.structs.fields(Arguments)}
    assert {name: parameters[name].default for name in defaults} == defaults
    assert "The same seed gives the same samples" in schema["properties"]["seed"]["description"]
    validator = jsonschema.Draft202012Validator(schema)
    right = {
        "renderer": {"name": "cycles", "samples": 4},
        "annotators": ["depth", {"name": "keypoints", "source": "box", "as": "corners"}],
        "randomizers": [{"name": "camera_shell", "distance": {"draw": "uniform", "low": 1, "high": 2}, "every": "frame"}],
        "resolution": [640, 480],
        "restart": {"limit": 5},
    }
    validator.validate(right)
    for wrong in (
        {**right, "renderer": {"name": "cycles", "sample": 4}},
        {**right, "renderer": {"name": "cycles", "samples": 0}},
        {**right, "renderer": "cycels"},
        {**right, "annotators": ["camera_shell"]},
        {**right, "randomizers": [{"name": "camera_shell", "distance": {"draw": "uniform", "low": 1, "hgih": 2}}]},
        {**right, "randomizers": [{"name": "camera_shell"}]},
        {**right, "resolutoin": [1, 1]},
    ):
        assert not validator.is_valid(wrong), wrong
    assert main(["schema", "-o", str(tmp_path / "schema.json")]) == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == schema
