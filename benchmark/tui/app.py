"""The live monitor of a run. It reads the journal and the store's pictures; what it asks for goes to the driver."""

import gc
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, process_time
from typing import ClassVar

from textual import on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, TabbedContent, TabPane

from benchmark.tui.asking import Asking
from benchmark.tui.cell_page import CellPage
from benchmark.tui.dialogues import Choice, Help, LeaveDialogue
from benchmark.tui.driver import DriverHandle, is_gone
from benchmark.tui.palette import CellSearch, commands
from benchmark.tui.records import CellView
from benchmark.tui.standing import Standing, standing_of
from benchmark.tui.state import View
from benchmark.tui.tail import JournalTail
from benchmark.tui.themes import DARK, LIGHT
from benchmark.tui.widgets.cell_table import CellTable
from benchmark.tui.widgets.cells import Cells
from benchmark.tui.widgets.chain import Chain
from benchmark.tui.widgets.header import RunHeader
from benchmark.tui.widgets.heatmap import HeatMap
from benchmark.tui.widgets.log import LogLines
from benchmark.tui.widgets.overview import Overview, Phases
from benchmark.tui.widgets.results import Results
from benchmark.tui.widgets.workers import Workers

POLL_SECONDS = 0.25
BUDGET_SECONDS = 0.04
"""Time that reading may take before keys are looked at again."""
DRAWING_IDLES = 20
"""Times that a drawing's own cost passes before the next one that no key asks for."""
MAX_DRAWING_SECONDS = 0.12
"""No drawing is waited for longer than `DRAWING_IDLES` times this."""
PANES = {
    "overview": Overview,
    "cells": Cells,
    "workers": Workers,
    "results": Results,
    "log": LogLines,
    "graph": Chain,
}
TABS = tuple(PANES)
Pane = Overview | Cells | Workers | Results | LogLines | Chain


