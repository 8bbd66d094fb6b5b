"""What the monitor asks of a run is a request in the store, never a byte in the journal; its effect is shown."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark import events as e
from benchmark.requests import Mailbox, Request, requests_folder
from benchmark.tui.app import MonitorApp
from tests.tui.screen import until
from tests.tui.synthetic import START, Plan, journal_in, run, write

EVENTS = list(run(Plan(), failing=[("projection", "2")]))
HALF = EVENTS[: int(0.6 * len(EVENTS))]
NOW = START + 4000
both_sizes = pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])


def app_on(store: Path, events: Sequence[e.AnyEvent] = HALF) -> MonitorApp:
    """A monitor of a run on another machine."""
    write(journal_in(store), events)
    return MonitorApp(journal_in(store), clock=lambda: NOW, poll_seconds=0.02)


def asked(store: Path) -> list[tuple[str, tuple[str, ...]]]:
    """What lies in the driver's mailbox."""
    taken = Mailbox(requests_folder(journal_in(store))).take(now=True)
    return [(one.action, one.cells) for one in taken if isinstance(one, Request)]


@both_sizes
@pytest.mark.asyncio
async def test_a_run_is_paused_and_goes_on(tmp_path: Path, size: tuple[int, int]) -> None:
    app = app_on(tmp_path)
    before = journal_in(tmp_path).read_bytes()
    async with app.run_test(notifications=True, size=size) as pilot:
        await until(pilot, "▸ running")
        await pilot.press("p")
        await until(pilot, "asked to pause")
        assert asked(tmp_path) == [("pause", ())] and journal_in(tmp_path).read_bytes() == before
        write(journal_in(tmp_path), [e.RunPaused(time=NOW, by="lab1 pid 1")])
        await until(pilot, "‖ paused")
        await pilot.press("p")
        await until(pilot, "asked to go on")
        assert asked(tmp_path) == [("resume", ())]
        write(journal_in(tmp_path), [e.RunResumed(time=NOW)])
        await until(pilot, "▸ running")


@both_sizes
@pytest.mark.asyncio
async def test_a_failed_cell_is_retried_and_the_causes_forget_it(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path).run_test(notifications=True, size=size) as pilot:
        await until(pilot, "3 failed, 1 cause")
        await pilot.press("f")
        await until(pilot, "3 of 72 cells")
        await pilot.press("r")
        await until(pilot, "asked to try again")
        ((action, (cell,)),) = asked(tmp_path)
        assert action == "retry"
        failed = next(one for one in HALF if isinstance(one, e.CellFailed) and one.cell == cell)
        write(journal_in(tmp_path), [e.CellReopened(time=NOW, cell=cell, tasks=(failed.key,))])
        await until(pilot, "2 of 72 cells")
        await pilot.press("1", "r")
        await until(pilot, "2 failed, 1 cause")
        await pilot.pause(0.2)
        assert asked(tmp_path) == [("retry", ())], "on the overview it means all of them"


@both_sizes
@pytest.mark.asyncio
async def test_a_cell_is_cancelled_only_after_a_yes(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path).run_test(notifications=True, size=size) as pilot:
        await until(pilot, "72 cells")
        await pilot.press("2", "slash", *"state:waiting", "enter", "x")
        await until(pilot, "Yes (y)")
        await pilot.press("enter")
        await pilot.pause()
        assert asked(tmp_path) == []
        await pilot.press("x", "y")
        await until(pilot, "asked to leave the cell out")
        ((action, (cell,)),) = asked(tmp_path)
        assert action == "cancel"
        write(journal_in(tmp_path), [e.CellCancelled(time=NOW, cell=cell)])
        await pilot.press("escape", "1")
        await until(pilot, "× 1 cancelled")


@pytest.mark.asyncio
async def test_the_palette_stops_a_run_that_is_only_watched(tmp_path: Path) -> None:
    async with app_on(tmp_path).run_test(notifications=True, size=(80, 24)) as pilot:
        await until(pilot, "▸ running")
        await pilot.press("ctrl+p", *"stop the run")
        await until(pilot, "Everything finished is kept")
        await pilot.press("enter")
        await until(pilot, "Stop the run?")
        await pilot.press("y")
        await until(pilot, "asked to stop")
        assert asked(tmp_path) == [("stop", ())]


@pytest.mark.asyncio
async def test_nothing_is_asked_of_a_run_that_is_over(tmp_path: Path) -> None:
    async with app_on(tmp_path, EVENTS).run_test(notifications=True, size=(160, 48)) as pilot:
        await until(pilot, "finished with failures")
        await pilot.press("r")
        assert "bridge bench retry" in await until(pilot, "this run is over")
        await pilot.press("p")
        assert not requests_folder(journal_in(tmp_path)).exists()


@pytest.mark.asyncio
async def test_a_store_that_can_not_be_written_is_told_and_the_monitor_goes_on(tmp_path: Path) -> None:
    app = app_on(tmp_path)
    requests_folder(journal_in(tmp_path)).write_text("a file where a folder should be")
    async with app.run_test(notifications=True, size=(160, 48)) as pilot:
        await until(pilot, "▸ running")
        await pilot.press("p")
        await until(pilot, "wanted a store that can be written")
        await pilot.press("2")
        await until(pilot, "72 of 72 cells")
