"""A suite file: axes of an experiment as YAML, validated strictly, and the cells they span.

The cells are the product of all axes, less what `exclude` matches, plus what `include` adds. As in a CI matrix,
`exclude` comes first and never reaches included cells:

    exclude:                                  # each entry: axis -> label, or list of labels; all must match
      - {model: resnet18, bridge: [oracle, mlp]}
    include:                                  # each entry: axis -> label, new value, or list of them;
      - {model: resnet18, rank: 32, bridge: ridge}   # axes left out take all their values
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.suite_check import find_problems, missing_files
from benchmark.suite_problems import MissingFiles, Problem, SuiteProblems, shown, translate
from benchmark.suite_schema import json_schema
from benchmark.suite_spec import AXES, Suite, label_of, points
from benchmark.yaml_reading import Document, is_mapping, read_document
from bridge_core import spec as s

__all__ = ["AXES", "LabelledCell", "Suite", "expand", "json_schema", "label_of", "load_suite"]


@dataclass(frozen=True)
class LabelledCell:
    """A cell, and the label of its value on each axis."""

    cell: s.AnyCell
    labels: dict[str, str]


def load_suite(path: Path) -> Suite:
    """Read and check the suite file `path`. Paths in it are relative to the working directory.

    Raises `InvalidSuite` with a line for each problem, and `UnknownName` where a file is not there.
    """
    document = read_document(path)
    data = document.data
    if not is_mapping(data):
        found = "empty" if data is None else f"found {shown(data)}"
        raise SuiteProblems([Problem((), found, "a mapping of keys").at(path, document)])
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        problems = _once_each(translate(error, Suite, document.data))
        raise SuiteProblems(problem.at(path, document) for problem in problems) from None
    if problems := find_problems(suite):
        raise SuiteProblems(_as_written(problem, document).at(path, document) for problem in problems)
    if problems := list(missing_files(suite)):
        raise MissingFiles(_as_written(problem, document).at(path, document) for problem in problems)
    return suite


def _once_each(problems: list[Problem]) -> list[Problem]:
    return list({problem.place: problem for problem in reversed(problems)}.values())[::-1]


def _as_written(problem: Problem, document: Document) -> Problem:
    """`include[0].model[0]` is `include[0].model` where the file has a lone value there."""
    place = problem.place
    if place[:1] == ("include",) and place[:4] not in document.lines:
        place = place[:3] + place[4:]
    return Problem(place, problem.found, problem.wanted, problem.remedy)


def expand(suite: Suite) -> tuple[LabelledCell, ...]:
    """The cells of `suite`, each once, in the order of its axes; included ones last.

    Raises `InvalidSuite` where the suite contradicts itself.
    """
    if problems := find_problems(suite):
        raise SuiteProblems(problem.at(f"suite {suite.name}", Document()) for problem in problems)
    return tuple(LabelledCell(_cell(point, suite.num_secrets), labels) for labels, point in points(suite))


def _cell(point: Mapping[str, Any], num_secrets: int) -> s.AnyCell:
    made = s.TextCell if isinstance(point["dataset"], s.Corpus) else s.Cell
    return made(**point, num_secrets=num_secrets)
