"""The JSON schema of a suite file, made from the models, for editors and for `bridge schema`."""

from typing import Any

from benchmark.suite_spec import Suite

Schema = dict[str, Any]
KINDS_OF_DATA = ("images", "text")
"""Told from the sources where `kind` is not given."""


def json_schema() -> Schema:
    """The JSON schema (2020-12) of a suite file; a kind may stand alone where its other keys have defaults."""
    schema = Suite.model_json_schema(mode="validation")
    definitions: Schema = schema["$defs"]
    schema = _with_shorthands(schema, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _with_shorthands(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_with_shorthands(each, definitions) for each in node]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(node, dict):
        return node
    changed: Schema = {key: _with_shorthands(value, definitions) for key, value in node.items()}  # pyright: ignore[reportUnknownVariableType]
    kind = changed.get("properties", {}).get("kind", {})
    if isinstance(kind, dict) and kind.get("const", "images") not in KINDS_OF_DATA:
        changed["required"] = sorted({"kind", *changed.get("required", ())})
    return _union(changed, definitions) if "discriminator" in changed else changed


def _union(union: Schema, definitions: Schema) -> Schema:
    """`union` or the name of one of its kinds."""
    outside = {key: union.pop(key) for key in ("default", "description", "title") if key in union}
    mapping: dict[str, str] = union["discriminator"]["mapping"]
    alone = [kind for kind, ref in mapping.items() if not _required(definitions[ref.rsplit("/", 1)[-1]])]
    return {**outside, "anyOf": [{"enum": alone}, union]} if alone else {**outside, **union}


def _required(definition: Schema) -> set[str]:
    return set(definition.get("required", ())) - {"kind"}
