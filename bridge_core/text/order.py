"""The order of a Llama's tokens, from the first block alone: a query's gradient lies in the span of the keys it sees.

The rows of the query's module are sum_i q_i (x) A x_i over the tokens; with independent A x_i the gradient q_v of each
token v is unique. Softmax makes it, head by head, a combination of differences of keys,

    q_i = sum_{s < i} w_is (R_{s-i} k_s - k_i),    R the rotary embedding, k_s = W_k x_s

so that it tells which tokens stand before it, and how far. Keys do not change in training where no adapter sits on
them: this holds after many steps, when deeper inputs have drifted. A token that stands at several places has the sum of
their gradients: it is left open until all of its places are known.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from bridge_core.text.models import FirstInputs, Language
from bridge_core.text.span import Probe

LIMITS = (3e-5, 1e-3, 1e-2, 5e-2)
"""A gradient is explained where keys leave no more than this of it: members leave 1e-6 after one step and up to 1e-2
after many, two far places of a token that stands at three can leave 0.02."""
SURE, GAP = 5e-3, 0.05
"""For an order beyond doubt, at most: what is left of a token, and that over what is left of the best other one."""
MOST_PREFIXES, MOST_REPEATS, MOST_IN_A_ROW = 250, 8, 3
NUM_REFINEMENTS = 4
FEWEST_FREE = 8
"""Dimensions, over all heads, that the keys must leave free for a test to say anything."""
OPENING, CLOSING = 1.0, 1.0
"""What a token with an unexplained gradient costs a prefix, and what one with an explained gradient is worth."""


@dataclass(frozen=True)
class Order:
    """The tokens of a sentence in their order."""

    ids: tuple[int, ...]
    worst: float
    """The largest part of a token's gradient that the keys before it leave."""
    gap: float
    """The largest of it over what the best other token leaves at the same place."""

    @property
    def sure(self) -> bool:
        """True where no other order comes near."""
        return self.worst < SURE and self.gap < GAP

    @property
    def cost(self) -> float:
        """Number of tokens, and the logarithm of what is left."""
        return len(self.ids) + math.log10(max(self.worst, 1e-12))


@dataclass(frozen=True)
class Queries:
    """Gradients and keys of the distinct tokens, head by head."""

    ids: Int64[Tensor, "v"]
    gradients: Float64[Tensor, "v h e"]
    """Over the standard errors of the rows."""
    keys: Float64[Tensor, "v h e"]
    errors: Float64[Tensor, "h e"]
    """What the gradients were divided by, up to a factor."""
    cosine: Float64[Tensor, "p e"]
    sine: Float64[Tensor, "p e"]

    def left(self, prefix: tuple[int, ...], token: int) -> float:
        """The part of a token's gradient that its places in `prefix`, and one behind it, do not explain.

        At the first place there is nothing to explain: the gradient over the median one. NaN where the keys span all.
        """
        gradient = self.gradients[token]
        if not prefix:
            return float(gradient.norm() / self.gradients.flatten(1).norm(dim=1).median())
        places = [place for place, held in enumerate(prefix) if held == token and place]
        differences = torch.cat([self._differences(prefix[:place], token) for place in (*places, len(prefix))])
        heads, width = gradient.shape
        if heads * (width - len(differences)) < FEWEST_FREE or len(differences) >= width:
            return math.nan
        basis = torch.linalg.qr(differences.permute(1, 2, 0)).Q
        rest = gradient[..., None] - basis @ (basis.mT @ gradient[..., None])
        return float(rest.norm() / gradient.norm())

    def _differences(self, prefix: tuple[int, ...], token: int) -> Float64[Tensor, "s h e"]:
        """Keys of `prefix` as seen from the place behind it, less the token's own."""
        keys, distance = self.keys[list(prefix)], torch.arange(len(prefix), 0, -1)
        first, second = keys.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
        seen = keys * self.cosine[distance][:, None] + turned * self.sine[distance][:, None]
        return (seen - self.keys[token]) / self.errors


def order_of(queries: Queries) -> Order | None:
    """The order that explains every gradient; None where there is none.

    Repeated tokens make it easier to explain a gradient: each has to buy a factor of ten of what is left.
    """
    best: Order | None = None
    left = cache(queries.left)
    for limit in LIMITS:
        found = _search(len(queries.ids), left, limit)
        order = None if found is None else _judged(queries, found)
        if order is not None and (best is None or order.cost < best.cost):
            best = order
        if best is not None and len(best.ids) == len(queries.ids):
            break
    return best


