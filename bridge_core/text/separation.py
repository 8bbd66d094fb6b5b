"""Several sentences of a BERT in one step: which certified pairs of token and position make a sentence.

The second block's input of a true token in its true context is annihilated. It is nearly linear in how often each pair
stands in the context, and the pairs at one place have weights that add up to 1: a convex problem for the whole context
of a single token, the anchor. It is solved by an accelerated projected gradient (Beck and Teboulle, 2009), rounded,
mended by single replacements, and solved again about its solution with the best tokens found as further anchors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bridge_core.text.contexts import NONE, Contexts
from bridge_core.text.flow import Flow

ROUNDS, ANCHORS, STEPS = 5, 4, 150
STRIDE = 0.7
"""From the old weights towards the solution."""
MOST_MENDS, LOOKED_AT = 4, 8
PATIENCE = ((True, 12), (False, 12), (True, 24))
"""Anchors tried in vain before giving up on likely ends, on the others, and, if any was found, on likely ones again."""
MEMBER = 0.1
"""A member's |C x| over that of tokens in a mixed context, at most."""
CARRIES, ENDS = 1e-2, 2e-2
"""Flow of a likely pair over the median one, and of a likely end over the largest one."""
PROMISING = 0.6
"""|C x| of a sentence over the typical one, at most, where it is mended from all pairs."""
NUM_MIXED = 256


@dataclass(frozen=True)
class Trial:
    """A sentence as pairs of `Contexts`, one a place."""

    pairs: tuple[int, ...]
    squares: Float[Tensor, "t"]
    """|C x|² of its tokens."""

    @property
    def mean(self) -> float:
        """Mean |C x|²."""
        return float(self.squares.mean())