class MonitorApp(Asking):
    """Follows a journal; `run()` returns the run's exit code, or None where the run goes on without it.

    `journal` is `<store>/runs/<run-id>/journal.jsonl`; it need not exist yet. `driver` is given by who started the run
    and may stop it; without it the monitor watches, and asks by requests. `clock` gives seconds since the epoch.
    """

    TITLE = "bridge"
    CSS_PATH = "monitor.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - the type is textual's
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012 - the type is textual's
    AUTO_FOCUS = None
    COMMANDS = App.COMMANDS | {CellSearch}  # pyright: ignore[reportUnknownVariableType]
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"show_tab('{tab}')", tab.title(), show=False) for n, tab in enumerate(TABS, 1)),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("a", "axes", "Axes"),
        Binding("m", "metric", "Metric"),
        Binding("f", "failed_cells", "Failed", show=False),
        Binding("r", "retry", "Retry"),
        Binding("x", "cancel", "Cancel"),
        Binding("o", "open_page", "MLflow", show=False),
        Binding("p", "pause", "Pause"),
        Binding("escape", "leave_filter", "Back", show=False),
        Binding("d", "toggle_theme", "Dark/light", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]
    WHERE: ClassVar[dict[str, tuple[str, ...]]] = {
        "filter": ("cells",),
        "sort": ("cells",),
        "reverse": ("cells",),
        "leave_filter": ("cells",),
        "axes": ("overview",),
        "metric": ("overview", "results"),
    }
    """Action -> the tabs that it belongs to."""
    OF_A_CELL = ("cancel", "open_page")
    """Actions on the chosen cell: in the table, and on its page."""

    def __init__(
        self,
        journal: Path,
        driver: DriverHandle | None = None,
        *,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        super().__init__()
        self.view = View()
        self.driver = driver
        self.journal = journal
        self.store = journal.parent.parent.parent
        self.clock = clock
        self._poll_seconds = poll_seconds
        self._tail = JournalTail(journal)
        self._drawn = -1
        self._drawn_second = -1
        self._drawn_at = 0.0
        self._drawing_took = 0.0
        """Seconds of the processor, of the last drawing."""
        self._stopping = False
        self._again: Timer | None = None
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = DARK.name
        self.animation_level = "none"

    def compose(self) -> ComposeResult:
        """The header, six tabs, the keys."""
        yield RunHeader(self.view)
        with TabbedContent(id="tabs"):
            for number, (tab, pane) in enumerate(PANES.items(), 1):
                with TabPane(f"{number} {tab.title()}", id=tab):
                    yield pane(self.view)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to follow."""
        gc.disable()  # a plan is hundreds of thousands of objects that stay: to search them for waste costs seconds
        self.call_after_refresh(self._tick)
        self.set_interval(self._poll_seconds, self._tick)

    def on_unmount(self) -> None:
        """Leave the process's memory as it was found."""
        gc.unfreeze()
        gc.enable()

    # --- following ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Take in what is new, for a short time; draw if anything has changed."""
        if self._again:
            self._again.stop()
            self._again = None
        behind = self._take_in()
        if self._stopping and self.exit_code is not None:
            self.exit(self.exit_code)
        if self._is_due(behind) and (self.view.num_events != self._drawn or int(self.clock()) != self._drawn_second):
            self.draw()
        if behind:
            # A timer and not `call_later`: screens are painted only when the queue of messages has run dry.
            self._again = self.set_timer(0.005, self._tick)

    def _is_due(self, behind: bool) -> bool:
        """Whether to draw by itself: seldom enough that drawing takes a small share of a core, whatever its cost."""
        waited = monotonic() - self._drawn_at
        return waited >= DRAWING_IDLES * self._drawing_took and (waited >= self._poll_seconds or not behind)

    def _take_in(self) -> bool:
        """Fold new events; True where the time was up before the journal was."""
        deadline = monotonic() + BUDGET_SECONDS
        for event in self._tail.events():
            self.view.apply(event)
            if monotonic() > deadline:
                return True
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return False

    def draw(self) -> None:
        """Draw the header and what is in front."""
        begun = process_time()
        self._drawn, self._drawn_second = self.view.num_events, int(self.clock())
        now = self.clock()
        self.screen_stack[0].query_one(RunHeader).show(self.standing, now, self._tail.num_unreadable)
        self._pane.show(now)
        for screen in self.screen_stack[1:]:
            if isinstance(screen, CellPage):
                screen.show(now)
        # Textual paints what was shown when this message is done: its cost is known a moment later.
        self.call_after_refresh(self._weigh, begun)
        self._drawn_at = monotonic()

    def _weigh(self, begun: float) -> None:
        self._drawing_took = min(MAX_DRAWING_SECONDS, process_time() - begun)

    @property
    def _tabs(self) -> TabbedContent:
        return self.screen_stack[0].query_one("#tabs", TabbedContent)

    @property
    def _pane(self) -> Pane:
        return self.screen_stack[0].query_one(PANES.get(self._tabs.active, Overview))

    # --- the run ------------------------------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        """The run's exit code; None while it goes on, or where nobody can know it."""
        code = self.driver.poll() if self.driver else None
        if code is not None:
            return code
        return self.view.finish.exit_code if self.view.finish and self.driver is None else None

    @property
    def standing(self) -> Standing:
        """How the run stands, for the header."""
        gone = self.driver is None and self.view.run is not None and is_gone(self.view.run)
        return standing_of(self.view, self.exit_code, self._stopping, gone)

    async def action_quit(self) -> None:
        """Leave; ask first where this monitor's run goes on."""
        if self.driver is None or self.exit_code is not None:
            self.exit(self.exit_code)
        elif not isinstance(self.screen, LeaveDialogue):
            self.push_screen(LeaveDialogue(), self._leave)

    def action_help_quit(self) -> None:
        """Ctrl-C means leaving here as elsewhere."""
        self.run_worker(self.action_quit())

    def _leave(self, choice: Choice | None) -> None:
        if self.driver is None or choice is None or choice == "stay":
            return
        if choice == "leave":
            self.exit(None)
            return
        self.driver.interrupt()
        self._stopping = True
        self.draw()

    @property
    def chosen(self) -> CellView | None:
        """The cell in front: that of an open page, or under the table's cursor."""
        if isinstance(self.screen, CellPage):
            return self.screen.cell
        in_front = len(self.screen_stack) == 1 and self._tabs.active == "cells"
        return self.screen.query_one(CellTable).chosen if in_front else None

    # --- keys ---------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of a tab work, and stand in the footer, where that tab is in front."""
        front = len(self.screen_stack) == 1
        if action in self.OF_A_CELL:
            return isinstance(self.screen, CellPage) or (front and self._tabs.active == "cells")
        if action in self.WHERE and not (front and self._tabs.active in self.WHERE[action]):
            return False
        return super().check_action(action, parameters)

    def action_show_tab(self, tab: str) -> None:
        """Bring a tab to the front, from wherever it is asked for."""
        if len(self.screen_stack) > 1:
            # A focus that comes back with its screen would bring its own tab to the front.
            self.screen_stack[0].set_focus(None)
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self._tabs.active = tab
        self._focus_pane()

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        """Draw the tab that came to the front, and let the keys go to its table."""
        del event
        self.draw()
        self._focus_pane()
        self.refresh_bindings()

    def _focus_pane(self) -> None:
        pane = self._pane
        targets = [pane] if pane.can_focus else list(pane.query("CellTable, DataTable, Rows"))
        self.screen_stack[0].set_focus(targets[0] if targets else None)

    def action_filter(self) -> None:
        """Type a filter."""
        self.screen.query_one(Cells).open_filter()

    def action_leave_filter(self) -> None:
        """Forget the filter."""
        self.screen.query_one(Cells).close_filter(keep=False)

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.screen.query_one(Cells).sort_by_next()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.screen.query_one(Cells).reverse()

    def action_failed_cells(self) -> None:
        """Show the failed cells."""
        self.show_cells("state:failed")

    def show_cells(self, query: str) -> None:
        """Show the cells that `query` matches."""
        self.action_show_tab("cells")
        self.screen.query_one(Cells).filter_by(query)

    def action_axes(self) -> None:
        """Other axes for the heat map."""
        self.screen.query_one(HeatMap).turn()

    def action_metric(self) -> None:
        """Another metric in the heat map and the results."""
        for part in (self.screen.query_one(HeatMap), self.screen.query_one(Results)):
            part.turns += 1
        self.draw()

    def action_toggle_theme(self) -> None:
        """Dark or light."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def action_help(self) -> None:
        """Keys and signs."""
        self.push_screen(Help())

    # --- the mouse, and what opens ------------------------------------------------------------------------------------

    @on(HeatMap.Chosen)
    def _square_clicked(self, event: HeatMap.Chosen) -> None:
        self.show_cells(event.query)

    @on(Phases.Chosen)
    def _phase_clicked(self, event: Phases.Chosen) -> None:
        self.action_show_tab("graph")
        self.screen.query_one(Chain).choose(event.phase)

    def on_cell_table_opened(self, event: CellTable.Opened) -> None:
        """Open a cell's page."""
        self.open_cell(event.cell)

    def open_cell(self, cell: CellView) -> None:
        """Open the page of `cell`, in place of another one."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.push_screen(CellPage(cell, self.view, self.store, self.clock()))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: our own commands and textual's, but for its quit."""
        yield from commands(self)
        theirs = super().get_system_commands(screen)
        yield from (command for command in theirs if command.title != "Keys")
