"""The span of keys: which tokens the first block's queries looked at, told by the other side of their gradient.

Scores are Q Kᵀ / sqrt(width of a head), head by head: the gradient at query t is sum_s w_ts k_s, and the rows of w sum
to zero (softmax). So the columns of G, of M = G Aᵀ and of the B of any linear optimiser lie, head by head, in the span
of the differences k_s - k_0 of the training tokens' keys: after any number of steps while no adapter moves the keys,
and whatever the rank r. It takes fewer tokens than a head has dimensions, where the certificate of `span` takes fewer
than r. Not for rotated keys (RoPE): those are `order`'s.

Members are found as sparse recovery finds sources from several snapshots: greedily, by the share of an atom that lies
in the column space of what is left (rank-aware order recursive matching pursuit: Davies and Eldar, 2012), all heads
together; then one after the other with all others given, until nothing changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from bridge_core.errors import NotApplicable
from bridge_core.text.models import FirstInputs, Language
from bridge_core.text.span import EDGE, EXPLAINED, row_errors, strangers

CLEAN = 100.0
"""Directions of a head whose signal has at least so many times the variance of their noise count."""
MOST_ATOMS = 8192
"""Tokens of all places that are searched. Measured on MiniLM, r = 4: every member among the first 350 of its place."""
SWEEPS, CHOICES = 8, 4
MOST_STARTS, MOST_SEARCHED = 12, 160
"""Searches, from the second on with a random first member and one of the best few next; members in all of them."""
FLOOR = 1e-3
"""Of the share of an atom outside: no single head decides."""
FEWEST_COLUMNS = 2
"""Measured on MiniLM: with one column 0 of 4 searches end at the members, with two 3 of 5."""
SPARE = 2
"""Dimensions of a head that the members must leave free for the rest to say anything."""
CLEAR = 100.0
"""A stranger in a member's place leaves at least so many times more than noise explains."""


@dataclass(frozen=True)
class Keys:
    """Keys less a known one, scaled so that strangers' keys and the query's columns are of unit size."""

    table: FirstInputs
    """Inputs less the known one's."""
    map: Float64[Tensor, "h k in"]
    """Inputs to whitened keys, head by head; rows of zeros where noise prevails."""
    columns: Float64[Tensor, "h k r"]
    """The query's rows, whitened likewise."""
    variance: Float64[Tensor, "h k"]
    """Of the noise in each direction."""

    def at(self, ids: Int64[Tensor, "n"], places: Int64[Tensor, "n"]) -> Float64[Tensor, "n h k"]:
        """Whitened keys of tokens at places."""
        heads, width, _ = self.map.shape
        return (self.table.at(ids, places) @ self.map.flatten(0, 1).T).reshape(-1, heads, width)

    def left(self, members: Float64[Tensor, "n h k"]) -> tuple[Float64[Tensor, "h k n"], Float64[Tensor, "h k r"]]:
        """An orthonormal basis of the members' keys, and what they leave of the columns."""
        basis = torch.linalg.qr(members.permute(1, 2, 0)).Q
        return basis, self.columns - basis @ (basis.mT @ self.columns)

    def unexplained(self, members: Float64[Tensor, "n h k"]) -> float:
        """What the members leave over what noise explains, a degree of freedom; infinite where none is free."""
        directions = (self.variance > 0).sum(1)
        free = directions - len(members)
        if int(free.max()) < SPARE:
            return math.inf
        expected = self.variance.sum(1) / directions * free * self.columns.shape[2]
        each = self.left(members)[1].square().sum((1, 2)) / expected
        return float(each[free >= SPARE].mean())

    def fit(self, atoms: Float[Tensor, "m h k"], members: Float64[Tensor, "n h k"]) -> Float[Tensor, "m"] | None:
        """How much of each atom, beyond the members, lies in what they leave of the columns; None if that is noise.

        Mean over heads of -log(1 - share), as in a likelihood ratio.
        """
        basis, left = self.left(members)
        directions, values, _ = torch.linalg.svd(left, full_matrices=False)
        spread, worst = self.variance.sum(1).sqrt(), self.variance.amax(1).sqrt()
        signal = values > EDGE * (spread + math.sqrt(left.shape[2]) * worst)[:, None]
        heads = signal.any(1)
        if not heads.any():
            return None
        each = atoms.transpose(0, 1)[heads]
        inside = (each @ (directions * signal[:, None])[heads].to(each)).square().sum(2)
        whole = each.square().sum(2)
        beyond = whole - (each @ basis[heads].to(each)).square().sum(2)
        share = (inside / beyond.clamp_min(1e-4 * whole)).clamp(0, 1)
        return -(1 - share + FLOOR).log().mean(0)


