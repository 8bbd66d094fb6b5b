"""The command line: exit codes, plain output, running again, and what stays unimported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark import events as e
from benchmark.cli import app
from benchmark.journal import Journal
from benchmark.store import Store

ROOT = Path(__file__).parents[2]

SUITE = """\
name: tiny
num_secrets: 1
models: [{kind: vit, depth: 1, width: 16, heads: 2, pretraining: {epochs: 1}}]
ranks: [2]
datasets: [{proxy: digits, private: digits, image_size: 8}]
bridges: [oracle, projection]
inversions: [{kind: inverting_gradients, iterations: 3, restarts: 1}]
"""


def bridge(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `bridge` as a process of its own in `folder`."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    variables.pop("BRIDGE_STORE", None)
    command = [sys.executable, "-m", "benchmark.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite `s.yaml` and a store in which it is finished."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "s.yaml").write_text(SUITE)
    done = bridge(folder, "bench", "run", "s.yaml", "--plain", "--workers", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cells finished, 0 failed, 0 tasks cached" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("next: bridge report s.yaml")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_STORE", raising=False)
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path


def call(*arguments: str) -> tuple[int, str, str]:
    """Run `bridge` in this process: exit code, standard output, standard error."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- without any store ------------------------------------------------------------------------------------------------


def test_alone_it_says_what_to_do_next() -> None:
    code, out, _ = call()
    assert code == 0
    assert "bridge bench run suites/quickstart.yaml" in out


def test_help_imports_nothing_heavy(place: Path) -> None:
    script = "import sys; from benchmark.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "pydantic", "dask", "mlflow", "duckdb", "textual", "pyarrow", "yaml"}
    assert not heavy & set(done.stdout.splitlines()[-1].split())


def test_schema_is_printed_as_json() -> None:
    code, out, _ = call("schema")
    assert code == 0
    assert json.loads(out) == json.loads((ROOT / "suites" / "suite.schema.json").read_text())


def test_plan_shows_what_would_run_and_writes_nothing(place: Path) -> None:
    code, out, _ = call("bench", "plan", "s.yaml", "--tasks")
    assert code == 0
    assert out.startswith(
        "tiny: 2 cells, 13 tasks: 0 cached, 13 to run\nwithout sharing there were 1.5 times as many tasks\n"
    )
    assert "never made (2)" in out
    assert len([line for line in out.splitlines() if line.endswith("never made")]) == 13
    assert left_in(place) == ["s.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [["bench", "status"], ["bench", "watch"], ["bench", "logs"], ["store", "verify"], ["store", "gc", "s.yaml"]],
    ids=" ".join,
)
def test_a_look_at_a_store_that_is_not_there_fails_with_2_and_makes_none(place: Path, arguments: list[str]) -> None:
    code, _, error = call(*arguments)
    assert code == 2
    assert error.startswith("error: no ")
    assert error.count("\n") == 1
    assert left_in(place) == ["s.yaml"]


def test_report_and_ui_without_results_say_what_to_do(place: Path) -> None:
    for arguments in (["report", "s.yaml"], ["ui"]):
        code, _, error = call(*arguments)
        assert code == 2
        assert "bridge bench run" in error
    assert left_in(place) == ["s.yaml"]


def test_no_runs_is_no_error(place: Path) -> None:
    assert call("bench", "ls") == (0, "no run in .bridge; bridge bench run SUITE makes one\n", "")


def test_a_folder_that_is_no_store_is_left_alone(place: Path) -> None:
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpg").write_text("meow")
    code, _, error = call("store", "verify", "--store", "photos")
    assert code == 2
    assert error.startswith("error: no store in ")
    assert left_in(place / "photos") == ["cat.jpg"]


@pytest.mark.parametrize(
    ("command", "suite", "told"),
    [
        ("run", SUITE.replace("ranks: [2]", "ranks: [999]"), "rank"),
        ("validate", SUITE.replace("width: 16", "width: 16, target_modules: [no_such_module]"), "no_such_module"),
    ],
    ids=["rank larger than a layer", "no matching module"],
)
def test_what_only_torch_can_tell_is_refused_before_anything_is_written(
    place: Path, command: str, suite: str, told: str
) -> None:
    (place / "s.yaml").write_text(suite)
    done = bridge(place, "bench", command, "s.yaml")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: s.yaml: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert left_in(place) == ["s.yaml"]


def test_a_bug_is_one_line_and_a_file_with_the_traceback(place: Path) -> None:
    script = "from benchmark import cli, run; run.plan_graph = lambda path: 1 / 0; cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    command = [sys.executable, "-c", script, "bench", "plan", "s.yaml"]
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: unexpected ZeroDivisionError: division by zero; the traceback is in ")
    (written,) = place.glob("bridge-*.txt")
    assert "ZeroDivisionError" in written.read_text()


# --- a finished store -------------------------------------------------------------------------------------------------


def test_running_again_does_nothing_and_imports_nothing_heavy(finished: Path) -> None:
    call = "print(app(sys.argv[1:], standalone_mode=False))"
    script = f"import sys; from benchmark.cli import app; {call}; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, "bench", "run", "s.yaml", "--quiet", "--workers", "1"]
    done = subprocess.run(command, env=environment, cwd=finished, capture_output=True, text=True, check=True)
    *_, end, code, modules = done.stdout.splitlines()
    assert code == "0"
    assert "2 cells finished, 0 failed, 13 tasks cached" in end
    assert not {"torch", "distributed", "mlflow", "duckdb", "textual"} & set(modules.split())


