"""From an update to sentences by its keys and by gradient matching: no rank below r is asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from bridge_core.errors import NotApplicable
from bridge_core.spec import text as t
from bridge_core.text.assembly import Sentence
from bridge_core.text.keys import Pursued, keys_of, pursue
from bridge_core.text.matching import Matched, match, ranked_sentence, starts_of
from bridge_core.text.models import FirstInputs, Language
from bridge_core.text.objective import Guess, Target
from bridge_core.text.prior import Bigram
from bridge_core.text.recover import EXACT, MOST_RANKED, NOTHING, PARTLY, Recovered, Weigh, placed_tokens
from bridge_core.text.span import by_token

UNPROVED = "a match proves nothing: what it leaves is more than errors explain, or other sentences leave as little"


@dataclass(frozen=True)
class Unknown:
    """What is not known of the sentences of one update."""

    num_samples: int
    lengths: range
    """In tokens, special ones with them."""
    labels: Sequence[tuple[int, ...]]
    """Classes that are tried; one choice where they are told."""
    num_classes: int


def recover_by_matching(
    target: Target,
    table: FirstInputs,
    scores: Float64[Tensor, "v p"],
    prior: Bigram,
    unknown: Unknown,
    knobs: t.EmbeddingMatching,
    rng: torch.Generator,
    weigh: Weigh | None = None,
) -> Recovered:
    """The sentences whose keys or whose whole update explain `target`, else those that come nearest.

    `scores` are those of `span.ranking`, smaller is better; `weigh` adds to them what the prior says.
    """
    language, num_samples = target.language, unknown.num_samples
    keys = _pursued(target, table, num_samples, rng) if knobs.keys else None
    whole = None if keys is None or num_samples > 1 else _whole(language, keys)
    if whole is not None:
        return _recovered(target, table, scores, [whole], keys, exact=True)
    scores = scores if weigh is None else weigh(scores)
    starts = starts_of(language, scores, num_samples, unknown.lengths, unknown.labels)
    if keys is not None:
        starts += [Guess(_filled(language, keys, scores, num_samples), labels) for labels in unknown.labels]
    found: Matched = match(target, starts, scores, prior, knobs, unknown.num_classes, rng)
    return _recovered(target, table, scores, [list(ids) for ids in found.guess.sentences], keys, exact=found.exact)


def recover_by_keys(
    target: Target, table: FirstInputs, num_samples: int, rng: torch.Generator, fallback: Callable[[], Recovered]
) -> Recovered:
    """The sentence that keys prove, else `fallback`; where that proves nothing, the tokens that keys prove with it."""
    keys = _pursued(target, table, num_samples, rng)
    if keys is None or not keys.certain:
        return fallback()
    whole = _whole(target.language, keys) if num_samples == 1 else None
    if whole is not None:
        return _proved(target, table, keys, [whole], exact=True)
    other = fallback()
    return _proved(target, table, keys, other.sentences, exact=False) if other.verdict == NOTHING else other


def _proved(target: Target, table: FirstInputs, keys: Pursued, sentences: list[list[int]], *, exact: bool) -> Recovered:
    """No ranking is asked for: what is proved comes first, and there is nothing behind it."""
    nothing = torch.zeros(0, len(table.positions), dtype=torch.float64)
    return _recovered(target, table, nothing, sentences, keys, exact=exact)


def _pursued(target: Target, table: FirstInputs, num_samples: int, rng: torch.Generator) -> Pursued | None:
    first = 0 if target.language.begin is None else 1
    try:
        keys = keys_of(target.language, target.values, target.errors, table)
    except NotApplicable:
        return None
    return pursue(keys, (len(table.positions) - first) * num_samples, num_samples, rng, first=first)


def _whole(language: Language, keys: Pursued) -> list[int] | None:
    """The sentence, where its keys prove it from the first to the last token."""
    begin = [] if language.begin is None else [language.begin]
    ids = [*begin, *(token for token, _ in keys.pairs)]
    in_place = [place for _, place in keys.pairs] == list(range(len(begin), len(ids)))
    if not (keys.certain and in_place):
        return None
    if language.task == "causal":
        return [*ids, *([] if language.end is None else [language.end])]
    return ids if language.end in (None, ids[-1]) else None


def _filled(
    language: Language, keys: Pursued, scores: Float64[Tensor, "v p"], num_samples: int
) -> tuple[tuple[int, ...], ...]:
    """Sentences of the tokens that were pursued, with the ranking's where a place has none."""
    causal = language.task == "causal"
    length = max((place for _, place in keys.pairs), default=0) + 1 + causal
    rows = [list(ranked_sentence(language, scores, number, max(length, 3))) for number in range(num_samples)]
    used: dict[int, int] = {}
    for token, place in keys.pairs:
        row = used.setdefault(place, 0)
        if place < len(rows[row]) - causal:
            rows[row][place] = token
        used[place] += 1
    return tuple(tuple(row) for row in rows)


def _recovered(
    target: Target,
    table: FirstInputs,
    scores: Float64[Tensor, "v p"],
    sentences: list[list[int]],
    keys: Pursued | None,
    *,
    exact: bool,
) -> Recovered:
    proved = keys.pairs if keys is not None and keys.certain else []
    if exact:
        proved = placed_tokens(target.language, table, [Sentence(ids, math.nan, True) for ids in sentences])
    first = list(dict.fromkeys(token for token, _ in proved))
    rest = [token for token in by_token(scores)[:MOST_RANKED].tolist() if token not in set(first)]
    return Recovered(
        sentences,
        [exact] * len(sentences),
        [math.nan] * len(sentences),
        proved,
        [*first, *rest][:MOST_RANKED],
        EXACT if exact else PARTLY if proved else NOTHING,
        "" if exact or proved else UNPROVED,
        0,
        math.nan,
        math.nan,
        len(table.tokens) * len(table.positions),
    )
