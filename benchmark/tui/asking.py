"""What a person asks of the run from the monitor: requests that go through the store, never the journal."""

from collections.abc import Callable
from pathlib import Path

from textual.app import App

from benchmark.requests import Action, send
from benchmark.tui import wording
from benchmark.tui.dialogues import Confirm
from benchmark.tui.opening import open_in_mlflow
from benchmark.tui.records import CellState, CellView
from benchmark.tui.standing import Standing
from benchmark.tui.state import View
from bridge_core.errors import BridgeError

RETRIED = (CellState.FAILED, CellState.CANCELLED, CellState.SKIPPED)
TOLD: dict[Action, str] = {
    "pause": "asked to pause: running tasks go on to their end",
    "resume": "asked to go on",
    "cancel": "asked to leave the cell out",
    "retry": "asked to try again",
    "stop": "asked to stop: what is finished stays",
}


def ask(app: App[int], journal: Path, action: Action, cells: tuple[str, ...] = ()) -> None:
    """Send a request in a thread, since a store may be far away, and say so."""

    def work() -> None:
        try:
            send(journal, action, cells)
        except BridgeError as error:
            app.call_from_thread(app.notify, wording.plain(str(error)), severity="error", markup=False)
        else:
            app.call_from_thread(app.notify, TOLD[action], timeout=3, markup=False)

    app.run_worker(work, thread=True, group="asking")


def say_over(app: App[int], run: str) -> None:
    """Nobody reads requests any more: tell what to do instead."""
    app.notify(
        f"this run is over; `bridge bench retry {wording.plain(run)}` runs again what failed in it",
        severity="warning",
        timeout=6,
        markup=False,
    )


class Asking(App[int]):
    """The part of the monitor that asks the driver for something."""

    view: View
    journal: Path

    @property
    def chosen(self) -> CellView | None:
        """The cell in front."""
        raise NotImplementedError

    @property
    def standing(self) -> Standing:
        """How the run stands."""
        raise NotImplementedError

    def action_pause(self) -> None:
        """Start no further task, or go on."""
        self._ask_if_alive(lambda: ask(self, self.journal, "resume" if self.view.paused else "pause"))

    def action_retry(self) -> None:
        """Try the chosen cell again; where none is in front, all that failed."""
        cell = self.chosen
        cells = (cell.id,) if cell else ()
        lost = [one for one in ([cell] if cell else self.view.cells.values()) if one.state in RETRIED]
        if not lost:
            self.notify("nothing failed here", timeout=3)
            return
        self._ask_if_alive(lambda: ask(self, self.journal, "retry", cells))

    def action_cancel(self) -> None:
        """Leave the chosen cell out, if the answer is yes."""
        cell = self.chosen
        if cell is None or cell.outcome is not None:
            self.notify("this cell is decided already", timeout=3)
            return
        told = "A task that runs already is finished; what other cells need is made."
        self._confirm(f"Cancel {self.view.name_of(cell)}?", told, lambda: self._send_cancel(cell.id))

    def _send_cancel(self, cell: str) -> None:
        ask(self, self.journal, "cancel", (cell,))

    def action_stop_run(self) -> None:
        """Stop the run from wherever it is watched, if the answer is yes."""
        told = "What is finished stays; run the suite again, it goes on from there."
        self._confirm("Stop the run?", told, lambda: ask(self, self.journal, "stop"))

    def _confirm(self, question: str, consequence: str, then: Callable[[], None]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                then()

        self._ask_if_alive(lambda: self.push_screen(Confirm(question, consequence), answered))

    def _ask_if_alive(self, then: Callable[[], object]) -> None:
        if self.standing.over:
            say_over(self, self.journal.parent.name)
        else:
            then()

    def action_open_page(self) -> None:
        """Open the chosen cell's page in MLflow."""
        if self.chosen is not None and self.view.run is not None:
            open_in_mlflow(self, self.view.run, self.chosen.id)