def queries_of(
    language: Language, probe: Probe, errors: Float64[Tensor, "out"], table: FirstInputs, ids: Int64[Tensor, "v"]
) -> Queries | None:
    """Gradients of the certified tokens' queries; `errors` are what the probe's rows were divided by.

    None where the tokens' A x are not independent.
    """
    inputs = table.at(ids, torch.zeros_like(ids))
    if int(torch.linalg.matrix_rank(probe.seen(inputs))) < len(ids):
        return None
    seen = effective(probe, inputs).seen(inputs)
    attention: Any = language.blocks[0].get_submodule("self_attn")
    gradients = torch.linalg.lstsq(seen.T, probe.rows.T).solution.reshape(len(ids), -1, attention.head_dim)
    bias = None if attention.k_proj.bias is None else attention.k_proj.bias.double()
    keys = torch.nn.functional.linear(inputs, attention.k_proj.weight.double(), bias)
    keys = keys.reshape(len(ids), -1, attention.head_dim)
    shared = keys.repeat_interleave(gradients.shape[1] // keys.shape[1], 1)
    cosine, sine = _rotation(language, len(ids) + MOST_REPEATS, attention.head_dim)
    scale = (errors / errors.median()).reshape(gradients.shape[1:])
    return Queries(ids, gradients, shared, scale, cosine, sine)


def drifts_of(b: Mapping[str, Float[Tensor, "out rank"]], steps: int) -> dict[str, Float64[Tensor, "out rank"]] | None:
    """What `probes_of` takes as `drifts`: how far each module's A has moved over `steps` of SGD; None for one step."""
    share = math.sqrt((steps**2 - 1) / 3) / steps
    return {name: share * one.double() for name, one in b.items()} if steps > 1 else None


def effective(probe: Probe, inputs: Float64[Tensor, "v in"]) -> Probe:
    """The probe with the A that B was made with: A moves while it is trained; for the rows' span that is no matter.

    SGD gives B = H Aᵀ for H the sum of the steps' -eta s G_t, and A gains the sum of B_tᵀ H_t. With T steps that are
    alike the mean A is the last one less (T² - 1) / (3 T²) Bᵀ H; H is a combination of the inputs.
    """
    if probe.drift is None or probe.a is None:
        return probe
    a = probe.a
    for _ in range(NUM_REFINEMENTS):
        update = torch.linalg.lstsq((inputs @ a.T).T, probe.drift.T).solution.T @ inputs
        a = probe.a - probe.drift.T @ update
    return replace(probe, a=a)


def _rotation(language: Language, length: int, width: int) -> tuple[Float64[Tensor, "p e"], Float64[Tensor, "p e"]]:
    """Cosine and sine of the rotary embedding, backwards by 0 to `length` places."""
    base: Any = language.base
    cosine, sine = base.rotary_emb(torch.zeros(1, length, width), -torch.arange(length)[None])
    scale = base.rotary_emb.attention_scaling
    return cosine[0].double() / scale, sine[0].double() / scale


def _search(num_tokens: int, left: Callable[[tuple[int, ...], int], float], limit: float) -> tuple[int, ...] | None:
    """Best first: prefixes by how many of their tokens are explained, less those that are open."""
    everything = frozenset(range(num_tokens))
    waiting: list[tuple[float, tuple[int, ...], frozenset[int]]] = [(0.0, (), frozenset())]
    for _ in range(MOST_PREFIXES):
        if not waiting:
            return None
        cost, prefix, closed = heapq.heappop(waiting)
        if closed == everything:
            return prefix
        for token in everything - closed:
            if left(prefix, token) < limit:
                heapq.heappush(waiting, (cost - CLOSING, (*prefix, token), closed | {token}))
            elif len(prefix) - len(closed) < MOST_REPEATS and (not prefix[2:] or set(prefix[-MOST_IN_A_ROW:]) & closed):
                heapq.heappush(waiting, (cost + OPENING, (*prefix, token), closed))
    return None


def _judged(queries: Queries, prefix: tuple[int, ...]) -> Order:
    parts = list(_parts(queries, prefix))
    ids = tuple(int(queries.ids[token]) for token in prefix)
    return Order(ids, max(left for left, _ in parts), max(left / other for left, other in parts))


def _parts(queries: Queries, prefix: tuple[int, ...]) -> Iterator[tuple[float, float]]:
    """What is left of each token at its last place, and of the best token there that could have stood instead."""
    for place, token in enumerate(prefix):
        if token not in prefix[place + 1 :]:
            others = {other for other in prefix[place + 1 :] if other != token}
            left = [queries.left(prefix[:place], other) for other in others]
            yield queries.left(prefix[:place], token), min(left, default=1.0)
