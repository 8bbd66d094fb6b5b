"""Examples of sentences show the store's own, chosen without a look at the result, and stay text in every format."""

import json
import re

import numpy as np
import pytest
from matplotlib import pyplot

from bridge_core import spec as s
from reports import write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.declaration import load_definitions
from reports.reading import open_warehouse
from reports.sentence_examples import MOST_EXAMPLES, examples_markdown, find_examples
from reports.table import build_table
from reports.text_figure import _draw_panel, _panels
from tests.reports.test_printing import HOSTILE, needs_latex, pdf_text
from tests.synthetic_store import SENTENCES, text_cells, token_share


def examples(path):
    with open_warehouse(path, "synthetic") as reader:
        return find_examples(reader)


def rewrite(store, **changes):
    """Change every entry of every `sentences.json` of a store."""
    for file in store.glob("artefacts/*/*/sentences.json"):
        file.write_text(json.dumps([one | changes for one in json.loads(file.read_text())]))


def words(example, line):
    return " ".join(word.text for word in example.lines[line])


def test_truth_stands_beside_what_came_back_of_it(text_warehouse):
    found = examples(text_warehouse)
    assert found is not None
    by_heading = {one.heading: one for one in found.examples}
    cell = text_cells(bridges=(s.Direct(),), ranks=(2,), seeds=(0,))[0].cell
    example = by_heading["recipe sgd-1, rank 2, secret 1: told in part"]
    assert words(example, "truth") == SENTENCES[1]
    kept = round(token_share(cell, 1) * len(SENTENCES[1].split()))
    missing = [word.missing for word in example.lines["truth"]]
    assert missing == [place >= kept for place in range(len(missing))]
    assert words(example, "language model") == "the of the"
    assert "bridge direct" in found.caption and "seed 0" in found.caption


def test_words_that_did_not_come_back_are_in_italics(build, tmp_path):
    path = build(text_cells(bridges=(s.Direct(),), ranks=(2,), seeds=(0,), num_secrets=1))
    truth, recovered = "Ask for Anna_Lee at *Elm* 9 today", "ask for him at *Elm* today"
    rewrite(tmp_path / "store", truth=[truth], recovered=["the the the", recovered])
    found = examples(path)
    assert found is not None
    assert "- truth: Ask for *Anna\\_Lee* at \\*Elm\\* *9* today\n" in examples_markdown(found)
    assert f"- recovered: {recovered.replace('*', chr(92) + '*')}\n" in examples_markdown(found)


def test_examples_are_of_every_cell_and_do_not_depend_on_the_result(build, tmp_path):
    path = build(text_cells(ranks=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512), seeds=(1, 0)))
    found = examples(path)
    assert found is not None and len(found.examples) == MOST_EXAMPLES
    ranks = [int(re.findall(r"rank (\d+)", one.heading)[0]) for one in found.examples]
    assert ranks == [1, 2, 4, 8, 32, 64, 128, 256]
    assert not any("oracle" in one.heading for one in found.examples)
    assert "seed 0" in found.caption
    rewrite(tmp_path / "store", recovered=["something else"], verdict=0)
    again = examples(path)
    assert again is not None
    assert [one.lines["truth"][0].text for one in again.examples] == [
        one.lines["truth"][0].text for one in found.examples
    ]


def test_few_cells_give_further_secrets(build):
    found = examples(build(text_cells(bridges=(s.Direct(),), ranks=(2, 8), seeds=(0,), num_secrets=3)))
    assert found is not None
    shown = [(re.findall(r"rank \d+", one.heading)[0], words(one, "truth")) for one in found.examples]
    assert len(set(shown)) == len(shown) == 6


@pytest.mark.parametrize("damage", ["gone", "torn", "of another kind", "empty"])
def test_sentences_that_are_lost_cost_the_examples_and_not_the_report(build, tmp_path, damage):
    path = build(text_cells(ranks=(2,), seeds=(0,)))
    for file in (tmp_path / "store").glob("artefacts/*/*/sentences.json"):
        contents = {"torn": '[{"secret": 0, "tru', "of another kind": '{"a": 1}', "empty": "[]"}
        file.unlink() if damage == "gone" else file.write_text(contents[damage])
    names = {file.name for file in write_report(path, "synthetic", tmp_path / "out")}
    assert not {"sentences.md", "sentences.tex"} & names
    assert {"text.md", "report.tex", "tokens_by_recipe.png"} <= names


