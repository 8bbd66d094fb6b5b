"""`bridge bench status`, `ls` and `logs`: what the journals of a store tell."""

from typing import Annotated

import typer

from benchmark.commands.options import DEFAULT_STORE, Run, Store


def status(run: Run = None, store: Store = DEFAULT_STORE) -> None:
    """Show how a run stands: cells, tasks by phase, causes of failure."""
    import time

    from benchmark.console import say, table
    from benchmark.runs import find_run, standing
    from benchmark.tui.records import TaskState
    from benchmark.tui.summary import cell_counts, elapsed
    from benchmark.tui.wording import duration, plural

    found = find_run(store, run)
    view = found.view()
    suite = view.run.suite if view.run else "?"
    say(f"run {found.id} of {suite}: {standing(view)}, {duration(elapsed(view, time.time()))}")
    counts = cell_counts(view)
    say(f"{plural(len(view.cells), 'cell')}: " + ", ".join(f"{n} {state.value}" for state, n in counts.items()))
    phases = view.phases.values()
    table(
        ("phase", "tasks", "done", "failed", "seconds each"),
        [(p.name, p.total, p.done, p.counts[TaskState.FAILED], duration(p.mean_seconds)) for p in phases],
    )
    for cause in view.causes.values():
        say(f"{cause.name}: {plural(cause.num_tasks, 'task')}, {plural(cause.num_cells, 'cell')}: {cause.example}")
    if view.causes:
        say(f"bridge bench logs {found.id} shows the tracebacks; run the suite again to retry what failed")


def list_all(store: Store = DEFAULT_STORE) -> None:
    """List the runs in the store, the latest last."""
    import time

    from benchmark.console import say, table
    from benchmark.runs import list_runs, standing
    from benchmark.tui.records import CellState
    from benchmark.tui.summary import cell_counts, elapsed
    from benchmark.tui.wording import duration

    rows: list[tuple[object, ...]] = []
    for run in list_runs(store):
        view = run.view()
        counts = cell_counts(view)
        done = f"{counts[CellState.FINISHED]}/{len(view.cells)}"
        suite = view.run.suite if view.run else "?"
        rows.append(
            (run.id, suite, standing(view), done, counts[CellState.FAILED], duration(elapsed(view, time.time())))
        )
    if rows:
        table(("run", "suite", "state", "cells", "failed", "time"), rows)
    else:
        say(f"no run in {store}; bridge bench run SUITE makes one")


def logs(
    run: Run = None,
    store: Store = DEFAULT_STORE,
    task: Annotated[str, typer.Option("--task", help="Beginning of a task's key.")] = "",
) -> None:
    """Show what failed in a run, with tracebacks."""
    from benchmark.console import say, say_lines
    from benchmark.runs import find_run

    found = find_run(store, run)
    failed = [each for each in found.view().tasks.values() if each.failure and each.key.startswith(task)]
    for each in failed:
        failure = each.failure
        assert failure is not None
        again = "" if failure.final else ", tried again"
        say(f"{each.phase} {each.key}, attempt {failure.attempt}{again}: {failure.cause}: {failure.message}")
        say_lines(failure.traceback)
    if not failed:
        say(f"nothing failed in run {found.id}" + (f" at a task {task}..." if task else ""))
