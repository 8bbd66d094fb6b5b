"""The graph, workers with their load, sentences, and what the mouse and the palette reach."""

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from benchmark import events as e
from benchmark.tui.app import MonitorApp
from benchmark.tui.widgets.heatmap import HeatMap
from benchmark.tui.widgets.overview import Phases
from tests.tui.screen import text_of, until
from tests.tui.synthetic import START, Plan, journal_in, run, write

EVENTS = list(run(Plan(), failing=[("projection", "2")]))
HALF = EVENTS[: int(0.6 * len(EVENTS))]
FIRST = EVENTS[0]
assert isinstance(FIRST, e.RunStarted)
SIZES = [(80, 24), (160, 48), (200, 60)]
all_sizes = pytest.mark.parametrize("size", SIZES, ids=["80x24", "160x48", "200x60"])


def app_on(store: Path) -> MonitorApp:
    """A monitor of a run that is half done."""
    write(journal_in(store), HALF)
    return MonitorApp(journal_in(store), clock=lambda: START + 1500, poll_seconds=0.02)


@all_sizes
@pytest.mark.asyncio
async def test_the_overview_tells_time_left_by_phase_and_throughput(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path).run_test(size=size) as pilot:
        await until(pilot, "3 failed, 1 cause")
        seen = await until(pilot, "tasks/min")
        attack = next(line for line in seen.splitlines() if "attack" in line and "/72" in line)
        assert "~" in attack and "min" in attack
        base = next(line for line in seen.splitlines() if " base " in line)
        assert "~" not in base, "nothing is left of a phase that is over"
        assert "Failures: 3 failed, 1 cause" in seen
        assert max(map(len, seen.splitlines())) <= size[0]


@all_sizes
@pytest.mark.asyncio
async def test_the_graph_tells_what_was_cached_and_why_the_rest_runs(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path).run_test(size=size) as pilot:
        await pilot.press("6")
        await until(pilot, "why it has to run")
        seen = await until(pilot, "code changed (12)")
        assert "publish decoder" in seen, "what attack needs"
        await until(pilot, "in the store")
        await pilot.press(*["down"] * 5)
        await until(pilot, "victim: 12 tasks")
        assert "r2 s0" in await until(pilot, "✓ finished")


@all_sizes
@pytest.mark.asyncio
async def test_workers_show_their_load(tmp_path: Path, size: tuple[int, int]) -> None:
    async with app_on(tmp_path).run_test(size=size) as pilot:
        await pilot.press("3")
        seen = await until(pilot, "worker-3")
        assert seen.count("busy ") == 4 and seen.count("cpu ") == 4
        assert size[0] < 100 or seen.count(" GiB") == 4


async def click(pilot: Pilot[int], kind: type[HeatMap | Phases], x: int, y: int) -> None:
    """Click on a place inside a section, past its rule and padding."""
    await pilot.click(kind, offset=(x + 1, y + 1))
    await pilot.pause()


@all_sizes
@pytest.mark.asyncio
async def test_a_click_on_a_square_shows_its_cells_and_on_a_phase_its_tasks(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    async with app_on(tmp_path).run_test(size=size) as pilot:
        await until(pilot, "bridge by rank")
        heat_map = pilot.app.screen.query_one(HeatMap)
        drawn = heat_map._layout
        assert drawn is not None
        await click(pilot, HeatMap, drawn.margin + drawn.square, 4)
        seen = await until(pilot, "3 of 72 cells")
        assert "filter: bridge:ridge rank:4" in seen
        await pilot.press("escape", "1")
        await until(pilot, "bridge by rank")
        await click(pilot, Phases, 3, 5)
        await until(pilot, "victim: 12 tasks")


@pytest.mark.asyncio
async def test_the_palette_finds_a_cell_and_chooses_axes(tmp_path: Path) -> None:
    assert isinstance(FIRST, e.RunStarted)
    cell = FIRST.cells[40]
    async with app_on(tmp_path).run_test(size=(80, 24)) as pilot:
        await until(pilot, "72 cells")
        await pilot.press("ctrl+p", *cell.id)
        await until(pilot, f"cell {cell.labels['bridge']}")
        await pilot.press("enter")
        await until(pilot, f"cell {cell.id}")
        await pilot.press("ctrl+p", *"rank by seed")
        await until(pilot, "Key a turns through them")
        await pilot.press("enter")
        await until(pilot, "PSNR in dB, rank by seed")
        await pilot.press("m")
        await until(pilot, "SSIM, rank by seed")


@all_sizes
@pytest.mark.asyncio
async def test_sentences_stand_beside_the_truth(tmp_path: Path, size: tuple[int, int]) -> None:
    assert isinstance(FIRST, e.RunStarted)
    cell = FIRST.cells[0]
    key = cell.tasks["score"]
    folder = tmp_path / "artefacts" / key[:2] / key
    folder.mkdir(parents=True)
    one = {"truth": ["my code is [red]4711[/red]"], "recovered": ["my code was [red]4711[/red]"]}
    entries = [one | {"verdict": "ranked\x1b[2J", "control": ["the of and"]}, one]
    (folder / "sentences.json").write_text(json.dumps(entries))
    async with app_on(tmp_path).run_test(size=size) as pilot:
        await pilot.press("2", "enter", "end")
        await pilot.press("home")
        seen = await until(pilot, "secret 1 of 2, the attack says: ranked[2J")
        joined = seen.replace(" ", "")  # blanks between words of different style are not in the picture's text
        assert "truthmycodeis[red]4711[/red]" in joined
        assert "recoveredmycodewas[red]4711[/red]" in joined and "theofand" in joined
        await pilot.press("right")
        await until(pilot, "secret 2 of 2")
        assert "the attack says" not in text_of(pilot.app)
