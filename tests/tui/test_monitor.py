"""The monitor's behaviour, at two sizes, driven by keys on a real journal."""

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from textual.widgets import Footer

from benchmark import events as e
from benchmark.tui.app import MonitorApp
from benchmark.tui.driver import ChildDriver, DriverHandle, is_gone
from benchmark.tui.widgets.cell_table import CellTable
from tests.tui.screen import all_pages, text_of, until
from tests.tui.synthetic import START, Plan, journal_in, run, write, write_pictures

SIZES = [(80, 24), (140, 40)]
both_sizes = pytest.mark.parametrize("size", SIZES, ids=["80x24", "140x40"])
EVENTS = list(run(Plan()))
FIRST = EVENTS[0]
assert isinstance(FIRST, e.RunStarted)
HALF = EVENTS[: int(0.7 * len(EVENTS))]


def app_on(store: Path, events: Sequence[e.AnyEvent], driver: DriverHandle | None = None) -> MonitorApp:
    """A monitor of a journal with `events`, at a fixed time."""
    write(journal_in(store), events)
    return MonitorApp(journal_in(store), driver, clock=lambda: START + 4000, poll_seconds=0.02)


@both_sizes
@pytest.mark.asyncio
async def test_a_finished_run_is_told_on_one_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path, EVENTS).run_test(size=size) as pilot:
        seen = await until(pilot, "✗ finished with failures")
        assert "72 cells   ✓ 69 finished   ✗ 3 failed" in seen
        assert "Failures: 3 failed, 1 cause" in seen
        assert "✗ Diverged 3 cells, 3 tasks" in seen
        for phase in ("proxy", "private", "base", "statistics", "adapter", "victim", "publish", "decoder", "attack"):
            assert phase in seen
        for rank in ("2", "4", "8", "16"):
            assert f" {rank}" in seen.split("bridge by rank")[1].splitlines()[1]
        for bridge in ("oracle", "projection", "row_mmse", "ridge", "mlp", "direct"):
            assert bridge in seen
        assert "✗0/3" in seen
        assert "69/72" in seen
        await pilot.press("q")
    assert pilot.app.return_value == 1


@both_sizes
@pytest.mark.asyncio
async def test_what_is_appended_is_shown(tmp_path: Path, size: tuple[int, int]) -> None:
    journal = journal_in(tmp_path)
    app = MonitorApp(journal, clock=lambda: START + 10, poll_seconds=0.02)
    async with app.run_test(size=size) as pilot:
        await until(pilot, "waiting for the journal")
        write(journal, EVENTS[:1])
        assert "about" not in await until(pilot, "▸ running")
        write(journal, HALF[1:])
        finished = sum(isinstance(event, e.CellFinished) for event in HALF)
        assert "min left" in await until(pilot, f"✓ {finished} finished")
        await pilot.press("5")
        write(journal, [e.Logged(time=START, level="warning", message="a [red]late[/red] line\x1b[2J")])
        await until(pilot, "! a [red]late[/red] line[2J")


@both_sizes
@pytest.mark.asyncio
async def test_cells_are_filtered_and_sorted(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path, EVENTS).run_test(size=size) as pilot:
        await until(pilot, "72 cells")
        await pilot.press("2", "slash", *"ridge rank:16", "enter")
        seen = await until(pilot, "3 of 72 cells")
        assert seen.count("ridge ") >= 3 and "oracle" not in seen
        await pilot.press("escape")
        await until(pilot, "72 of 72 cells, sorted by plan")
        table = pilot.app.screen.query_one(CellTable)
        for _ in range(1 + [column.key for column in table.columns].index("psnr")):
            await pilot.press("s")
        seen = await until(pilot, "sorted by PSNR downwards")
        finished = [event for event in EVENTS if isinstance(event, e.CellFinished)]
        best = max(finished, key=lambda event: event.metrics["psnr"])
        first = next(line for line in seen.splitlines() if line.startswith(">"))
        assert best.cell in first and f"{best.metrics['psnr']:.1f}" in first
        await pilot.press("S")
        worst = min(finished, key=lambda event: event.metrics["psnr"])
        first = next(line for line in text_of(pilot.app).splitlines() if line.startswith(">"))
        assert worst.cell in first


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_cell_when_the_order_changes_under_it(tmp_path: Path) -> None:
    app = app_on(tmp_path, HALF)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2", "s")
        await until(pilot, "sorted by state")
        await pilot.press("end", "up")
        table = app.screen.query_one(CellTable)
        chosen, place = table.chosen, table.cursor
        line = table.cursor - table.scroll_offset.y
        write(journal_in(tmp_path), EVENTS[len(HALF) :])
        await until(pilot, "✗ finished with failures")
        assert table.chosen is chosen and table.cursor != place
        assert table.cursor - table.scroll_offset.y == line


@both_sizes
@pytest.mark.asyncio
async def test_a_cells_page_shows_its_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    assert isinstance(FIRST, e.RunStarted)
    cell = FIRST.cells[0]
    write_pictures(tmp_path, cell.tasks["score"])
    async with app_on(tmp_path, EVENTS).run_test(size=size) as pilot:
        await pilot.press("2", "enter")
        seen = await until(pilot, "secret 1 of 3")
        assert "truth" in seen and "recovered" in seen
        assert seen.count("▀") > 2 * 28 * 8
        assert f"cell {cell.id}" in seen
        assert "psnr" in seen and "mean image 10.9 dB" in seen
        before = pilot.app.export_screenshot()
        await pilot.press("right")
        await until(pilot, "secret 2 of 3")
        assert pilot.app.export_screenshot() != before
        seen = await all_pages(pilot)
        for part in ("attack matching_loss", "12 points", "inverting_gradients", f'tags."bridge.cell" = "{cell.id}"'):
            assert part in seen
        assert re.search(r"attack +finished in \d+", seen), "its log"
        await pilot.press("escape")
        await until(pilot, "72 of 72 cells")


