"""Requests to a running driver: they go through the store, it alone writes the journal, and nothing breaks."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import events as e
from benchmark.journal import read
from benchmark.requests import MAX_BYTES, Mailbox, Request, requests_folder, send
from benchmark.scheduler import RunOptions, RunOutcome
from benchmark.tui.records import CellState, TaskState
from benchmark.tui.state import View
from tests.harness.synthetic_runs import Bench, chains, graph_of, key_of, noted

ONE = RunOptions(workers=1)
both_engines = pytest.mark.parametrize(
    "options", [RunOptions(workers=0), pytest.param(ONE, marks=pytest.mark.slow)], ids=["in process", "a worker"]
)
Tell = Callable[[e.AnyEvent, Path], None]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def run(bench: Bench, graph: object, options: RunOptions, tell: Tell) -> tuple[RunOutcome, View]:
    """A run in which `tell` hears of every event, and may ask; afterwards its journal is whole and tells the same."""

    def observe(event: e.AnyEvent) -> None:
        (journal,) = bench.store.root.glob("runs/*/journal.jsonl")
        tell(event, journal)

    outcome = bench.run(graph, options, observe)  # pyright: ignore[reportArgumentType]
    (journal,) = bench.store.root.glob("runs/*/journal.jsonl")
    lines = journal.read_bytes().split(b"\n")
    assert lines.pop() == b"" and all(json.loads(line) for line in lines)
    view = View()
    for event in read(journal):
        view.apply(event)
    assert repr(list(read(journal))) == repr(bench.events)  # NaN is not equal to itself
    assert not list(requests_folder(journal).glob("*")), "every request is taken"
    return outcome, view


@both_engines
def test_a_paused_run_starts_nothing_until_it_is_resumed(bench: Bench, options: RunOptions):
    paused = threading.Event()

    def tell(event: e.AnyEvent, journal: Path) -> None:
        if isinstance(event, e.TaskFinished) and event.key == key_of(0):
            bench.tell(1, "sleep 0.6")  # so that the driver looks at its requests before the next but one
            send(journal, "pause")
        if isinstance(event, e.RunPaused):
            paused.set()
            threading.Timer(1.0, send, (journal, "resume")).start()

    outcome, view = run(bench, chains(4), options, tell)
    assert outcome.exit_code == 0 and paused.is_set() and not view.paused
    (pause,), (resume,) = bench.of(e.RunPaused), bench.of(e.RunResumed)
    assert resume.time - pause.time >= 1.0
    assert not [event for event in bench.of(e.TaskStarted) if pause.time < event.time < resume.time]


@both_engines
def test_a_cancelled_cell_runs_no_further_and_the_others_finish(bench: Bench, options: RunOptions):
    def tell(event: e.AnyEvent, journal: Path) -> None:
        if isinstance(event, e.RunStarted):
            bench.tell(0, "sleep 0.6")
            send(journal, "cancel", ("cell2", "cell3", "no such cell"))

    outcome, view = run(bench, chains(4), options, tell)
    assert (outcome.exit_code, outcome.finished_cells, outcome.failed_cells, outcome.cancelled_cells) == (1, 2, 0, 2)
    assert noted(bench.control, "start") == [0, 1, 2, 3, 4], "what all need is made, what nobody wants is not"
    assert [cell.state for cell in view.cells.values()] == [CellState.FINISHED] * 2 + [CellState.CANCELLED] * 2
    assert bench.run(chains(4), options).exit_code == 0, "a new run takes them up"


@both_engines
def test_a_failed_cell_is_tried_again_in_the_same_run(bench: Bench, options: RunOptions):
    bench.tell(1, "diverge")
    bench.tell(5, "sleep 0.6")

    def tell(event: e.AnyEvent, journal: Path) -> None:
        if isinstance(event, e.CellFailed):
            bench.tell(1, "steps 1")
            send(journal, "retry")

    outcome, view = run(bench, chains(3), options, tell)
    assert (outcome.exit_code, outcome.finished_cells, outcome.failed_cells) == (0, 3, 0)
    starts = [event for event in bench.events if isinstance(event, e.TaskStarted) and event.key == key_of(1)]
    assert [event.attempt for event in starts] == [1, 2]
    assert not view.causes and {task.state for task in view.tasks.values()} == {TaskState.FINISHED}
    assert set(view.cells) == {event.cell for event in bench.events if isinstance(event, e.CellFinished)}


def test_a_task_that_several_cells_need_outlives_the_cancelling_of_one(bench: Bench):
    graph = graph_of({0: (), 1: (0,), 2: (0,)}, cells=[(0, 1), (0, 2)])

    def tell(event: e.AnyEvent, journal: Path) -> None:
        if isinstance(event, e.RunStarted):
            send(journal, "cancel", ("cell0",))

    outcome, _ = run(bench, graph, ONE, tell)
    assert (outcome.finished_cells, outcome.cancelled_cells) == (1, 1)
    assert noted(bench.control, "start") == [0, 2]


def test_a_run_is_stopped_from_elsewhere_and_leaves_what_is_finished(bench: Bench):
    bench.tell(3, "sleep 60")

    def tell(event: e.AnyEvent, journal: Path) -> None:
        if isinstance(event, e.TaskStarted) and event.key == key_of(3):
            send(journal, "stop")

    begun = time.monotonic()
    outcome, view = run(bench, chains(3), ONE, tell)
    assert outcome.exit_code == 130 and time.monotonic() - begun < 30
    assert view.finish is not None and outcome.finished_cells == 1


def test_the_load_of_workers_is_told_under_the_names_that_tasks_start_on(bench: Bench):
    bench.tell(0, "sleep 6")
    bench.run(chains(1), ONE)
    loads = [event for event in bench.events if isinstance(event, e.WorkersLoaded)]
    starts = [event for event in bench.events if isinstance(event, e.TaskStarted)]
    assert loads and set(loads[-1].workers) == {start.worker for start in starts}
    assert all(load.memory > 1 << 20 for load in loads[-1].workers.values())


def test_what_is_no_request_is_told_and_left_out(bench: Bench):
    torn = {"torn": '{"action": "pau', "stranger": '{"action": "delete everything"}', "huge": " " * (MAX_BYTES + 9)}
    extra = {"extra": '{"action": "pause", "shell": "rm"}', "binary": "\udcff\x00"}

    def tell(event: e.AnyEvent, journal: Path) -> None:
        if isinstance(event, e.RunStarted):
            folder = requests_folder(journal)
            folder.mkdir()
            for name, text in (torn | extra).items():
                (folder / f"{name}.json").write_bytes(text.encode("utf-8", "surrogateescape"))

    outcome, view = run(bench, chains(1), ONE, tell)
    assert outcome.exit_code == 0
    told = [line.message for line in view.log if line.level == "warning"]
    assert len(told) == 5 and all("is none, and left out" in message for message in told)


def test_requests_are_taken_once_and_in_order(tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    for action in ("pause", "resume", "stop"):
        send(journal, action)
    mailbox = Mailbox(requests_folder(journal))
    taken = mailbox.take(now=True)
    assert [one.action for one in taken if isinstance(one, Request)] == ["pause", "resume", "stop"]
    assert mailbox.take(now=True) == []
