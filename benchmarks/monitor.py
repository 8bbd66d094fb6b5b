"""Print how the monitor takes a run of 10,000 cells: first paint, key to screen, share of a core while it goes on.

    python -m benchmarks.monitor [--cells 10000] [--seconds 20]

Times are of the clock, which mean something on an idle machine only; the processor's own time stands beside them.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from textual.pilot import Pilot

from benchmark import events as e
from benchmark.journal import Journal
from benchmark.tui.app import MonitorApp
from tests.tui.screen import text_of
from tests.tui.synthetic import Plan, journal_in, metrics_of, write

PAINT_LIMIT, KEY_LIMIT, SHARE_LIMIT = 1.5, 0.15, 0.10
CELLS_A_SEED = 24
EVENTS_A_SECOND = 20
KEYS = ("2", "end", "up", "pageup", "home", "pagedown", "s", "S", "down", "1", "a", "m", "6", "down", "down", "3", "4")
SIZE = (160, 48)


def main() -> int:
    """Time everything; 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    start = Plan(seeds=tuple(map(str, range(asked.cells // CELLS_A_SEED + 1)))).start()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_measure(Path(folder), start, asked.seconds))
    return int(not all(found))


async def _measure(folder: Path, start: e.RunStarted, seconds: float) -> list[bool]:
    half = [*_done(start, len(start.cells) // 2)]
    write(journal_in(folder), [start, *half])
    app = MonitorApp(journal_in(folder), poll_seconds=0.25)
    clock, cpu = time.perf_counter(), time.process_time()
    async with app.run_test(size=SIZE) as pilot:
        while app.view.run is None:
            await asyncio.sleep(0.01)
        await pilot.pause()
        spent = time.perf_counter() - clock, time.process_time() - cpu
        assert f"{len(start.cells)} cells" in text_of(app)
        print(
            f"{len(start.cells):,} cells, {len(start.tasks):,} tasks, {len(half):,} events of a run that is half done"
        )
        painted = _told("first paint", *spent, PAINT_LIMIT)
        while app.view.num_events <= len(half):
            await asyncio.sleep(0.05)
        print(f"  all of it read after {time.perf_counter() - clock:.2f} s")
        keys = await _keys(pilot)
        return [painted, keys, await _going_on(pilot, folder, start, seconds)]


def _told(what: str, clock: float, cpu: float, limit: float) -> bool:
    print(f"{what}: {clock:.3f} s, {cpu:.3f} s of the processor (limit {limit} s)")
    return clock <= limit


async def _keys(pilot: Pilot[int]) -> bool:
    clocks: list[float] = []
    cpus: list[float] = []
    slowest = ("", 0.0)
    for key in KEYS * 4:
        clock, cpu = time.perf_counter(), time.process_time()
        pilot.app.simulate_key(key)
        await pilot.pause()
        clocks.append(time.perf_counter() - clock)
        cpus.append(time.process_time() - cpu)
        slowest = max(slowest, (key, cpus[-1]), key=lambda pair: pair[1])
    print(f"  the slowest key is {slowest[0]!r}")
    place = int(0.95 * len(clocks))
    return _told("key to screen, 95th percentile", sorted(clocks)[place], sorted(cpus)[place], KEY_LIMIT)


async def _going_on(pilot: Pilot[int], folder: Path, start: e.RunStarted, seconds: float) -> bool:
    """Share of a core on the overview and on the table, while a run tells something many times a second."""
    events = _done(start, len(start.cells), len(start.cells) // 2)
    good = True
    for tab in ("1", "2", "6"):
        await pilot.press(tab)
        clock, cpu = time.perf_counter(), time.process_time()
        with Journal(journal_in(folder)) as journal:
            while time.perf_counter() - clock < seconds / 3:
                journal.write(next(events))
                await asyncio.sleep(1 / EVENTS_A_SECOND)
        share = (time.process_time() - cpu) / (time.perf_counter() - clock)
        print(
            f"while the run goes on, tab {tab}: {share:.1%} of a core at {EVENTS_A_SECOND} events a second (limit 10%)"
        )
        good = good and share <= SHARE_LIMIT
    return good


def _done(start: e.RunStarted, stop: int, first: int = 0) -> Iterator[e.AnyEvent]:
    """The cells from `first` to `stop` are finished one after the other, a second each."""
    chance, now = random.Random(first), start.time
    over: set[str] = {key for cell in start.cells[:first] for key in cell.tasks.values()}
    for cell in start.cells[first:stop]:
        for key in cell.tasks.values():
            if key not in over:
                over.add(key)
                yield e.TaskStarted(time=now, key=key, worker="0", attempt=1)
                yield e.TaskProgressed(time=now, key=key, step=5, total=10, metrics={"loss": chance.random()})
                yield e.TaskFinished(time=now + 1, key=key, seconds=1.0, metrics={})
        now += 1
        yield e.CellFinished(time=now, cell=cell.id, metrics=metrics_of(cell, chance))


if __name__ == "__main__":
    sys.exit(main())
