"""Tables of text hold the store's numbers beside their controls, and stand beside those of images."""

import csv
import math
from statistics import fmean, median

import duckdb
import pytest

from bridge_core import spec as s
from reports import markdown_report, write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.estimate import half_width
from reports.reading import open_warehouse
from tests.synthetic_store import MODULES, TEXT_CONTROLS, cells, text_cells, token_share

TABLES = ("text", "text_overlap", "text_certificates")
CONTROLS = {"frequent tokens": TEXT_CONTROLS["_frequent"], "language model": TEXT_CONTROLS["_language_model"]}


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tables(warehouse, folder, partial=False):
    write_report(warehouse, "synthetic", folder, ("csv",), partial=partial)
    return {path.stem: read(path) for path in folder.iterdir()}


def shares(row):
    """Of each seed the shares of its secrets."""
    like = text_cells(ranks=[int(row["rank"])], bridges=[s.Oracle() if row["bridge"] == "oracle" else s.Direct()])
    steps = 2 if row["recipe"] == "adamw-2" else 1
    return [[token_share(one.cell, secret) / steps for secret in range(4)] for one in like]


def run(path, *statements):
    with duckdb.connect(path) as database:
        for statement in statements:
            database.execute(statement)


def test_every_number_of_the_first_table_is_that_of_its_cells(text_warehouse, tmp_path):
    rows = tables(text_warehouse, tmp_path)["text"]
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        if row["role"] == "control":
            tokens, exact = CONTROLS[row["bridge"]], [0.0] * 3
        else:
            tokens = fmean(fmean(each) for each in shares(row))
            exact = [fmean(share == 1 for share in each) for each in shares(row)]
        assert float(row["tokens_mean"]) == pytest.approx(tokens)
        assert float(row["rouge_1_mean"]) == float(row["rouge_l_mean"]) == pytest.approx(tokens / 2)
        assert float(row["exact_mean"]) == pytest.approx(fmean(exact))
        assert float(row["exact_half_width"] or 0) == pytest.approx(half_width(exact) or 0)
        assert (row["num_seeds"], row["num_units"]) == ("3", "4")


def test_overlap_holds_the_scores_that_the_first_table_has_not(text_warehouse, tmp_path):
    rows = tables(text_warehouse, tmp_path)["text_overlap"]
    for row in rows:
        tokens = CONTROLS.get(row["bridge"]) or fmean(fmean(each) for each in shares(row))
        assert float(row["token_recall_mean"]) == pytest.approx(tokens)
        for name in ("rouge_2", "bleu", "edit_similarity"):
            assert float(row[f"{name}_mean"]) == pytest.approx(tokens / 2)


def test_controls_stand_above_and_the_oracle_below_the_results(text_warehouse, tmp_path):
    found = tables(text_warehouse, tmp_path)
    for name, controls in (
        ("text", ["frequent tokens", "language model"]),
        ("text_overlap", ["frequent tokens", "language model"]),
        ("text_certificates", ["unigram"]),
    ):
        rows = [row for row in found[name] if row["rank"] == "2"]
        assert [row["bridge"] for row in rows] == [*controls, "direct", "oracle"] * 2
        assert [row["role"] for row in rows] == [*["control"] * len(controls), "result", "bound"] * 2
    text = markdown_report(text_warehouse, "synthetic")
    assert "Controls that this suite has not run" not in text
    assert text.count("secret\\_labels=given") == len(TABLES)


def test_a_control_that_was_not_measured_is_named_and_has_no_row(build, tmp_path):
    path = build(text_cells(bridges=(s.Direct(),)))
    run(path, "DELETE FROM facts WHERE suffix(name, '_language_model')")
    assert "language model" not in {row["bridge"] for row in tables(path, tmp_path / "out")["text"]}
    text = markdown_report(path, "synthetic")
    assert "Controls that this suite has not run: language model, oracle." in text


def test_a_secret_without_a_mark_counts_in_no_mean_of_marks(text_warehouse, tmp_path):
    for row in tables(text_warehouse, tmp_path)["text"]:
        marked = CONTROLS.get(row["bridge"]) or fmean(fmean(each[:3]) for each in shares(row))
        assert float(row["secrets_found_mean"]) == pytest.approx(marked)


def test_nothing_marked_is_empty_and_any_other_nan_is_printed(build, tmp_path):
    path = build(text_cells(ranks=(2,), seeds=(0,)))
    run(
        path,
        "UPDATE facts SET value = 'nan' WHERE prefix(name, 'secrets_found')",
        "UPDATE facts SET value = 'nan' WHERE name = 'rougeL' AND secret = 1",
    )
    found = tables(path, tmp_path / "out")["text"]
    assert {row["secrets_found_mean"] for row in found} == {""}
    assert {row["rouge_l_mean"] for row in found if row["role"] != "control"} == {"nan"}
    assert "nan" not in {row["tokens_mean"] for row in found}


@pytest.mark.parametrize(
    ("verdict", "exact", "told", "wrongly"),
    [(2, 1.0, 1, 0), (2, 0.5, 1, 1), (2, "nan", 1, 1), (1, 1.0, 0, 0), (0, 1.0, 0, 1), (0, 0.5, 0, 0)],
)
def test_a_verdict_is_held_against_the_truth(build, tmp_path, verdict, exact, told, wrongly):
    path = build(text_cells(bridges=(s.Direct(),), ranks=(2,), seeds=(0,), num_secrets=1))
    run(
        path,
        f"UPDATE facts SET value = {verdict} WHERE name = 'verdict'",
        f"UPDATE facts SET value = '{exact}' WHERE name = 'exact_match'",
    )
    row = tables(path, tmp_path / "out")["text"][-1]
    assert (float(row["told_exact_mean"]), float(row["told_wrongly_mean"])) == (told, wrongly)


