"""Record the monitor's screens on a run as SVG, by Textual itself: the pictures of the README and of docs/monitor.md.

    python -m benchmarks.pictures STORE OUT [--size 120x36] [--at SHARE]

STORE is one that a run was made in; `--at 0.6` shows the latest run as it stood after so large a part of its events.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from textual.pilot import Pilot

from benchmark.journal import read
from benchmark.runs import find_run
from benchmark.tui.app import MonitorApp
from tests.tui.synthetic import write

SCREENS = {
    "overview": ["1"],
    "cells": ["2"],
    "cell": ["2", "enter"],
    "workers": ["3"],
    "results": ["4"],
    "graph": ["6"],
}


def main() -> None:
    """Write a picture for each screen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="120x36")
    parser.add_argument("--at", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=list(SCREENS))
    asked = parser.parse_args()
    width, height = map(int, asked.size.split("x"))
    for name in asked.only:
        picture = asyncio.run(_record(asked.store, name, (width, height), asked.at))
        (asked.out / f"monitor-{name}.svg").write_text(picture)


async def _record(store: Path, name: str, size: tuple[int, int], share: float) -> str:
    run = find_run(store, None)
    events = list(read(run.journal))
    shown = events[: max(1, int(share * len(events)))]
    with tempfile.TemporaryDirectory() as folder:
        # A store that has this run's artefacts, and its journal up to the moment that is shown.
        os.symlink((store / "artefacts").absolute(), Path(folder) / "artefacts")
        journal = Path(folder) / "runs" / run.id / "journal.jsonl"
        write(
            journal,
            [
                event.model_copy(update={"host": "lab1"}) if "host" in event.model_fields_set else event
                for event in shown
            ],
        )
        app = MonitorApp(journal, clock=lambda: shown[-1].time, poll_seconds=0.05)
        async with app.run_test(size=size) as pilot:
            await _settle(pilot, len(shown))
            await pilot.press(*SCREENS[name])
            await pilot.pause(1.5)
            return app.export_screenshot(title="bridge")


async def _settle(pilot: Pilot[int], count: int) -> None:
    while pilot.app.view.num_events < count:  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(0.05)
    await pilot.pause(0.3)


if __name__ == "__main__":
    main()
