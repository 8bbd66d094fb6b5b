"""The command palette: everything the monitor can do by name, and every cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.app import SystemCommand
from textual.command import DiscoveryHit, Hit, Hits, Provider

from benchmark.tui import wording
from benchmark.tui.axes import axis_pairs
from benchmark.tui.widgets.heatmap import HeatMap

if TYPE_CHECKING:
    from benchmark.tui.app import MonitorApp

MAX_HITS = 30
TABS = ("overview", "cells", "workers", "results", "log", "graph")


def commands(app: MonitorApp) -> Iterator[SystemCommand]:
    """The monitor's own commands."""
    for number, tab in enumerate(TABS, 1):
        yield SystemCommand(f"Show {tab}", f"Key {number}", partial(app.action_show_tab, tab))
    yield SystemCommand("Show failed cells", "Key f", app.action_failed_cells)
    yield SystemCommand("Pause or go on", "Key p", app.action_pause)
    yield SystemCommand("Try again what failed", "Key r", app.action_retry)
    yield SystemCommand("Stop the run", "Everything finished is kept", app.action_stop_run)
    for rows, columns in axis_pairs(app.view.axes):
        if columns:
            title = f"Heat map of {wording.plain(rows)} by {wording.plain(columns)}"
            yield SystemCommand(title, "Key a turns through them", _chooser(app, rows, columns))
    yield SystemCommand("Dark or light", "Key d", app.action_toggle_theme)
    yield SystemCommand("Keys and signs", "Key ?", app.action_help)


def _chooser(app: MonitorApp, rows: str, columns: str) -> Callable[[], None]:
    def choose() -> None:
        app.action_show_tab("overview")
        app.screen.query_one(HeatMap).choose(rows, columns)

    return choose


class CellSearch(Provider):
    """Cells by their names and ids."""

    async def discover(self) -> Hits:
        """Nothing before something is typed, but how to go on."""
        yield DiscoveryHit("Open a cell ...", self._monitor.action_help, help="type a part of its name or id")

    async def search(self, query: str) -> Hits:
        """The best cells for `query`."""
        matcher, monitor, found = self.matcher(query), self._monitor, 0
        for cell in list(monitor.view.cells.values()):
            name = f"cell {wording.plain(monitor.view.name_of(cell))} {cell.id}"
            if query.casefold() in name.casefold():
                yield Hit(matcher.match(name) or 0.5, matcher.highlight(name), partial(monitor.open_cell, cell), name)
                found += 1
            if found >= MAX_HITS:
                return

    @property
    def _monitor(self) -> MonitorApp:
        return cast("MonitorApp", self.app)
