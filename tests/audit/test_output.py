"""What the command writes, and what it exits with."""

import html
import io
import json
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console
from typer.testing import CliRunner

from audit.page import as_page
from audit.report import Report, Severity, json_schema
from audit.run import audit_adapter
from audit.sarif import as_sarif
from audit.terminal import print_report
from benchmark.cli import app
from tests.audit.hostile import CONFIG, plain_data, plain_header, safetensors, write

SCHEMA = Path(__file__).parents[2] / "docs" / "audit-report.schema.json"
HOSTILE_NAME = "<script>alert(1)</script>"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """With a stray state, and words that would be code in a page."""
    header = plain_header() | {"__metadata__": {"ss_tag_frequency": json.dumps({HOSTILE_NAME: 3})}}
    folder = write(
        tmp_path / "a", safetensors(header, plain_data()), CONFIG | {"base_model_name_or_path": HOSTILE_NAME}
    )
    (folder / "optimizer.pt").write_bytes(b"pickled")
    return folder


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_the_schema_in_the_docs_is_that_of_the_report(adapter: Path) -> None:
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(json_schema()))
    code, out, _ = call("audit", str(adapter), "--format", "json", "--fail-on", "never")
    assert code == 0
    jsonschema.validate(json.loads(out), json.loads(SCHEMA.read_text()))
    assert Report.model_validate_json(out).findings[0].severity is Severity.HIGH


@pytest.mark.parametrize(
    ("fail_on", "code"), [("never", 0), ("info", 1), ("low", 1), ("medium", 1), ("high", 1), ("critical", 0)]
)
def test_the_exit_code_follows_the_severity(fail_on: str, code: int, adapter: Path) -> None:
    assert call("audit", str(adapter), "--fail-on", fail_on)[0] == code


def test_bad_input_is_one_line_and_exits_with_2(tmp_path: Path) -> None:
    for arguments in (("audit", str(tmp_path)), ("protect", str(tmp_path), "--out", str(tmp_path / "b"))):
        code, out, complaint = call(*arguments)
        assert (code, out) == (2, "")
        assert len(complaint.splitlines()) == 1 and complaint.startswith("error: no adapter_model.safetensors")
    assert call("audit", str(write(tmp_path)), "--attack")[0] == 2


def test_sarif_has_what_the_standard_demands(adapter: Path) -> None:
    found = as_sarif(audit_adapter(adapter), "models/a")
    (run,) = found["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert found["version"] == "2.1.0" and found["$schema"].endswith("sarif-2.1.0.json")
    assert len({one["id"] for one in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error") and result["message"]["text"]
        assert (result["level"] == "none") == (result["kind"] == "informational")
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/a"


def test_the_page_loads_nothing_and_runs_nothing_of_the_adapter(adapter: Path) -> None:
    page = as_page(audit_adapter(adapter))
    assert "<script" not in page and html.escape(HOSTILE_NAME) in page
    assert not [word for word in ("http://", "https://", "src=", "url(", "@import") if word in page]
    assert "optimiser-state" in page and "no proof" in page and "<svg" in page


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_page_keeps_its_width(width: int, adapter: Path) -> None:
    file = io.StringIO()
    print_report(audit_adapter(adapter), Console(file=file, width=width))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("HIGH" in line for line in lines) and "no proof" in " ".join(lines)


def test_protect_writes_and_tells(adapter: Path, tmp_path: Path) -> None:
    code, out, _ = call("protect", str(adapter), "--out", str(tmp_path / "b"), "--dtype", "float16")
    assert code == 0
    assert "optimiser-state" in out and "gone" in out and "no proof" in out
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
