"""Which tokens stand at which positions, where the first block's span alone can not tell.

Before the norm an input is the sum of a token's and a position's embedding, so that a span that holds (v, p), (v, p')
and (w, p) holds (w, p') too: certified pairs are a superset. The rows say more. With x = gain (E_v + P_p) / s + shift,

    rows = sum over pairs of d (x) A x = sum_v W_v (x) A gain E_v + sum_p W_p (x) A gain P_p + rest

and the embeddings' own parts W are unique. A part W_v is the sum of d / s over the positions of v, W_p that over the
tokens at p: both are marginals of an unknown flow between tokens and positions, a vector for each pair. Few pairs are
true, so the flow of the least total length is sought (group lasso; Yuan and Lin, 2006), reweighted towards fewer pairs
(Candes, Wakin and Boyd, 2008), by the alternating direction method of multipliers (Boyd et al., 2011).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from bridge_core.text.models import FirstInputs
from bridge_core.text.span import Probe

STEPS, REWEIGHTINGS = 200, 3
STRENGTH, SOFTNESS = 0.2, 0.1
"""Of shrinkage and of reweighting, over the median length of a token's part."""


@dataclass(frozen=True)
class Flow:
    """How much of the gradient each pair carries."""

    lengths: Float64[Tensor, "n"]
    """After reweighting: 0 for most pairs that are not true."""
    plain: Float64[Tensor, "n"]
    """Before it: misses fewer true pairs, lets more others in."""


def flow_of(
    probes: Sequence[Probe], table: FirstInputs, ids: Int64[Tensor, "n"], positions: Int64[Tensor, "n"]
) -> Flow | None:
    """The flow over the pairs (ids, positions); None where the rows have too low a rank to tell the parts."""
    tokens, token_of = ids.unique(return_inverse=True)
    places, place_of = positions.unique(return_inverse=True)
    parts = _parts(probes, table, tokens, places)
    if parts is None:
        return None
    pairs = torch.zeros(len(tokens), len(places), dtype=torch.bool)
    pairs[token_of, place_of] = True
    plain, last = least_flow(parts[: len(tokens)], parts[len(tokens) :], pairs)
    return Flow(last[token_of, place_of], plain[token_of, place_of])


def _parts(
    probes: Sequence[Probe], table: FirstInputs, tokens: Int64[Tensor, "v"], places: Int64[Tensor, "p"]
) -> Float64[Tensor, "vp k"] | None:
    """W of every token and of every position, in an orthonormal basis of all of them."""
    embedded = torch.cat([table.tokens[tokens], table.positions[places]])
    if table.centred:
        embedded = embedded - embedded.mean(1, keepdim=True)
    atoms = torch.cat([embedded * table.gain, table.shift[None]])
    if any(len(atoms) > probe.rows.shape[1] for probe in probes):
        return None
    found = [torch.linalg.lstsq(probe.seen(atoms).T, probe.rows.T).solution for probe in probes]
    whole = torch.cat([one / one.norm() for one in found], 1)[:-1]
    return whole @ torch.linalg.svd(whole, full_matrices=False).Vh.T


def least_flow(
    sources: Float64[Tensor, "v k"], sinks: Float64[Tensor, "p k"], pairs: Bool[Tensor, "v p"]
) -> tuple[Float64[Tensor, "v p"], Float64[Tensor, "v p"]]:
    """Lengths of the shortest flow over `pairs` with these marginals, before and after reweighting."""
    scale = sources.norm(dim=1).median()
    weight = torch.ones(pairs.shape, dtype=torch.float64)
    found: list[Tensor] = []
    for _ in range(REWEIGHTINGS):
        found.append(_shortest(sources, sinks, pairs, STRENGTH * scale * weight))
        weight = scale / (found[-1] + SOFTNESS * scale)
        weight = weight / weight[pairs].mean()
    return found[0], found[-1]


def _shortest(sources: Tensor, sinks: Tensor, pairs: Tensor, shrinkage: Tensor) -> Float64[Tensor, "v p"]:
    """By splitting: the marginals hold for one copy, lengths are shrunk in the other."""
    inverse = torch.linalg.pinv(_laplacian(pairs))
    shrunk = _onto_marginals(torch.zeros(*pairs.shape, sources.shape[1]).double(), sources, sinks, pairs, inverse)
    gap = torch.zeros_like(shrunk)
    for _ in range(STEPS):
        held = _onto_marginals(shrunk - gap, sources, sinks, pairs, inverse) + gap
        length = held.norm(dim=2).clamp_min(1e-300)
        shrunk = held * ((1 - shrinkage / length).clamp_min(0) * pairs)[..., None]
        gap = held - shrunk
    return shrunk.norm(dim=2)


def _onto_marginals(flow: Tensor, sources: Tensor, sinks: Tensor, pairs: Tensor, inverse: Tensor) -> Tensor:
    """The nearest flow over `pairs` that has the marginals."""
    shift = inverse @ torch.cat([sources - flow.sum(1), sinks - flow.sum(0)])
    by_source, by_sink = shift[: len(sources)], shift[len(sources) :]
    return flow + (by_source[:, None] + by_sink) * pairs[..., None]


def _laplacian(pairs: Bool[Tensor, "v p"]) -> Float64[Tensor, "vp vp"]:
    whole = pairs.double()
    upper = torch.cat([whole.sum(1).diag(), whole], 1)
    return torch.cat([upper, torch.cat([whole.T, whole.sum(0).diag()], 1)])