def test_nothing_recovered_and_no_control_are_said(build, tmp_path):
    path = build(text_cells(bridges=(s.Direct(),), ranks=(2,), seeds=(0,), num_secrets=1))
    rewrite(tmp_path / "store", recovered=[], control=[], verdict=7)
    found = examples(path)
    assert found is not None
    text = examples_markdown(found)
    assert "- recovered: (nothing)\n- language model: (nothing)" in text
    assert "verdict 7" in text


def test_a_long_sentence_is_cut(build, tmp_path):
    path = build(text_cells(bridges=(s.Direct(),), ranks=(2,), seeds=(0,), num_secrets=1))
    rewrite(tmp_path / "store", truth=["word " * 500], recovered=["x" * 5000])
    found = examples(path)
    assert found is not None
    lines = [line for line in examples_markdown(found).splitlines() if line.startswith(("- truth", "- recovered"))]
    assert all(200 < len(line) < 250 and line.rstrip("*").endswith("...") for line in lines)


@needs_latex
def test_the_report_of_text_compiles_and_shows_its_sentences(text_warehouse, tmp_path):
    written = write_report(text_warehouse, "synthetic", tmp_path)
    assert all(path.is_file() and path.stat().st_size for path in written)
    text, log = pdf_text(tmp_path)
    assert "Overfull" not in log
    assert SENTENCES[1] in text
    row = next(line for line in text.splitlines() if line.strip().startswith("language model"))
    assert re.sub(r"\s+", "", row) == "languagemodelsgd-123×40.000.200.100.100.20"
    assert "24 of 24 cells" in text
    report = (tmp_path / "report.md").read_text()
    assert "## Examples of sentences" in report and "(tokens_by_recipe.png)" in report


@needs_latex
def test_hostile_sentences_are_printed_letter_by_letter(build, tmp_path):
    path = build(text_cells(bridges=(s.Direct(),), ranks=(2,), seeds=(0,), num_secrets=1))
    for file in (tmp_path / "store").glob("artefacts/*/*/sentences.json"):
        (one,) = json.loads(file.read_text())
        hostile = (
            *HOSTILE,
            "\u202egnp.exe\u2028''x'' ,,y,, <<z>> ?` !`",
            "漢" * 300,
            "W" * 300,
            "\x00\x1b]0;title\x07",
        )
        wanted = [one | {"secret": i, "truth": [text], "recovered": [text]} for i, text in enumerate(hostile)]
        file.write_text(json.dumps(wanted))
    write_report(path, "synthetic", tmp_path / "out")
    text, log = pdf_text(tmp_path / "out")
    flat = re.sub(r"\s+", "", text)
    assert "Overfull" not in log
    assert r"\input{/etc/passwd}" in flat and "root:" not in text
    assert r"50%of$x_1^2$&{#~}\\\end{tabular}" in flat
    assert flat.count("[U+6F22]") > 8
    markdown = (tmp_path / "out" / "sentences.md").read_text()
    assert not re.search(r"(?<!\\)(<script|\]\(javascript)", markdown)
    assert not set(markdown) & set("\x00\x07\x1b\u202e\u2028")
    again = write_report(path, "synthetic", tmp_path / "again")
    for file in again:
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


def test_the_figure_marks_the_tables_means_in_each_row(text_warehouse):
    definition = next(one for one in load_definitions() if one.name == "text_certificates")
    with open_warehouse(text_warehouse, "synthetic") as reader:
        table = build_table(definition, reader.rows(definition.sql))
    ((panel,), common) = _panels(table)
    assert list(panel.rows) == ["sgd-1, r = 2", "sgd-1, r = 8", "adamw-2, r = 2", "adamw-2, r = 8"]
    assert "inversion span" in common
    _, axis = pyplot.subplots()
    _draw_panel(axis, panel, ["direct"])
    marks = [line for line in axis.get_lines() if line.get_linestyle() == "None"]
    shown = [float(np.asarray(line.get_xdata())[0]) for line in marks if line.get_label() == "direct"]
    means = [
        one.mean
        for line in table.blocks[0].lines
        if line.names == ("direct",) and (one := line.entries["all given"].estimates["recall_ranked"])
    ]
    assert sorted(shown) == sorted(means) and len(shown) == 4
    assert len([line for line in marks if line.get_markerfacecolor() == "white"]) == 8
    unigram = [line for line in axis.get_lines() if line.get_label() == "unigram"]
    assert [list(np.asarray(line.get_xdata())) for line in unigram] == [pytest.approx([0.1, 0.1])] * 4
    pyplot.close("all")