def test_json_events_are_the_journals(finished: Path) -> None:
    done = bridge(finished, "bench", "run", "s.yaml", "--json")
    events = [e.EVENT.validate_json(line) for line in done.stdout.splitlines()]
    assert [type(event) for event in (events[0], events[-1])] == [e.RunStarted, e.RunFinished]
    assert sum(isinstance(event, e.TaskCached) for event in events) == 13
    *_, latest = sorted(finished.glob(".bridge/runs/*/journal.jsonl"))
    assert len(latest.read_text().splitlines()) == len(events)


def test_limit_takes_the_first_cells(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    code, out, _ = call("bench", "run", "s.yaml", "--limit", "1", "--plain")
    assert code == 0
    assert "1 cell finished, 0 failed, 9 tasks cached" in out


def test_history_of_a_finished_store(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    code, out, _ = call("bench", "ls")
    first = out.splitlines()[1].split()
    assert (code, first[1:4]) == (0, ["tiny", "finished", "2/2"])
    code, out, _ = call("bench", "status", first[0])
    assert code == 0
    assert out.startswith(f"run {first[0]} of tiny: finished, ")
    assert "2 cells: 2 finished" in out
    code, out, _ = call("bench", "watch", first[0])
    assert code == 0
    assert "2 cells finished, 0 failed" in out
    assert call("bench", "logs", first[0])[1] == f"nothing failed in run {first[0]}\n"
    code, _, error = call("bench", "status", "1999")
    assert (code, error[:27]) == (2, "error: no run '1999' in .br")


def test_a_locked_store_names_its_holder_and_exits_with_3(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    with Store.open(Path(".bridge")).lock("other"):
        code, _, error = call("bench", "run", "s.yaml", "--plain")
    assert code == 3
    assert f"process {os.getpid()}" in error
    assert error.count("\n") == 1


def test_plan_tells_which_knob_makes_a_task_run_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    assert "13 tasks: 13 cached, 0 to run" in call("bench", "plan", "s.yaml")[1]
    (finished / "changed.yaml").write_text(SUITE.replace("iterations: 3", "iterations: 4"))
    out = call("bench", "plan", "changed.yaml")[1]
    assert "13 tasks: 9 cached, 4 to run" in out
    assert "knobs changed: inversion.iterations (2)" in out
    assert "input changed: attack (2)" in out


def test_gc_keeps_what_the_suites_need(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    assert call("store", "gc", "s.yaml")[1].startswith("0 artefacts, 0.0 MiB, would be removed")
    (finished / "one.yaml").write_text(SUITE.replace("[oracle, projection]", "[oracle]"))
    assert call("store", "gc", "one.yaml")[1].startswith("4 artefacts, ")
    assert "13 cached" in call("bench", "plan", "s.yaml")[1], "without --yes nothing goes"


def test_verify_quarantines_a_corrupt_artefact(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    assert call("store", "verify")[:2] == (0, "13 artefacts whole, 0 corrupt\n")
    (path, *_) = sorted(finished.glob(".bridge/artefacts/*/*/facts.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, out, error = call("store", "verify")
    assert (code, out) == (1, "12 artefacts whole, 1 corrupt\n")
    assert error.startswith(f"corrupt: {path.parent.name}: facts.parquet does not match its checksum; quarantined")
    (moved,) = finished.glob(".bridge/quarantine/*")
    (moved / "problem.txt").unlink()
    moved.rename(path.parent)
    path.write_bytes(whole)


# --- failures, told from a journal ------------------------------------------------------------------------------------


def write_failed_run(store: Path, hostile: str) -> str:
    """A run of one cell that failed with a `hostile` message."""
    with Journal.start(store) as journal:
        tasks = (e.TaskInfo(key="a" * 64, phase="base", inputs={}), e.TaskInfo(key="b" * 64, phase="score", inputs={}))
        cells = (e.CellInfo(id="c1", labels={"rank": "2"}, tasks={"base": "a" * 64, "score": "b" * 64}),)
        journal.write(
            e.RunStarted(time=0, run=journal.run, suite="tiny", pid=1, host="h", workers=1, tasks=tasks, cells=cells)
        )
        journal.write(e.TaskStarted(time=1.0, key="a" * 64, worker="w", attempt=1))
        trace = f"Traceback\n  {hostile}\nDiverged"
        journal.write(
            e.TaskFailed(
                time=2, key="a" * 64, attempt=1, cause="Diverged", message=hostile, traceback=trace, final=True
            )
        )
        journal.write(e.TaskSkipped(time=2.0, key="b" * 64, because="a" * 64))
        journal.write(e.CellFailed(time=2.0, cell="c1", key="a" * 64, cause="Diverged"))
        journal.write(e.RunFinished(time=3.0, exit_code=1, finished_cells=0, failed_cells=1))
        return journal.run


def test_failures_are_told_with_cause_and_traceback_and_untrusted_text_is_plain(place: Path) -> None:
    run = write_failed_run(place / ".bridge", "loss is \x1b[31m[red]NaN[/red]")
    code, out, _ = call("bench", "logs")
    assert code == 0
    assert f"base {'a' * 64}, attempt 1: Diverged: loss is [31m[red]NaN[/red]" in out
    assert "\n    Traceback\n" in out
    assert "\x1b" not in out
    assert call("bench", "logs", run, "--task", "bbb")[1].startswith("nothing failed in run")
    out = call("bench", "status")[1]
    assert "finished with failures" in out
    assert "Diverged: 1 task, 1 cell: loss is" in out
    code, out, _ = call("bench", "watch")
    assert code == 1
    assert "base aaaaaaaa FAILED: Diverged: loss is" in out
    assert "\x1b" not in out
