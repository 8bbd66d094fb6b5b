"""Suites: what a file spans, and that the schema agrees with the models."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from benchmark.suite import AXES, Suite, expand, json_schema, load_suite
from benchmark.yaml_reading import read_document
from bridge_core import spec as s
from bridge_core.errors import InvalidSuite

ROOT = Path(__file__).parents[2]
SUITES = sorted(path for path in (ROOT / "suites").glob("*.yaml") if not path.name.startswith("zoo-"))

SMALL = """
name: small
models: [vit, {kind: convnet, label: thin, width: 4, target_modules: [conv1, head]}]
ranks: [2, 4]
datasets: [{proxy: digits, private: mnist}]
bridges: [oracle, {kind: ridge, num_pairs: 100}]
inversions: [dlg]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> Suite:
    return load_suite(write(folder, text))


def labels(suite: Suite, *axes: str) -> list[tuple[str, ...]]:
    return [tuple(cell.labels[axis] for axis in axes) for cell in expand(suite)]


def test_cells_are_the_product_of_all_axes_in_order(tmp_path: Path) -> None:
    suite = load(tmp_path, SMALL + "seeds: 3\n")
    cells = expand(suite)
    assert len(cells) == 2 * 2 * 1 * 2 * 1 * 3
    assert [cell.cell.seed for cell in cells[:3]] == [0, 1, 2]
    assert all(tuple(cell.labels) == tuple(AXES) for cell in cells)
    assert len({tuple(cell.labels.values()) for cell in cells}) == len(cells)
    assert labels(suite, "model", "rank", "bridge")[0] == ("vit", "2", "oracle")


def test_default_labels_tell_values_apart(tmp_path: Path) -> None:
    recipes = """
recipes:
  - {}
  - {optimiser: {kind: adamw, epsilon: 5e-9}, steps: 3}
  - {num_samples: 4, batch_size: 2, save_dtype: float16}
"""
    first, *_ = cells = expand(load(tmp_path, SMALL + recipes))
    assert list(dict.fromkeys(cell.labels["recipe"] for cell in cells)) == ["sgd-1", "adamw-3", "sgd-1-n4-b2-float16"]
    assert first.labels["dataset"] == "digits-mnist"
    assert first.labels["prior"] == "none"
    assert first.labels["knowledge"] == "all given"


def test_yaml_has_its_1_2_meaning(tmp_path: Path) -> None:
    recipe = "recipes: [{optimiser: {kind: adamw, epsilon: 5e-9, learning_rate: 1}}]\n"
    suite = load(tmp_path, SMALL.replace("name: small", "name: no\ndescription: on") + recipe)
    assert suite.name == "no"
    assert suite.description == "on"
    optimiser = suite.recipes[0].optimiser
    assert isinstance(optimiser, s.AdamW)
    assert optimiser.epsilon == 5e-9
    assert optimiser.learning_rate == 1.0


def test_exclude_leaves_out_what_matches_on_every_named_axis(tmp_path: Path) -> None:
    found = labels(load(tmp_path, SMALL + "exclude: [{model: thin, rank: [4]}]\n"), "model", "rank", "bridge")
    assert ("thin", "4", "oracle") not in found
    assert ("thin", "4", "ridge") not in found
    assert {("thin", "2", "oracle"), ("vit", "4", "oracle")} <= set(found)
    assert len(found) == 6


def test_include_adds_labels_and_new_values_and_takes_all_of_other_axes(tmp_path: Path) -> None:
    include = "include: [{model: [thin, resnet18], rank: 32, bridge: {kind: ridge, label: more, num_pairs: 200}}]\n"
    cells = expand(load(tmp_path, SMALL + include))
    added = cells[8:]
    assert [(cell.labels["model"], cell.labels["rank"], cell.labels["bridge"]) for cell in added] == [
        ("thin", "32", "more"),
        ("resnet18", "32", "more"),
    ]
    assert isinstance(added[0].cell.model, s.ConvNet)
    assert added[0].cell.model.width == 4, "the suite's own `thin`, not a default"


def test_include_is_not_excluded_and_adds_no_cell_twice(tmp_path: Path) -> None:
    both = "exclude: [{model: thin}]\ninclude: [{model: thin, rank: 2, bridge: oracle}, {model: vit, rank: 2}]\n"
    found = labels(load(tmp_path, SMALL + both), "model", "rank", "bridge")
    assert found.count(("thin", "2", "oracle")) == 1
    assert len(found) == len(set(found)) == 5


def test_a_suite_made_in_python_is_checked_by_expand() -> None:
    datasets = (s.Dataset(proxy=s.Digits(), private=s.Digits()),)
    suite = Suite(
        name="x",
        models=(s.Vit(), s.Vit(depth=2)),
        ranks=(2,),
        datasets=datasets,
        bridges=(s.Oracle(),),
        inversions=(s.Dlg(),),
    )
    with pytest.raises(InvalidSuite, match=r"models\[1\]: the label \"vit\" stands twice"):
        expand(suite)


def test_label_is_not_part_of_a_cells_content(tmp_path: Path) -> None:
    plain = expand(load(tmp_path, SMALL))[0].cell
    renamed = expand(load(tmp_path, SMALL.replace("[vit,", "[{kind: vit, label: other},")))[0].cell
    assert s.content(plain) == s.content(renamed)


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_file_is_the_models_schema() -> None:
    stored = json.loads((ROOT / "suites" / "suite.schema.json").read_text())
    assert stored == json_schema(), "suites/suite.schema.json is out of date: bridge schema > suites/suite.schema.json"


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_is_valid_and_fits_the_schema(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=suite.schema.json\n")
    assert expand(Suite.model_validate(read_document(path).data)), "its data need not be on this machine"
    Draft202012Validator(json_schema()).validate(_json(text))


FITTING: list[dict[str, Any]] = [
    {},
    {"seeds": [3, 4]},
    {"models": ["vit", {"kind": "folder", "path": "x"}]},
    {"recipes": [{"optimiser": "adamw"}, {"optimiser": {"kind": "sgd", "momentum": 0.9}}]},
    {"exclude": [{"model": "vit", "rank": [2, "4"]}]},
    {"include": [{"model": ["vit", {"kind": "convnet"}], "rank": 8}]},
]
NOT_FITTING: list[dict[str, Any]] = [
    {"seeds": 0},
    {"seeds": "3"},
    {"ranks": []},
    {"rank": [2]},
    {"models": ["vitt"]},
    {"models": ["folder"]},
    {"models": [{"depth": 3}]},
    {"bridges": [{"kind": "ridge", "num_pair": 5}]},
    {"exclude": [{"models": "vit"}]},
    {"name": "Not a slug"},
]


def _json(text: str) -> Any:
    return json.loads(json.dumps(yaml.safe_load(text)))


@pytest.mark.parametrize("change", FITTING, ids=json.dumps)
def test_the_schema_takes_what_the_models_take(change: dict[str, Any]) -> None:
    document = _json(SMALL) | change
    Draft202012Validator(json_schema()).validate(document)
    Suite.model_validate(_tuples(document))


@pytest.mark.parametrize("change", NOT_FITTING, ids=json.dumps)
def test_the_schema_refuses_what_the_models_refuse(change: dict[str, Any]) -> None:
    document = _json(SMALL) | change
    assert not Draft202012Validator(json_schema()).is_valid(document)
    with pytest.raises(ValueError, match="validation error"):
        Suite.model_validate(_tuples(document))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]
