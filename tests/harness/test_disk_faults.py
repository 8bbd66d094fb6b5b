"""A store that fills up, can not be written, or is taken away: one line, and the run goes on after the mend."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import events as e
from benchmark.scheduler import RunOptions
from benchmark.store import Store
from bridge_core.errors import StoreFault, UnknownName
from tests.harness.synthetic_runs import Bench, graph_of, key_of, noted

ALONE = RunOptions(workers=0)
PAYLOAD_BYTES = 200_000
"""Of a synthetic task."""


def mount(options: str, place: Path) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few artefacts."""
    place = tmp_path / "small"
    place.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no mount here")
    mount(f"size={6 * PAYLOAD_BYTES}", place)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["in process", "a worker"])
def test_a_full_disk_stops_the_run_with_one_line_and_a_larger_disk_lets_it_go_on(small: Path, workers: int) -> None:
    bench, graph, options = Bench(small), graph_of({i: () for i in range(12)}), RunOptions(workers=workers)
    with pytest.raises(StoreFault) as told:
        bench.run(graph, options)
    assert "No space left on device" in str(told.value) and "\n" not in str(told.value)
    finished = set(bench.store.keys())
    assert 2 <= len(finished) <= 6 and bench.store.verify_all() == {}
    assert {event.key for event in bench.events if isinstance(event, e.TaskFinished)} <= finished

    before = noted(bench.control, "start")
    assert len(before) <= len(finished) + 2, "it went on although the disk was full"
    subprocess.run(["mount", "-o", f"remount,size={40 * PAYLOAD_BYTES}", str(small)], check=True)
    assert bench.run(graph, options).exit_code == 0
    again = noted(bench.control, "start")[len(before) :]
    assert sorted(again) == sorted(i for i in range(12) if key_of(i) not in finished)


def test_a_store_that_becomes_read_only_stops_the_run_and_loses_nothing(small: Path) -> None:
    bench, graph = Bench(small), graph_of({1: (), 2: (1,), 3: (2,)})
    one = graph_of({1: ()})
    bench.run(one, ALONE)
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    with pytest.raises(StoreFault, match="Read-only file system"):
        bench.run(graph, ALONE)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    outcome = bench.run(graph, ALONE)
    assert (outcome.exit_code, outcome.cached_tasks, outcome.finished_tasks) == (0, 1, 2)


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    bench = Bench(tmp_path)
    bench.store.root.chmod(0o500)
    try:
        with pytest.raises(StoreFault, match="Permission denied"):
            bench.run(graph_of({1: ()}), ALONE)
    finally:
        bench.store.root.chmod(0o700)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["in process", "a worker"])
def test_a_store_that_is_taken_away_stops_the_run_and_brought_back_it_goes_on(tmp_path: Path, workers: int) -> None:
    bench, graph, aside = Bench(tmp_path), graph_of({i: () for i in range(6)}), tmp_path / "aside"

    def take_away(event: e.AnyEvent) -> None:
        if isinstance(event, e.TaskFinished) and not aside.exists():
            bench.store.root.rename(aside)

    with pytest.raises(StoreFault) as told:
        bench.run(graph, RunOptions(workers=workers), take_away)
    assert "\n" not in str(told.value) and str(bench.store.root) in str(told.value)
    assert not bench.store.root.exists(), "a store was made in its place"
    aside.rename(bench.store.root)
    outcome = bench.run(graph, ALONE)
    assert outcome.exit_code == 0 and outcome.cached_tasks >= 1
    assert outcome.cached_tasks + outcome.finished_tasks == 6


def test_a_store_that_is_gone_is_not_made_again_by_a_look(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        Store.open(tmp_path / "gone", create=False)


def test_a_clock_that_jumps_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, jumps = time.time, iter(range(10_000))
    monkeypatch.setattr(time, "time", lambda: real() + (-86_400 if next(jumps) % 2 else 86_400))
    bench = Bench(tmp_path)
    outcome = bench.run(graph_of({1: (), 2: (1,)}), ALONE)
    assert outcome.exit_code == 0
    assert all(0.0 <= bench.store.manifest(key_of(i)).seconds < 60.0 for i in (1, 2))
    assert bench.run(graph_of({1: (), 2: (1,)}), ALONE).cached_tasks == 2
