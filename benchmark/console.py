"""A run told in plain lines, for where there is no terminal, and as JSON lines for scripts."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TextIO

from benchmark import events as e
from benchmark.tui.records import IN_STORE, CellView
from benchmark.tui.state import View
from benchmark.tui.summary import elapsed, time_left
from benchmark.tui.wording import duration, metric, plain, plain_lines, plural, rough

SECONDS_BETWEEN_PROGRESS = 15.0
TOLD_METRICS = ("psnr", "ssim", "heldout_cosine", "heldout_accuracy", "loss", "final_matching_loss")
"""Metrics worth a place on a line, if they are there."""

Observer = Callable[[e.AnyEvent], None]


def say(text: str) -> None:
    """Write a line to standard output."""
    print(plain(text), flush=True)


def complain(text: str, level: str = "error") -> None:
    """Write a line to standard error, led by its level."""
    print(f"{level}: {plain(text)}", file=sys.stderr, flush=True)


def quieten_libraries() -> None:
    """Let only warnings of libraries through, to standard error: some set up the root logger when they are imported."""
    import logging
    import os

    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s of %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)  # `basicConfig` does nothing where there is a handler


def json_log(event: e.AnyEvent) -> None:
    """Write the event to standard output as one line of JSON."""
    # Not model_dump_json: pydantic would write NaN, which is a result, as null.
    print(json.dumps(event.model_dump(mode="json")), flush=True)


class PlainLog:
    """Writes the events that a reader waits for, and now and then how far the running tasks are."""

    def __init__(self, out: TextIO | None = None, quiet: bool = False, suite: Path | None = None) -> None:
        self.view = View()
        self.out = out or sys.stdout
        self.quiet = quiet
        self.suite = suite
        """Named in the command that the last line suggests."""
        self._last_progress = 0.0

    def __call__(self, event: e.AnyEvent) -> None:
        """Take an event in and tell it."""
        self.view.apply(event)
        line = self._line(event)
        if line and not (self.quiet and not isinstance(event, e.TaskFailed | e.CellFailed | e.RunFinished)):
            clock = time.strftime("%H:%M:%S", time.localtime(event.time))
            print(clock, plain(line), file=self.out, flush=True)

    def _line(self, event: e.AnyEvent) -> str:
        match event:
            case e.RunStarted():
                sizes = f"{plural(len(event.cells), 'cell')}, {plural(len(event.tasks), 'task')}"
                return f"run {event.run}: {event.suite}, {sizes}, {plural(event.workers, 'worker')}"
            case e.TaskStarted():
                return f"{self._named(event.key)} started again, attempt {event.attempt}" if event.attempt > 1 else ""
            case e.TaskProgressed():
                return self._progress(event)
            case e.TaskFinished():
                told = _metrics(event.metrics)
                return f"{self._named(event.key)} finished in {duration(event.seconds)}{told} {self._tasks_done()}"
            case e.TaskFailed():
                again = "" if event.final else ", tried again"
                return f"{self._named(event.key)} FAILED{again}: {event.cause}: {event.message}"
            case e.CellFinished():
                return f"cell {self._cell(event.cell)} finished{_metrics(event.metrics)} {self._cells_done()}"
            case e.CellFailed():
                return f"cell {self._cell(event.cell)} FAILED: {event.cause} in {self._named(event.key)}"
            case e.Logged():
                return event.message if event.level == "info" else f"{event.level}: {event.message}"
            case e.RunFinished():
                return self._ending(event)
            case e.CellCancelled():
                return f"cell {self._cell(event.cell)} cancelled by {event.by}"
            case e.CellReopened():
                return f"cell {self._cell(event.cell)} tried again, asked by {event.by}"
            case e.RunPaused():
                return f"paused by {event.by}: running tasks go on to their end"
            case e.RunResumed():
                return f"resumed by {event.by}"
            case e.TaskCached() | e.TaskSkipped() | e.WorkersLoaded():
                return ""

    def _named(self, key: str) -> str:
        task = self.view.tasks.get(key)
        return f"{task.phase if task else 'task'} {key[:8]}"

    def _cell(self, cell_id: str) -> str:
        cell = self.view.cells.get(cell_id)
        return f"{cell_id} ({cell_text(cell, self.view)})" if cell and cell.labels else cell_id

    def _progress(self, event: e.TaskProgressed) -> str:
        if event.time - self._last_progress < SECONDS_BETWEEN_PROGRESS:
            return ""
        self._last_progress = event.time
        part = f"{event.step}/{event.total}"
        return f"{self._named(event.key)} at {part}{_metrics(event.metrics)} {self._tasks_done()}"

    def _tasks_done(self) -> str:
        done = sum(phase.done for phase in self.view.phases.values())
        left = time_left(self.view, self.view.last_time)
        least = "" if left is None or left.complete else "at least "
        told = "" if left is None else f", {least}{rough(left.seconds)} left"
        return f"[{done}/{len(self.view.tasks)} tasks{told}]"

    def _cells_done(self) -> str:
        done = sum(cell.outcome is not None for cell in self.view.cells.values())
        return f"[{done}/{len(self.view.cells)} cells]"

    def _ending(self, event: e.RunFinished) -> str:
        cached = sum(task.state in IN_STORE and task.seconds is None for task in self.view.tasks.values())
        told = f"{plural(event.finished_cells, 'cell')} finished, {event.failed_cells} failed"
        told += f", {event.cancelled_cells} cancelled" if event.cancelled_cells else ""
        told += f", {plural(cached, 'task')} cached, in {duration(elapsed(self.view, event.time))}"
        return f"{told}; next: {self._next(event.exit_code)}" if self.suite else told

    def _next(self, exit_code: int) -> str:
        again = f"bridge bench run {self.suite}"
        return {0: f"bridge report {self.suite}", 1: f"bridge bench logs, then {again}"}.get(exit_code, again)


def cell_text(cell: CellView, view: View) -> str:
    """Labels of a cell on the axes that vary in the run; all of them where none does."""
    varied = {axis: label for axis, label in cell.labels.items() if _varies(view, axis)}
    return ", ".join(f"{axis} {label}" for axis, label in (varied or cell.labels).items())


def _varies(view: View, axis: str) -> bool:
    labels = iter(view.cells.values())
    first = next(labels).labels.get(axis)
    return any(cell.labels.get(axis) != first for cell in labels)


def _metrics(metrics: dict[str, float]) -> str:
    told = [f"{name} {metric(name, metrics[name])}" for name in TOLD_METRICS if name in metrics]
    return f" ({', '.join(told)})" if told else ""


def say_lines(text: str) -> None:
    """Write lines to standard output, indented."""
    for line in plain_lines(text).splitlines():
        print(f"    {line}")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; without a terminal it is as wide as it needs to be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    drawn = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=terminal, header_style="bold")
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*(Text(plain(str(value)), justify=_side(value)) for value in row))
    Console(width=None if terminal else 1_000, highlight=False, file=sys.stdout).print(drawn)


def _side(value: object) -> Literal["left", "right"]:
    return "right" if isinstance(value, int | float) else "left"
