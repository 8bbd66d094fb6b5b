"""A's random start, made again from a common seed: PEFT draws it from torch's generator on the CPU.

    A0_ij = bound (2 u_k - 1), bound = 1/sqrt(in), u the generator's uniform numbers from some place k on

Whatever was drawn before (another module's factors, a random head) only moves k: the beginnings of several modules'
factors are summed and correlated with each seed's stream at all places at once, by FFT. A may have moved in training:
the correlation falls below 1 and stays far above chance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audit.checks.files import MOST_SHOWN
from audit.folder import shown
from audit.report import Finding, Severity
from audit.subject import Subject

COMMON_SEEDS = (
    0,
    42,
    1,
    3407,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    13,
    21,
    99,
    100,
    123,
    1234,
    12345,
    1337,
    2020,
    2021,
    2022,
    2023,
    2024,
    2025,
    2026,
    31337,
)
ENTRIES = 4096
"""Of each factor's beginning."""
MODULES = 8
BEFORE, LONGEST = 1 << 16, 1 << 21
"""Draws that others may have taken before, such as a random head; and the longest stream that is searched."""
CLEAR = 7.5
"""Standard errors: over all seeds and places, chance reaches about 5.7."""


@dataclass(frozen=True)
class Start:
    """A factor whose start was found in a stream."""

    module: str
    seed: int
    place: int
    correlation: float


def findings(subject: Subject) -> Iterator[Finding]:
    """The seed from which A0 can be made again, if it is a common one."""
    init = subject.config.get("init_lora_weights", True)
    if init is not True or subject.layout.format != "peft" or not subject.modules:
        return
    found = find_starts(_beginnings(subject), _reach(subject))
    if not found:
        return
    seed = found[0].seed
    best = max(one.correlation for one in found)
    yield Finding(
        rule="seeded-start",
        title=f"A's random start can be made again: seed {seed}",
        severity=Severity.MEDIUM,
        reveals="A0 to the last bit, hence how A moved in training: a second equation on the gradient beside B's",
        evidence=(
            f"A of {len(found)} modules correlates with torch's stream of seed {seed}, the best by {best:.6f}",
            f"from draw {min(one.place for one in found)} on",
        ),
        where=tuple(shown(one.module) for one in found[:MOST_SHOWN]),
        num_places=len(found),
        numbers={"seed": float(seed), "correlation": best},
        remedy="train with a seed from the system's entropy; `bridge protect` re-factors, which leaves no A0",
    )


def find_starts(
    beginnings: dict[str, Float[Tensor, "n"]], reach: int, seeds: Sequence[int] = COMMON_SEEDS
) -> tuple[Start, ...]:
    """Which of the factors begin as a piece of the stream of one of `seeds`, within `reach` draws."""
    told = {name: values for name, values in beginnings.items() if len(values) > CLEAR**2}
    parts = {name: values / values.norm() for name, values in told.items() if float(values.norm()) > 0}
    if not parts:
        return ()
    size = 1 << math.ceil(math.log2(reach + ENTRIES))
    template = torch.zeros(size)
    for values in parts.values():
        template[: len(values)] += values
    spectrum = torch.fft.rfft(template).conj()
    for seed in seeds:
        stream = stream_of(seed, size)
        score = torch.fft.irfft(torch.fft.rfft(stream) * spectrum, size)
        places = score[:reach].topk(2 * len(parts)).indices.tolist()
        found = _named(parts, stream, seed, places)
        if found:
            return found
    return ()


def stream_of(seed: int, size: int) -> Float[Tensor, "size"]:
    """The generator's uniform numbers, of mean 0 and variance 1."""
    return (torch.rand(size, generator=torch.Generator().manual_seed(seed)) - 0.5) * math.sqrt(12)


def _named(parts: dict[str, Tensor], stream: Tensor, seed: int, places: Sequence[int]) -> tuple[Start, ...]:
    found: list[Start] = []
    for name, values in parts.items():
        pieces = torch.stack([stream[place : place + len(values)] for place in places])
        correlation = pieces @ values / pieces.norm(dim=1)
        best = int(correlation.argmax())
        if float(correlation[best]) * math.sqrt(len(values)) > CLEAR:
            found.append(Start(name, seed, places[best], float(correlation[best])))
    return tuple(sorted(found, key=lambda one: one.place))


def _beginnings(subject: Subject) -> dict[str, Tensor]:
    """The first entries of A in the modules that come first, as far as names tell."""
    rows = sorted(subject.modules, key=lambda row: _numbers(row.name))[:MODULES]
    return {row.name: subject.layout.factors(row.name).a.flatten()[:ENTRIES].clone() for row in rows}


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdecimal() and len(part) < 9)


def _reach(subject: Subject) -> int:
    """A's place is behind the throw-away starts of its own layers and, at times, those of a few modules before."""
    rows = sorted(subject.modules, key=lambda row: _numbers(row.name))[:MODULES]
    draws = sum(row.rank * (2 * row.width + row.height) for row in rows)
    return min(BEFORE + draws, LONGEST) - ENTRIES