@dataclass(frozen=True)
class Separation:
    """The search for the sentences of one release."""

    contexts: Contexts
    ends: tuple[int, ...]
    """Pairs of the token that ends a sentence, with no empty place before them, likeliest first."""
    likely: Bool[Tensor, "n"]
    """Pairs that are probably true: the others are only looked at to mend a sentence."""
    order: tuple[int, ...]
    """Pairs by how good an anchor each is, best first."""
    typical: float
    """|C x| of a token in a mixed context."""

    def sentences(self, num_samples: int, num_tokens: int) -> list[Trial]:
        """Up to `num_samples` sentences, members first. They are complete where members have `num_tokens` tokens."""
        found, failed = list[Trial](), list[Trial]()
        for trial in self._trials(found, num_samples, num_tokens):
            if any(trial.pairs == one.pairs for one in (*found, *failed)):
                continue
            (found if self.member(trial) else failed).append(trial)
            if len(found) == num_samples or _size(found) >= num_tokens:
                return found
        return [*found, *sorted(failed, key=lambda one: one.mean)][:num_samples]

    def member(self, trial: Trial) -> bool:
        """True where every token is far nearer to the span than in a wrong context."""
        return float(trial.squares.max().sqrt()) < MEMBER * self.typical

    def rivals(self, trial: Trial) -> tuple[Float[Tensor, "k"], Int64[Tensor, "k"]]:
        """|C x| of every other certified pair in the place of a token of the sentence, and these places."""
        others, contexts = replaced(trial.pairs, self._slots(trial.pairs[-1], {trial.pairs[-1]}, likely=False))
        return self.contexts.squares(others, contexts).sqrt(), self.contexts.positions[others]

    def _trials(self, found: Sequence[Trial], num_samples: int, num_tokens: int) -> Iterator[Trial]:
        """Sentences around pairs that none of those found holds."""
        tried = set[tuple[int, int]]()
        for last_round, (likely, patience) in zip((False, False, True), PATIENCE, strict=True):
            failures = 0 if found or not last_round else patience
            for anchor in self.order:
                if failures >= patience or any(anchor in one.pairs for one in found):
                    continue
                last = num_tokens - _size(found) - 1 if len(found) == num_samples - 1 else None
                ends = [end for end in self._behind(anchor, last, likely=likely) if (anchor, end) not in tried]
                before = len(found)
                yield from self._around(anchor, ends)
                tried |= {(anchor, end) for end in ends}
                failures = 0 if len(found) > before else failures + bool(ends)

    def _behind(self, anchor: int, last: int | None, *, likely: bool) -> list[int]:
        """The ends behind an anchor, far ones first but for the one at `last`, which would account for all tokens."""
        position = self.contexts.positions.tolist()
        behind = sorted((end for end in self.ends if position[end] > position[anchor]), key=lambda end: -position[end])
        fitting = [end for end in behind if position[end] == last]
        return fitting + [end for end in behind if end not in fitting and bool(self.likely[end]) is likely]

    def _around(self, anchor: int, ends: Sequence[int]) -> Iterator[Trial]:
        """The sentences that hold `anchor`, to one end after the other until one is a member."""
        for end in ends:
            trial = self._shortened(self.between(anchor, end))
            if anchor in trial.pairs:
                yield trial
            if self.member(trial):
                return

    def _shortened(self, trial: Trial) -> Trial:
        """The sentence, or its beginning up to an earlier end if that is a member: few tokens too many do not show."""
        position = self.contexts.positions.tolist()
        earlier = [end for end in self.ends if 1 < position[end] < len(trial.pairs) - 1]
        if self.member(trial) or not earlier:
            return trial
        starts = [torch.tensor([*trial.pairs[: position[end]], end]) for end in earlier]
        shorter = pad_sequence(starts, batch_first=True, padding_value=NONE)
        worst = self.contexts.sentences(shorter).nan_to_num(0).amax(1)
        best = int(worst.argmin())
        start = Trial(tuple(starts[best].tolist()), self.contexts.sentences(starts[best][None])[0])
        return start if self.member(start) else trial

    def between(self, anchor: int, end: int) -> Trial:
        """The best sentence found that holds `anchor` and ends with `end`."""
        slots = self._slots(end, {anchor, end}, likely=True)
        there = (slots != NONE).double()
        weights = there / there.sum(1, keepdim=True)
        anchors, seen = [anchor], list[Trial]()
        while len(seen) < ROUNDS:
            solved = regress(self.contexts, anchors, weights, slots)
            trial = self._mended(self._rounded(solved, slots), slots)
            if self.member(trial):
                return trial
            if any(trial.pairs == one.pairs for one in seen):
                break
            seen.append(trial)
            nearest = [trial.pairs[i] for i in trial.squares.argsort().tolist() if i]
            anchors = [anchor, *(pair for pair in nearest if pair != anchor)][:ANCHORS]
            weights = weights + STRIDE * (solved - weights)
        best = min(seen, key=lambda one: one.mean)
        promising = best.mean < (PROMISING * self.typical) ** 2
        return self._mended(best, self._slots(end, {end}, likely=False)) if promising else best

    def _rounded(self, weights: Float64[Tensor, "t k"], slots: Int64[Tensor, "t k"]) -> Trial:
        heaviest = weights.masked_fill(slots == NONE, -1).argmax(1, keepdim=True)
        pairs = slots.gather(1, heaviest).flatten()
        return Trial(tuple(pairs.tolist()), self.contexts.sentences(pairs[None])[0])

    def _mended(self, trial: Trial, slots: Int64[Tensor, "t k"]) -> Trial:
        """Single replacements from `slots`, as long as they help: those are tried whose own input fits best."""
        for _ in range(MOST_MENDS):
            others, contexts = replaced(trial.pairs, slots)
            if self.member(trial) or not len(others):
                break
            best = contexts[self.contexts.squares(others, contexts).argsort()[:LOOKED_AT]]
            squares = self.contexts.sentences(best)
            chosen = int(squares.mean(1).argmin())
            if float(squares[chosen].mean()) >= trial.mean:
                break
            trial = Trial(tuple(best[chosen].tolist()), squares[chosen])
        return trial

    def _slots(self, end: int, fixed: set[int], *, likely: bool) -> Int64[Tensor, "t k"]:
        """The pairs to choose from at each place up to `end`; where one is `fixed`, it alone."""
        choices: list[Tensor] = []
        for place in range(int(self.contexts.positions[end]) + 1):
            here = self.contexts.at(place)
            held = here[torch.isin(here, torch.tensor(sorted(fixed)))]
            inner = here[~torch.isin(here, torch.tensor(self.ends))]
            some = inner[self.likely[inner]] if likely else inner
            choices.append(held if len(held) else some if len(some) else here)
        return pad_sequence(choices, batch_first=True, padding_value=NONE)


