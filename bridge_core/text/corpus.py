"""Sentences: invented canaries, what an installation carries, and files and hub ids through `datasets`.

Whether a sentence is proxy or private is decided by the SHA-256 of its text, so that equal sentences can never stand on
both sides.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, assert_never

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset
from datasets.exceptions import DatasetGenerationError
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from bridge_core.errors import InvalidInput, UnknownName
from bridge_core.spec import text as t

WORDNET_FOLDER = Path("/usr/share/wordnet")
WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
PRIVATE_SHARE, HELDOUT_SHARE = 1 / 2, 1 / 16
"""Shares of a whole source: half of it is private, for the canaries are few."""
WORDS = range(5, 61)
"""Lengths of the reference manual's sentences that are kept, in words."""

SECRET = re.compile(r"\[\[(.+?)\]\]")
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
RULE = re.compile(r"^\s*([*=~^-])\1{2,}\s*$", re.MULTILINE)
HYPHENATED = re.compile(r"(?<=[a-z])-\n\s*(?=[a-z])")
LEAD = re.compile(r"^(?:\* |\[\d+\] |\d+\. )+")
MARKUP = re.compile(r"(?<!\w)(\*{1,2}|`{1,2})(?=\w)([^*`]+)\1(?!\w)")
FOOTNOTE = re.compile(r" \[\d+\]")
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z\"'(‘“])")
FIRST_EXAMPLE = re.compile(r"[;:]\s*\"")
STRINGS = ("string", "large_string")
WHOLE_NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Sentences:
    """A part of a source: texts with single blanks, labels, and the marked secret spans of each text."""

    texts: tuple[str, ...]
    labels: Int64[Tensor, "n"]
    secrets: tuple[tuple[str, ...], ...]
    """Parts of the text, in its order; none where nothing is marked."""

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, keep: Bool[Tensor, "n"] | Int64[Tensor, "k"]) -> "Sentences":
        kept = torch.arange(len(self))[keep].tolist()
        return Sentences(tuple(self.texts[i] for i in kept), self.labels[keep], tuple(self.secrets[i] for i in kept))

    def position(self) -> Float64[Tensor, "n"]:
        """Where each text's SHA-256 lies in [0, 1): even, and the same on every machine."""
        first = [int.from_bytes(_digest(text)[:2]) for text in self.texts]
        return torch.tensor(first, dtype=torch.float64) / 65536


@dataclass(frozen=True)
class _Row:
    text: str
    label: int | None = None
    secrets: tuple[str, ...] = ()


def load_sentences(source: t.TextSource, num_classes: int) -> Sentences:
    """All sentences of `source`, white space made single, each once and at its first place, empty ones left out.

    A label is that of the source, or else drawn from `range(num_classes)` by the text's digest.

    Raises `UnknownName` where the source's files, columns or hub id are not there, `InvalidInput` where they can not
    be read, hold no sentence, or hold a label outside `range(num_classes)`.
    """
    first: dict[str, _Row] = {}
    for row in _rows(source):
        if text := _single_blanks(row.text):
            first.setdefault(text, row)
    if not first:
        raise InvalidInput(f"the source {source.kind} has no sentence", "at least one", "name another file or split")
    labels = [_label(text, row, num_classes, source.kind) for text, row in first.items()]
    return Sentences(tuple(first), torch.tensor(labels), tuple(row.secrets for row in first.values()))


def proxy_part(sentences: Sentences) -> Sentences:
    """The public part of a source."""
    return sentences[sentences.position() >= PRIVATE_SHARE]


def private_part(sentences: Sentences, proxy: Sentences) -> Sentences:
    """Everything of a source that the proxy does not hold."""
    known = set(proxy.texts)
    return sentences[torch.tensor([text not in known for text in sentences.texts], dtype=torch.bool)]


def is_heldout(proxy: Sentences) -> Bool[Tensor, "n"]:
    """Proxy sentences kept from every training, for measuring what is learnt from the others."""
    return proxy.position() < PRIVATE_SHARE + HELDOUT_SHARE


def overlap(one: Sentences, other: Sentences) -> int:
    """Number of sentences that stand in both."""
    return len(set(one.texts) & set(other.texts))


def save_sentences(sentences: Sentences, path: Path) -> None:
    """Write as parquet, in the columns `text`, `label` and `secrets`."""
    schema = pa.schema({"text": pa.string(), "label": pa.int64(), "secrets": pa.list_(pa.string())})
    columns = {
        "text": list(sentences.texts),
        "label": sentences.labels.tolist(),
        "secrets": [list(spans) for spans in sentences.secrets],
    }
    pq.write_table(pa.table(columns, schema=schema), path)


def read_sentences(path: Path) -> Sentences:
    """Read what `save_sentences` wrote."""
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    labels = torch.tensor(columns["label"], dtype=torch.int64)
    return Sentences(tuple(columns["text"]), labels, tuple(tuple(spans) for spans in columns["secrets"]))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def _label(text: str, row: _Row, num_classes: int, kind: str) -> int:
    if row.label is None:
        # Bytes that `position` does not read: else the label could tell the part.
        return int.from_bytes(_digest(text)[2:10]) % num_classes
    if row.label not in range(num_classes):
        found, wanted = f"label {row.label} in the source {kind}", f"labels from 0 to {num_classes - 1}"
        raise InvalidInput(found, wanted, "set `num_classes`, or correct the label column")
    return row.label