def test_certificates_are_summed_over_secrets_and_seeds(build, tmp_path):
    path = build(text_cells(bridges=(s.Direct(),), ranks=(2,)))
    run(path, "UPDATE facts SET value = 1 WHERE name = 'false_certificates' AND secret = 2")
    unigram, row = tables(path, tmp_path / "out")["text_certificates"]
    assert unigram["false_certificates_mean"] == ""
    assert float(row["false_certificates_mean"]) == 3
    assert float(row["million_tests_mean"]) == pytest.approx(3 * 4 * 0.064)
    assert float(row["span_mean"]) == median([20, 21, 22, 23])
    assert row["false_certificates_half_width"] == ""


def test_recall_stands_beside_the_unigram_control(text_warehouse, tmp_path):
    for row in tables(text_warehouse, tmp_path)["text_certificates"]:
        if row["bridge"] == "unigram":
            assert row["certified_mean"] == ""
            assert float(row["recall_ranked_mean"]) == pytest.approx(0.1)
            assert float(row["recall_100_mean"]) == pytest.approx(0.3)
        else:
            share = fmean(fmean(each) for each in shares(row))
            assert float(row["recall_ranked_mean"]) == pytest.approx(share)
            assert float(row["certified_mean"]) == pytest.approx(share / 2)


def test_a_suite_of_both_prints_both_as_if_each_stood_alone(build, tmp_path):
    images, text = cells(ranks=(2,)), text_cells(ranks=(2,))
    parts = tables(build(images), tmp_path / "images"), tables(build(text), tmp_path / "text")
    both = tables(build(images + text), tmp_path / "both")
    compared = [part.pop("comparisons", []) for part in (*parts, both)]
    assert sorted(map(str, compared[0] + compared[1])) == sorted(map(str, compared[2]))
    alone = parts[0] | parts[1]
    assert set(both) == {"bridges_by_rank", "exact", "decoder_cosine", "victim_cosine", "modules", *TABLES}
    assert both == alone


def test_a_report_of_both_has_the_figures_of_both(build, tmp_path):
    write_report(build(cells(ranks=(2,)) + text_cells(ranks=(2,))), "synthetic", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"reconstructions.pdf", "psnr_by_rank.pdf", "tokens_by_recipe.pdf", "sentences.md"} <= names
    assert {f"{name}.tex" for name in TABLES} <= names


def test_data_that_do_not_say_their_kind_are_images(build, tmp_path):
    path = build(cells(ranks=(2,), seeds=(0,)))
    before = tables(path, tmp_path / "before")
    run(path, """UPDATE cells SET knobs = json_merge_patch(knobs, '{"dataset": {"kind": null}}')""")
    with open_warehouse(path, "synthetic") as reader:
        assert {row["kind"] for row in reader.rows("SELECT knobs ->> '$.dataset.kind' AS kind FROM cells")} == {None}
    assert tables(path, tmp_path / "after") == before


def test_partial_tables_mark_seeds_that_are_not_in(build, tmp_path):
    path = build(text_cells(ranks=(2,)), finished=2)
    text = markdown_report(path, "synthetic", partial=True)
    for start in ("direct", "frequent tokens", "language model", "unigram"):
        lines = [row for row in text.splitlines() if row.startswith(f"| {start} ")]
        assert lines and all("(2/3 seeds)" in line for line in lines)
    assert "(0/3 seeds)" in next(row for row in text.splitlines() if row.startswith("| oracle "))
    write_report(path, "synthetic", tmp_path / "out", partial=True)


def test_an_attack_that_is_not_scored_yet_gives_no_verdict(build):
    def attack_alone(filler):
        planned = filler.graph.cells[1]
        for stage, key in planned.tasks.items():
            if stage != "score" and key not in filler.done:
                filler._commit(planned.cell, stage, key)
                filler.done.add(key)

    path = build(text_cells(bridges=(s.Direct(),), ranks=(8,), seeds=(0, 1)), finished=1, change=attack_alone)
    text = markdown_report(path, "synthetic", partial=True)
    lines = [row for row in text.splitlines() if row.startswith("| direct ")]
    assert [line.split("|")[4].strip() for line in lines] == ["1 × 4"] * len(TABLES)


def test_decoders_of_text_stand_in_the_tables_of_decoders(build, tmp_path):
    names = {"decoder_cosine", "modules", "victim_cosine"}
    assert not names & set(tables(build(text_cells(ranks=(2,))), tmp_path / "without"))
    bridges = (s.Direct(), s.Oracle(), s.Ridge())
    found = tables(build(text_cells(bridges=bridges, ranks=(2,), seeds=(0,))), tmp_path / "with")
    assert names <= set(found)
    controls = {"floor √(r/d)": 0.25, "projection": 0.3, "mean gradient": 0.15}
    victims = {row["bridge"]: float(row["mean_mean"]) for row in found["victim_cosine"]}
    assert victims == controls | {"ridge": 0.9}
    decoders = {row["bridge"]: float(row["worst_mean"]) for row in found["decoder_cosine"]}
    worst = 0.1 * (len(MODULES) - 1)
    assert decoders == pytest.approx({name: value - worst for name, value in victims.items()})
    assert {row["num_units"] for row in found["decoder_cosine"]} == {"100"}
    assert {row["module"] for row in found["modules"]} == set(MODULES)


def test_a_share_that_diverged_is_no_mark_of_the_figure_and_no_fault(build, tmp_path):
    def diverge(filler):
        filler.share_of = lambda cell, secret: math.nan

    written = write_report(build(text_cells(ranks=(2,), seeds=(0,)), change=diverge), "synthetic", tmp_path / "out")
    assert "tokens_by_recipe.png" in {path.name for path in written}