def separation_of(contexts: Contexts, end: int, flow: Flow | None, num_samples: int) -> Separation:
    """The search over these pairs; `flow` tells which of them are likely, all of them if None."""
    everything = torch.ones(len(contexts), dtype=torch.float64)
    lengths, plain = (everything, everything) if flow is None else (flow.lengths, flow.plain)
    ending = contexts.ids == end
    likely = lengths > CARRIES * lengths[lengths > 0].median()
    for place in contexts.positions.unique().tolist():
        here = contexts.at(place)
        likely[here[plain[here].argsort(descending=True)[:num_samples]]] = True
    likely[ending] = lengths[ending] > ENDS * lengths[ending].max()
    crowd = torch.bincount(contexts.positions)[contexts.positions]
    inner = torch.nonzero((contexts.positions > 0) & ~ending & likely).flatten().tolist()
    order = sorted(inner, key=lambda pair: (-float(lengths[pair]), int(crowd[pair]), int(contexts.positions[pair])))
    unbroken = (torch.bincount(contexts.positions) > 0).cumprod(0)[contexts.positions] > 0
    ends = torch.nonzero(ending & unbroken).flatten().tolist()
    ends = sorted(ends, key=lambda pair: (-float(lengths[pair]), -float(plain[pair]), int(contexts.positions[pair])))
    return Separation(contexts, tuple(ends), likely, tuple(order), _typical(contexts, likely & ~ending))


def _typical(contexts: Contexts, inner: Bool[Tensor, "n"]) -> float:
    """The median |C x| over random choices of a pair at each place."""
    rng = torch.Generator().manual_seed(0)
    places = [here[inner[here]] for here in map(contexts.at, range(int(contexts.positions.max()) + 1))]
    mixed = [here[torch.randint(len(here), (NUM_MIXED,), generator=rng)] for here in places if len(here)]
    return float(contexts.sentences(torch.stack(mixed, 1))[:, 1:].median().sqrt())


def replaced(pairs: Sequence[int], slots: Int64[Tensor, "t k"]) -> tuple[Int64[Tensor, "c"], Int64[Tensor, "c t"]]:
    """Every other pair of `slots` and, for each, the sentence with it in its place."""
    present = torch.tensor(pairs)
    places, columns = torch.nonzero((slots != NONE) & (slots != present[:, None]), as_tuple=True)
    others = slots[places, columns]
    contexts = present.repeat(len(others), 1)
    contexts[torch.arange(len(others)), places] = others
    return others, contexts


def regress(
    contexts: Contexts, anchors: Sequence[int], weights: Float64[Tensor, "t k"], slots: Int64[Tensor, "t k"]
) -> Float64[Tensor, "t k"]:
    """The weights of the pairs of `slots` in the anchors' common context, from a linear model about `weights`.

    Least |C x|² over all anchors where the weights at each place are not negative and add up to 1.
    """
    there = slots != NONE
    parts = [contexts.linear(anchor, slots[there], weights[there]) for anchor in anchors]
    slopes = torch.cat([slope for _, slope in parts], 1)
    offset = torch.cat([left for left, _ in parts]) - slopes.T @ weights[there]
    curvature = float(torch.linalg.matrix_norm(slopes, 2)) ** 2
    now = ahead = weights
    momentum = 1.0
    for _ in range(STEPS):
        gradient = slopes @ (offset + slopes.T @ ahead[there])
        following = onto_simplex(ahead.masked_scatter(there, ahead[there] - gradient / curvature), there)
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = following + (momentum - 1) / grown * (following - now)
        now, momentum = following, grown
    return now


def onto_simplex(values: Float64[Tensor, "t k"], there: Bool[Tensor, "t k"]) -> Float64[Tensor, "t k"]:
    """The nearest rows that are not negative and add up to 1, zero where not `there` (Held et al., 1974)."""
    falling = values.masked_fill(~there, -torch.inf).sort(1, descending=True).values
    excess = (falling.cumsum(1) - 1) / torch.arange(1, values.shape[1] + 1)
    last = (falling > excess).sum(1, keepdim=True) - 1
    return (values - excess.gather(1, last)).clamp_min(0) * there


def _size(sentences: Sequence[Trial]) -> int:
    """Number of tokens."""
    return sum(len(one.pairs) for one in sentences)
