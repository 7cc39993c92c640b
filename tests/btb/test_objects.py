"""Which objects get labels: by rules, by custom properties, or all that a render shows."""

import pytest

pytestmark = pytest.mark.blender

SCENE = """
from blendtorch.btb.objects import objects_of_interest, table
from blendtorch.core.configuration import ObjectRule

scene = bpy.context.scene
for obj in list(scene.objects):
    if obj.type == "MESH":
        bpy.data.objects.remove(obj)


def add(name, parent=None, collection=scene.collection, mesh=True, **properties):
    data = bpy.data.meshes.new(name) if mesh else None
    if mesh:
        data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    obj = bpy.data.objects.new(name, data)
    obj.parent = parent
    collection.objects.link(obj)
    for key, value in properties.items():
        obj[key] = value
    return obj


def found(*rules):
    try:
        objects = objects_of_interest(scene, [ObjectRule(**rule) for rule in rules])
    except ValueError as error:
        return str(error)
    return [
        (each.id, each.name, each.category_id, each.category_name, each.root and each.root.name, [part.name for part in each.parts])
        for each in objects
    ]
"""


def test_rules_choose(items_of):
    (item,) = items_of(
        SCENE
        + """
body = add("bracket")
add("screw.001", body)
add("bracket.001")
add("bracket_old").hide_render = True
add("plate")
group = bpy.data.collections.new("Pile.001")
scene.collection.children.link(group)
add("stone", None, group); add("moss", None, group)
empty = add("Anchor", mesh=False)
add("chain", empty)
pub.publish(
    objects=found({"match": "bracket*"}, {"match": "*", "category": "other"}),
    roots=found({"match": "bracket", "instance": "root"}, {"match": "Anchor", "instance": "root", "category": "anchor"}),
    collections=found({"match": "Pile*", "instance": "collection"}),
    unknown=found({"match": "brakcet"}),
    nothing=found({"match": "Anchor"}),
    twice=found({"match": "plate"}, {"match": "plate"}),
    table=table(objects_of_interest(scene, [ObjectRule(match="bracket*"), ObjectRule(match="plate")])),
)
"""
    )
    assert item["objects"][:3] == [
        (1, "bracket", 1, "bracket", "bracket", ["bracket"]),
        (2, "bracket.001", 1, "bracket", "bracket.001", ["bracket.001"]),
        (3, "bracket_old", 2, "bracket_old", "bracket_old", ["bracket_old"]),
    ]
    assert [row[1] for row in item["objects"][3:]] == ["chain", "moss", "plate", "screw.001", "stone"]
    assert {row[2:4] for row in item["objects"][3:]} == {(3, "other")}
    assert item["roots"] == [
        (1, "bracket", 1, "bracket", "bracket", ["bracket", "screw.001"]),
        (2, "Anchor", 2, "anchor", "Anchor", ["chain"]),
    ]
    assert item["collections"] == [(1, "Pile.001", 1, "Pile", None, ["moss", "stone"])]
    assert "objects[0].match: no object is called 'brakcet': did you mean 'bracket'?" in item["unknown"]
    assert "objects[0].match: nothing that 'Anchor' matches has geometry" in item["nothing"]
    assert "objects[1].match" in item["twice"]
    assert item["table"].splitlines()[1].split() == ["1", "bracket", "2", "2"]


def test_custom_properties_choose_and_are_inherited(items_of):
    (item,) = items_of(
        SCENE
        + """
car = add("car", category_id=7, category_name="car")
add("wheel", car)
driver = add("driver", car, category_name="person")
add("hat", driver)
add("car.001", category_id=7)
add("ground", category_id=0)
add("tree")
first = found()
bpy.data.objects["car.001"]["category_name"] = "truck"
pub.publish(first=first, conflict=found())
"""
    )
    assert item["first"] == [
        (1, "car", 7, "car", "car", ["car", "wheel"]),
        (2, "car.001", 7, "car", "car.001", ["car.001"]),
        (3, "driver", 8, "person", "driver", ["driver", "hat"]),
    ]
    assert "category_id 7 is 'truck' here and 'car' elsewhere" in item["conflict"]


def test_a_bare_scene_takes_what_a_render_shows(items_of):
    (item,) = items_of(
        SCENE
        + """
add("Cube"); add("Cube.001"); add("Ball")
add("Hidden").hide_render = True
add("Empty", mesh=False)
hidden = bpy.data.collections.new("Hidden")
hidden.hide_render = True
scene.collection.children.link(hidden)
add("Inside", collection=hidden)
pub.publish(found=found())
"""
    )
    assert item["found"] == [
        (1, "Ball", 1, "Ball", "Ball", ["Ball"]),
        (2, "Cube", 2, "Cube", "Cube", ["Cube"]),
        (3, "Cube.001", 2, "Cube", "Cube.001", ["Cube.001"]),
    ]
