"""The JSON Schema of a configuration, with the options of the plug-ins that are installed."""

import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
from blendtorch.btt.generation.arguments import Arguments, argument_names
from blendtorch.btt.streaming import stream
from blendtorch.core.discovery import Catalogue, Found, Kind
from blendtorch.core.interfaces import Plugin

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLUGINS: dict[str, Kind] = {"renderer": "renderer", "annotators": "annotator", "randomizers": "randomizer"}
_ENTRY = re.compile(r"^(\w[\w, ]*) :", re.MULTILINE)


def make_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Describe the files that `btt.load_configuration` reads.

    Parameters
    ----------
    catalogue : Catalogue
        Whose plug-ins may be named. All are imported.

    Returns
    -------
    dict
        JSON Schema, draft 2020-12. Its properties are the arguments of `btt.stream`.
    """
    found = [each for each in catalogue.all() if each.kind in _PLUGINS.values()]
    types: list[Any] = [Arguments, *(each.cls.Options for each in found)]
    schemas, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    own, *options = (_resolved(schema, definitions) for schema in schemas)
    explained = _explanations(stream)
    properties = {name: own["properties"][name] for name in argument_names()}
    for name, kind in _PLUGINS.items():
        entries = [_entry(each, schema) for each, schema in zip(found, options, strict=True) if each.kind == kind]
        names = [each.name for each in found if each.kind == kind]
        definitions[kind] = {"anyOf": [{"enum": names}, *entries]}
        several: dict[str, Any] = {"type": "array", "items": {"$ref": f"#/$defs/{kind}"}}
        one_or_more: dict[str, Any] = {"anyOf": [{"$ref": f"#/$defs/{kind}"}, several]}
        properties[name] = {**(one_or_more if name == "renderer" else several), "default": own["properties"][name]["default"]}
    for name, text in explained.items():
        if name in properties:
            properties[name] = {**properties[name], "description": text}
    used = _used(properties, definitions)
    return {
        "$schema": _DIALECT,
        "title": "blendtorch: the arguments of btt.stream",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {name: schema for name, schema in definitions.items() if name in used},
    }


def _entry(found: Found, options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a mapping that names a plug-in and has its options."""
    explained = _explanations(found.cls.Options)
    properties = {
        name: {**schema, "description": explained[name]} if name in explained else schema
        for name, schema in options.get("properties", {}).items()
    }
    label = {"type": "string", "minLength": 1, "description": "The name that it gets in this run."}
    return {
        "type": "object",
        "description": _summary(found.cls),
        "properties": {"name": {"const": found.name}, "as": label, **properties},
        "required": ["name", *options.get("required", ())],
        "additionalProperties": False,
    }


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "").rpartition("/")[2]
    return typing.cast("Mapping[str, Any]", definitions[reference]) if reference else schema


def _used(value: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Name the definitions that something refers to, directly or not."""
    used: set[str] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
            name = str(each.get("$ref", "")).rpartition("/")[2]
            if name and name not in used:
                used.add(name)
                waiting.append(definitions[name])
        elif isinstance(each, (list, tuple)):
            waiting += each
    return used


def _summary(cls: type[Plugin]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")


def _explanations(documented: Any) -> dict[str, str]:
    """Read what a docstring in numpy's style says of each parameter or attribute, of what a class inherits, too."""
    found: dict[str, str] = {}
    for each in reversed(documented.__mro__ if isinstance(documented, type) else [documented]):
        text = inspect.cleandoc(each.__doc__ or "") if each is not object else ""
        for section in re.findall(
            r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=\n\n\w[\w ]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE
        ):
            heads = list(_ENTRY.finditer(section))
            for head, following in zip(heads, [*heads[1:], None], strict=True):
                body = section[head.end() : following.start() if following else None].partition("\n")[2]
                for name in head[1].split(", "):
                    found[name] = " ".join(body.split())
    return {name: text for name, text in found.items() if text}
