"""The continuous half of gradient matching: embeddings whose update is the released one, and the tokens near them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from bridge_core.spec import text as t
from bridge_core.text.batches import Batch, embeddings
from bridge_core.text.models import Language
from bridge_core.text.objective import Guess, Objective

SHARPNESS, AVERAGED = 3.0, 300
"""A place starts at the mean embedding of its best tokens, weighted by exp(-sharpness ranking)."""
NORM_WEIGHT = 0.1
"""Of the squared relative difference between the embeddings' mean length and the table's (LAMP's regulariser)."""
RENEWAL = 10
"""Steps after which a causal model's next tokens are looked up again."""


@dataclass(frozen=True)
class Descended:
    """The end of one descent."""

    guess: Guess
    """The nearest token of each place."""
    near: Mapping[tuple[int, int], list[int]]
    """The nearest tokens by sample and place, best first."""


def is_fixed(language: Language, ids: Sequence[int], place: int) -> bool:
    """True for the tokens that every sentence begins and ends with."""
    return (place == 0 and ids[0] == language.begin) or (place == len(ids) - 1 and ids[-1] == language.end)


def descend(
    objective: Objective, starts: Sequence[Guess], scores: Float64[Tensor, "v p"] | None, knobs: t.EmbeddingMatching
) -> list[Descended]:
    """Adam on the distance from each of `starts`, all of them in one batch.

    With `scores`, those of `span.ranking`, it begins at the mean embedding of each place; of several sentences each
    begins half way from there to its own tokens. Without, at the tokens.
    """
    num_samples, batch = len(starts[0].labels), objective.batch(starts)
    table = _table(objective.language)
    fixed = _fixed(objective.language, batch)
    given = table[batch.ids]
    means = given if scores is None else _means(table, scores, batch)
    free = (means if num_samples == 1 else (means + given) / 2).clone().requires_grad_()
    size, rate = table.norm(dim=1).mean(), knobs.learning_rate * float(table.square().mean().sqrt())
    optimiser = torch.optim.Adam([free], rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, knobs.steps, rate / 10)
    for step in range(knobs.steps):
        if objective.language.task == "causal" and step % RENEWAL == 0:
            batch = _projected(batch, table, free.detach(), fixed)
        embedded = torch.where(fixed[..., None], given, free)
        distance = objective.target.distance(batch, num_samples, embedded)
        length = (embedded.norm(dim=2)[batch.mask].mean() / size - 1).square()
        (free.grad,) = torch.autograd.grad(distance.sum() + NORM_WEIGHT * len(starts) * length, free)
        optimiser.step()
        schedule.step()
    return _ends(objective, starts, table, free.detach(), knobs.candidates)


def slopes(objective: Objective, guess: Guess) -> Float[Tensor, "n t v"]:
    """How the distance changes, to first order, with another token at each place (HotFlip: Ebrahimi et al., 2018)."""
    batch = objective.batch([guess])
    table = _table(objective.language)
    embedded = table[batch.ids].requires_grad_()
    distance = objective.target.distance(batch, len(batch), embedded).sum()
    (slope,) = torch.autograd.grad(distance, embedded)
    return slope @ table.T - (slope * table[batch.ids]).sum(2, keepdim=True)


def _table(language: Language) -> Float[Tensor, "v d"]:
    """The embeddings of the vocabulary."""
    return embeddings(language, torch.arange(language.vocabulary)[None])[0].detach()


def _fixed(language: Language, batch: Batch) -> Tensor:
    rows = [[is_fixed(language, ids, place) for place in range(len(ids))] for ids in batch.sentences()]
    return torch.tensor([row + [True] * (batch.ids.shape[1] - len(row)) for row in rows])


def _means(table: Tensor, scores: Tensor, batch: Batch) -> Float[Tensor, "n t d"]:
    """The mean embedding of each place's best tokens."""
    best = scores.topk(min(AVERAGED, len(scores)), dim=0, largest=False)
    weights = (SHARPNESS * (best.values[:1] - best.values)).softmax(0).to(table.dtype)
    means = torch.einsum("kp,kpd->pd", weights, table[best.indices])
    places = torch.arange(batch.ids.shape[1]).clamp_max(len(means) - 1)
    return means[places].expand(len(batch.ids), -1, -1).clone()


def _nearest(table: Tensor, embedded: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
    return F.normalize(embedded, dim=-1) @ F.normalize(table, dim=1).T


def _projected(batch: Batch, table: Tensor, embedded: Tensor, fixed: Tensor) -> Batch:
    return Batch(torch.where(fixed, batch.ids, _nearest(table, embedded).argmax(2)), batch.mask, batch.labels)


def _ends(
    objective: Objective, starts: Sequence[Guess], table: Tensor, embedded: Tensor, number: int
) -> list[Descended]:
    num_samples = len(starts[0].labels)
    best: Any = _nearest(table, embedded).topk(min(number, len(table)), dim=2).indices.tolist()
    found: list[Descended] = []
    for row, guess in enumerate(starts):
        near: dict[tuple[int, int], list[int]] = {}
        for sample, ids in enumerate(guess.sentences):
            for place in range(len(ids)):
                if not is_fixed(objective.language, ids, place):
                    near[sample, place] = best[row * num_samples + sample][place]
                    guess = guess.with_token(sample, place, near[sample, place][0])
        found.append(Descended(guess, near))
    return found
