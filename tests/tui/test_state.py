"""The fold: deterministic, indifferent to torn, repeated and shuffled events, right in its counts."""

import math
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import events as e
from benchmark.tui.axes import axis_pairs
from benchmark.tui.curve import MAX_POINTS, Curve, sparkline
from benchmark.tui.records import CellState, TaskState
from benchmark.tui.state import MAX_LOG_LINES, View
from benchmark.tui.summary import cell_counts, elapsed, grid, present_tasks, time_left
from benchmark.tui.tail import JournalTail
from tests.tui.synthetic import START, Plan, journal_in, run, write

SMALL = Plan(bridges=("projection", "ridge", "mlp"), ranks=("2", "16"), seeds=("0", "1"))
EVENTS = list(run(SMALL))


def fold(events: Iterable[e.AnyEvent], view: View | None = None) -> View:
    """`events` folded into `view`."""
    view = view or View()
    for event in events:
        view.apply(event)
    return view


def states(view: View) -> dict[str, TaskState]:
    """Task -> state."""
    return {key: task.state for key, task in view.tasks.items()}


@given(st.integers(0, len(EVENTS)))
def test_a_watcher_may_come_at_any_time(cut: int) -> None:
    early = fold(EVENTS[:cut])
    assert fold(EVENTS[:cut]) == early
    assert fold(EVENTS[cut:], early) == fold(EVENTS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60_000), max_size=12))
def test_a_journal_torn_anywhere_gives_the_same_view(cuts: list[int]) -> None:
    with TemporaryDirectory() as folder:
        whole, growing = Path(folder) / "whole.jsonl", Path(folder) / "growing.jsonl"
        write(whole, EVENTS)
        content, tail, view = whole.read_bytes(), JournalTail(growing), View()
        ends = sorted(cut for cut in cuts if cut < len(content))
        for start, end in zip([0, *ends], [*ends, len(content)], strict=True):
            with growing.open("ab") as file:
                file.write(content[start:end])
            fold(tail.events(), view)
        assert view == fold(EVENTS)
        assert tail.num_unreadable == 0


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.data())
def test_shuffled_and_repeated_events_end_in_the_same_states(chance: random.Random, data: st.DataObject) -> None:
    shuffled = EVENTS + data.draw(st.lists(st.sampled_from(EVENTS), max_size=20))
    chance.shuffle(shuffled)
    view, straight = fold(shuffled), fold(EVENTS)
    assert states(view) == states(straight)
    assert cell_counts(view) == cell_counts(straight)
    assert not view.running
    assert {name: phase.counts for name, phase in view.phases.items()} == {
        name: phase.counts for name, phase in straight.phases.items()
    }
    for name, phase in view.phases.items():
        assert math.isclose(phase.seconds, straight.phases[name].seconds)


@given(st.lists(st.sampled_from(EVENTS), max_size=80))
def test_any_events_keep_the_counts_right(events: list[e.AnyEvent]) -> None:
    view = fold(events)
    counted = Counter({(n, s): c for n, phase in view.phases.items() for s, c in phase.counts.items() if c})
    assert counted == Counter((task.phase, task.state) for task in view.tasks.values())
    running = {key for key, task in view.tasks.items() if task.state is TaskState.RUNNING}
    assert set(view.running) == running


def test_a_finished_run() -> None:
    view = fold(EVENTS)
    assert cell_counts(view) == {CellState.FINISHED: 10, CellState.FAILED: 2}
    assert view.finish is not None and view.finish.exit_code == 1
    cause = view.causes["Diverged"]
    assert (cause.num_cells, cause.num_tasks, len(view.causes)) == (2, 2, 1)
    assert view.phases["attack"].counts[TaskState.FAILED] == 2
    assert view.phases["score"].counts[TaskState.SKIPPED] == 2
    assert view.phases["proxy"].counts[TaskState.CACHED] == 1
    assert elapsed(view, now=START + 1e9) == view.finish.time - START


def test_a_failed_attempt_is_tried_again_and_a_final_one_is_not() -> None:
    view = fold(EVENTS[:1])
    key = EVENTS[0].tasks[0].key if isinstance(EVENTS[0], e.RunStarted) else ""
    failed = e.TaskFailed(time=2, key=key, attempt=1, cause="WorkerLost", message="", traceback="", final=False)
    fold([e.TaskStarted(time=1, key=key, worker="w", attempt=1), failed], view)
    assert view.tasks[key].state is TaskState.WAITING
    assert not view.causes
    fold([e.TaskStarted(time=3, key=key, worker="w", attempt=2)], view)
    assert view.tasks[key].state is TaskState.RUNNING
    fold([failed.model_copy(update={"attempt": 2, "final": True})], view)
    assert view.tasks[key].state is TaskState.FAILED
    fold([e.TaskStarted(time=5, key=key, worker="w", attempt=3)], view)
    assert view.tasks[key].state is TaskState.FAILED
    fold([e.TaskFinished(time=6, key=key, seconds=1, metrics={})], view)
    assert view.tasks[key].state is TaskState.FINISHED


