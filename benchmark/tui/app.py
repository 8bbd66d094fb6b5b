"""The live monitor of a run. It reads the journal and the store's pictures, and nothing else."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import ClassVar

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, TabbedContent, TabPane

from benchmark.tui.cell_page import CellPage
from benchmark.tui.dialogues import Choice, Help, LeaveDialogue
from benchmark.tui.driver import DriverHandle, is_gone
from benchmark.tui.state import View
from benchmark.tui.tail import JournalTail
from benchmark.tui.themes import DARK, LIGHT
from benchmark.tui.widgets.cell_table import CellTable
from benchmark.tui.widgets.cells import Cells
from benchmark.tui.widgets.header import RunHeader, Standing
from benchmark.tui.widgets.heatmap import HeatMap
from benchmark.tui.widgets.log import LogLines
from benchmark.tui.widgets.overview import Overview
from benchmark.tui.widgets.results import Results
from benchmark.tui.widgets.workers import Workers

POLL_SECONDS = 0.25
BUDGET_SECONDS = 0.04
"""Time that reading may take before keys are looked at again."""
TABS = ("overview", "cells", "workers", "results", "log")
END_WORDS = {0: "finished", 1: "finished with failures", 130: "interrupted"}


class MonitorApp(App[int]):
    """Follows a journal; `run()` returns the run's exit code, or None where the run goes on without it.

    `journal` is `<store>/runs/<run-id>/journal.jsonl`; it need not exist yet. `driver` is given by who started the run
    and may stop it; without it the monitor only watches. `clock` gives seconds since the epoch.
    """

    TITLE = "bridge"
    CSS_PATH = "monitor.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - the type is textual's
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012 - the type is textual's
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"show_tab('{tab}')", tab.title(), show=False) for n, tab in enumerate(TABS, 1)),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("a", "axes", "Axes"),
        Binding("m", "metric", "Metric"),
        Binding("f", "failed_cells", "Failed"),
        Binding("escape", "leave_filter", "Back", show=False),
        Binding("d", "toggle_theme", "Dark/light"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]
    WHERE: ClassVar[dict[str, str]] = {
        "filter": "cells",
        "sort": "cells",
        "reverse": "cells",
        "leave_filter": "cells",
        "axes": "overview",
        "metric": "results",
    }
    """Action -> the tab that it belongs to."""

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
        self.store = journal.parent.parent.parent
        self.clock = clock
        self._poll_seconds = poll_seconds
        self._tail = JournalTail(journal)
        self._drawn = -1
        self._drawn_second = -1
        self._drawn_at = 0.0
        self._stopping = False
        self._again: Timer | None = None
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = DARK.name
        self.animation_level = "none"

    def compose(self) -> ComposeResult:
        """The header, five tabs, the keys."""
        yield RunHeader(self.view)
        with TabbedContent(id="tabs"):
            for number, (tab, pane) in enumerate(zip(TABS, self._panes(), strict=True), 1):
                with TabPane(f"{number} {tab.title()}", id=tab):
                    yield pane
        yield Footer(compact=True)

    def _panes(self) -> tuple[Overview, Cells, Workers, Results, LogLines]:
        view = self.view
        return Overview(view), Cells(view), Workers(view), Results(view), LogLines(view)

    def on_mount(self) -> None:
        """Begin to follow."""
        self.call_after_refresh(self._tick)
        self.set_interval(self._poll_seconds, self._tick)

    # --- following ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Take in what is new, for a short time; draw if anything has changed."""
        if self._again:
            self._again.stop()
            self._again = None
        behind = self._take_in()
        if self._stopping and self._exit_code() is not None:
            self.exit(self._exit_code())
        due = monotonic() - self._drawn_at >= self._poll_seconds or not behind
        if due and (self.view.num_events != self._drawn or int(self.clock()) != self._drawn_second):
            self.draw()
        if behind:
            # A timer and not `call_later`: screens are painted only when the queue of messages has run dry.
            self._again = self.set_timer(0.005, self._tick)

    def _take_in(self) -> bool:
        """Fold new events; True where the time was up before the journal was."""
        deadline = monotonic() + BUDGET_SECONDS
        for event in self._tail.events():
            self.view.apply(event)
            if monotonic() > deadline:
                return True
        return False

    def draw(self) -> None:
        """Draw the header and what is in front."""
        self._drawn, self._drawn_second = self.view.num_events, int(self.clock())
        now = self.clock()
        main = self.screen_stack[0]
        main.query_one(RunHeader).show(self._standing(), now, self._tail.num_unreadable)
        self._pane.show(now)
        for screen in self.screen_stack[1:]:
            if isinstance(screen, CellPage):
                screen.show(now)
        self._drawn_at = monotonic()

    @property
    def _tabs(self) -> TabbedContent:
        return self.screen_stack[0].query_one("#tabs", TabbedContent)

    @property
    def _pane(self) -> Overview | Cells | Workers | Results | LogLines:
        kinds = (Overview, Cells, Workers, Results, LogLines)
        place = TABS.index(self._tabs.active) if self._tabs.active in TABS else 0
        return self.screen_stack[0].query_one(kinds[place])

    # --- the run ------------------------------------------------------------------------------------------------------

    def _exit_code(self) -> int | None:
        """The run's exit code; None while it goes on, or where nobody can know it."""
        code = self.driver.poll() if self.driver else None
        if code is not None:
            return code
        return self.view.finish.exit_code if self.view.finish and self.driver is None else None

    def _standing(self) -> Standing:
        """How the run stands, for the header."""
        code = self._exit_code()
        if code is None and self.view.finish is not None:
            code = self.view.finish.exit_code
        if code is not None:
            sign, style = ("✓", "$success") if code == 0 else ("✗", "$error")
            return Standing(sign, END_WORDS.get(code, f"ended with exit code {code}"), style, over=True)
        if self._stopping:
            return Standing("■", "stopping", "$warning")
        if self.view.run is None:
            return Standing("·", "waiting for the journal", "$secondary")
        if self.driver is None and is_gone(self.view.run):
            return Standing("✗", "its driver is gone", "$error", over=True)
        return Standing("▸", "running", "$accent")

    async def action_quit(self) -> None:
        """Leave; ask first where this monitor's run goes on."""
        if self.driver is None or self._exit_code() is not None:
            self.exit(self._exit_code())
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

    # --- keys ---------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of a tab work, and stand in the footer, where that tab is in front."""
        if action in self.WHERE and len(self.screen_stack) > 1:
            return False
        tab = self.WHERE.get(action)
        return super().check_action(action, parameters) if tab is None or self._tabs.active == tab else False

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
        targets = [pane] if pane.can_focus else list(pane.query("CellTable, DataTable"))
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
        self.action_show_tab("cells")
        self.screen.query_one(Cells).filter_by("state:failed")

    def action_axes(self) -> None:
        """Other axes for the heat map."""
        self.screen.query_one(HeatMap).turn()

    def action_metric(self) -> None:
        """Another metric in the results."""
        self.screen.query_one(Results).turn()
        self.draw()

    def action_toggle_theme(self) -> None:
        """Dark or light."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def action_help(self) -> None:
        """Keys and signs."""
        self.push_screen(Help())

    def on_cell_table_opened(self, event: CellTable.Opened) -> None:
        """Open a cell's page."""
        page = CellPage(event.cell, self.view.name_of(event.cell), self.store)
        page.now = self.clock()
        self.push_screen(page)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: our own commands and textual's, but for its quit."""
        for number, tab in enumerate(TABS, 1):
            yield SystemCommand(f"Show {tab}", f"Key {number}", lambda tab=tab: self.action_show_tab(tab))
        yield SystemCommand("Show failed cells", "Key f", self.action_failed_cells)
        yield SystemCommand("Dark or light", "Key d", self.action_toggle_theme)
        yield SystemCommand("Keys and signs", "Key ?", self.action_help)
        theirs = super().get_system_commands(screen)
        yield from (command for command in theirs if command.title != "Keys")
