"""No sentence stands on both sides, equal sentences are one, and what is missing is told in one line."""

import hashlib
import itertools
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from bridge_core.errors import InvalidInput, UnknownName
from bridge_core.spec import text as t
from bridge_core.text import corpus
from tests.core.examples import is_one_line

needs_wordnet = pytest.mark.skipif(not corpus.WORDNET_FOLDER.is_dir(), reason="Debian's wordnet-base is not installed")
TOPIC = """\
Loop statements
***************

A loop runs *its* body again and again, while a **condition** of
the header holds, as is said for non-
local names. [2] It ends when the condition does not hold any more
(e.g. when a counter is zero).

   loop_stmt ::= "while" Assignment expression and a suite of statements.

   while counter:
       counter -= 1

* A ``break`` leaves the loop at once, whatever the condition.

object.__next__(self)

   Called to give the next value of a container to the loop.

Tuples
   The items of a tuple are arbitrary objects of Python.

>>> Loop(3).run
Traceback of a session that is no prose at all.

Too short.

the Words of a paragraph that begins small are left out.
"""
PROSE = [
    "A loop runs its body again and again, while a condition of the header holds, as is said for non-local names.",
    "It ends when the condition does not hold any more (e.g. when a counter is zero).",
    "A break leaves the loop at once, whatever the condition.",
    "Called to give the next value of a container to the loop.",
    "The items of a tuple are arbitrary objects of Python.",
]


def numbered(count: int) -> list[str]:
    return [f"sentence number {i} of a file" for i in range(count)]


