"""Sentences of a causal model from its deeper blocks, token by token: a prefix is right or wrong whatever follows.

The second stage of DAGER (Petrov et al., 2024) on measurements. A prefix is extended by every certified token; where
the input of the next block at the new token lies in that block's span, the extension is right. After many steps the
members' residuals have grown, so they are held against those of tokens put together at random.
"""

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import torch

from bridge_core.text.deeper import Deeper

ACCEPTED, REFUSED = 0.2, 0.4
"""Residual over the typical one: accepted below the first; above the second, an extension is refused beyond doubt."""
CLEAR = 0.05
"""A token's residual over the typical one and over its best rival's, at most, where it is beyond doubt."""
NEAR, NOISE = 100.0, 1e-6
"""An extension has at most `NEAR` times the residual of its prefix, which is of the order of `NOISE` after one step."""
LONGEST_RUN = 4
"""Of one token from the start: where positions come in later, its inputs are those of the token alone."""
NUM_MIXED = 64

Candidates = Callable[[int], Sequence[int]]
"""The tokens that may stand at a place."""


@dataclass(frozen=True)
class Grown:
    """The beginning of a sentence."""

    ids: tuple[int, ...] = ()
    residuals: tuple[float, ...] = ()
    rivalry: float = 0.0
    """The largest residual of a token over that of the best extension refused in its place."""
    refused: float = math.inf
    """The smallest residual among the extensions refused at its end, over the typical one."""

    @property
    def loss(self) -> float:
        """Mean logarithm of the residuals."""
        return sum(math.log(max(r, 1e-12)) for r in self.residuals) / max(len(self.residuals), 1)


def grow(deeper: Deeper, candidates: Candidates, beam: int, longest: int, typical: float) -> list[Grown]:
    """All sentences of candidates that have no accepted extension, or are `longest`, best first."""
    alive, done = [Grown()], list[Grown]()
    for place in range(longest):
        tokens = candidates(place)
        if not tokens or not alive:
            break
        trials = [(*one.ids, token) for one in alive for token in tokens]
        found = deeper.residuals(trials)[:, place].reshape(len(alive), len(tokens))
        longer: list[Grown] = []
        for one, residuals in zip(alive, found.tolist(), strict=True):
            extended = _extended(one, tokens, residuals, typical)
            longer += extended
            if one.ids and not extended:
                done.append(Grown(one.ids, one.residuals, one.rivalry, min(residuals) / typical))
        kept = [one for one in longer if len(one.ids) <= LONGEST_RUN or len(set(one.ids)) > 1]
        alive = sorted(kept, key=lambda one: one.loss)[:beam]
    return sorted([*done, *(one for one in alive if one.ids)], key=lambda one: one.loss)


def _extended(one: Grown, tokens: Sequence[int], residuals: Sequence[float], typical: float) -> list[Grown]:
    """The extensions that are accepted."""
    before = max(one.residuals) if one.ids else min(residuals)
    limit = min(ACCEPTED * typical, NEAR * max(before, NOISE))
    rival = min((each for each in residuals if each >= limit), default=typical)
    return [
        Grown((*one.ids, token), (*one.residuals, each), max(one.rivalry, each / min(rival, typical)))
        for token, each in zip(tokens, residuals, strict=True)
        if each < limit
    ]


def typical_residual(deeper: Deeper, candidates: Candidates, longest: int) -> float:
    """The median residual of tokens put together at random."""
    rng = torch.Generator().manual_seed(0)
    places = [tokens for place in range(longest) if (tokens := candidates(place))]
    mixed = [
        [tokens[int(torch.randint(len(tokens), (), generator=rng))] for tokens in places] for _ in range(NUM_MIXED)
    ]
    return float(deeper.residuals(mixed)[:, 1:].nanmedian())


def covering(found: Sequence[Grown], wanted: Set[tuple[int, int]], num_samples: int, *, placed: bool) -> list[Grown]:
    """`num_samples` of the sentences that hold most of the `wanted` pairs between them, the better where they tie."""
    chosen: list[Grown] = []
    missing, rest = set(wanted), list(found)
    while rest and len(chosen) < num_samples:
        best = max(rest, key=lambda one: (len(missing & _pairs(one, placed=placed)), -one.loss))
        chosen.append(best)
        missing -= _pairs(best, placed=placed)
        rest.remove(best)
    return chosen


def num_prefixes(chosen: Sequence[Grown]) -> int:
    """Number of different prefixes: of independent inputs of a deeper block."""
    return len({one.ids[:length] for one in chosen for length in range(1, len(one.ids) + 1)})


def _pairs(one: Grown, *, placed: bool) -> set[tuple[int, int]]:
    """Tokens with their positions, or with 0 where the first block is not told of them."""
    return {(token, place if placed else 0) for place, token in enumerate(one.ids)}
