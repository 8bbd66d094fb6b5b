"""The command as a stranger types it: run, run again, kill and go on, report."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import events as e
from benchmark import journal
from benchmark.store import Store

ROOT = Path(__file__).parents[2]
SUITE = """\
name: tiny
num_secrets: 2
models: [{kind: vit, depth: 1, width: 16, heads: 2, patch: 4, pretraining: {epochs: 1}}]
ranks: [2, 4]
datasets: [{label: digits, proxy: digits, private: digits, image_size: 8}]
bridges: [{kind: ridge, num_pairs: 256}, projection]
inversions: [{kind: inverting_gradients, iterations: 5, restarts: 1}]
"""
LONGER = SUITE.replace("iterations: 5", "iterations: 300")
TEXTS = {".tex", ".md", ".csv"}
OPTIONS = ("--plain", "--store", "store")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmark.cli", *arguments]


def variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("BRIDGE_STORE", "MLFLOW_TRACKING_URI")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def bridge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `bridge` in `folder`; the process must end well."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=variables(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def journals(folder: Path) -> list[list[e.AnyEvent]]:
    """The events of every run, in order."""
    return [list(journal.read(path)) for path in sorted((folder / "store" / "runs").glob("*/journal.jsonl"))]


def keys(events: list[e.AnyEvent], kind: type[e.TaskCached | e.TaskStarted | e.TaskFinished]) -> list[str]:
    return [event.key for event in events if isinstance(event, kind)]


def planned(events: list[e.AnyEvent]) -> set[str]:
    (start,) = (event for event in events if isinstance(event, e.RunStarted))
    return {task.key for task in start.tasks}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny suite has been run by a worker process."""
    folder = tmp_path_factory.mktemp("e2e")
    (folder / "tiny.yaml").write_text(SUITE)
    bridge(folder, "bench", "run", "tiny.yaml", *OPTIONS, "--workers", "1")
    return folder


def test_a_run_makes_every_artefact_once(finished: Path) -> None:
    first = journals(finished)[0]
    assert sorted(keys(first, e.TaskFinished)) == sorted(planned(first))
    assert set(Store.open(finished / "store").keys()) == planned(first)
    assert sum(isinstance(event, e.CellFinished) for event in first) == 4


def test_running_again_recomputes_nothing(finished: Path) -> None:
    bridge(finished, "bench", "run", "tiny.yaml", *OPTIONS, "--workers", "1")
    first, again = journals(finished)[0], journals(finished)[-1]
    assert again != first and planned(again) == planned(first)
    assert sorted(keys(again, e.TaskCached)) == sorted(planned(again))
    assert not keys(again, e.TaskStarted) and not keys(again, e.TaskFinished)


def test_the_report_has_the_cells_and_their_controls(finished: Path) -> None:
    bridge(finished, "report", "tiny.yaml", "--store", "store", "--out", "report")
    written = {path.suffix: path.read_text() for path in (finished / "report").rglob("*") if path.suffix in TEXTS}
    assert set(written) >= TEXTS
    text = "".join(path.read_text() for path in (finished / "report").rglob("*.md"))
    assert "ridge" in text and "projection" in text


def test_a_report_is_checked_compared_and_made_a_paper(finished: Path) -> None:
    options = ("report", "tiny.yaml", "--store", "store")
    bridge(finished, *options, "--out", "tables", "--format", "csv", "--format", "latex")
    assert "every table is what the store says" in bridge(finished, *options, "--out", "tables", "--check").stdout
    assert "numbers are the same" in bridge(finished, *options, "--out", "tables", "--against", "store").stdout
    table = finished / "tables" / "bridges_by_rank.csv"
    table.write_text(table.read_text().replace(",ridge,", ",ridges,"))
    checked = subprocess.run(
        command(*options, "--out", "tables", "--check"), cwd=finished, env=variables(), capture_output=True, check=False
    )
    assert checked.returncode == 1
    assert b"bridges_by_rank.csv" in checked.stdout and b"Traceback" not in checked.stderr
    bridge(finished, "report", "--paper", "--store", "store", "--out", "paper")
    assert r"\input{01-tiny/bridges_by_rank}" in (finished / "paper" / "paper.tex").read_text()


def test_the_suite_file_alone_decides_where_it_is_run(finished: Path, tmp_path: Path) -> None:
    """Artefacts are found by content: the same suite of another name elsewhere has the same keys."""
    (tmp_path / "other.yaml").write_text(SUITE.replace("name: tiny", "name: other"))
    (tmp_path / "store").symlink_to(finished / "store")
    told = bridge(tmp_path, "bench", "run", "other.yaml", *OPTIONS, "--workers", "0")
    assert f"{len(planned(journals(finished)[0]))} tasks cached" in told.stdout


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run of the longer suite in a process group of its own; killed with all its workers in the end."""
    (tmp_path / "tiny.yaml").write_text(LONGER)
    arguments = command("bench", "run", "tiny.yaml", *OPTIONS, "--workers", "1")
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            arguments, cwd=tmp_path, env=variables(), stdout=log, stderr=log, start_new_session=True
        )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def done_so_far(folder: Path) -> set[str]:
    found = journals(folder)
    return set(keys(found[0], e.TaskFinished)) if found else set()


def test_after_sigkill_no_finished_task_is_repeated(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    limit = time.monotonic() + 120
    while len(done_so_far(tmp_path)) < 8 and running.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    before = done_so_far(tmp_path)
    assert 8 <= len(before) < len(planned(journals(tmp_path)[0]))
    bridge(tmp_path, "bench", "run", "tiny.yaml", *OPTIONS, "--workers", "0")
    first, second = journals(tmp_path)
    assert not before & set(keys(second, e.TaskStarted))
    assert before <= set(keys(second, e.TaskCached))
    assert set(keys(second, e.TaskCached)) | set(keys(second, e.TaskFinished)) == planned(first) == planned(second)
