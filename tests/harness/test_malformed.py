"""Whatever stands in a suite file: exit code 2 and a line for each problem, nothing run, nothing written."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from tests.harness.malformed import malformed, written

MOST_CHARACTERS = 2_000
"""Of a line: what is found is cut, not repeated at length."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_STORE", raising=False)
    yield tmp_path


def told(place: Path, content: bytes) -> tuple[int, str]:
    (place / "suite.yaml").write_bytes(content)
    result = CliRunner().invoke(app, ["bench", "plan", "suite.yaml"])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result.exit_code, result.stderr


def complaint(place: Path, content: bytes) -> str | None:
    """What is wrong with how a suite was refused; None where all is right."""
    try:
        code, text = told(place, content)
    except AssertionError as error:
        return str(error)
    lines = text.splitlines()
    if code != 2:
        return f"exit code {code}: {text[:200]}"
    if not lines or not all(line.startswith("error: suite.yaml") for line in lines):
        return f"lines {text[:200]!r}"
    if any(len(line) > MOST_CHARACTERS or not line.isprintable() for line in lines):
        return f"not fit for a terminal: {text[:200]!r}"
    return None


def test_the_unchanged_suite_is_taken(place: Path) -> None:
    assert told(place, written().encode())[0] == 0


def test_more_than_500_malformed_suites_are_refused_in_lines_fit_for_a_terminal(place: Path) -> None:
    suites = dict(malformed())
    assert len(suites) >= 500
    wrong = {name: problem for name, content in suites.items() if (problem := complaint(place, content))}
    assert not wrong, "\n".join(f"{name}: {problem}" for name, problem in wrong.items())
    assert [path.name for path in place.iterdir()] == ["suite.yaml"], "something was written"
