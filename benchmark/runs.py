"""The runs of a store, found again by their journals."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from benchmark.tui.driver import is_gone
from benchmark.tui.state import View
from benchmark.tui.tail import JournalTail
from bridge_core.errors import UnknownName

ENDINGS = {0: "finished", 1: "finished with failures", 130: "interrupted"}


@dataclass(frozen=True)
class Run:
    """A run and its journal."""

    id: str
    journal: Path

    def view(self) -> View:
        """The whole journal, folded."""
        view = View()
        for event in JournalTail(self.journal).events():
            view.apply(event)
        return view


def list_runs(store: Path) -> list[Run]:
    """All runs, the oldest first."""
    return [Run(path.parent.name, path) for path in sorted(store.glob("runs/*/journal.jsonl"))]


def find_run(store: Path, name: str | None) -> Run:
    """The run whose id begins with `name`; the latest for None.

    Raises `UnknownName` where there is none.
    """
    runs = list_runs(store)
    if not runs:
        raise UnknownName(f"no run in {store}", "a store with a run", "bridge bench run SUITE makes one")
    found = [run for run in runs if run.id.startswith(name or "")]
    if found:
        return found[-1]
    close = get_close_matches(str(name), [run.id for run in runs], n=1, cutoff=0.0)
    raise UnknownName(f"no run {name!r} in {store}", "the beginning of a run's id", f"the nearest is {close[0]}")


def standing(view: View) -> str:
    """How a run stands, in words."""
    if view.finish is not None:
        return ENDINGS.get(view.finish.exit_code, f"ended with exit code {view.finish.exit_code}")
    if view.run is None:
        return "unknown"
    return "died" if is_gone(view.run) else "running"