@dataclass(frozen=True)
class _Whole:
    """Keys of the whole vocabulary by products of the two tables, in single precision."""

    tokens: Float[Tensor, "h v k"]
    places: Float[Tensor, "h p k"]
    shift: Float[Tensor, "h 1 k"]
    sizes: Float[Tensor, "v p"]

    def at(self, place: int) -> Float[Tensor, "v h k"]:
        """Of every token at `place`: `Keys.at` is the slow reference."""
        spread = self.tokens + self.places[:, place, None]
        return spread.div_(self.sizes[:, place, None]).add_(self.shift).transpose(0, 1)


def _whole(keys: Keys) -> _Whole:
    table, scaled = keys.table, keys.map * keys.table.gain
    e, p = table.tokens, table.positions
    if table.centred:
        e, p = e - e.mean(1, keepdim=True), p - p.mean(1, keepdim=True)
    square = e.square().sum(1)[:, None] + p.square().sum(1) + 2 * e @ p.T
    shift = (keys.map @ table.shift)[:, None]
    single = (e.float() @ scaled.mT.float(), p.float() @ scaled.mT.float(), shift.float())
    return _Whole(*single, (square / e.shape[1] + table.epsilon).sqrt().float())


@dataclass(frozen=True)
class Pursued:
    """Tokens that explain the query's columns together."""

    pairs: list[tuple[int, int]]
    """Token and place, by place; the known first one is not among them."""
    unexplained: float
    """What they leave over what noise explains, a degree of freedom: of the order of 1 for the members."""
    rivalry: float
    """The same with the best stranger in the place of a member, the lowest of all."""

    @property
    def certain(self) -> bool:
        """True where the members are explained, and none of them could be another token."""
        return self.unexplained < EXPLAINED and self.rivalry > CLEAR * max(1.0, self.unexplained)


def keys_of(
    language: Language, targets: Mapping[str, Tensor], errors: Mapping[str, Tensor], table: FirstInputs
) -> Keys:
    """The keys of the first block's heads, against `targets` (B, M or G) of its query and their standard errors.

    Raises `NotApplicable` where keys are rotated, nothing is released of the query, or but one column.
    """
    weight, rows, noise = _query(language, targets, errors)
    if rows.shape[1] < FEWEST_COLUMNS:
        raise NotApplicable(f"rank {rows.shape[1]}", f"{FEWEST_COLUMNS} columns at least", "rank tokens instead")
    model: Any = language.model
    heads = int(model.config.num_attention_heads)
    begin = language.begin
    known = strangers(table) if begin is None else table.at(torch.tensor([begin]), torch.tensor([0]))
    shifted = replace(table, shift=table.shift - known.mean(0))
    weighted = (weight / noise[:, None]).reshape(heads, -1, weight.shape[1])
    columns = (rows / noise[:, None]).reshape(heads, -1, rows.shape[1])
    inputs = strangers(shifted)
    moment = weighted @ (inputs.T @ inputs / len(inputs)) @ weighted.mT
    power = columns.square().sum((1, 2)) / columns.shape[2] / moment.diagonal(dim1=1, dim2=2).sum(1)
    values, vectors = torch.linalg.eigh(moment * power[:, None, None])
    variance = torch.where(values > CLEAN, 1 / values.clamp_min(CLEAN), 0.0)
    white = (vectors * variance.sqrt()[:, None]).mT
    return Keys(shifted, white @ weighted, white @ columns, variance)


def _query(
    language: Language, targets: Mapping[str, Tensor], errors: Mapping[str, Tensor]
) -> tuple[Float64[Tensor, "out in"], Float64[Tensor, "out r"], Float64[Tensor, "out"]]:
    """Weight of the first block's key, what is released of its query, and the standard error of each row of that."""
    readers = language.readers(0)
    name = readers[0]
    if language.family == "llama" or name not in targets:
        found = "rotated keys" if language.family == "llama" else "no adapter on the first block's query"
        raise NotApplicable(found, "a BERT's or a GPT-2's query", "rank tokens instead")
    if language.family == "gpt2":
        layer: Any = language.model.get_submodule(name)
        width = layer.nx
        weight = layer.weight.detach().double().T[width : 2 * width]
        return weight, targets[name][:width].double(), row_errors(errors[name])[:width]
    key: Any = language.model.get_submodule(readers[1])
    return key.weight.detach().double(), targets[name].double(), row_errors(errors[name])


