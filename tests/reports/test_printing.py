"""LaTeX that compiles, and text that stays text, whatever a label holds."""

import csv
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import markdown_report, write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.csv_file import escape as csv_escape
from reports.latex import breakable
from reports.latex import escape as latex_escape
from reports.layout import number
from reports.markdown import escape as markdown_escape
from tests.synthetic_store import cells

HOSTILE = (
    r"\input{/etc/passwd}",
    r"50% of $x_1^2$ & {#~} \\ \end{tabular}",
    "<script>alert(1)</script>|[a](javascript:b)`c`",
    '=HYPERLINK("http://x")',
    "naïve 漢字 🙂 \x1b[31mred\nnew line",
)


def pdf_text(folder):
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True)
        assert done.returncode == 0, done.stdout[-2000:].decode("latin-1")
    log = (folder / "report.log").read_text("latin-1")
    text = subprocess.run(["pdftotext", "-layout", "report.pdf", "-"], cwd=folder, capture_output=True, check=True)
    return text.stdout.decode(), log


needs_latex = pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("pdftotext")), reason="pdflatex or pdftotext is not installed"
)


@needs_latex
def test_the_report_compiles_and_shows_its_numbers(warehouse, tmp_path):
    written = write_report(warehouse, "synthetic", tmp_path)
    assert all(path.is_file() and path.stat().st_size for path in written)
    text, log = pdf_text(tmp_path)
    assert "Overfull" not in log
    row = next(line for line in text.splitlines() if line.strip().startswith("ridge"))
    assert re.sub(r"\s+", "", row) == "ridgesgd-1allgiven3×318.75±1.2418.750.50020.75±1.2420.750.500"
    assert "row_mmse" in text
    assert "95 % t interval over the means of seeds" in text
    assert "36 of 36 cells" in text


@needs_latex
def test_hostile_labels_are_printed_letter_by_letter(build, tmp_path):
    def rename(filler):
        for place, planned in enumerate(filler.graph.cells):
            planned.labels["bridge"] = HOSTILE[place % len(HOSTILE)]
            planned.labels["model"] = planned.labels["recipe"] = HOSTILE[1]

    path = build(cells(ranks=(2, 4), seeds=(0,)), change=rename, suite=r"\evil_{suite}%")
    write_report(path, r"\evil_{suite}%", tmp_path / "out")
    text, _ = pdf_text(tmp_path / "out")
    flat = re.sub(r"\s+", "", text)
    assert r"\input{/etc/passwd}" in flat
    assert r"50%of$x_1^2$&{#~}\\\end{tabular}" in flat
    assert "root:" not in text
    assert "[U+6F22]" in flat
    assert r"\evil_{suite}%" in flat

    text = (tmp_path / "out" / "report.md").read_text()
    assert not re.search(r"(?<!\\)(<script|\]\(javascript)", text)
    assert "\x1b" not in text
    with (tmp_path / "out" / "bridges_by_rank.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())


def test_latex_says_where_its_numbers_come_from(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("latex",))
    head = (tmp_path / "bridges_by_rank.tex").read_text().split(r"\begin{table}")[0]
    assert all(line.startswith("%") for line in head.splitlines() if line)
    assert "Suite: synthetic" in head
    assert "Cells: 36 of 36 with a result" in head
    assert len(re.findall(r"\b[0-9a-f]{12}\b", head)) == 36


def test_a_second_writing_gives_the_same_bytes(warehouse, tmp_path):
    first = write_report(warehouse, "synthetic", tmp_path / "a")
    second = write_report(warehouse, "synthetic", tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert [
        path.name for path, other in zip(first, second, strict=True) if path.read_bytes() != other.read_bytes()
    ] == []


def test_a_long_table_is_carried_over(build, tmp_path):
    many = [cell for _ in range(12) for cell in cells(ranks=(2,), seeds=(0,), num_secrets=1)]
    for place, labelled in enumerate(many):
        labelled.labels["model"] = f"model {place // 3}"
    distinct = [
        type(labelled)(labelled.cell.model_copy(update={"seed": place // 3}), labelled.labels)
        for place, labelled in enumerate(many)
    ]
    path = build(distinct)
    write_report(path, "synthetic", tmp_path / "out", ("latex",))
    text = (tmp_path / "out" / "bridges_by_rank.tex").read_text()
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert labels == ["tab:synthetic-bridges-by-rank", "tab:synthetic-bridges-by-rank-2"]
    assert text.count("(Continued.)") == 1
    assert text.count(r"\emph{") == 12


def test_markdown_columns_are_aligned(warehouse):
    for block in re.findall(r"(?:^\|.*\n)+", markdown_report(warehouse, "synthetic"), re.M):
        assert len({len(line) for line in block.splitlines()}) == 1


@given(st.text())
def test_no_text_leaves_its_line_or_its_cell(text):
    for escaped in (markdown_escape(text), latex_escape(text)):
        assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<]", markdown_escape(text))
    # What is left once our own commands are taken away holds no sign that LaTeX acts on.
    ours = r"\\[a-z]+\{\}|\\[{}$&#%_]|\$\\(?:pm|times|surd|cdot)\$|\$\^\\dagger\$|\{\\char34\}|[-',]\{\}"
    for escaped in (latex_escape(text), breakable(text)):
        assert not re.search(r"[\\{}$&#%_^~]", re.sub(ours, "", escaped))
    assert breakable(text).replace(r"\allowbreak{}", "").replace("{}", "") == latex_escape(text).replace("{}", "")
    assert not csv_escape(text).lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.005, "1.00"), (-0.001, "0.00"), (-1.5, "-1.50"), (float("nan"), "nan"), (float("inf"), "inf")],
)
def test_numbers_keep_their_decimals(value, text):
    assert number(value, 2) == text
