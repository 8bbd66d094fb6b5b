"""Opening a cell's page in MLflow: in a browser where there is one, else by telling its address."""

import os
import sys
import webbrowser

from textual.app import App

from benchmark.events import RunStarted
from benchmark.tui import wording
from benchmark.tui.mlflow_link import LOCAL, find_page, server_of


def open_in_mlflow(app: App[int], run: RunStarted, cell: str) -> None:
    """Find the page in a thread; the address goes to the clipboard as well."""
    server = server_of(run.tracking_uri)

    def work() -> None:
        page = find_page(server, run.suite, cell)
        app.call_from_thread(_show, app, page, server)

    app.run_worker(work, thread=True, exclusive=True, group="opening")


def _show(app: App[int], page: str | None, server: str) -> None:
    if page is None:
        remedy = "`bridge ui` starts it; it knows a cell once its run is over" if server == LOCAL else "is it up?"
        told = f"no page of this cell at {wording.plain(server)}: {remedy}"
        app.notify(told, severity="warning", timeout=6, markup=False)
        return
    app.copy_to_clipboard(page)
    app.notify(page, title="in MLflow, and on the clipboard", timeout=10, markup=False)
    if has_display():
        webbrowser.open(page)


def has_display() -> bool:
    """Whether a browser could open beside the terminal: one inside it would take the monitor's place."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
