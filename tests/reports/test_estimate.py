"""Intervals are those of scipy, over seeds where there are several, and never made up."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.estimate import estimate, half_width, sum_estimate

REALS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(REALS, min_size=2, max_size=30).filter(lambda values: np.std(values) > 1e-3))
def test_half_width_is_scipys_t_interval(values):
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2, rel=1e-9)


def test_the_tables_of_student_are_met():
    assert half_width([0.0, 1.0]) == pytest.approx(12.706204736 * math.sqrt(0.5) / math.sqrt(2))
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.302652730 / math.sqrt(3))


def test_seeds_are_the_sample_however_many_secrets_each_has():
    found = estimate({0: [1.0, 3.0], 1: [10.0], 2: [5.0, 5.0, 5.0, 9.0]})
    assert found is not None
    assert (found.mean, found.over, found.num_seeds, found.num_units) == (6.0, "seeds", 3, 1)
    assert found.half_width == pytest.approx(half_width([2.0, 10.0, 6.0]))


def test_one_seed_falls_back_on_its_secrets():
    found = estimate({4: [1.0, 2.0, 3.0]})
    assert found is not None
    assert (found.mean, found.over, found.num_seeds) == (2.0, "units", 1)
    assert found.half_width == pytest.approx(4.302652730 / math.sqrt(3))


@pytest.mark.parametrize("values", [{0: [1.0]}, {0: [2.0], 1: [2.0]}, {0: [0.1 + 0.2], 1: [0.3]}])
def test_no_interval_of_one_value_or_of_equal_ones(values):
    found = estimate(values)
    assert found is not None
    assert found.half_width is None


def test_nan_is_a_result_and_nothing_is_none():
    found = estimate({0: [1.0, math.nan], 1: [2.0, 2.0]})
    assert found is not None
    assert math.isnan(found.mean)
    assert found.half_width is None
    assert estimate({}) is None
    assert estimate({0: []}) is None


def test_an_exact_reconstruction_is_infinite_and_gets_no_interval():
    found = estimate({0: [math.inf], 1: [20.0]})
    assert found is not None
    assert (found.mean, found.half_width) == (math.inf, None)


def test_a_sum_is_over_all_units_of_all_seeds():
    found = sum_estimate({0: [1.0, 0.0], 1: [2.0], 2: []})
    assert found is not None
    assert (found.mean, found.half_width, found.num_seeds) == (3.0, None, 2)
    assert sum_estimate({0: []}) is None
    unknown = sum_estimate({0: [1.0], 1: [math.nan]})
    assert unknown is not None and math.isnan(unknown.mean)
