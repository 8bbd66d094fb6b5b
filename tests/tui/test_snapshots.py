"""How the screens look, at two sizes. After a change: pytest tests/tui/test_snapshots.py --snapshot-update; look."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from benchmark import events as e
from benchmark.tui.app import MonitorApp
from tests.tui.screen import until
from tests.tui.synthetic import START, Plan, journal_in, run, write, write_pictures

Compare = Callable[..., bool]
Steps = Callable[[Pilot[int]], Awaitable[None]]
EVENTS = list(run(Plan(), failing=[("projection", "2"), ("row_mmse", "2")]))
HALF = EVENTS[: int(0.6 * len(EVENTS))]
FIRST = EVENTS[0]
SIZES = [(80, 24), (160, 48)]


def app_on(store: Path) -> MonitorApp:
    """A monitor of a run that is half done, at a fixed time."""
    write(journal_in(store), HALF)
    assert isinstance(FIRST, e.RunStarted)
    write_pictures(store, FIRST.cells[0].tasks["score"])
    return MonitorApp(journal_in(store), clock=lambda: START + 1500, poll_seconds=0.02)


def press(*steps: str | list[str]) -> Steps:
    """Wait for each text, press each list of keys."""

    async def act(pilot: Pilot[int]) -> None:
        await until(pilot, "6 failed", seconds=20)
        for step in steps:
            if isinstance(step, str):
                await until(pilot, step, seconds=20)
            else:
                await pilot.press(*step)
        await pilot.pause()

    return act


SCREENS = {
    "overview": press(),
    "overview_light": press(["d"]),
    "cells": press(["2", "slash", *"rank:2", "enter", "s"], "18 of 72 cells, sorted by state"),
    "workers": press(["3"], "worker-3"),
    "results": press(["4"], "mean ± deviation"),
    "graph": press(["6", *["down"] * 7], "decoder: 48 tasks"),
    "cell": press(["2", "enter"], "secret 1 of 3"),
    "failed_cell": press(["f"], "6 of 72 cells", ["enter"], "attempt 2: Diverged"),
}


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "160x48"])
@pytest.mark.parametrize("screen", SCREENS)
def test_screen(screen: str, size: tuple[int, int], tmp_path: Path, snap_compare: Compare) -> None:
    assert snap_compare(app_on(tmp_path), terminal_size=size, run_before=SCREENS[screen])
