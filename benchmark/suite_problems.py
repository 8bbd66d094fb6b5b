"""What is wrong with a suite, one line each: where, what was found, what was wanted, the nearest valid name."""

import json
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from benchmark.yaml_reading import Document, Place, is_mapping, is_sequence
from bridge_core.errors import BridgeError, InvalidSuite, UnknownName

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping of keys",
    "finite_number": "a finite number",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and its place in the suite."""

    place: Place
    found: str
    wanted: str = ""
    remedy: str = ""

    def at(self, file: Path | str, document: Document) -> "Problem":
        """The same, its `found` led by file, line and place."""
        line = document.line(self.place)
        where = f"{file}:{line}" if line else str(file)
        lead = f"{where}: {place_text(self.place)}" if self.place else where
        return Problem(self.place, f"{lead}: {self.found}", self.wanted, self.remedy)


class _Several(BridgeError):
    """Problems, a line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.found, first.wanted, first.remedy)

    def __str__(self) -> str:
        return "\n".join(str(BridgeError(each.found, each.wanted, each.remedy)) for each in self.problems)


class SuiteProblems(_Several, InvalidSuite):
    """Everything that is wrong with a suite; `str` has a line for each."""


class MissingFiles(_Several, UnknownName):
    """The files a suite names that are not there; `str` has a line for each."""


def place_text(place: Place) -> str:
    """`bridges[2].num_pairs`."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step if re.fullmatch(r'[A-Za-z0-9_-]+', step) else shown(step)}"
    return text.removeprefix(".")


def shown(value: Any) -> str:
    """A value as JSON, on one line, printable, cut to 60 characters."""
    text = "".join(map(_printable, json.dumps(value, ensure_ascii=False, default=str)))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def names(values: Iterable[str]) -> str:
    """`one of a, b, c`, or the only one; cut after twelve."""
    known = list(values)
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return listed if len(known) == 1 else f"one of {listed}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the nearest of `known`; empty where none is near."""
    close = get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else ""


def translate(error: ValidationError, root: type[BaseModel], data: Any) -> list[Problem]:
    """The errors of pydantic as problems, their places as the author of the file wrote them."""
    return [_problem(detail, root, data) for detail in error.errors(include_url=False) if not _echo(detail)]


def _echo(detail: ErrorDetails) -> bool:
    """A list called empty since none of its values is valid: those are told by themselves."""
    return detail["type"] == "too_short" and bool(detail["input"])


def _problem(detail: ErrorDetails, root: type[BaseModel], data: Any) -> Problem:
    place, owner, candidates = _locate(detail["loc"], root, data)
    found = f"found {shown(_plain(detail['input']))}"
    kinds = [kind for kind in map(kind_named, candidates) if kind]
    match detail["type"]:
        case "extra_forbidden":
            keys = list(owner.model_fields)
            name = str(place[-1])
            return Problem(place, f"unknown key {shown(name)}", names(keys), nearest(name, keys))
        case "missing":
            return Problem(place, "missing", _described(owner, place))
        case "union_tag_invalid":
            tag = str(detail.get("ctx", {}).get("tag", ""))
            return Problem(place, f"unknown kind {shown(tag)}", names(kinds) + _or_label(place), nearest(tag, kinds))
        case "union_tag_not_found":
            return Problem((*place, "kind"), "missing", names(kinds))
        case "too_short":
            return Problem(place, "empty", "at least one value")
        case "value_error" | "assertion_error":
            return Problem(place, detail["msg"].removeprefix("Value error, "))
        case "string_pattern_mismatch":
            return Problem(place, found, f"text like {detail.get('ctx', {}).get('pattern')}")
        case "literal_error":
            expected = re.findall(r"'([^']*)'", detail["msg"])
            return Problem(place, found, _bound(detail["msg"]), nearest(str(detail["input"]), expected))
        case "model_type" | "model_attributes_type" if kinds:
            return Problem(place, found, f"{names(kinds)}, or a mapping with `kind`")
        case kind:
            wanted = _WANTED.get(kind) or _bound(detail["msg"])
            if place == ("seeds",):
                wanted = "a list of seeds, or how many (1 to 1000)"
            return Problem(place, found, wanted + (_or_label(place) if kind == "model_type" else ""))


def _bound(message: str) -> str:
    return re.sub(r"^(Input|String|Value) should (be )?", "", message)


def _or_label(place: Place) -> str:
    return ", or a label of this axis" if place[:1] == ("include",) else ""


def _described(owner: type[BaseModel], place: Place) -> str:
    described = owner.model_fields[str(place[-1])].description if place else None
    return described[0].lower() + described[1:].split(". ")[0].rstrip(".") if described else "a value"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _locate(
    loc: tuple[int | str, ...], root: type[BaseModel], data: Any
) -> tuple[Place, type[BaseModel], list[type[BaseModel]]]:
    """The place in the file, the model that owns its last key, and the models that may stand there.

    pydantic's `loc` also holds the tags of unions and the index of a lone value that stands for a list: left out here.
    """
    place: list[str | int] = []
    here: Any = data
    owner = root
    candidates: list[type[BaseModel]] = [root]
    for step in loc:
        if isinstance(step, int):
            if is_sequence(here):
                place.append(step)
                here = here[step]
        elif len(candidates) > 1:
            candidates = [model for model in candidates if kind_named(model) == step]
        else:
            place.append(step)
            here = here.get(step) if is_mapping(here) else None
            owner = candidates[0] if candidates else root
            known = owner.model_fields.get(step)
            candidates = list(models_of(known.annotation)) if known else []
    return tuple(place), owner, candidates


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's annotation holds, in its unions, tuples and annotations."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in get_args(annotation):
        yield from models_of(argument)


def kind_named(model: type[BaseModel]) -> str:
    """The `kind` that tells a model of a union; empty where it has none."""
    known = model.model_fields.get("kind")
    return str(known.default) if known else ""
