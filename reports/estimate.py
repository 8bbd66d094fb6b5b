"""Means with their 95 % intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

CONFIDENCE = 0.95
SAME = 1e-12
"""Relative spread under which values are one and the same: they are not random, and get no interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or what stands in its place. `half_width` is None where no interval can be given."""

    mean: float
    half_width: float | None
    over: Literal["seeds", "units"]
    """What the interval is over: the means of seeds; with one seed, its units (secrets)."""
    num_seeds: int
    num_units: int
    """Units (secrets) of a seed; the fewest where seeds differ."""


def estimate(values: Mapping[int, Sequence[float]]) -> Estimate | None:
    """The mean over seeds of the mean over units, from seed -> values of its units; None where nothing was measured.

    The interval is Student's t at 95 % over the seeds' means; with one seed over that seed's units. NaN is a result:
    it makes the mean NaN and leaves no interval.
    """
    measured = [units for units in values.values() if units]
    if not measured:
        return None
    means = [_mean(units) for units in measured]
    sample, over = (measured[0], "units") if len(means) == 1 else (means, "seeds")
    return Estimate(_mean(means), half_width(sample), over, len(means), min(map(len, measured)))


def median_estimate(values: Mapping[int, Sequence[float]]) -> Estimate | None:
    """The median of all units of all seeds, without an interval; None where nothing was measured."""
    return _pooled(values, median)


def sum_estimate(values: Mapping[int, Sequence[float]]) -> Estimate | None:
    """The sum of all units of all seeds, without an interval; None where nothing was measured."""
    return _pooled(values, math.fsum)


def _pooled(values: Mapping[int, Sequence[float]], statistic: Callable[[Sequence[float]], float]) -> Estimate | None:
    measured = [units for units in values.values() if units]
    if not measured:
        return None
    pooled = [value for units in measured for value in units]
    found = math.nan if any(map(math.isnan, pooled)) else statistic(pooled)
    return Estimate(found, None, "units", len(measured), min(map(len, measured)))


def half_width(sample: Sequence[float]) -> float | None:
    """Half of the t interval of the mean of `sample`; None for one value, equal values, or a NaN or infinite one."""
    from scipy.special import stdtrit

    count = len(sample)
    if count < 2 or not all(map(math.isfinite, sample)):
        return None
    mean = _mean(sample)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in sample) / (count - 1))
    if deviation <= SAME * abs(mean):
        return None
    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)


def _mean(values: Sequence[float]) -> float:
    finite = all(map(math.isfinite, values))
    return (math.fsum(values) if finite else sum(values)) / len(values)
