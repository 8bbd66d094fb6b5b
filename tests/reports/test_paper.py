"""The skeleton of a paper compiles with plain pdflatex and shows all suites of the store."""

import subprocess

import pytest

from reports import ReportError, write_paper  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from tests.reports.test_printing import needs_latex
from tests.synthetic_store import cells, filled_store


@pytest.fixture
def two_suites(tmp_path):
    from benchmark.warehouse import build_warehouse

    for name, ranks in (("first_suite", (2,)), ("second & last", (4, 8))):
        filler = filled_store(tmp_path / "store", cells(ranks=ranks, seeds=(0,)), suite=name)
        build_warehouse(filler.store, filler.graph, tmp_path / "w.duckdb")
    return tmp_path / "w.duckdb"


@needs_latex
def test_the_paper_compiles_with_the_tables_and_figures_of_every_suite(two_suites, tmp_path):
    written = write_paper(two_suites, (), tmp_path / "paper")
    assert written[-1] == tmp_path / "paper" / "paper.tex"
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path / "paper", capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:].decode("latin-1")
    log = (tmp_path / "paper" / "paper.log").read_text("latin-1")
    assert "undefined" not in log and "multiply defined" not in log
    told = subprocess.run(["pdftotext", "-layout", "paper.pdf", "-"], cwd=tmp_path / "paper", capture_output=True)
    text = told.stdout.decode()
    for wanted in ("first_suite", "second & last", "Threat model", "Figure 1", "PSNR (dB)", "Reproducibility"):
        assert wanted in text


def test_one_suite_can_be_chosen_and_an_empty_store_is_refused(two_suites, tmp_path):
    write_paper(two_suites, ("first_suite",), tmp_path / "paper")
    text = (tmp_path / "paper" / "paper.tex").read_text()
    assert (
        r"first\_suite" in text and "last" not in text.split(r"\section{Results}")[1].split(r"\section{Limitations}")[0]
    )
    with pytest.raises(ReportError, match="no results in"):
        write_paper(tmp_path / "none.duckdb", (), tmp_path / "paper")
