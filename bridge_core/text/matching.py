"""Gradient matching: sentences whose update is the released one (TAG: Deng et al., 2021; LAMP: Balunović et al., 2022).

Embeddings are optimised first, all modules in one backward pass that is differentiated again, from the ranking's mean
embedding of each place (`descent`); then tokens (`edits`); then once more from these. What is minimised is 1 - cosine,
mean over modules, plus a weight times a bigram prior's surprise. Classes and lengths that are not known are tried.

That sentences match proves nothing, unless what they leave is what the errors of the measurements explain, while every
replacement of a token that is tried leaves far more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float64
from torch import Tensor

from bridge_core.spec import text as t
from bridge_core.text.descent import descend
from bridge_core.text.edits import Editor, edited
from bridge_core.text.models import Language
from bridge_core.text.objective import Guess, Objective, Target
from bridge_core.text.prior import Bigram

EXPLAINED, CLEAR = 16.0, 100.0
"""Misfit of an exact match, at most; and how many times worse any replacement is."""
NUM_RIVALS = 8
"""Replacements of each token that an exact match is held against."""
MOST_LABELS = 16


@dataclass(frozen=True)
class Matched:
    """The best match."""

    guess: Guess
    misfit: float
    """Mean squared difference over the squared errors."""
    rivalry: float
    """The lowest misfit with one token replaced, or one class; NaN where the match is not explained."""

    @property
    def exact(self) -> bool:
        """True where the errors explain what is left, and no replacement comes near."""
        return self.misfit < EXPLAINED and self.rivalry > CLEAR * max(1.0, self.misfit)


def match(
    target: Target,
    starts: Sequence[Guess],
    scores: Float64[Tensor, "v p"],
    prior: Bigram,
    knobs: t.EmbeddingMatching,
    num_classes: int,
    rng: torch.Generator,
) -> Matched:
    """The sentences that explain `target` best, from the best of `starts` by their cost.

    `scores` are those of `span.ranking`; a start that is explained already is not searched on.
    """
    objective = Objective(target, prior, knobs.prior_weight)
    editor = Editor(objective, scores, knobs, num_classes, rng)
    order = objective.cost(starts).argsort(stable=True)[: knobs.restarts].tolist()
    chosen = [starts[i] for i in order]
    for number in range(knobs.rounds):
        if _explained(objective, chosen[0]):
            break
        ends = descend(objective, chosen, None if number else scores, knobs)
        found = sorted(edited(editor, ends, chosen), key=lambda one: one.cost)
        chosen = list(dict.fromkeys(one.guess for one in found))
    return judged(editor, chosen[0])


def judged(editor: Editor, guess: Guess) -> Matched:
    """A guess with its misfit and that of its rivals."""
    misfit = float(editor.objective.misfit([guess]))
    if not _explained(editor.objective, guess):
        return Matched(guess, misfit, math.nan)
    return Matched(guess, misfit, float(editor.objective.misfit(editor.rivals(guess, NUM_RIVALS)).min()))


def _explained(objective: Objective, guess: Guess) -> bool:
    return objective.target.telling and float(objective.misfit([guess])) < EXPLAINED


def starts_of(
    language: Language,
    scores: Float64[Tensor, "v p"],
    num_samples: int,
    lengths: Sequence[int],
    labels: Sequence[tuple[int, ...]],
) -> list[Guess]:
    """A guess by the ranking alone for each of `lengths` and each choice of classes."""
    return [
        Guess(tuple(ranked_sentence(language, scores, number, length) for number in range(num_samples)), classes)
        for length in lengths
        for classes in labels
    ]


def all_labels(language: Language, num_samples: int, num_classes: int) -> list[tuple[int, ...]]:
    """Every choice of classes, as far as it fits into `MOST_LABELS`; a causal model looks at none."""
    if language.task == "causal":
        return [(0,) * num_samples]
    return list(product(range(num_classes), repeat=num_samples))[:MOST_LABELS]


def ranked_sentence(language: Language, scores: Float64[Tensor, "v p"], number: int, length: int) -> tuple[int, ...]:
    """The n-th best token of each place, between what every sentence begins and ends with."""
    placed = scores.shape[1] > 1
    best = scores.topk(number + 1 if placed else (number + 1) * length, dim=0, largest=False).indices
    ids = best[number, :length].tolist() if placed else best[-length:, 0].tolist()
    first = ids[:1] if language.begin is None else [language.begin]
    last = ids[-1:] if language.end is None else [language.end]
    return (*first, *ids[1 : length - 1], *last)