@both_sizes
@pytest.mark.asyncio
async def test_a_failed_cell_tells_its_cause(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path, EVENTS).run_test(size=size) as pilot:
        await until(pilot, "72 cells")
        await pilot.press("f")
        assert (await until(pilot, "3 of 72 cells")).count("✗ Diverged") == 3
        await pilot.press("enter")
        seen = await until(pilot, "✗ attack, attempt 2: Diverged")
        assert "the matching loss [bold]became[/bold] NaN" in seen
        assert 'File "bridge_core/inversion/matching.py", line 88' in seen


@pytest.mark.asyncio
async def test_results_workers_axes_theme_and_help(tmp_path: Path) -> None:
    async with app_on(tmp_path, HALF).run_test(size=(80, 24)) as pilot:
        await until(pilot, "bridge by rank")
        await pilot.press("a")
        await until(pilot, "bridge by seed")
        await pilot.press("3")
        await until(pilot, "worker-0")
        await pilot.press("4")
        seen = await until(pilot, "PSNR in dB: mean ± deviation (cells), by rank")
        assert "(3)" in seen and "0 of 3" in seen
        await pilot.press("m")
        await until(pilot, "SSIM: mean")
        dark = pilot.app.theme
        await pilot.press("d")
        assert pilot.app.theme != dark and not pilot.app.current_theme.dark
        await pilot.press("question_mark")
        await until(pilot, "asks while the run goes on")
        await pilot.press("escape", "1")
        assert "Axes" in await until(pilot, "Overview")
        assert len(pilot.app.screen.query(Footer)) == 1


@pytest.mark.asyncio
async def test_the_command_palette_leads_anywhere_from_a_cells_page(tmp_path: Path) -> None:
    async with app_on(tmp_path, EVENTS).run_test(size=(80, 24)) as pilot:
        await pilot.press("2", "enter")
        await until(pilot, "no pictures in the store yet")
        await pilot.press("ctrl+p", *"failed cells")
        await until(pilot, "Key f")
        await pilot.press("enter")
        await until(pilot, "3 of 72 cells")
        await pilot.press("enter")
        await until(pilot, "Traceback")
        await pilot.press("5")
        await until(pilot, "run ended with exit code 1: 69 cells finished, 3 failed")


# --- leaving ----------------------------------------------------------------------------------------------------------

SLEEPER = "import sys, time\nprint('up', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(130)"


def child(code: str) -> ChildDriver:
    """A real child process that has begun."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return ChildDriver(process)


@both_sizes
@pytest.mark.asyncio
async def test_leaving_a_run_asks_and_stopping_returns_its_exit_code(tmp_path: Path, size: tuple[int, int]) -> None:
    driver = child(SLEEPER)
    app = app_on(tmp_path, HALF, driver)
    async with app.run_test(size=size) as pilot:
        await until(pilot, "▸ running")
        await pilot.press("q")
        await until(pilot, "Stop the run (s)")
        await pilot.press("escape")
        await until(pilot, "Pause")
        assert driver.poll() is None
        await pilot.press("ctrl+c")
        await until(pilot, "Leave it running (l)")
        await pilot.press("s")
        driver.process.wait(10)
        await pilot.pause(0.1)
    assert app.return_value == 130


@pytest.mark.asyncio
async def test_a_run_may_be_left_to_itself(tmp_path: Path) -> None:
    driver = child(SLEEPER)
    app = app_on(tmp_path, HALF, driver)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q", "l")
        await pilot.pause()
    assert app.return_value is None
    assert driver.poll() is None
    driver.interrupt()
    assert driver.process.wait(10) == 130


@pytest.mark.asyncio
async def test_a_driver_that_dies_without_a_word_is_told(tmp_path: Path) -> None:
    driver = child(SLEEPER)
    app = app_on(tmp_path, HALF, driver)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "▸ running")
        driver.process.send_signal(signal.SIGKILL)
        driver.process.wait(10)
        app.draw()
        assert " left " not in await until(pilot, "✗ ended with exit code -9")
        await pilot.press("q")
    assert app.return_value == -9


def test_a_driver_is_gone_only_where_its_process_is_known_to_be() -> None:
    import socket

    driver = child("print()")
    driver.process.wait(10)
    assert isinstance(FIRST, e.RunStarted)
    here = FIRST.model_copy(update={"host": socket.gethostname(), "pid": driver.pid})
    assert is_gone(here)
    assert not is_gone(here.model_copy(update={"host": "elsewhere"}))
    living = child(SLEEPER)
    assert not is_gone(here.model_copy(update={"pid": living.pid}))
    living.interrupt()
    living.process.wait(10)


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_ten_thousand_cells_are_shown_and_keys_answered(tmp_path: Path) -> None:
    seeds = tuple(map(str, range(420)))
    plan = Plan(seeds=seeds)
    start = plan.start()
    assert len(start.cells) > 10_000
    write(journal_in(tmp_path), [start])
    app = MonitorApp(journal_in(tmp_path), clock=lambda: START, poll_seconds=0.02)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, "10080 cells")
        await pilot.press("2", "end")
        await until(pilot, "10080 of 10080 cells")
        for key in ("up", "up", "pageup", "home", "down"):
            app.simulate_key(key)
            await pilot.pause()
