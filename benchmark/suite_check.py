"""What is wrong between the parts of a suite: labels twice, patterns that match nothing, files that are not there."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from glob import iglob
from math import prod
from pathlib import Path
from typing import Any

from benchmark.suite_problems import Problem, kind_named, models_of, names, nearest, shown
from benchmark.suite_spec import AXES, AxisValue, Suite, label_of, points
from benchmark.yaml_reading import Place
from bridge_core import spec as s

MAX_CELLS = 50_000


@dataclass(frozen=True)
class _Placed:
    """A value of an axis where the suite gives it."""

    place: Place
    axis: str
    value: AxisValue

    @property
    def label(self) -> str:
        return label_of(self.value)

    @property
    def content(self) -> str:
        return str(self.value) if isinstance(self.value, int) else json.dumps(s.content(self.value), sort_keys=True)


def find_problems(suite: Suite) -> list[Problem]:
    """Find what is wrong between the parts of a suite: clashing labels, idle patterns, no cells, too many."""
    problems = [*_clashes(suite), *_bad_patterns(suite)]
    size = prod(len(getattr(suite, key)) for key in AXES.values())
    if size > MAX_CELLS:
        problems.append(Problem((), f"{size} cells", f"at most {MAX_CELLS}"))
    elif not problems:
        spanned = points(suite)
        problems += (
            _mixed(spanned) if spanned else [Problem(("exclude",), "every cell is excluded", "at least one cell")]
        )
    return problems


def _mixed(spanned: list[tuple[dict[str, str], dict[str, Any]]]) -> Iterator[Problem]:
    """Cells whose data are text and another axis of images, or the other way round: the first by axis and label."""
    told: set[tuple[str, str, bool]] = set()
    for labels, values in spanned:
        text = isinstance(values["dataset"], s.Corpus)
        fields = (s.TextCell if text else s.Cell).model_fields
        for axis in ("model", "bridge", "inversion", "prior", "defence"):
            kinds = [kind_named(each) for each in models_of(fields[axis].annotation)]
            if s.kind_of(values[axis]) not in kinds and (axis, labels[axis], text) not in told:
                told.add((axis, labels[axis], text))
                found = f"{axis} {shown(labels[axis])} with the data set {shown(labels['dataset'])}"
                wanted = f"{names(kinds)} for {'text' if text else 'images'}"
                yield Problem((), found, wanted, "leave the cell out by `exclude`, or add others by `include`")


def _placed(suite: Suite) -> Iterator[_Placed]:
    for axis, key in AXES.items():
        for index, value in enumerate(getattr(suite, key)):
            yield _Placed((key, index), axis, value)
    for entry_index, entry in enumerate(suite.include):
        for axis in AXES:
            for index, value in enumerate(getattr(entry, axis)):
                yield _Placed(("include", entry_index, axis, index), axis, value)


def _clashes(suite: Suite) -> Iterator[Problem]:
    by_label: dict[tuple[str, str], str] = {}
    by_content: dict[tuple[str, str], str] = {}
    for placed in _placed(suite):
        label, content = placed.label, placed.content
        included = placed.place[0] == "include"
        if (placed.axis, label) in by_label:
            if not included or by_label[placed.axis, label] != content:
                yield Problem(
                    placed.place, f"the label {shown(label)} stands twice", "labels that differ", "set `label`"
                )
        elif (placed.axis, content) in by_content:
            other = by_content[placed.axis, content]
            yield Problem(placed.place, f"the same value as {shown(other)}", "values that differ")
        by_label.setdefault((placed.axis, label), content)
        by_content.setdefault((placed.axis, content), label)


def _bad_patterns(suite: Suite) -> Iterator[Problem]:
    for key, entries in (("include", suite.include), ("exclude", suite.exclude)):
        for index, entry in enumerate(entries):
            if not entry.model_fields_set:
                yield Problem((key, index), "names no axis", names(AXES))
    for index, entry in enumerate(suite.exclude):
        for axis in entry.model_fields_set:
            known = [label_of(value) for value in getattr(suite, AXES[axis])]
            for label in getattr(entry, axis):
                if label not in known:
                    found = f"unknown label {shown(label)}, this pattern matches nothing"
                    yield Problem(("exclude", index, axis), found, names(known), nearest(label, known))


def missing_files(suite: Suite) -> Iterator[Problem]:
    """Find folders and files that the suite names and that are not there."""
    for placed in _placed(suite):
        value = placed.value
        if isinstance(value, s.Dataset | s.Corpus):
            yield from _missing_source((*placed.place, "proxy"), value.proxy)
            yield from _missing_source((*placed.place, "private"), value.private)
        elif isinstance(value, s.FolderModel | s.TextFolder) and not (Path(value.path) / "config.json").is_file():
            yield Problem((*placed.place, "path"), f"no model in {shown(value.path)}", "a folder with config.json")


def _missing_source(place: Place, source: s.AnySource | s.AnyTextSource) -> Iterator[Problem]:
    match source:
        case s.Lines() | s.CsvText() | s.ParquetText() if not any(iglob(source.path, recursive=True)):
            yield Problem((*place, "path"), f"no file {shown(source.path)}", "a file of text or a glob pattern")
        case s.Glosses() if source.folder is not None and not Path(source.folder).is_dir():
            remedy = "install Debian's wordnet-base, or leave `folder` out"
            yield Problem((*place, "folder"), f"no folder {shown(source.folder)}", "WordNet's data files", remedy)
        case s.FashionMnist() if source.folder is not None and not Path(source.folder).is_dir():
            remedy = "install Debian's dataset-fashion-mnist, `make data`, or leave `folder` out"
            yield Problem(place, f"no folder {shown(source.folder)}", "the four IDX files of Fashion-MNIST", remedy)
        case s.ParquetImages() if not any(iglob(source.path, recursive=True)):
            yield Problem((*place, "path"), f"no file {shown(source.path)}", "a parquet file or a glob pattern")
        case s.ImageFolder() if not Path(source.path).is_dir():
            yield Problem((*place, "path"), f"no folder {shown(source.path)}", "a folder of images")
        case _:
            return
