"""The first minutes: `bridge` alone, `bridge init`, `bridge doctor`, and what the shell completes."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.commands.completing import complete_run, complete_suite
from benchmark.doctor import look
from benchmark.first import text_of
from benchmark.journal import Journal, journal_path
from benchmark.next_steps import here
from benchmark.suite import expand, load_suite
from tests.tui.synthetic import RUN, Plan, run, write

ROOT = Path(__file__).parents[2]
EVENTS = list(run(Plan(bridges=("oracle",), ranks=("2",), seeds=("0",)), failing=[("oracle", "2")]))


def bridge(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Type `bridge` in `folder`."""
    kept = {name: value for name, value in os.environ.items() if name != "BRIDGE_STORE"}
    kept |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, "-m", "benchmark.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("kind", ["images", "text"])
def test_the_first_suite_is_valid_and_explains_every_axis(tmp_path: Path, kind: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text_of(kind, path))  # pyright: ignore[reportArgumentType]
    suite = load_suite(path)
    assert 2 <= len(expand(suite)) <= 12
    lines = path.read_text().splitlines()
    for axis in ("seeds:", "num_secrets:", "models:", "ranks:", "datasets:", "recipes:"):
        place = next(i for i, line in enumerate(lines) if line.startswith(axis))
        above = "\n".join(lines[max(0, place - 3) : place])
        assert "#" in above, f"{axis} is explained by what stands above it"
    assert f"bridge bench run {path}" in path.read_text()


def test_init_writes_a_suite_that_validates_and_never_over_a_file(tmp_path: Path):
    done = bridge(tmp_path, "init")
    assert done.returncode == 0 and "bridge bench run first.yaml" in done.stdout
    checked = bridge(tmp_path, "bench", "validate", "first.yaml")
    assert checked.returncode == 0 and "valid" in checked.stdout, checked.stderr
    (tmp_path / "first.yaml").write_text("mine")
    again = bridge(tmp_path, "init")
    assert again.returncode == 2 and again.stderr == (
        "error: first.yaml is there already; wanted a new file; give another path, or --force\n"
    )
    assert (tmp_path / "first.yaml").read_text() == "mine"
    assert bridge(tmp_path, "init", "no/such/folder.yaml").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "text"])
def test_the_first_suite_runs_and_is_reported(tmp_path: Path, kind: str):
    assert bridge(tmp_path, "init", "--kind", kind).returncode == 0
    done = bridge(tmp_path, "bench", "run", "first.yaml", "--plain", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bridge(tmp_path, "report", "first.yaml").returncode == 0


def test_doctor_finds_what_is_here_and_fails_only_for_what_a_run_needs(tmp_path: Path):
    found = {finding.what: finding for finding in look(tmp_path / "store")}
    assert found["Python"].grade == found["torch"].grade == found["packages"].grade == "good"
    assert found["data `digits`"].grade == "good"
    assert all(finding.remedy for finding in found.values() if finding.grade != "good")


def test_doctor_tells_a_store_that_can_not_be_written_and_a_missing_latex(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    early = itertools.takewhile(lambda finding: finding.what != "torch", look(tmp_path))
    found = {finding.what: finding for finding in early}
    assert found["LaTeX"].grade == "note" and "apt-get install" in found["LaTeX"].remedy
    assert found["store"].grade == "bad" and "--store" in found["store"].remedy


@pytest.mark.slow
def test_doctor_speaks_json_and_its_exit_code_says_whether_a_run_can_work(tmp_path: Path):
    done = bridge(tmp_path, "doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == int(any(finding["grade"] == "bad" for finding in findings))
    assert {"what", "grade", "found", "remedy"} == set(findings[0])


def test_bridge_alone_tells_of_the_suites_and_the_last_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_STORE", raising=False)
    assert list(here()) == []
    Path("mine.yaml").write_text("# mine\nname: mine\n")
    Path("other.yaml").write_text("services: {}\n")
    journal = journal_path(Path(".bridge"), RUN)
    write(journal, EVENTS[:-1])
    told = "\n".join(here())
    assert "suites: mine.yaml" in told and "other.yaml" not in told
    assert f"run {RUN} has not ended: bridge bench watch" in told
    with Journal(journal) as file:
        file.write(EVENTS[-1])
    assert "finished with failures" in (told := "\n".join(here())) and "bridge bench retry" in told


def test_the_shell_completes_runs_and_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_STORE", raising=False)
    write(journal_path(Path(".bridge"), RUN), EVENTS[:1])
    Path("suites").mkdir()
    Path("suites/a.yaml").touch()
    Path("suites/b.txt").touch()
    assert complete_run("2026") == [RUN] and complete_run("2025") == []
    assert complete_suite("su") == ["suites/"] and complete_suite("suites/") == ["suites/a.yaml"]
    done = bridge(tmp_path, _BRIDGE_COMPLETE="complete_bash", COMP_WORDS="bridge bench watch 2", COMP_CWORD="3")
    assert done.stdout.split() == [RUN]
