"""Tables hold the store's numbers beside their controls, and refuse or mark what is missing."""

import csv
import math
import subprocess
import sys
from statistics import fmean

import pytest

from bridge_core import spec as s
from reports import ReportError, markdown_report, write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.declaration import load_definitions
from reports.estimate import half_width
from tests.synthetic_store import cells, psnr

ALL = (s.Projection(), s.RowMmse(), s.Ridge(), s.Mlp(), s.Direct(), s.Oracle())


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def section(text, title):
    return text.split(f"## {title}")[1].split("\n## ")[0]


def line(text, start):
    return next(row for row in text.splitlines() if row.startswith(f"| {start} "))


def entries(row):
    return [part.strip() for part in row.strip("|").split("|")]


def test_every_number_of_the_first_table_is_that_of_its_cells(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("csv",))
    rows = read(tmp_path / "bridges_by_rank.csv")
    assert len(rows) == 7 * 2
    for row in rows:
        if row["bridge"] == "mean image":
            seeds = [9.0 + 0.1 * seed + 0.01 for seed in range(3)]
        else:
            like = cells(bridges=[next(b for b in ALL if s.kind_of(b) == row["bridge"])], ranks=[int(row["rank"])])
            seeds = [fmean(psnr(one.cell, secret) for secret in range(3)) for one in like]
        assert float(row["psnr_mean"]) == pytest.approx(fmean(seeds))
        assert float(row["psnr_half_width"]) == pytest.approx(half_width(seeds))
        assert (row["num_seeds"], row["num_units"], row["psnr_interval_over"]) == ("3", "3", "seeds")


def test_controls_stand_above_and_the_oracle_below_the_results(warehouse):
    text = section(markdown_report(warehouse, "synthetic"), "Reconstruction by bridge and rank")
    order = [entries(row)[0] for row in text.splitlines() if row.startswith("|")][2:]
    assert order == ["mean image", "projection", r"row\_mmse", "ridge", "mlp", "direct", "oracle"]
    header = entries(line(text, "Bridge"))
    assert header[:4] == ["Bridge", "Recipe", "Told", "n"]
    assert [name for name in header if "PSNR" in name] == ["rank 2 PSNR (dB)", "rank 8 PSNR (dB)"]
    ridge = entries(line(text, "ridge"))
    assert ridge[:4] == ["ridge", "sgd-1", "all given", "3 × 3"]
    assert ridge[4] == "**18.75 ± 1.24**"  # the best of what an attacker has
    assert "secret\\_labels=given" in text
    assert "optimiser.learning\\_rate=0.1" in text


@pytest.mark.parametrize("title", ["Decoders on held-out proxy data", "Decoded gradients of the victims"])
def test_cosines_stand_beside_floor_projection_and_mean_gradient(warehouse, title):
    text = section(markdown_report(warehouse, "synthetic"), title)
    names = [entries(row)[0] for row in text.splitlines() if row.startswith("|")][2:]
    assert names[:3] == ["floor √(r/d)", "projection", "mean gradient"]
    assert "ridge" in names and "direct" not in names
    assert names.count("projection") == 1


def test_decoder_cosines_are_worst_and_mean_over_modules(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("csv",))
    row = next(row for row in read(tmp_path / "decoder_cosine.csv") if row["bridge"] == "ridge")
    assert float(row["worst_mean"]) == pytest.approx(0.81)
    assert float(row["mean_mean"]) == pytest.approx(0.86)
    assert float(row["mean_half_width"]) == pytest.approx(half_width([0.85, 0.86, 0.87]))
    assert row["num_units"] == "100"
    modules = read(tmp_path / "modules.csv")
    values = {row["bridge"]: float(row["cosine_mean"]) for row in modules if row["module"] == "layers.0.v_proj"}
    assert values["floor √(r/d)"] == pytest.approx(0.15)
    assert values["mlp"] == pytest.approx(0.81)


def test_the_oracle_bounds_the_victims_cosine_at_one(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("csv",))
    rows = [row for row in read(tmp_path / "victim_cosine.csv") if row["bridge"] == "oracle"]
    assert [(row["role"], float(row["mean_mean"])) for row in rows] == [("bound", 1.0)] * 2


def test_ranks_stand_in_the_suites_own_order(build):
    text = markdown_report(build(cells(ranks=(16, 2, 8), seeds=(0,), num_secrets=1)), "synthetic")
    assert text.index("rank 16 PSNR") < text.index("rank 2 PSNR") < text.index("rank 8 PSNR")


def test_missing_cells_are_counted_and_refused(build):
    path = build(cells(ranks=(2,)), finished=4, failed=2)
    with pytest.raises(ReportError) as caught:
        markdown_report(path, "synthetic")
    assert str(caught.value) == (
        "5 of 9 cells of suite 'synthetic' have no result (3 pending, 2 failed); wanted all; "
        "run `bridge bench run` with its suite file, or give --partial"
    )
    assert caught.value.exit_code == 1