def test_a_cell_tells_its_stage_and_a_worker_its_task() -> None:
    started = next(n for n, event in enumerate(EVENTS) if isinstance(event, e.TaskProgressed))
    view = fold(EVENTS[: started + 1])
    (key,) = view.running
    running = [cell for cell in view.cells.values() if cell.state is CellState.RUNNING]
    assert {cell.running_stage for cell in running} == {"base"}
    assert present_tasks(view) == {view.tasks[key].worker: [key]}


def test_tasks_still_running_at_the_end_of_the_run_were_interrupted() -> None:
    started = next(n for n, event in enumerate(EVENTS) if isinstance(event, e.TaskStarted))
    end = e.RunFinished(time=START + 9, exit_code=130, finished_cells=0, failed_cells=0)
    view = fold([*EVENTS[: started + 1], end])
    assert not view.running
    assert CellState.RUNNING not in cell_counts(view)


def test_time_left_is_the_mean_of_each_phase_times_what_is_open_over_the_workers() -> None:
    tasks = tuple(e.TaskInfo(key=f"{phase}{n}", phase=phase, inputs={}) for phase in "ab" for n in range(4))
    view = fold([e.RunStarted(time=0, run="r", suite="s", pid=1, host="h", workers=2, tasks=tasks, cells=())])
    assert time_left(view, 0) is None
    view.apply(e.TaskFinished(time=10, key="a0", seconds=10, metrics={}))
    left = time_left(view, 10)
    assert left is not None and (left.seconds, left.complete) == (3 * 10 / 2, False)
    view.apply(e.TaskStarted(time=10, key="b0", worker="w", attempt=1))
    view.apply(e.TaskProgressed(time=12, key="b0", step=1, total=4, metrics={}))
    left = time_left(view, 14)
    assert left is not None and left.complete
    assert math.isclose(left.seconds, (30 + 4 * 16 - 4) / 2)


def test_memory_stays_bounded() -> None:
    view = fold(e.Logged(time=n, level="info", message=str(n)) for n in range(MAX_LOG_LINES + 50))
    assert len(view.log) == MAX_LOG_LINES
    assert view.log[-1].number == view.num_log_lines == MAX_LOG_LINES + 50
    curve = Curve()
    for step in range(10_000):
        curve.add(float(step))
    assert MAX_POINTS // 2 <= len(curve.values) <= MAX_POINTS
    steps = [b - a for a, b in zip(curve.values, curve.values[1:], strict=False)]
    assert set(steps) == {float(curve.stride)}
    assert curve.last == 9999


def test_a_sparkline_rises_with_its_values_and_marks_what_is_no_number() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, float("nan"), 1], 3) == "▁!█"
    assert len(sparkline(range(1000), 40)) == 40
    assert sparkline([3, 3], 9) == "▁▁"


def test_the_grid_groups_by_labels_and_sorts_numbers_as_numbers() -> None:
    view = fold(EVENTS)
    cells = grid(view, ("bridge",), "rank")
    assert cells.columns == ("2", "16")
    assert cells.rows == (("projection",), ("ridge",), ("mlp",))
    finished = [cell for cell in view.cells.values() if cell.labels["bridge"] == "ridge" and cell.labels["rank"] == "2"]
    mean = sum(cell.metrics["psnr"] for cell in finished) / 2
    measured = cells.groups[("ridge",), "2"].mean
    assert measured is not None and math.isclose(measured, mean)
    assert cells.groups[("mlp",), "2"].mean is None
    assert axis_pairs(view.axes)[0] == ("bridge", "rank")


def test_phases_stand_in_the_order_of_their_inputs() -> None:
    oracle_first = fold([Plan(bridges=("oracle", "ridge")).start()])
    names = list(oracle_first.phases)
    assert names.index("decoder") < names.index("attack") < names.index("score")


def test_lines_that_are_no_event_are_counted_and_left_out(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    write(journal, EVENTS[:3])
    with journal.open("ab") as file:
        file.write(b'{"event": "from_the_future", "time": 1}\nrubbish\n\xff\xfe\n')
    write(journal, EVENTS[3:])
    tail = JournalTail(journal)
    assert fold(tail.events()) == fold(EVENTS)
    assert tail.num_unreadable == 3
