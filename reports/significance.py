"""Paired tests on the same secrets: Wilcoxon's signed ranks, Holm's correction, bootstrap intervals, and who is best.

A pair is one secret of one seed, met by two rows of a table. A NaN has lost its pair: it is worse than any number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.05
"""Family-wise, over the comparisons of one column with its best row."""
RESAMPLES = 4999
ZERO = 1e-9
"""Differences below this are rounding."""
MOST_EXACT = 50
"""Pairs up to which the test is exact."""

Unit = tuple[int, str]
"""Seed and secret."""
Paired = Mapping[Unit, float]


@dataclass(frozen=True)
class Comparison:
    """One row against the best one, on the secrets that both have."""

    num_pairs: int
    mean: float
    """Best less other, mean over the pairs: never told in favour of a row that lost a pair by NaN."""
    low: float | None
    high: float | None
    """95 % bootstrap interval of that mean; None where differences are all one value, infinite or single."""
    p: float
    """Wilcoxon's two-sided p."""
    adjusted: float
    """Holm's p among all comparisons with the same best row."""

    @property
    def significant(self) -> bool:
        """True where the other row is worse than chance explains."""
        return self.adjusted <= LEVEL


def least_p(num_pairs: int) -> float:
    """The smallest two-sided p that Wilcoxon's test can give: of fewer than six pairs never below 0.05."""
    return min(1.0, 2.0 ** (1 - num_pairs))


def differences(one: Paired, other: Paired, higher_is_better: bool = True) -> list[float]:
    """How much better `one` is on each unit that both have, in the units' order."""
    sign = 1.0 if higher_is_better else -1.0
    return [_less(sign * one[unit], sign * other[unit]) for unit in sorted(one.keys() & other.keys())]


def _less(one: float, other: float) -> float:
    left, right = (-math.inf if math.isnan(value) else value for value in (one, other))
    difference = 0.0 if left == right else left - right
    return 0.0 if abs(difference) < ZERO else difference


def wilcoxon(found: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test (Wilcoxon, 1945), zeros left out; 1 where nothing differs.

    Exact up to 50 differences, ties and all; beyond, scipy's normal approximation.
    """
    from scipy import stats as scipy_stats

    stats: Any = scipy_stats  # its types are partly unknown
    moved = [value for value in found if value]
    if not moved:
        return 1.0
    ranks = [float(rank) for rank in stats.rankdata([abs(value) for value in moved])]
    if len(moved) <= MOST_EXACT:
        return _exact(ranks, math.fsum(rank for rank, value in zip(ranks, moved, strict=True) if value > 0))
    signed = [math.copysign(rank, value) for rank, value in zip(ranks, moved, strict=True)]
    return float(stats.wilcoxon(signed, method="asymptotic").pvalue)


def _exact(ranks: Sequence[float], positive: float) -> float:
    """Twice the smaller tail of the positive ranks' sum over all 2^n signs, which scipy gives without ties alone."""
    import numpy as np

    ways = np.ones(1)
    for doubled in (round(2 * rank) for rank in ranks):  # ties share half ranks
        ways = np.pad(ways, (0, doubled)) + np.pad(ways, (doubled, 0))
    place = round(2 * positive)
    tail = min(ways[: place + 1].sum(), ways[place:].sum())
    return min(1.0, float(2 * tail / ways.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm, 1979), in the order given: compare each with the family-wise level."""
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        so_far = max(so_far, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = so_far
    return adjusted


def bootstrap(found: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean, bias-corrected and accelerated (Efron, 1987); None where there is none to give."""
    import numpy as np
    from scipy import stats as scipy_stats

    stats: Any = scipy_stats
    if len(found) < 2 or not all(map(math.isfinite, found)) or max(found) - min(found) < ZERO:
        return None
    rng = np.random.default_rng(seed)
    done = stats.bootstrap((np.asarray(found),), np.mean, n_resamples=RESAMPLES, method="BCa", rng=rng)
    low, high = float(done.confidence_interval.low), float(done.confidence_interval.high)
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def best_of(rows: Mapping[str, Paired], higher_is_better: bool = True) -> str | None:
    """The row of the best mean; the first of equal ones, None where there is no row with a number."""
    sign = 1.0 if higher_is_better else -1.0

    def mean(name: str) -> float:
        values = [sign * value for value in rows[name].values()]
        return -math.inf if not values or any(map(math.isnan, values)) else sum(values) / len(values)

    return max(rows, key=mean) if any(rows.values()) else None


def compare(rows: Mapping[str, Paired], best: str, higher_is_better: bool = True) -> dict[str, Comparison]:
    """Every other row that shares a unit with `best`, against it; Holm's family is all of these."""
    told = _against(rows, best, higher_is_better)
    made: dict[str, Comparison] = {}
    for (name, found), (p, adjusted) in zip(told.items(), _tested(told), strict=True):
        low, high = bootstrap(found) or (None, None)
        made[name] = Comparison(len(found), sum(found) / len(found), low, high, p, adjusted)
    return made


def not_worse(rows: Mapping[str, Paired], higher_is_better: bool = True) -> tuple[str, ...]:
    """The best row and all that are not significantly worse, to be set in bold.

    Empty where that says nothing: with fewer than two rows, or with so few pairs that no difference could be
    significant after Holm's correction.
    """
    best = best_of(rows, higher_is_better)
    told = {} if best is None else _against(rows, best, higher_is_better)
    if best is None or not told or all(least_p(len(found)) * len(told) > LEVEL for found in told.values()):
        return ()
    adjusted = dict(zip(told, _tested(told), strict=True))
    return tuple(name for name in rows if name == best or (name in adjusted and adjusted[name][1] > LEVEL))


def _against(rows: Mapping[str, Paired], best: str, higher_is_better: bool) -> dict[str, list[float]]:
    """How much better `best` is than every other row that shares a unit with it."""
    told = {name: differences(rows[best], other, higher_is_better) for name, other in rows.items() if name != best}
    return {name: found for name, found in told.items() if found}


def _tested(told: Mapping[str, Sequence[float]]) -> list[tuple[float, float]]:
    """Wilcoxon's p and Holm's, row by row."""
    p_values = [wilcoxon(found) for found in told.values()]
    return list(zip(p_values, holm(p_values), strict=True))
