"""A number that changed is told, whether beside a store, a folder or a commit; what is the same is only counted."""

import csv
import subprocess

import pytest

from reports import ReportError, check_report, compare_reports  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.against import compare
from reports.composition import table_texts
from tests.synthetic_store import cells, psnr


@pytest.fixture
def store(build, tmp_path):
    """A warehouse, and a report of it."""
    path = build(cells(ranks=(2,)))
    (tmp_path / "report").mkdir()
    for name, text in table_texts(path, "synthetic", ("latex", "md", "csv"), partial=False).items():
        (tmp_path / "report" / name).write_text(text)
    return path, tmp_path / "report"


def better(path, tmp_path):
    """The same cells, in another store, with every PSNR half a dB higher."""
    from benchmark.warehouse import build_warehouse
    from tests.synthetic_store import filled_store

    filler = filled_store(tmp_path / "better", cells(ranks=(2,)), finished=0)
    filler.psnr_of = lambda cell, secret: psnr(cell, secret) + 0.5
    for planned in filler.graph.cells:
        filler.finish(planned)
    build_warehouse(filler.store, filler.graph, tmp_path / "better" / "warehouse.duckdb")
    return tmp_path / "better"


def test_a_report_matches_the_store_it_was_made_from(store):
    path, report = store
    assert check_report(path, "synthetic", report) == []


def test_a_number_changed_by_hand_is_told_with_both_values(store):
    path, report = store
    file = report / "bridges_by_rank.csv"
    (row,) = [line for line in file.read_text().splitlines() if ",ridge," in line]
    file.write_text(file.read_text().replace(row, row.replace("18.75", "28.75", 1)))
    (line,) = check_report(path, "synthetic", report)
    assert line.startswith(f"{file}: psnr of model convnet")
    assert "bridge ridge" in line
    assert line.endswith("28.75 in the file, 18.75 in the store")


def test_a_table_that_is_missing_or_foreign_is_told(store):
    path, report = store
    (report / "exact.md").unlink()
    (report / "text.tex").write_text("% old")
    lines = check_report(path, "synthetic", report)
    assert [line.split(": ")[1] for line in lines] == [
        "not there, but the store has its numbers",
        "there, but the suite has no such table any more",
    ]


def test_the_same_numbers_on_other_artefacts_are_told(store):
    path, report = store
    file = report / "bridges_by_rank.tex"
    lines = file.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if "<-" in line)
    lines[place] = lines[place].replace("<- ", "<- 0000")
    file.write_text("".join(lines))
    (line,) = check_report(path, "synthetic", report)
    assert f"line {place + 1} stands on other artefacts" in line


def test_a_folder_without_tables_can_not_be_checked(store, tmp_path):
    with pytest.raises(ReportError, match="no table in") as caught:
        check_report(store[0], "synthetic", tmp_path / "nowhere")
    assert caught.value.exit_code == 2


def test_another_store_is_compared_number_by_number(store, tmp_path):
    path, report = store
    found = compare_reports(path, "synthetic", str(better(path, tmp_path)), report)
    measures = {one.measure for one in found.changed}
    assert measures == {"psnr", "psnr_median", "psnr_mean"}
    assert {round(one.change, 9) for one in found.changed if one.change} == {-0.5}
    assert not any("mean image" in one.place for one in found.changed)
    assert f"{len(found.numbers) - len(found.changed)} of {len(found.numbers)} numbers are the same" in found.markdown()
    rows = list(csv.DictReader(found.csv().splitlines()))
    assert len(rows) == len(found.numbers)


def test_a_commit_is_compared_by_the_tables_in_it(store, tmp_path):
    path, report = store
    git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org")
    for command in (("init", "-q"), ("add", "report"), ("commit", "-qm", "tables")):
        subprocess.run((*git, *command), check=True)
    file = report / "bridges_by_rank.csv"
    file.unlink()
    assert compare_reports(path, "synthetic", "HEAD", report).changed == ()
    for other in ("HEAD~7", "--output=x", "nonsense"):
        with pytest.raises(ReportError, match="no commit") as caught:
            compare_reports(path, "synthetic", other, report)
        assert caught.value.exit_code == 2


def test_nan_is_the_same_as_nan_and_what_is_gone_is_told():
    old = {"t": "bridge,rank,x_mean,x_half_width,x_interval_over\nridge,2,nan,,\nmlp,2,1.0,,\n"}
    new = {"t": "bridge,rank,x_mean,x_half_width,x_interval_over\nridge,2,nan,,\nmlp,2,,,\ndirect,2,3.0,,\n"}
    found = compare(old, new)
    told = [(one.place, one.old, one.new) for one in found.changed]
    assert told == [("bridge mlp, rank 2", 1.0, None), ("bridge direct, rank 2", None, 3.0)]