def test_partial_tables_mark_seeds_that_are_not_in(build):
    path = build(cells(ranks=(2,)), finished=5)
    text = section(markdown_report(path, "synthetic", partial=True), "Reconstruction by bridge and rank")
    assert "seeds)" not in line(text, "projection")
    assert "(2/3 seeds)" in line(text, "ridge")
    assert entries(line(text, "ridge"))[3] == "2 × 3"
    assert entries(line(text, "oracle"))[3:5] == ["", "(0/3 seeds)"]
    assert "Partial: 5 of 9 cells have a result (4 pending, 0 failed)" in text
    assert "seeds)" not in line(text, "mean image")


def test_one_seed_says_that_its_interval_is_over_secrets(build):
    path = build(cells(ranks=(2,), seeds=(0,)))
    text = section(markdown_report(path, "synthetic"), "Reconstruction by bridge and rank")
    assert "over the secrets of the one seed" in text
    assert "over the means of seeds" not in text
    assert f"18.25 ± {half_width([18.0, 18.25, 18.5]):.2f}" in line(text, "ridge")


def test_a_control_that_was_not_run_is_named(build):
    text = markdown_report(build(cells(bridges=(s.Ridge(),), ranks=(2,), seeds=(0,))), "synthetic")
    text = section(text, "Reconstruction by bridge and rank")
    assert "Controls that this suite has not run: projection, oracle." in text


def test_nan_is_printed_and_what_was_not_measured_is_empty(build, tmp_path):
    def diverge(filler):
        filler.psnr_of = lambda cell, secret: math.nan if s.kind_of(cell.bridge) == "ridge" else psnr(cell, secret)

    path = build(cells(bridges=(s.Ridge(), s.Direct()), ranks=(2,), seeds=(0,)), change=diverge)
    text = section(markdown_report(path, "synthetic"), "Reconstruction by bridge and rank")
    assert entries(line(text, "ridge"))[4] == "nan"
    write_report(path, "synthetic", tmp_path / "out", ("csv",))
    row = next(row for row in read(tmp_path / "out" / "bridges_by_rank.csv") if row["bridge"] == "ridge")
    assert (row["psnr_mean"], row["psnr_half_width"]) == ("nan", "")


def test_two_recipes_are_told_apart_in_every_row(build):
    adam = s.Recipe(optimiser=s.AdamW())
    path = build(cells(ranks=(2,), seeds=(0,)) + cells(ranks=(2,), seeds=(0,), recipe=adam))
    text = section(markdown_report(path, "synthetic"), "Reconstruction by bridge and rank")
    recipes = [entries(row)[1] for row in text.splitlines() if row.startswith("|")][2:]
    assert recipes == ["sgd-1"] * 4 + ["adamw-1"] * 4


@pytest.mark.parametrize(
    ("suite", "formats", "found"),
    [
        ("other", ("md",), "no suite 'other'"),
        ("synthetic", ("pdf",), "no format 'pdf'"),
        ("synthetic", (), "no format"),
    ],
)
def test_a_wrong_request_is_one_line_and_code_2(warehouse, tmp_path, suite, formats, found):
    with pytest.raises(ReportError, match=found) as caught:
        write_report(warehouse, suite, tmp_path / "out", formats)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_no_file_and_a_file_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ReportError, match="no results") as caught:
        markdown_report(tmp_path / "none.duckdb", "x")
    assert caught.value.exit_code == 2
    (tmp_path / "x.duckdb").write_text("nothing" * 1000)
    with pytest.raises(ReportError, match="a warehouse of this program"):
        markdown_report(tmp_path / "x.duckdb", "x")


def test_declared_tables_have_the_columns_they_need():
    needed = ("role", "position", "seed", "finished", "num_units")
    for definition in load_definitions():
        told = definition.declaration
        for column in (*told.blocks, *told.sections, *told.rows, told.spread.column, *told.measures, *needed):
            assert column in definition.sql, (definition.name, column)


def test_reports_import_none_of_the_other_packages():
    program = (
        "import sys, reports; light = set(sys.modules); import reports.composition, reports.psnr_figure, "
        "reports.reconstruction_figure, reports.sentence_examples, reports.text_figure; "
        "heavy = {'duckdb', 'matplotlib', 'scipy', 'jinja2', 'pydantic'} & light; "
        "ours = [m for m in sys.modules if m.split('.')[0] in ('benchmark', 'bridge_core', 'torch', 'mlflow')]; "
        "sys.exit(str((heavy, ours)) if heavy or ours else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
