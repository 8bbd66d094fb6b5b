"""How three screens look. After a wanted change: pytest tests/tui/test_snapshots.py --snapshot-update, then look."""

from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from benchmark.tui.app import MonitorApp
from tests.tui.screen import until
from tests.tui.synthetic import START, Plan, journal_in, run, write

Compare = Callable[..., bool]
EVENTS = list(run(Plan(), failing=[("projection", "2"), ("row_mmse", "2")]))
HALF = EVENTS[: int(0.6 * len(EVENTS))]


def app_on(store: Path) -> MonitorApp:
    """A monitor of a run that is half done, at a fixed time."""
    write(journal_in(store), HALF)
    return MonitorApp(journal_in(store), clock=lambda: START + 1500, poll_seconds=0.02)


async def overview(pilot: Pilot[int]) -> None:
    """Wait for the run."""
    await until(pilot, "6 failed")


async def cells(pilot: Pilot[int]) -> None:
    """Filter and sort the cells."""
    await until(pilot, "6 failed")
    await pilot.press("2", "slash", *"rank:2", "enter", "s")
    await until(pilot, "18 of 72 cells, sorted by state")


async def failed_cell(pilot: Pilot[int]) -> None:
    """Open a failed cell."""
    await until(pilot, "6 failed")
    await pilot.press("f")
    await until(pilot, "6 of 72 cells")
    await pilot.press("enter")
    await until(pilot, "attempt 2: Diverged")


def test_overview(tmp_path: Path, snap_compare: Compare) -> None:
    assert snap_compare(app_on(tmp_path), terminal_size=(80, 24), run_before=overview)


def test_cells(tmp_path: Path, snap_compare: Compare) -> None:
    assert snap_compare(app_on(tmp_path), terminal_size=(140, 40), run_before=cells)


def test_failed_cell(tmp_path: Path, snap_compare: Compare) -> None:
    assert snap_compare(app_on(tmp_path), terminal_size=(80, 24), run_before=failed_cell)
