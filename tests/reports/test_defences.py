"""The tables of defences and of ablations, and the privacy-utility figure, from known numbers."""

import csv
from typing import Any

import duckdb
import pytest

from bridge_core import spec as s
from reports import markdown_report, write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from tests.synthetic_store import cells, labelled, psnr

DEFENCES = (s.NoDefence(), s.Int8(), s.DpSgd(), s.Clipping())


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def defended(defences=DEFENCES):
    plain = cells(bridges=(s.Direct(),), ranks=(2,), num_secrets=4)
    return [labelled(one.cell.model_copy(update={"defence": each})) for each in defences for one in plain]


def with_use(path):
    """Give every victim a held-out loss: 2.0 of the base, less 0.5 with the adapter, and an epsilon."""
    with duckdb.connect(path) as database:
        victims = "SELECT DISTINCT key FROM cell_tasks WHERE stage = 'victim'"
        for name, value in {"heldout_loss_base": 2.0, "heldout_accuracy_base": 0.3, "epsilon": 7.0}.items():
            database.execute(f"INSERT INTO facts SELECT key, '{name}', {value}, NULL, NULL, NULL FROM ({victims})")
        for name, value in {"heldout_loss": 1.5, "heldout_accuracy": 0.4}.items():
            database.execute(
                f"INSERT INTO facts SELECT key, '{name}', {value}, i, NULL, NULL FROM ({victims}), range(4) r(i)"
            )
    return path


def test_a_defence_stands_beside_what_it_costs_and_what_nobody_published(build, tmp_path):
    path = with_use(build(defended()))
    write_report(path, "synthetic", tmp_path / "out", ("csv", "md"))
    rows = {row["defence"]: row for row in read(tmp_path / "out" / "defences.csv")}
    assert list(rows) == ["nothing published", "none", "int8", "dp_sgd", "clipping"]
    wanted = sum(psnr(cell.cell, secret) for cell in defended()[:3] for secret in range(4)) / 12
    assert float(rows["int8"]["psnr_mean"]) == pytest.approx(wanted)
    assert float(rows["int8"]["gain_mean"]) == pytest.approx(0.5)
    assert float(rows["int8"]["accuracy_gain_mean"]) == pytest.approx(10.0)
    assert float(rows["nothing published"]["gain_mean"]) == 0.0
    assert float(rows["nothing published"]["psnr_mean"]) < 10 < wanted
    assert float(rows["dp_sgd"]["epsilon_mean"]) == pytest.approx(7.0)
    assert (tmp_path / "out" / "privacy_utility.pdf").stat().st_size > 1000
    assert "privacy_utility.png" in (tmp_path / "out" / "report.md").read_text()


def test_defences_are_never_mixed_up_in_other_tables(build, tmp_path):
    path = build(defended())
    write_report(path, "synthetic", tmp_path / "out", ("csv",))
    rows = [row for row in read(tmp_path / "out" / "bridges_by_rank.csv") if row["bridge"] == "direct"]
    assert [row["recipe"] for row in rows] == ["sgd-1", "sgd-1 + int8", "sgd-1 + dp_sgd", "sgd-1 + clipping"]
    assert {row["num_units"] for row in rows} == {"4"}
    compared = read(tmp_path / "out" / "comparisons.csv")
    assert {row["other"] for row in compared if row["axis"] == "defence"} == {"int8", "dp_sgd", "clipping"}
    text = markdown_report(path, "synthetic")
    assert "defence.kind=int8" in text and "defence.noise\\_multiplier=1.0" in text


def test_a_suite_without_a_defence_has_no_such_table(warehouse, tmp_path):
    names = {path.name for path in write_report(warehouse, "synthetic", tmp_path)}
    assert not any(name.startswith(("defences", "privacy", "ablations")) for name in names)


def test_an_ablation_is_one_change_from_the_first_cell(build, tmp_path):
    one: dict[str, Any] = {"bridges": (s.Direct(),), "ranks": (2,), "seeds": (0, 1)}
    many = s.Recipe(num_samples=2, batch_size=2)
    made = [
        *cells(**one),
        *cells(**one | dict[str, Any]({"ranks": (8,)})),
        *cells(**one | dict[str, Any]({"bridges": (s.Ridge(), s.Oracle())})),
        *cells(**one, recipe=s.Recipe(optimiser=s.AdamW())),
        *cells(**one, recipe=many),
        *cells(**one | dict[str, Any]({"ranks": (16,)}), recipe=many),
    ]
    write_report(build(made), "synthetic", tmp_path / "out", ("csv",))
    rows = read(tmp_path / "out" / "ablations.csv")
    found = {axis: [row["value"] for row in rows if row["axis"] == axis] for axis in {row["axis"] for row in rows}}
    assert found == {
        "rank varied": ["2", "8"],
        "bridge varied": ["direct", "ridge", "oracle"],
        "recipe varied": ["sgd-1", "adamw-1", "sgd-1-n2-b2"],
    }
    rank = {row["value"]: float(row["psnr_mean"]) for row in rows if row["axis"] == "rank varied"}
    assert rank["8"] - rank["2"] == pytest.approx(2.0)