def rows_of(count: int) -> dict[str, list[Any]]:
    """`count` sentences, a third of which stand twice."""
    texts = numbered(count) + numbered(count // 3)
    return {"text": texts, "label": [i % 2 for i in range(count)] + [i % 2 for i in range(count // 3)]}


def lines(folder: Path) -> t.Lines:
    (folder / "one.txt").write_text("\n".join(numbered(60)))
    (folder / "two.txt").write_text("\n\n".join(numbered(20)))
    return t.Lines(path=str(folder / "*.txt"))


def csv(folder: Path) -> t.CsvText:
    Dataset.from_dict(rows_of(60)).to_csv(str(folder / "a.csv"))
    return t.CsvText(path=str(folder / "a.csv"), label_column="label")


def parquet(folder: Path, label: Any = None) -> t.ParquetText:
    features = Features({"text": Value("string"), "label": label or Value("int64")})
    Dataset.from_dict(rows_of(60), features=features).to_parquet(str(folder / "a.parquet"))
    return t.ParquetText(path=str(folder / "*.parquet"), label_column="label")


def wordnet(folder: Path) -> t.Glosses:
    """WordNet's four files, the small ones of a stranger, with the licence that begins each of them."""
    for name, line in zip(corpus.WORDNET_FILES, itertools.count(), strict=False):
        entries = [
            "  1 This software and database is being provided to you | the LICENSEE",
            f'0000{line} 03 n 01 thing 0 001 ~ 01 n 00 | a thing; also a part of {line} things; "the example"; "two"  ',
            f'0001{line} 03 n 01 other 0 001 ~ 01 n 00 | what is known of {line}: "one more example"',
            f'0002{line} 03 n 01 third 0 001 ~ 01 n 00 | as in the saying "on {line} jobs"  ',
        ]
        (folder / name).write_text("\n".join(entries[1:]) + "\n")
    return t.Glosses(folder=str(folder))


SOURCES: dict[str, Callable[[Path], t.TextSource]] = {
    "canaries": lambda _: t.Canaries(),
    "clinical canaries": lambda _: t.Canaries(group="clinical"),
    "reference": lambda _: t.PythonReference(),
    "lines": lines,
    "csv": csv,
    "parquet": parquet,
}


def sentences(texts: list[str]) -> corpus.Sentences:
    return corpus.Sentences(tuple(texts), torch.zeros(len(texts), dtype=torch.int64), ((),) * len(texts))


def assert_apart(proxy: corpus.Sentences, private: corpus.Sentences) -> None:
    assert len(proxy) and len(private)
    assert not set(proxy.texts) & set(private.texts)
    assert corpus.overlap(proxy, private) == 0


def canary_lines() -> list[tuple[str, str, str]]:
    text = (files("bridge_core.text") / "canaries.txt").read_text("utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines()]  # pyright: ignore[reportReturnType]


def test_the_canary_file_is_what_its_readers_rely_on() -> None:
    rows = canary_lines()
    plain = [marked.replace("[[", "").replace("]]", "") for _, _, marked in rows]
    assert len(rows) == 200 == len(set(plain))
    assert all(text.isascii() and text == " ".join(text.split()) for text in plain)
    assert all(marked.count("[[") == marked.count("]]") > 0 for _, _, marked in rows)
    assert sum(len(text.split()) <= 11 for text in plain) >= 60
    assert sum(40 <= len(text.split()) <= 50 for text in plain) >= 8
    counts = {(group, label): 0 for group in ("clinical", "credentials", "letters") for label in "01"}
    for group, label, _ in rows:
        counts[group, label] += 1
    assert min(counts.values()) >= 25


def test_every_secret_of_a_canary_stands_in_its_sentence() -> None:
    loaded = corpus.load_sentences(t.Canaries(), 2)
    assert len(loaded) == 200
    for text, spans, (_, _, marked) in zip(loaded.texts, loaded.secrets, canary_lines(), strict=True):
        assert spans and "[[" not in text and "]]" not in text
        assert all(span in text and f"[[{span}]]" in marked for span in spans)
    assert loaded.labels.tolist() == [int(label) for _, label, _ in canary_lines()]


def test_the_groups_of_the_canaries_are_the_whole() -> None:
    groups = [corpus.load_sentences(t.Canaries(group=name), 2) for name in ("clinical", "credentials", "letters")]
    assert sorted(itertools.chain(*(group.texts for group in groups))) == sorted(
        corpus.load_sentences(t.Canaries(), 2).texts
    )
    assert all(len(set(group.labels.tolist())) == 2 for group in groups)


@pytest.mark.parametrize("name", SOURCES)
def test_proxy_and_private_share_no_sentence(name: str, tmp_path: Path) -> None:
    whole = corpus.load_sentences(SOURCES[name](tmp_path), 2)
    proxy = corpus.proxy_part(whole)
    private = corpus.private_part(whole, proxy)
    assert_apart(proxy, private)
    assert sorted(proxy.texts + private.texts) == sorted(whole.texts)
    assert 0.35 < len(private) / len(whole) < 0.65


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.lists(st.text(min_size=1), unique=True, min_size=1))
def test_any_two_sources_are_held_apart(one: list[str], other: list[str]) -> None:
    proxy = corpus.proxy_part(sentences(one))
    private = corpus.private_part(sentences(other), proxy)
    assert corpus.overlap(proxy, private) == 0
    assert set(private.texts) == set(other) - set(proxy.texts)


def test_two_sources_that_overlap_are_held_apart(tmp_path: Path) -> None:
    public, secret = (corpus.load_sentences(make(tmp_path), 2) for make in (lines, csv))
    assert corpus.overlap(public, secret) == 60
    proxy = corpus.proxy_part(public)
    assert_apart(proxy, corpus.private_part(secret, proxy))


def test_strange_sources_are_used_whole() -> None:
    proxy = corpus.proxy_part(corpus.load_sentences(t.PythonReference(), 2))
    assert len(corpus.private_part(corpus.load_sentences(t.Canaries(), 2), proxy)) == 200


def test_the_order_of_a_source_does_not_move_its_parts() -> None:
    whole = corpus.load_sentences(t.Canaries(), 2)
    turned = whole[torch.arange(len(whole)).flip(0)]
    assert turned.texts == whole.texts[::-1]
    for part in (corpus.proxy_part, lambda x: corpus.private_part(x, corpus.proxy_part(x))):
        assert set(part(turned).texts) == set(part(whole).texts)


def test_heldout_is_of_the_sentence_alone() -> None:
    proxy = corpus.proxy_part(corpus.load_sentences(t.PythonReference(), 2))
    kept = corpus.is_heldout(proxy)
    assert 0.09 < float(kept.double().mean()) < 0.16
    subset = torch.arange(0, len(proxy), 3)
    assert torch.equal(corpus.is_heldout(proxy[subset]), kept[subset])


@given(st.lists(st.text(), max_size=5))
def test_the_position_is_the_digests(texts: list[str]) -> None:
    wanted = [int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) / 16**4 for text in texts]
    assert sentences(texts).position().tolist() == wanted
    assert all(0 <= x < 1 for x in wanted)


@given(st.lists(st.tuples(st.text(), st.booleans())))
def test_a_mask_and_its_indices_choose_the_same(rows: list[tuple[str, bool]]) -> None:
    whole = corpus.Sentences(
        tuple(text for text, _ in rows), torch.arange(len(rows)), tuple((text,) for text, _ in rows)
    )
    mask = torch.tensor([keep for _, keep in rows], dtype=torch.bool)
    by_mask, by_index = whole[mask], whole[mask.nonzero()[:, 0]]
    assert by_mask.texts == by_index.texts == tuple(text for text, keep in rows if keep)
    assert by_mask.secrets == tuple((text,) for text in by_mask.texts)
    assert torch.equal(by_mask.labels, by_index.labels)


def test_white_space_is_single_and_each_sentence_stands_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("  two\twords \n\n   \ntwo words\nTwo words\n")
    assert corpus.load_sentences(t.Lines(path=str(tmp_path / "a.txt")), 2).texts == ("two words", "Two words")


@pytest.mark.parametrize("num_classes", [2, 7])
def test_a_digest_gives_a_label_that_does_not_tell_the_part(num_classes: int) -> None:
    whole = corpus.load_sentences(t.PythonReference(), num_classes)
    for part in (corpus.proxy_part(whole), corpus.private_part(whole, corpus.proxy_part(whole))):
        shares = part.labels.bincount(minlength=num_classes) / len(part)
        assert shares.shape == (num_classes,)
        assert float((shares - 1 / num_classes).abs().max()) < 0.05
    turned = corpus.load_sentences(t.PythonReference(), num_classes)
    assert torch.equal(turned.labels, whole.labels)


def test_the_labels_of_a_column_are_kept(tmp_path: Path) -> None:
    for source in (csv(tmp_path), parquet(tmp_path), parquet(tmp_path, ClassLabel(names=["ham", "spam"]))):
        loaded = corpus.load_sentences(source, 2)
        assert loaded.texts == tuple(numbered(60))
        assert loaded.labels.tolist() == [i % 2 for i in range(60)]
        assert loaded.secrets == ((),) * 60


@pytest.mark.parametrize("dtype", ["string", "large_string"])
def test_words_as_labels_become_numbers(dtype: str, tmp_path: Path) -> None:
    features = Features({"note": Value(dtype), "mood": Value(dtype)})
    rows = {"note": ["it broke", "thanks", "it is late"], "mood": ["sour", "glad", "sour"]}
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    source = t.ParquetText(path=str(tmp_path / "a.parquet"), text_column="note", label_column="mood")
    assert corpus.load_sentences(source, 2).labels.tolist() == [1, 0, 1]


def test_rows_without_text_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,1\n,0\ntwo,0\n")
    loaded = corpus.load_sentences(t.CsvText(path=str(tmp_path / "a.csv"), label_column="label"), 2)
    assert loaded.texts == ("one", "two") and loaded.labels.tolist() == [1, 0]


def test_only_prose_is_taken_of_the_manual() -> None:
    found = [text for part in corpus.BLANK_LINES.split(TOPIC) for text in corpus._prose(part)]
    assert found == PROSE


def test_the_manual_gives_whole_sentences() -> None:
    texts = corpus.load_sentences(t.PythonReference(), 2).texts
    assert len(texts) > 1500
    assert all(text[0].isupper() and text.endswith(".") and 5 <= len(text.split()) <= 60 for text in texts)
    assert not any(sign in text for text in texts for sign in ("::=", ">>>", "***", "==="))


def test_glosses_are_definitions_without_examples(tmp_path: Path) -> None:
    texts = corpus.load_sentences(wordnet(tmp_path), 2).texts
    assert texts[:3] == ("a thing; also a part of 0 things", "what is known of 0", 'as in the saying "on 0 jobs"')
    assert len(texts) == 3 * 4


@pytest.mark.slow
@needs_wordnet
def test_wordnet_is_whole_and_its_parts_are_apart() -> None:
    whole = corpus.load_sentences(t.Glosses(), 2)
    assert len(whole) > 110_000
    proxy = corpus.proxy_part(whole)
    assert_apart(proxy, corpus.private_part(whole, proxy))


def test_saved_sentences_come_back(tmp_path: Path) -> None:
    whole = corpus.load_sentences(t.Canaries(), 2)
    for part in (whole, whole[torch.arange(0)], sentences(["of no secret"])):
        corpus.save_sentences(part, tmp_path / "x.parquet")
        again = corpus.read_sentences(tmp_path / "x.parquet")
        assert again.texts == part.texts and again.secrets == part.secrets
        assert torch.equal(again.labels, part.labels)


def refused(source: t.TextSource, *words: str, wanted: type[InvalidInput] = UnknownName) -> None:
    with pytest.raises(InvalidInput) as caught:
        corpus.load_sentences(source, 2)
    assert caught.type is wanted
    assert is_one_line(caught.value, *words)
    assert caught.value.exit_code == 2 and caught.value.wanted and caught.value.remedy


@pytest.mark.parametrize("kind", [t.Lines, t.CsvText, t.ParquetText])
def test_a_file_that_is_missing_is_named(kind: Callable[..., t.TextSource], tmp_path: Path) -> None:
    refused(kind(path=str(tmp_path / "none*.x")), "no file matches", "none*.x", "correct `path`")
    refused(kind(path=str(tmp_path)), "no file matches")


@pytest.mark.parametrize("kind", [t.Lines, t.CsvText, t.ParquetText])
def test_a_file_that_can_not_be_read_is_refused(kind: Callable[..., t.TextSource], tmp_path: Path) -> None:
    (tmp_path / "a.x").write_bytes(b"text\n\xff\xfe\x00 of no encoding\n")
    refused(kind(path=str(tmp_path / "a.x")), "a.x can not be read", "UTF-8", wanted=InvalidInput)


def test_a_source_without_a_sentence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    refused(t.Lines(path=str(tmp_path / "empty.txt")), "empty.txt", wanted=InvalidInput)
    (tmp_path / "blank.txt").write_text(" \n\t\n")
    refused(t.Lines(path=str(tmp_path / "blank.txt")), "lines has no sentence", wanted=InvalidInput)
    (tmp_path / "head.csv").write_text("text,label\n")
    refused(t.CsvText(path=str(tmp_path / "head.csv")), "head.csv", wanted=InvalidInput)


@pytest.mark.parametrize("column", ["text_column", "label_column"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(column: str, tmp_path: Path) -> None:
    for source in (csv(tmp_path), parquet(tmp_path)):
        refused(source.model_copy(update={column: "mood"}), "no column 'mood'", "text, label", f"`{column}`")


def test_columns_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,score\none,0,0.5\ntwo,,0.5\n")
    source = t.CsvText(path=str(tmp_path / "a.csv"))
    for column in ("label", "score"):
        asked = source.model_copy(update={"label_column": column})
        refused(asked, f"column '{column}' holds float64", "`label_column`", wanted=InvalidInput)
    asked = source.model_copy(update={"text_column": "score"})
    refused(asked, "column 'score' holds float64", "`text_column`", wanted=InvalidInput)


def test_a_row_without_a_label_is_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["one", "two"], "label": [1, None]}).to_parquet(str(tmp_path / "a.parquet"))
    source = t.ParquetText(path=str(tmp_path / "a.parquet"), label_column="label")
    refused(source, "without a label", "'label'", wanted=InvalidInput)
    assert len(corpus.load_sentences(source.model_copy(update={"label_column": None}), 2)) == 2


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_out_of_range_is_refused(label: int, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\none,0\ntwo,{label}\n")
    source = t.CsvText(path=str(tmp_path / "a.csv"), label_column="label")
    refused(source, f"label {label} ", "labels from 0 to 1", "`num_classes`", wanted=InvalidInput)
    if label > 0:
        assert corpus.load_sentences(source, label + 1).labels.tolist() == [0, label]


def test_a_hub_id_that_can_not_be_reached_is_named() -> None:
    refused(t.HubText(id="nobody/no-such-text"), "nobody/no-such-text", "network", "`parquet_text`")


def test_wordnet_without_its_files_is_refused(tmp_path: Path) -> None:
    refused(t.Glosses(folder=str(tmp_path / "none")), "no file data.noun", "wordnet-base", "`folder`")
    source = wordnet(tmp_path)
    (tmp_path / "data.adj").write_bytes(b"\xff\xfe")
    refused(source, "data.adj can not be read", wanted=InvalidInput)
    (tmp_path / "data.adj").unlink()
    refused(source, "no file data.adj")
