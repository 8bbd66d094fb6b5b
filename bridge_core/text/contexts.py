"""BERT's first block for one token in any context: its input in the second block, and how that depends on the context.

Queries, keys and values of the first block are a lookup table like its inputs, so that a context is only a choice of
rows. Suffixes: n pairs of token and position, k trials, t places of a context, h heads, e width of a head, m rows of
the annihilator C, d width of the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from bridge_core.text.models import FirstInputs, Language

BATCH = 4096
NONE = -1
"""In a context: no token at this place."""
NEGLIGIBLE = 1e-6
"""Of the annihilator's largest singular value."""


@dataclass(frozen=True)
class Contexts:
    """The first block over the pairs (ids, positions), seen through an annihilator of the second one's inputs."""

    ids: Int64[Tensor, "n"]
    positions: Int64[Tensor, "n"]
    inputs: Float[Tensor, "n d"]
    logits: Float[Tensor, "n h n"]
    """Of attention: query, head, key."""
    values: Float[Tensor, "n h e"]
    block: nn.Module
    annihilator: Float[Tensor, "m d"]

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, position: int) -> Int64[Tensor, "k"]:
        """The pairs at a position."""
        return torch.nonzero(self.positions == position).flatten()

    @torch.no_grad()
    def squares(self, queries: Int64[Tensor, "k"], contexts: Int64[Tensor, "k t"]) -> Float[Tensor, "k"]:
        """|C x|² of each query in its context."""
        parts = zip(queries.split(BATCH), contexts.split(BATCH), strict=True)
        return torch.cat([self._left(one, self._attended(one, context)).square().sum(1) for one, context in parts])

    def sentences(self, contexts: Int64[Tensor, "k t"]) -> Float[Tensor, "k t"]:
        """|C x|² of every token of each context; NaN where there is none."""
        there = contexts != NONE
        found = torch.full(contexts.shape, torch.nan)
        repeated = contexts.repeat_interleave(contexts.shape[1], 0)
        found[there] = self.squares(contexts[there], repeated[there.flatten()])
        return found

    def linear(
        self, query: int, pairs: Int64[Tensor, "c"], weights: Float64[Tensor, "c"]
    ) -> tuple[Float64[Tensor, "m"], Float64[Tensor, "c m"]]:
        """C x of a query whose context holds each of `pairs` so many times, and its derivative by these weights."""
        logits, values = self.logits[query][:, pairs].double(), self.values[pairs].double()
        share = (logits - logits.max(1, keepdim=True).values).exp()
        share = share / (share @ weights)[:, None]
        mean = torch.einsum("hn,n,nhe->he", share, weights, values)
        rows = len(self.annihilator)
        attended = mean.flatten().float().expand(rows, -1).contiguous().requires_grad_(True)
        left = self._left(torch.full((rows,), query), attended)
        (slopes,) = torch.autograd.grad(left.diagonal().sum(), attended)
        slopes = slopes.double().reshape(rows, *mean.shape)
        turned = torch.einsum("mhe,nhe->nhm", slopes, values) - torch.einsum("mhe,he->hm", slopes, mean)
        return left[0].detach().double(), torch.einsum("hn,nhm->nm", share, turned)

    def _attended(self, queries: Int64[Tensor, "k"], contexts: Int64[Tensor, "k t"]) -> Float[Tensor, "k d"]:
        held = contexts.clamp_min(0)
        logits = self.logits[queries[:, None], :, held].masked_fill((contexts == NONE)[..., None], -torch.inf)
        return torch.einsum("kth,kthe->khe", logits.softmax(1), self.values[held]).flatten(1)

    def _left(self, queries: Int64[Tensor, "k"], attended: Float[Tensor, "k d"]) -> Float[Tensor, "k m"]:
        block: Any = self.block
        middle = block.attention.output(attended, self.inputs[queries])
        return block.output(block.intermediate(middle), middle) @ self.annihilator.T


def contexts_of(
    language: Language,
    table: FirstInputs,
    ids: Int64[Tensor, "n"],
    positions: Int64[Tensor, "n"],
    annihilators: Sequence[Float64[Tensor, "k d"]],
) -> Contexts:
    """The first block of a BERT over these pairs; `annihilators` are the second block's."""
    block: Any = language.blocks[0]
    attention = block.attention.self
    inputs = table.at(ids, positions).float()
    shape = (len(ids), attention.num_attention_heads, attention.attention_head_size)
    with torch.no_grad():
        query, key, value = (
            module(inputs).reshape(shape) for module in (attention.query, attention.key, attention.value)
        )
    logits = torch.einsum("nhe,khe->nhk", query, key) / math.sqrt(attention.attention_head_size)
    return Contexts(ids, positions, inputs, logits, value, block, _independent(annihilators).float())


def _independent(annihilators: Sequence[Float64[Tensor, "k d"]]) -> Float64[Tensor, "m d"]:
    """As few rows as give the same |C x|."""
    _, values, basis = torch.linalg.svd(torch.cat(list(annihilators)), full_matrices=False)
    kept = values > NEGLIGIBLE * values[0]
    return values[kept, None] * basis[kept]