@dataclass(frozen=True)
class _Pool:
    """Atoms that are searched."""

    ids: Int64[Tensor, "m"]
    places: Int64[Tensor, "m"]
    atoms: Float64[Tensor, "m h k"]


def pursue(keys: Keys, most: int, num_samples: int, rng: torch.Generator, *, first: int = 1) -> Pursued | None:
    """At most `most` tokens, no more than `num_samples` at a place from `first` on, that explain the columns best.

    None where the columns are noise.
    """
    most = min(most, int((keys.variance > 0).sum(1).max()) - SPARE)
    whole = _whole(keys)
    pool = _pool(keys, whole, first)
    if pool is None:
        return None
    best: tuple[float, list[int]] = (math.inf, [])
    for start in range(max(1, min(MOST_STARTS, MOST_SEARCHED // max(most, 1)))):
        chosen = _swept(keys, pool, _grown(keys, pool, most, num_samples, rng if start else None), num_samples)
        best = min(best, (keys.unexplained(pool.atoms[chosen]), chosen))
        if best[0] < EXPLAINED:
            break
    chosen = sorted(best[1], key=lambda row: int(pool.places[row]))
    pairs = list(zip(pool.ids[chosen].tolist(), pool.places[chosen].tolist(), strict=True))
    rivalry = _rivalry(keys, whole, pool, chosen) if best[0] < EXPLAINED else math.nan
    return Pursued(pairs, best[0], rivalry)


def _pool(keys: Keys, whole: _Whole, first: int) -> _Pool | None:
    """The tokens of each place that fit best alone."""
    nothing, ids = keys.columns.new_zeros(0, *keys.variance.shape), list[Tensor]()
    places = torch.arange(first, len(keys.table.positions))
    for place in places.tolist():
        score = keys.fit(whole.at(place), nothing)
        if score is None:
            return None
        ids.append(score.topk(min(MOST_ATOMS // len(places), len(score))).indices)
    each = places.repeat_interleave(len(ids[0]))
    return _Pool(torch.cat(ids), each, keys.at(torch.cat(ids), each))


def _best(
    keys: Keys, pool: _Pool, members: Sequence[int], num_samples: int, rng: torch.Generator | None = None
) -> int | None:
    """The atom to add to `members`; one of the best few with `rng`. None where noise alone is left."""
    rows = torch.tensor(members, dtype=torch.int64)
    score = keys.fit(pool.atoms, pool.atoms[rows])
    if score is None:
        return None
    taken = torch.bincount(pool.places[rows], minlength=int(pool.places.max()) + 1) >= num_samples
    score = score.masked_fill(taken[pool.places], -torch.inf).index_fill(0, rows, -torch.inf)
    if rng is None:
        return int(score.argmax())
    few = CHOICES if members else CHOICES * int(pool.places.unique().numel())
    return int(score.topk(few).indices[torch.randint(few, (), generator=rng)])


def _grown(keys: Keys, pool: _Pool, most: int, num_samples: int, rng: torch.Generator | None) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < most:
        row = _best(keys, pool, chosen, num_samples, rng)
        if row is None:
            break
        chosen.append(row)
    return chosen


def _swept(keys: Keys, pool: _Pool, chosen: Sequence[int], num_samples: int) -> list[int]:
    """Each member again, given all others; left out where these explain everything."""
    chosen = list(chosen)
    for _ in range(SWEEPS):
        before = list(chosen)
        for row in before:
            rest = [other for other in chosen if other != row]
            found = _best(keys, pool, rest, num_samples)
            chosen = rest if found is None else [*rest, found]
        if set(chosen) == set(before):
            break
    return chosen


def _rivalry(keys: Keys, whole: _Whole, pool: _Pool, chosen: Sequence[int]) -> float:
    """`unexplained` with the best other token of the vocabulary in the place of a member, the lowest of all."""
    lowest = math.inf
    for row in chosen:
        rest = pool.atoms[[other for other in chosen if other != row]]
        score = keys.fit(whole.at(int(pool.places[row])), rest)
        if score is None:
            return keys.unexplained(rest)
        score[pool.ids[row]] = -torch.inf
        rival = keys.at(score.argmax()[None], pool.places[row][None])
        lowest = min(lowest, keys.unexplained(torch.cat([rest, rival])))
    return lowest
