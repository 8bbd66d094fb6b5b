"""Figures show the store's own pictures and numbers."""

import re
import shutil

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image
from safetensors.numpy import load_file

from bridge_core import spec as s
from reports import write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.certificate_figure import _panels as _certified
from reports.declaration import load_definitions
from reports.module_figure import _points
from reports.psnr_figure import _limits
from reports.reading import open_warehouse
from reports.reconstruction_figure import PICTURES, _panels
from reports.table import build_table
from tests.synthetic_store import cells, psnr, text_cells

FIGURES = ("psnr_by_rank", "reconstructions")


def test_figures_are_vector_pdf_and_png_and_close_their_canvases(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("md",))
    for name in FIGURES:
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert min(Image.open(tmp_path / f"{name}.png").size) > 300
        assert f"({name}.png)" in (tmp_path / "report.md").read_text()
    assert pyplot.get_fignums() == []
    # Bars and lines are paths: the plot has no raster image in it.
    assert not re.search(rb"/Subtype\s*/Image", (tmp_path / "psnr_by_rank.pdf").read_bytes())


def test_csv_alone_draws_nothing(warehouse, tmp_path):
    write_report(warehouse, "synthetic", tmp_path, ("csv",))
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}


def test_a_strip_holds_the_pictures_and_psnr_of_its_own_cell(build):
    path = build(cells(ranks=(8, 2), seeds=(1, 2)))
    with open_warehouse(path, "synthetic") as reader:
        rows = [row for row in reader.rows(PICTURES) if row["seed"] == 1]
        panels = _panels(reader, rows)
        assert [panel.rank for panel in panels] == [2, 8]
        assert list(panels[0].strips) == ["original", "mean image", "projection", "ridge", "oracle"]
        row = next(row for row in rows if row["bridge"] == "ridge" and row["rank"] == 8)
        stored = load_file(reader.folder(row["folder"]) / "images.safetensors")
    strip = panels[1].strips["ridge"]
    cell = next(one.cell for one in cells(bridges=(s.Ridge(),), ranks=(8,), seeds=(1,)))
    assert strip.psnr == [psnr(cell, secret) for secret in range(3)]
    assert np.array_equal(strip.images, stored["recovered"])
    assert np.array_equal(panels[1].strips["original"].images, stored["truth"])


def test_a_store_that_moved_with_its_warehouse_keeps_its_pictures(build, tmp_path):
    build(cells(ranks=(2,), seeds=(0,)))
    moved = tmp_path / "elsewhere"
    (tmp_path / "store").rename(moved)
    shutil.move(tmp_path / "w.duckdb", moved / "w.duckdb")
    with open_warehouse(moved / "w.duckdb", "synthetic") as reader:
        assert len(_panels(reader, reader.rows(PICTURES))) == 1


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_pictures_that_are_lost_cost_a_strip_and_not_the_report(build, tmp_path, damage):
    path = build(cells(ranks=(2,), seeds=(0,)))
    for file in (tmp_path / "store").glob("artefacts/*/*/images.safetensors"):
        file.unlink() if damage == "gone" else file.write_bytes(b"\x10" * 30)
    written = write_report(path, "synthetic", tmp_path / "out", ("md",))
    names = {file.name for file in written}
    assert "reconstructions.png" not in names
    assert {"psnr_by_rank.png", "report.md"} <= names


def test_wide_intervals_do_not_drown_the_means(build):
    def scatter(filler):
        filler.psnr_of = lambda cell, secret: psnr(cell, secret) + 40 * cell.seed

    path = build(cells(ranks=(2,), seeds=(0, 1)), change=scatter)
    with open_warehouse(path, "synthetic") as reader:
        definition = load_definitions()[0]
        table = build_table(definition, reader.rows(definition.sql))
    widest = max(one.half_width or 0 for one in table.estimates())
    means = [one.mean for entry in table.entries() if (one := entry.estimates["psnr"])]
    shown = _limits(table)
    assert shown is not None
    low, high = shown
    assert low < min(means) and max(means) < high
    assert high - low < 2 * (max(means) - min(means)) < widest


def test_modules_are_drawn_at_their_cosines(warehouse):
    with open_warehouse(warehouse, "synthetic") as reader:
        definition = next(one for one in load_definitions() if one.name == "modules")
        table = build_table(definition, reader.rows(definition.sql))
    points = _points(table.blocks[0], table.spread)
    assert points["ridge"] == [(0, pytest.approx(0.91)), (1, pytest.approx(0.81))]
    assert points["projection"] == [(0, pytest.approx(0.3)), (1, pytest.approx(0.2))]


def test_limits_of_the_certificate_are_the_tables_shares_by_rank(text_warehouse):
    with open_warehouse(text_warehouse, "synthetic") as reader:
        definition = next(one for one in load_definitions() if one.name == "text_certificates")
        table = build_table(definition, reader.rows(definition.sql))
    (lines,) = _certified(table).values()
    assert {line.name[:2] for line in lines} == {("sgd-1", "direct"), ("adamw-2", "direct")}
    for line in lines:
        assert set(line.points) == {2, 8}
        assert line.points[2] < line.points[8]


def test_figures_of_modules_and_certificates_stand_in_every_document(build, tmp_path):
    write_report(build(cells(ranks=(2,), seeds=(0,)) + text_cells(seeds=(0,))), "synthetic", tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    for name in ("cosine_by_module", "certificate_limits"):
        assert (tmp_path / "out" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "out" / f"{name}.svg").read_text().count("<path") > 5
        assert f"{name}.pdf" in (document := (tmp_path / "out" / "report.tex").read_text())
        assert rf"\label{{fig:synthetic-{name.replace('_', '-')}}}" in document
        assert f'id="figure-{name}"' in report
