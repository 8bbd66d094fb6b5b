"""Print how planning and the monitor take many cells: seconds at two sizes, and the growth between them."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmark.tui.app import MonitorApp
from bridge_core import spec as s
from tests.harness.synthetic_runs import cell
from tests.harness.test_graph import plan
from tests.tui.screen import until
from tests.tui.synthetic import START, Plan, journal_in, write

SIZES = (1_000, 10_000)
PLAN_LIMIT, PAINT_LIMIT, KEY_LIMIT = 2.0, 1.5, 0.15
"""Seconds, at the larger size, on an idle machine."""
CELLS_A_SEED = 24
KEYS = ("up", "down", "pageup", "pagedown", "home", "end") * 4


def main() -> int:
    """Time everything; 1 where a figure at the larger size is over its limit."""
    found = [
        _report("plan", _planned, PLAN_LIMIT),
        _report("monitor, first paint", lambda size: asyncio.run(_painted(size))[0], PAINT_LIMIT),
        _report("monitor, key to screen, 95th percentile", lambda size: asyncio.run(_painted(size))[1], KEY_LIMIT),
    ]
    return int(not all(found))


def _report(what: str, seconds_of: Callable[[int], float], limit: float) -> bool:
    small, large = (seconds_of(size) for size in SIZES)
    print(f"{what}: {small:.3f} s at {SIZES[0]:,} cells, {large:.3f} s at {SIZES[1]:,} (limit {limit})")
    print(f"  ratio: {large / small:.1f} for {SIZES[1] / SIZES[0]:.0f} times the cells")
    return large <= limit


def _planned(size: int) -> float:
    models, bridges = (s.ConvNet(), s.Vit()), (s.Ridge(), s.Oracle(), s.Projection(), s.RowMmse(), s.Mlp())
    seeds = range(size // (len(models) * len(bridges) * 4))
    cells = [cell(i, r, b, m) for m in models for b in bridges for r in (2, 4, 8, 16) for i in seeds]
    started = time.perf_counter()
    assert len(plan(*cells).cells) == size
    return time.perf_counter() - started


async def _painted(size: int) -> tuple[float, float]:
    """First paint, and the 95th percentile of the time from a key to the screen."""
    start = Plan(seeds=tuple(map(str, range(size // CELLS_A_SEED)))).start()
    with tempfile.TemporaryDirectory() as folder:
        write(journal_in(Path(folder)), [start])
        app = MonitorApp(journal_in(Path(folder)), clock=lambda: START, poll_seconds=0.02)
        begun = time.perf_counter()
        async with app.run_test(size=(140, 40)) as pilot:
            await until(pilot, f"{len(start.cells)} cells")
            painted = time.perf_counter() - begun
            await pilot.press("2", "end")
            await until(pilot, f"{len(start.cells)} of {len(start.cells)} cells")
            seconds: list[float] = []
            for key in KEYS:
                before = time.perf_counter()
                app.simulate_key(key)
                await pilot.pause()
                seconds.append(time.perf_counter() - before)
    return painted, sorted(seconds)[int(0.95 * len(seconds))]


if __name__ == "__main__":
    sys.exit(main())
