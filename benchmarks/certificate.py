"""Print how long one span certificate takes, in which memory, and how far the products are from the slow reference.

The table has the measures of MiniLM's first block and random entries; the release is of query and value, with two
tokens fewer than its rank. The slow reference builds every input itself, some tokens at a time, and evaluates the form
on it.
"""

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from bridge_core.seeding import generator
from bridge_core.text.models import FirstInputs
from bridge_core.text.span import Form, Probe, annihilators, certify, ranking, whitened

Value = TypeVar("Value")
RANKS = (16, 64)
MODULES = ("query", "value")
MOST_SECONDS, MOST_RSS_BYTES, MOST_DIFFERENCE = 2.0, 2 << 30, 1e-12
ROUNDING = 4e-7
"""Of the root mean square of B: float32's."""
SOME_TOKENS = 32


@dataclass(frozen=True)
class Bench:
    """A release whose tokens are known."""

    table: FirstInputs
    probes: list[Probe]
    members: set[tuple[int, int]]


@dataclass(frozen=True)
class Timed:
    """Seconds of each part at one rank; the largest difference of the forms, of the largest entry."""

    certify: float
    ranking: float
    products: float
    reference: float
    difference: float
    exact: bool
    """The certified tokens are the release's."""

    @property
    def missed(self) -> bool:
        """True where a limit is missed."""
        return self.certify > MOST_SECONDS or self.difference > MOST_DIFFERENCE or not self.exact


def main() -> int:
    """Measure; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument("--positions", type=int, default=64)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    table = _table(told.tokens, told.positions, told.width)
    before = _peak_bytes()
    timed = {rank: _measure(_bench(table, rank)) for rank in RANKS}
    rss = _peak_bytes()
    print(f"{told.tokens} tokens x {told.positions} positions, d = {told.width}, threads {told.threads}")
    for rank, one in timed.items():
        _print(rank, one)
    print(f"peak memory: {rss / 2**20:.0f} MiB (at most {MOST_RSS_BYTES >> 20}); before: {before / 2**20:.0f} MiB")
    return int(any(one.missed for one in timed.values()) or rss > MOST_RSS_BYTES)


def _print(rank: int, one: Timed) -> None:
    print(f"rank {rank}, {rank - 2} tokens, query and value:")
    told = "its tokens and no other" if one.exact else "NOT its tokens"
    print(f"  certificate:    {one.certify:7.2f} s, median of 3 (at most {MOST_SECONDS:.0f}); certified: {told}")
    print(f"  ranking:        {one.ranking:7.2f} s, median of 3")
    print(f"  form, products: {one.products:7.2f} s, median of 3; input by input {one.reference:.2f} s")
    print(f"  ratio: {one.reference / one.products:.0f}; largest difference {one.difference:.1e} of the largest entry")


def _table(tokens: int, positions: int, width: int) -> FirstInputs:
    rng = generator(0, "table")

    def drawn(*shape: int) -> Float64[Tensor, "..."]:
        return torch.randn(*shape, generator=rng).double()

    gain, shift = 0.8 + 0.1 * drawn(width), 0.1 * drawn(width)
    return FirstInputs(0.05 * drawn(tokens, width), 0.02 * drawn(positions, width), gain, shift, 1e-12, centred=True)


def _bench(table: FirstInputs, rank: int) -> Bench:
    rng = generator(0, f"release of rank {rank}")
    ids = torch.randperm(len(table.tokens), generator=rng)[: rank - 2]
    positions = torch.arange(rank - 2) % len(table.positions)
    probes = [_probe(name, table, ids, positions, rank, rng) for name in MODULES]
    return Bench(table, probes, _pairs(ids, positions))


def _probe(
    name: str,
    table: FirstInputs,
    ids: Int64[Tensor, "n"],
    positions: Int64[Tensor, "n"],
    rank: int,
    rng: torch.Generator,
) -> Probe:
    """Random output gradients times A x, in float32, over the error that this leaves."""
    width = table.tokens.shape[1]
    a = torch.randn(rank, width, generator=rng).double() / math.sqrt(width)
    rows = torch.randn(width, len(ids), generator=rng).double() @ table.at(ids, positions) @ a.T
    rows = rows.float().double()
    return Probe(name, rows / (ROUNDING * rows.square().mean().sqrt()), a)


def _measure(bench: Bench) -> Timed:
    form = whitened(torch.cat(annihilators(bench.probes)[0]), bench.table)
    seconds_certify, found = _median(lambda: certify(bench.probes, bench.table))
    seconds_ranking, _ = _median(lambda: ranking(bench.probes, bench.table))
    seconds_products, fast = _median(lambda: form.over(bench.table))
    began = time.perf_counter()
    difference = max(
        float((_slowly(form, bench.table, first) - fast[first : first + SOME_TOKENS]).abs().max())
        for first in range(0, len(fast), SOME_TOKENS)
    )
    seconds_reference = time.perf_counter() - began
    exact, relative = _pairs(*found.certified()) == bench.members, difference / float(fast.max())
    return Timed(seconds_certify, seconds_ranking, seconds_products, seconds_reference, relative, exact)


def _pairs(ids: Int64[Tensor, "n"], positions: Int64[Tensor, "n"]) -> set[tuple[int, int]]:
    return {(int(token), int(place)) for token, place in zip(ids, positions, strict=True)}


def _slowly(form: Form, table: FirstInputs, first: int) -> Float64[Tensor, "v p"]:
    """The form of some tokens from `first` on, at all positions."""
    num_positions = len(table.positions)
    ids = torch.arange(len(table.tokens))[first : first + SOME_TOKENS]
    positions = torch.arange(num_positions).repeat(len(ids))
    return form.of(table.at(ids.repeat_interleave(num_positions), positions)).reshape(len(ids), num_positions)


def _median(work: Callable[[], Value]) -> tuple[float, Value]:
    """Seconds of the second fastest of three runs, and what the last one gave."""
    times: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    last = work()
    return sorted([*times, time.perf_counter() - began])[1], last


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
