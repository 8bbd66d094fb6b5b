"""What the attacks on text hand over, and the best guess where nothing is certain."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from bridge_core.errors import NotApplicable
from bridge_core.spec import text as t
from bridge_core.text.assembly import Sentence, assemble
from bridge_core.text.models import FirstInputs, Language
from bridge_core.text.span import Certificate, Probe, by_token, certify, ranking

EXACT, PARTLY, NOTHING = 2, 1, 0
"""Verdicts: every sentence proved, some token proved, no token proved."""
MOST_RANKED, DEFAULT_LENGTH = 1000, 16
Weigh = Callable[[Float64[Tensor, "v p"]], Float64[Tensor, "v p"]]


@dataclass(frozen=True)
class Recovered:
    """What an attack makes of one release, with its own opinion of it."""

    sentences: list[list[int]]
    """Token ids, special ones with them; a best guess unless `sure`."""
    sure: list[bool]
    residuals: list[float]
    certified: list[tuple[int, int]]
    """Token and position (0 throughout where the first block is not told of positions)."""
    ranked: list[int]
    """The likeliest tokens, best first."""
    verdict: int
    why: str
    """Why nothing is certain; empty where something is."""
    rank: int
    gap: float
    stranger: float
    tests: int
    """How many pairs of token and position were tested."""


def recover(
    language: Language,
    probes: Mapping[int, Sequence[Probe]],
    errors: Mapping[str, Float64[Tensor, "out"]],
    table: FirstInputs,
    num_samples: int,
    knobs: t.Span,
    doubt: str = "",
    weigh: Weigh | None = None,
    otherwise: Callable[[Callable[[], Recovered]], Recovered] | None = None,
) -> Recovered:
    """Certify tokens by the first block's probes and put them together, by the next blocks' too; else rank them.

    `errors` are what each module's rows were divided by; `doubt` is why rows need not lie in the inputs' span, so that
    nothing can be certified. `weigh` adds to a ranking, where that is all there is, what the prior says;
    `otherwise` is asked where sentences are not proved, and may fall back on what it is given.
    """
    tests = len(table.tokens) * len(table.positions)

    def uncertain(why: str, rank: int = 0, gap: float = math.nan) -> Recovered:
        scores = ranking(probes[0], table)
        weighed = scores if weigh is None else weigh(scores)
        length = max(2, rank // num_samples) if rank else DEFAULT_LENGTH
        guesses = best_guesses(language, weighed, table, num_samples, length)
        return _uncertain(guesses, by_token(weighed), why, rank, gap, tests)

    if doubt:
        return uncertain(doubt)
    try:
        found = certify(probes[0], table, _known(language, table))
    except NotApplicable as reason:
        ranked = partial(uncertain, str(reason))
        return ranked() if otherwise is None else otherwise(ranked)
    sentences = assemble(language, probes, found, table, num_samples, knobs.beam, errors)
    whole = len(sentences) == num_samples and all(one.sure for one in sentences)
    certified = placed_tokens(language, table, sentences) if whole else _pairs(found)
    if all(token == language.begin for token, _ in certified):
        why = f"rank {found.rank}, but no token of this vocabulary fits: another base model, or another tokenizer?"
        return uncertain(why, found.rank, found.gap)
    result = Recovered(
        [one.ids for one in sentences],
        [one.sure for one in sentences],
        [one.residual for one in sentences],
        certified,
        _certified_first(certified, torch.empty(0) if whole else by_token(ranking(probes[0], table))),
        EXACT if whole else PARTLY,
        "",
        found.rank,
        found.gap,
        found.stranger,
        tests,
    )
    return result if whole or otherwise is None else otherwise(lambda: result)


def best_guesses(
    language: Language, scores: Float64[Tensor, "v p"], table: FirstInputs, num_samples: int, length: int
) -> list[list[int]]:
    """A sentence for each sample from the ranking alone: the n-th best token of each position, up to the likeliest end.

    Without positions it is the `length` best tokens in no order, dealt out to the samples.
    """
    best = scores.topk(num_samples, dim=0, largest=False).indices
    if not table.placed:
        dealt = by_token(scores)[: length * num_samples].reshape(num_samples, -1)
        return dealt.tolist()
    end = language.end
    length = 1 + int(scores[end, 1:].argmin()) + 1 if end is not None else length
    return [[*row[: length - 1], row[length - 1] if end is None else end] for row in best.tolist()]


def save_recovered(found: Sequence[Recovered], path: Path) -> None:
    """Write as JSON."""
    path.write_text(json.dumps([asdict(one) for one in found]))


def read_recovered(path: Path) -> list[Recovered]:
    """Read what `save_recovered` wrote."""
    rows = json.loads(path.read_text())
    return [Recovered(**row | {"certified": [(i, p) for i, p in row["certified"]]}) for row in rows]


def _known(language: Language, table: FirstInputs) -> Float64[Tensor, "n d"] | None:
    """The first token of every sentence, where a tokenizer puts one."""
    begin = language.begin
    return None if begin is None else table.at(torch.tensor([begin]), torch.tensor([0]))


def _uncertain(guesses: list[list[int]], order: Tensor, why: str, rank: int, gap: float, tests: int) -> Recovered:
    nothing = len(guesses)
    return Recovered(
        guesses,
        [False] * nothing,
        [math.nan] * nothing,
        [],
        order[:MOST_RANKED].tolist(),
        NOTHING,
        why,
        rank,
        gap,
        math.nan,
        tests,
    )


def placed_tokens(language: Language, table: FirstInputs, sentences: Sequence[Sentence]) -> list[tuple[int, int]]:
    """What the first block reads of `sentences`: each token with its position (0 where it is not told of positions).

    Where sums of tokens and positions lie in the span of others, more pairs are certified than were ever read.
    """
    read = [one.ids[:-1] if language.task == "causal" else one.ids for one in sentences]
    pairs = ((token, place if table.placed else 0) for ids in read for place, token in enumerate(ids))
    return list(dict.fromkeys(pairs))


def _pairs(found: Certificate) -> list[tuple[int, int]]:
    ids, positions = found.certified()
    return list(zip(ids.tolist(), positions.tolist(), strict=True))


def _certified_first(certified: Sequence[tuple[int, int]], order: Tensor) -> list[int]:
    first = list(dict.fromkeys(token for token, _ in certified))
    held = set(first)
    return [*first, *(token for token in order[:MOST_RANKED].tolist() if token not in held)][:MOST_RANKED]
