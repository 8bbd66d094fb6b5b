"""Keys follow content and nothing else, shared stages are one task, and a plan tells why something would run."""

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.explain import Standing, explain
from benchmark.graph import Graph, build_graph, canonical_json, task_key
from benchmark.store import Store
from bridge_core import spec as s
from bridge_core.phases import stages
from tests.harness.manifests import manifest_of
from tests.harness.synthetic_runs import cell

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@dataclass(frozen=True)
class Labelled:
    cell: s.Cell
    labels: dict[str, str]


def plan(*cells: s.Cell, **versions: str) -> Graph:
    """A graph with code version `0`, but for the phases in `versions`."""
    return build_graph("suite", [Labelled(cell, {}) for cell in cells], lambda phase: versions.get(phase, "0"))


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(JSON, st.randoms())
def test_canonical_text_does_not_know_the_order_of_keys(value: Any, order: random.Random):
    assert canonical_json(shuffled(value, order)) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value


def test_canonical_text_knows_one_zero_and_refuses_nan():
    assert canonical_json({"a": [-0.0]}) == canonical_json({"a": [0.0]})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


@given(st.sampled_from([s.Ridge(), s.Mlp(), s.Oracle(), s.Projection()]), st.integers(1, 64), st.integers(0, 10**6))
def test_the_fast_key_is_the_key_by_definition(bridge: s.Bridge, rank: int, seed: int):
    graph = plan(cell(seed, rank, bridge))
    for task in graph.tasks.values():
        assert task.key == task_key(task.phase, task.spec, task.inputs, task.code_version)


def test_labels_do_not_reach_the_keys():
    plain, labelled = s.ConvNet(), s.ConvNet(label="small")
    assert plan(cell(model=plain)).tasks.keys() == plan(cell(model=labelled)).tasks.keys()
    assert plan(cell(model=plain)).cells[0].id == plan(cell(model=labelled)).cells[0].id


def test_keys_are_the_same_in_another_process():
    code = "from tests.harness.test_graph import plan, cell; print(*plan(cell(3)).tasks)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == list(plan(cell(3)).tasks)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_different_knobs_have_different_keys(one: int, other: int):
    keys = [plan(cell(seed)).cells[0].tasks for seed in (one, other)]
    same = {name for name in keys[0] if keys[0][name] == keys[1][name]}
    assert same == (set(keys[0]) if one == other else {"proxy", "private", "base", "statistics"})


def test_shared_stages_are_one_task_and_inputs_come_first():
    cells = [cell(seed, rank) for seed in range(3) for rank in (2, 4)]
    graph = plan(*cells, cells[0])
    assert len(graph.cells) == 6 and len({planned.id for planned in graph.cells}) == 6
    phases = [task.phase for task in graph.tasks.values()]
    assert [phases.count(phase) for phase in ("proxy", "base", "adapter", "score")] == [1, 1, 6, 6]
    seen: set[str] = set()
    for task in graph.tasks.values():
        assert seen.issuperset(task.inputs.values())
        seen.add(task.key)
    assert list(graph.cells[0].tasks) == [stage.name for stage in stages(cells[0])]


def test_a_change_of_code_reaches_what_stands_on_it_and_nothing_else():
    before, after = plan(cell()).cells[0].tasks, plan(cell(), victim="1").cells[0].tasks
    assert {name for name in before if before[name] != after[name]} == {"victim", "publish", "attack", "score"}


def test_a_part_of_a_graph_has_the_tasks_of_its_cells_alone():
    graph = plan(cell(0), cell(1))
    part = graph.only(graph.cells[1:])
    assert part.tasks == plan(cell(1)).tasks and part.cells == graph.cells[1:]


def test_ten_thousand_cells_are_planned():
    models, bridges = (s.ConvNet(), s.Vit()), (s.Ridge(), s.Oracle(), s.Projection(), s.RowMmse(), s.Mlp())
    cells = [cell(i, r, b, m) for m in models for b in bridges for r in (2, 4, 8, 16) for i in range(250)]
    assert len(plan(*cells).cells) == 10_000


# --- why a task would run ---------------------------------------------------------------------------------------------


def keep(store: Store, graph: Graph) -> None:
    """Put an artefact into the store for every task of `graph`."""
    for task in graph.tasks.values():
        temporary = store.begin(task.key)
        store.commit(temporary, manifest_of(task))


def stand(graph: Graph, store: Store) -> dict[str, Standing]:
    """Stage name -> standing, of a graph of one cell."""
    standings = explain(graph, store)
    return {name: standings[key] for name, key in graph.cells[0].tasks.items()}


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store.open(tmp_path / "store")


def test_an_empty_store_explains_nothing_and_a_full_one_everything(store: Store):
    graph = plan(cell())
    assert set(explain(graph, store).values()) == {Standing("never made")}
    keep(store, graph)
    assert set(explain(graph, store).values()) == {Standing("cached")}


def test_changed_code_is_told_from_the_inputs_that_it_changes(store: Store):
    keep(store, plan(cell()))
    standings = stand(plan(cell(), victim="1"), store)
    assert standings["victim"] == Standing("code changed")
    assert standings["publish"] == Standing("input changed", ("victim",))
    assert standings["base"] == Standing("cached")


def test_changed_knobs_are_named(store: Store):
    keep(store, plan(cell(bridge=s.Ridge())))
    standings = stand(plan(cell(bridge=s.Ridge(num_pairs=99))), store)
    assert standings["decoder"] == Standing("knobs changed", ("bridge.num_pairs",))


def test_other_points_of_the_same_grid_are_no_former_versions(store: Store):
    keep(store, plan(cell(0)))
    graph = plan(cell(0), cell(1))
    assert explain(graph, store)[graph.cells[1].tasks["adapter"]] == Standing("never made")
