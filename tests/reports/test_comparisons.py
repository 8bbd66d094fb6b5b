"""The table of comparisons: along every axis, on the same secrets, against the best."""

import csv
import math

import pytest

from bridge_core import spec as s
from reports import markdown_report, write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from tests.synthetic_store import GAIN, cells, psnr


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def compared(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("csv",))
    return read(tmp_path / "comparisons.csv")


def test_bridges_are_compared_with_the_best_on_the_same_secrets(compared):
    rows = [row for row in compared if (row["axis"], row["rank"]) == ("bridge", "2")]
    assert {row["best"] for row in rows} == {"ridge"}
    assert {row["other"] for row in rows} == {"mean image", "projection", "row_mmse", "mlp", "direct"}
    for row in rows:
        if row["other"] != "mean image":
            assert float(row["mean_difference"]) == pytest.approx(GAIN["ridge"] - GAIN[row["other"]])
        assert row["num_pairs"] == "9"
        assert float(row["p"]) == pytest.approx(2 / 2**9)
        assert float(row["p_holm"]) == pytest.approx(5 * 2 / 2**9)
        assert row["significant_at_0.05"] == "true"


def test_ranks_are_compared_bridge_by_bridge(compared):
    rows = [row for row in compared if row["axis"] == "rank"]
    assert {row["bridge"] for row in rows} == {"projection", "row_mmse", "ridge", "mlp", "direct"}
    assert {(row["best"], row["other"], float(row["mean_difference"])) for row in rows} == {("8", "2", 2.0)}


def test_the_oracle_is_never_the_best(compared):
    assert not any("oracle" in (row["best"], row["other"], row["bridge"]) for row in compared)


def test_recipes_of_other_sample_numbers_have_other_secrets(build, tmp_path):
    many = s.Recipe(num_samples=2, batch_size=2)
    path = build(cells(ranks=(2,), bridges=(s.Direct(),)) + cells(ranks=(2,), bridges=(s.Direct(),), recipe=many))
    write_report(path, "synthetic", tmp_path / "out", ("csv",))
    assert {row["axis"] for row in read(tmp_path / "out" / "comparisons.csv")} == {"bridge"}


def test_a_diverged_row_is_worse_than_any(build):
    def diverge(filler):
        filler.psnr_of = lambda cell, secret: math.nan if s.kind_of(cell.bridge) == "ridge" else psnr(cell, secret)

    text = markdown_report(build(cells(ranks=(2,)), change=diverge), "synthetic")
    rows = [line for line in text.split("## Comparisons")[1].splitlines() if "| ridge" in line]
    assert rows and all("inf" in row and "—" in row and row.startswith("| projection") for row in rows)


def test_the_printed_table_says_what_was_held(warehouse):
    text = markdown_report(warehouse, "synthetic").split("## Comparisons")[1]
    row = next(line for line in text.splitlines() if line.startswith("| ridge | mlp") and "rank 2" in line)
    assert [part.strip() for part in row.strip("|").split("|")][3:] == ["9", "2.00", "—", "0.004", "0.020"]
    assert "**rank compared by PSNR (dB), best less other**" in text


def test_bold_marks_the_best_and_nothing_where_pairs_are_few(warehouse, build):
    text = markdown_report(warehouse, "synthetic").split("\n## ")[0]
    lines = [
        [part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert {line[0] for line in lines if line[4].startswith("**")} == {"ridge"}
    assert not any("**" in part for line in lines if line[0] in ("oracle", "mean image") for part in line)
    few = markdown_report(build(cells(ranks=(2,), seeds=(0,))), "synthetic").split("\n## ")[0]
    assert "Nothing is bold" in few and "**" not in few.split("|", 1)[1]