def _rows(source: t.TextSource) -> Iterator[_Row]:
    match source:
        case t.Canaries():
            return _canaries(source.group)
        case t.PythonReference():
            return (_Row(text) for text in _manual())
        case t.Glosses():
            return (_Row(text) for text in _glosses(WORDNET_FOLDER if source.folder is None else Path(source.folder)))
        case t.Lines():
            return _column_rows(_local("text", source.path), "text", None)
        case t.CsvText():
            return _column_rows(_local("csv", source.path), source.text_column, source.label_column)
        case t.ParquetText():
            return _column_rows(_local("parquet", source.path), source.text_column, source.label_column)
        case t.HubText():
            return _column_rows(_hub(source), source.text_column, source.label_column)
        case _:
            assert_never(source)


def _canaries(wanted: str) -> Iterator[_Row]:
    for line in (files("bridge_core.text") / "canaries.txt").read_text("ascii").splitlines():
        group, label, marked = line.split("\t")
        if wanted in ("all", group):
            yield _Row(SECRET.sub(r"\1", marked), int(label), tuple(SECRET.findall(marked)))


def _manual() -> Iterator[str]:
    from pydoc_data.topics import topics

    for topic in topics.values():
        for paragraph in BLANK_LINES.split(topic):
            yield from _prose(paragraph)


def _prose(paragraph: str) -> Iterator[str]:
    """Whole sentences of a paragraph; none of a heading, a grammar or an interpreter's session.

    Descriptions of methods are indented as far as code is: a block of code is told by having no sentence.
    """
    if RULE.search(paragraph) or "::=" in paragraph or ">>>" in paragraph:
        return
    flat = LEAD.sub("", _single_blanks(HYPHENATED.sub("-", _without_term(paragraph))))
    for sentence in SENTENCE_END.split(FOOTNOTE.sub("", MARKUP.sub(r"\2", flat))):
        if sentence[:1].isupper() and sentence.endswith(".") and len(sentence.split()) in WORDS:
            yield sentence


def _without_term(paragraph: str) -> str:
    """A definition without the term that stands on its first line, less indented than the rest.

    A colon in that line tells a note (`Note: This is ...`), which begins with its text.
    """
    head, _, rest = paragraph.partition("\n")
    indents = [len(line) - len(line.lstrip()) for line in (head, rest)]
    return rest if rest and indents[0] < indents[1] and not LEAD.match(head.lstrip()) and ":" not in head else paragraph


def _glosses(folder: Path) -> Iterator[str]:
    """Definitions without the examples that follow them in quotes (format: wndb(5WN))."""
    for name in WORDNET_FILES:
        path = folder / name
        if not path.is_file():
            wanted = f"WordNet's {', '.join(WORDNET_FILES)}"
            raise UnknownName(f"no file {name} in {folder}", wanted, "`apt-get install wordnet-base`, or set `folder`")
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path} can not be read", "a data file of WordNet", "install it again") from error
        yield from (FIRST_EXAMPLE.split(line.split(" | ", 1)[1], maxsplit=1)[0] for line in lines if " | " in line)


def _local(builder: Literal["text", "csv", "parquet"], path: str) -> Dataset:
    from datasets import load_dataset

    found = sorted(name for name in glob(path, recursive=True) if Path(name).is_file())
    if not found:
        raise UnknownName(f"no file matches {path}", f"{builder} files", "correct `path`")
    try:
        return load_dataset(builder, data_files=found, split="train")  # pyright: ignore[reportReturnType]
    except (pa.ArrowException, DatasetGenerationError, ValueError) as error:
        # `datasets` raises ValueError where the files have no row.
        wanted = f"{builder} files of one schema that hold a row"
        raise InvalidInput(f"{path} can not be read", wanted, "write them again, in UTF-8") from error


def _hub(source: t.HubText) -> Dataset:
    from datasets import load_dataset

    try:
        return load_dataset(  # pyright: ignore[reportReturnType]
            source.id, source.config, split=source.split, revision=source.revision
        )
    except (OSError, ValueError) as error:
        found = f"data set {source.id} can not be loaded ({type(error).__name__})"
        remedy = "check the id and the network, or name a local `lines`, `csv` or `parquet_text` source"
        raise UnknownName(found, "a hub id", remedy) from error


def _column_rows(table: Dataset, text: str, label: str | None) -> Iterator[_Row]:
    columns = [text] if label is None else [text, label]
    for name in columns:
        if name not in table.column_names:
            found = f"no column {name!r} (there are: {', '.join(table.column_names)})"
            raise UnknownName(found, "a column of text", "set `text_column` and `label_column`")
    chosen = table.select_columns(columns)
    if (dtype := _dtype(chosen, text)) not in STRINGS:
        raise InvalidInput(f"column {text!r} holds {dtype}", "text", "set `text_column`")
    rows: Iterable[dict[str, Any]] = _numbered(chosen, label)  # pyright: ignore[reportAssignmentType]
    for row in rows:
        if row[text] is not None:
            yield _Row(row[text], None if label is None else _whole(row[label], label))


def _numbered(table: Dataset, label: str | None) -> Dataset:
    """`table` with whole numbers for labels: words are numbered in alphabetical order."""
    if label is None or isinstance(table.features[label], ClassLabel) or _dtype(table, label) in WHOLE_NUMBERS:
        return table
    if (dtype := _dtype(table, label)) not in STRINGS:
        raise InvalidInput(f"column {label!r} holds {dtype}", "whole numbers or words", "set `label_column`")
    return table.class_encode_column(label)


def _dtype(table: Dataset, column: str) -> str:
    return str(getattr(table.features[column], "dtype", "a list"))


def _whole(label: int | None, column: str) -> int:
    if label is None:
        remedy = "fill it, or do not set `label_column`"
        raise InvalidInput(f"a row without a label in column {column!r}", "a label in every row", remedy)
    return int(label)
