"""Whatever the order in which tasks end, the ledger's verdict on cells is that of the graph."""

from hypothesis import given
from hypothesis import strategies as st

from benchmark.graph import Graph
from benchmark.ledger import Ledger, State
from tests.harness.synthetic_runs import graph_of, key_of


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 8))
    inputs = {i: draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set[int]() for i in range(size)}
    return graph_of(inputs)


def upstream(graph: Graph, key: str) -> set[str]:
    found = {key}
    for made in graph.tasks[key].inputs.values():
        found |= upstream(graph, made)
    return found


@given(graphs(), st.data())
def test_each_task_is_done_once_failed_or_skipped_and_cells_are_decided_so(graph: Graph, data: st.DataObject):
    ledger, running, failed = Ledger(graph), list[str](), set[str]()
    started: list[str] = []
    while True:
        while key := ledger.next_ready():
            assert all(ledger.state[made] is State.DONE for made in graph.tasks[key].inputs.values())
            ledger.start(key)
            started.append(key)
            running.append(key)
        if not running:
            break
        key = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if data.draw(st.integers(0, 4)) == 0:
            failed.add(key)
            ledger.give_up(key)
        else:
            ledger.finish(key)
    assert len(started) == len(set(started))
    for key in graph.tasks:
        lost = upstream(graph, key) & failed
        wanted = State.FAILED if key in failed else State.SKIPPED if lost else State.DONE
        assert ledger.state[key] is wanted
    bad = {cell.id for cell in graph.cells if failed & set(cell.tasks.values())}
    assert ledger.failed_cells == bad and ledger.finished_cells == {cell.id for cell in graph.cells} - bad


def test_ready_tasks_come_in_the_graphs_order_so_that_cells_end_one_by_one():
    ledger = Ledger(graph_of({0: (), 1: (0,), 2: (1,), 3: (0,), 4: (3,)}))
    order: list[str] = []
    while key := ledger.next_ready():
        ledger.start(key)
        ledger.finish(key)
        order.append(key)
    assert order == [key_of(i) for i in range(5)]


def test_a_reopened_task_holds_its_followers_back_until_it_is_made_again():
    ledger = Ledger(graph_of({0: (), 1: (0,), 2: (0,)}))
    ledger.start(key_of(0))
    ledger.finish(key_of(0))
    assert ledger.next_ready() == key_of(1)
    ledger.start(key_of(1))
    ledger.reopen(key_of(0))
    ledger.put_back(key_of(1))
    assert ledger.next_ready() == key_of(0) and ledger.next_ready() is None
    assert ledger.start(key_of(0)) == 2
    ledger.finish(key_of(0))
    assert {ledger.next_ready(), ledger.next_ready()} == {key_of(1), key_of(2)}
