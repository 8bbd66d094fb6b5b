"""Examples of sentences: truth beside what came back, chosen by their place in the suite and never by their result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from reports.latex import Markup, breakable, label_of, provenance, render
from reports.markdown import escape
from reports.reading import Reader, Row, Standing

NAME = "sentences"
FILE = "sentences.json"
MOST_EXAMPLES = 8
MOST_LETTERS = 220
"""Of a sentence in print, so that all examples stand on one page; where it is cut stands `...`."""
AXES = ("model", "dataset", "inversion", "knowledge", "recipe", "rank", "bridge", "seed")
VERDICTS = {2: "told exact", 1: "told in part", 0: "told nothing"}

TEXT_SCORES = """
SELECT text_cells.*, folder
FROM text_cells
JOIN cell_tasks ON cell_tasks.cell_id = text_cells.cell_id AND suite = getvariable('suite') AND stage = 'score'
JOIN tasks USING (key)
WHERE finished ORDER BY position
"""


class Recovery(BaseModel):
    """An entry of `sentences.json`: a secret's sentences, what came back, what the proxy's language model would say."""

    model_config = ConfigDict(frozen=True)

    secret: int
    truth: tuple[str, ...]
    recovered: tuple[str, ...]
    verdict: int
    control: tuple[str, ...]


_RECOVERIES = TypeAdapter(tuple[Recovery, ...])


class Word(NamedTuple):
    """A word of a sentence; `missing` where it is the truth's and did not come back."""

    text: str
    missing: bool = False


@dataclass(frozen=True)
class Example:
    """One sentence of one secret."""

    heading: str
    lines: dict[str, tuple[Word, ...]]
    """By name: truth, recovered, language model."""


@dataclass(frozen=True)
class Examples:
    """What is shown of a suite."""

    caption: str
    examples: tuple[Example, ...]


def find_examples(reader: Reader) -> Examples | None:
    """At most eight examples of the first seed; None where the suite has no sentences, or they are gone."""
    rows = reader.rows(TEXT_SCORES)
    rows = [row for row in rows if row["kind"] not in ("oracle", "projection")] or rows
    first = min((row["seed"] for row in rows), default=0)
    read = [(row, _load(reader.folder(row["folder"]) / FILE)) for row in rows if row["seed"] == first]
    chosen = _chosen([(row, found) for row, found in read if found])
    if not chosen:
        return None
    varies = [axis for axis in AXES if len({row[axis] for row, _ in chosen}) > 1]
    common = ", ".join(f"{axis} {chosen[0][0][axis]}" for axis in AXES if axis not in varies)
    return Examples(_caption(common), tuple(_example(_heading(row, varies, one), one) for row, one in chosen))


def examples_markdown(found: Examples) -> str:
    """The examples as lists, one an example."""
    parts = ["## Examples of sentences", escape(found.caption)]
    for example in found.examples:
        lines = (f"- {name}: {_markdown(words)}" for name, words in example.lines.items())
        parts += [f"**{escape(example.heading)}**", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def examples_latex(found: Examples, suite: str, standing: Standing) -> str:
    """The examples as a float, to be read into a document as the tables are."""
    shown = [
        {"heading": one.heading, "lines": [(name, _latex(words)) for name, words in one.lines.items()]}
        for one in found.examples
    ]
    values = {"caption": found.caption, "label": label_of(suite, NAME), "examples": shown}
    return render("sentences.tex.j2", {**values, "provenance": provenance(suite, standing)})


def _load(path: Path) -> tuple[Recovery, ...]:
    """The sentences of a score; none where they are gone or damaged: an example is not worth a report."""
    try:
        return tuple(one for one in _RECOVERIES.validate_json(path.read_bytes()) if one.truth)
    except (OSError, ValidationError):
        return ()


def _chosen(read: Sequence[tuple[Row, tuple[Recovery, ...]]]) -> list[tuple[Row, Recovery]]:
    """A secret of each of eight cells, evenly spread over `read`, the next cell's being the next one.

    Where there are fewer cells, further secrets of each.
    """
    shown = min(len(read), MOST_EXAMPLES)
    cells = [read[place * len(read) // shown] for place in range(shown)]
    turns = sorted((turn, place) for place, (_, found) in enumerate(cells) for turn in range(len(found)))
    kept = sorted((place, turn) for turn, place in turns[:MOST_EXAMPLES])
    return [(row, found[(place + turn) % len(found)]) for place, turn in kept for row, found in (cells[place],)]


def _heading(row: Row, varies: Sequence[str], one: Recovery) -> str:
    named = ", ".join((*(f"{axis} {row[axis]}" for axis in varies), f"secret {one.secret}"))
    return f"{named}: {VERDICTS.get(one.verdict, f'verdict {one.verdict}')}"


def _example(heading: str, one: Recovery) -> Example:
    """The secret's first sentence beside the recovered one that is most like it."""
    truth = one.truth[0].split()
    guesses = [text.split() for text in one.recovered] or [truth[:0]]
    likest = max(guesses, key=lambda words: _matcher(truth, words).ratio())
    came_back = {
        i for match in _matcher(truth, likest).get_matching_blocks() for i in range(match.a, match.a + match.size)
    }
    return Example(
        heading,
        {
            "truth": tuple(Word(text, i not in came_back) for i, text in enumerate(truth)),
            "recovered": tuple(map(Word, likest)),
            "language model": tuple(map(Word, " ".join(one.control[:1]).split())),
        },
    )


def _matcher(truth: Sequence[str], words: Sequence[str]) -> SequenceMatcher[str]:
    return SequenceMatcher(
        None, [word.casefold() for word in truth], [word.casefold() for word in words], autojunk=False
    )


def _markdown(words: Sequence[Word]) -> str:
    return " ".join(f"*{text}*" if missing else text for missing, text in _runs(words, escape, len)) or "(nothing)"


def _latex(words: Sequence[Word]) -> Markup:
    runs = _runs(words, breakable, lambda text: len(breakable(text)))
    return Markup(" ".join(rf"\emph{{{text}}}" if missing else text for missing, text in runs) or "(nothing)")


def _runs(
    words: Sequence[Word], escaped: Callable[[str], str], width: Callable[[str], int]
) -> Iterator[tuple[bool, str]]:
    """Neighbours that are missing, or are not, as one text; cut where they are wider than `MOST_LETTERS`."""
    for missing, run in groupby(_cut(words, width), key=lambda word: word.missing):
        yield missing, " ".join(escaped(word.text) for word in run)


def _cut(words: Sequence[Word], width: Callable[[str], int]) -> Iterator[Word]:
    left = MOST_LETTERS
    for word in words:
        if width(word.text) > left:
            ends = accumulate(map(width, word.text))
            yield Word(word.text[: sum(end <= left for end in ends)] + "...", word.missing)
            return
        yield word
        left -= width(word.text) + 1


def _caption(common: str) -> str:
    return (
        f"Sentences of the secrets beside what came back{f' ({common})' if common else ''}, taken evenly from the "
        "suite and not by their result. Words of the truth that did not come back stand in italics. Language model: "
        "the likeliest sequence by the proxy's own statistics, given the truth's length and no release. Told: the "
        "attack's own verdict on the whole secret, without the truth."
    )
