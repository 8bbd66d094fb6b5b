"""Requests to a run by its name: found, checked, sent; and a new run where the old one is over."""

from pathlib import Path

from benchmark.console import PlainLog, say
from benchmark.requests import Action, send
from benchmark.runs import find_run, standing
from benchmark.tui.records import CellState
from benchmark.tui.state import View
from benchmark.tui.wording import plural
from bridge_core.errors import InvalidInput, UnknownName

LOST = (CellState.FAILED, CellState.CANCELLED, CellState.SKIPPED)


def ask_run(store: Path, name: str | None, action: Action, cells: tuple[str, ...] = ()) -> None:
    """Send a request to a run that goes on. Raises `UnknownName` for a run that is over, or a cell that it has not."""
    run = find_run(store, name)
    view = run.view()
    if (now := standing(view)) != "running":
        remedy = f"`bridge bench retry {run.id}` runs again what failed in it"
        raise UnknownName(f"run {run.id} is over ({now})", "a run that goes on", remedy)
    chosen = tuple(_cell(view, start) for start in cells)
    send(run.journal, action, chosen)
    say(f"asked run {run.id} to {action}" + (f" {plural(len(chosen), 'cell')}" if chosen else ""))


def retry_run(store: Path, name: str | None, cells: tuple[str, ...]) -> int:
    """Try again what a run has lost, or `cells` of it; an exit code.

    Raises `UnknownName` for a run or a cell that is not there, `InvalidInput` where its suite can not be run again.
    """
    run = find_run(store, name)
    view = run.view()
    lost = frozenset(_cell(view, start) for start in cells) or _lost(view)
    if not lost:
        say(f"nothing failed in run {run.id}")
        return 0
    if standing(view) == "running":
        ask_run(store, run.id, "retry", tuple(sorted(lost)) if cells else ())
        return 0
    return _run_again(store, view, lost)


def _run_again(store: Path, view: View, lost: frozenset[str]) -> int:
    from benchmark.run import Request, run_suite

    if view.run is None or view.run.suite_file is None or not Path(view.run.suite_file).is_file():
        found = "the suite's file is not where the run found it"
        raise InvalidInput(found, "the file", "run it by `bridge bench run SUITE`: only what failed is run")
    suite = Path(view.run.suite_file)
    workers = view.run.workers
    return run_suite(Request(suite=suite, store=store, workers=workers, only=lost), PlainLog(suite=suite))


def _lost(view: View) -> frozenset[str]:
    return frozenset(cell.id for cell in view.cells.values() if cell.state in LOST)


def _cell(view: View, start: str) -> str:
    """The one cell whose id begins with `start`."""
    found = [cell for cell in view.cells if cell.startswith(start)]
    if len(found) != 1:
        what = "no cell" if not found else plural(len(found), "cell")
        remedy = "the monitor's table and `bridge bench run --plain` tell the ids"
        raise UnknownName(f"{what} with an id that begins with {start!r}", "the beginning of one cell's id", remedy)
    return found[0]
