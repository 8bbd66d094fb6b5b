"""YAML as its 1.2 core schema has it, and nothing that surprises: no tags, no duplicate keys, no alias bombs.

`5e-9` is a number, `no` and `on` are text, sequences are tuples, and every value knows its line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bridge_core.errors import InvalidSuite, UnknownName

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_VALUES = 20_000
"""Values after aliases are written out."""

Place = tuple[str | int, ...]
"""Where in a document: `("bridges", 2, "num_pairs")`."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": r"^(~|null|Null|NULL|)$",
    "bool": r"^(true|True|TRUE|false|False|FALSE)$",
    "int": r"^([-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300})$",
    "float": r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
}


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that no suite needs."""


class _CoreLoader(yaml.SafeLoader):
    """Composes nodes under the core schema's four patterns for plain scalars."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (the attribute is PyYAML's)
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = cast(Any, self).peek_event()
        if getattr(event, "tag", None):
            raise _Refused(problem=f"the tag {event.tag!r}: tags are not read", problem_mark=event.start_mark)
        if self.depth == MAX_DEPTH:
            raise _Refused(problem=f"more than {MAX_DEPTH} levels of nesting", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, _pattern in _SCALARS.items():
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), None)  # pyright: ignore[reportUnknownMemberType]


@dataclass
class Document:
    """A YAML document as plain values, with the line (from 1) of every place in it."""

    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict[Place, int])

    def line(self, place: Place) -> int | None:
        """Line of `place`, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether `value` was a YAML sequence."""
    return isinstance(value, tuple | list)


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether `value` was a YAML mapping."""
    return isinstance(value, dict)


def read_document(path: Path) -> Document:
    """The one YAML document in the file `path`.

    Raises `UnknownName` where there is no such file and `InvalidSuite`, in one line, for anything that can not be read.
    """
    text = _text(path)
    try:
        node = _CoreLoader(text).get_single_node()
        document = Document()
        document.data = _value(node, (), document) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        reading = "" if isinstance(error, _Refused) else "not valid YAML: "
        raise InvalidSuite(f"{where}: {reading}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InvalidSuite(f"{path}: not valid YAML: {error}") from None
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnknownName(f"{path}: {reason}", "a suite file (YAML)") from None
    if len(raw) > MAX_BYTES:
        raise InvalidSuite(f"{path}: larger than {MAX_BYTES // 1024} KiB", "a suite file (YAML)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSuite(f"{path}: byte {error.start} is not UTF-8", "a suite file (YAML)") from None


def _value(node: Node, place: Place, document: Document) -> Any:
    document.lines[place] = node.start_mark.line + 1
    if len(document.lines) > MAX_VALUES:
        raise _Refused(problem=f"more than {MAX_VALUES} values", problem_mark=node.start_mark)
    if len(place) > MAX_DEPTH:
        raise _Refused(problem="an alias that holds itself", problem_mark=node.start_mark)
    match node:
        case MappingNode():
            return _mapping(node, place, document)
        case SequenceNode():
            return tuple(_value(item, (*place, index), document) for index, item in enumerate(node.value))
        case _:
            assert isinstance(node, ScalarNode)
            return _scalar(node.tag.removeprefix(_TAG), node.value)


def _mapping(node: MappingNode, place: Place, document: Document) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = key_node.value, key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode) or key_node.tag != _TAG + "str":
            raise _Refused(problem="a key that is not text", problem_mark=key_node.start_mark)
        if key in mapping:
            raise _Refused(
                problem=f"duplicate key {key!r}, first on line {first[key]}", problem_mark=key_node.start_mark
            )
        first[key] = line
        mapping[key] = _value(value_node, (*place, key), document)
        document.lines[(*place, key)] = line
    return mapping


def _scalar(kind: str, text: str) -> Any:
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            return int(text, base)
        case "float":
            return float(re.sub(r"\.(?=[a-zA-Z])", "", text))
        case _:
            return text
