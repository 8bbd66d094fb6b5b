"""Paired tests are scipy's and the textbooks', and bold says no more than they do."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.significance import (
    best_of,
    bootstrap,
    compare,
    differences,
    holm,
    least_p,
    not_worse,
    wilcoxon,
)

UNTIED = st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True)


def rows(**values):
    return {name: {(0, str(unit)): float(x) for unit, x in enumerate(xs)} for name, xs in values.items()}


@given(UNTIED, st.randoms(use_true_random=False))
def test_without_ties_the_test_is_scipys_exact_one(sizes, random):
    signed = [size if random.random() < 0.6 else -size for size in sizes]
    assert wilcoxon(signed) == pytest.approx(stats.wilcoxon(signed, method="exact")[1])


@given(st.lists(st.sampled_from([-2.0, -1.0, 1.0, 2.0, 3.0]), min_size=1, max_size=8))
def test_with_ties_it_counts_all_signs(found):
    ranks = stats.rankdata(np.abs(found))
    seen = ranks[np.asarray(found) > 0].sum()
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((0, 1), repeat=len(found))
    ]
    tail = min(sum(one <= seen + 1e-9 for one in sums), sum(one >= seen - 1e-9 for one in sums))
    assert wilcoxon(found) == pytest.approx(min(1.0, 2 * tail / len(sums)))


def test_the_table_of_wilcoxon_is_met():
    # n = 8, smaller rank sum 3 (ranks 1 and 2 against the rest): five of 256 sign patterns reach it or less.
    assert wilcoxon([-1, -2, 3, 4, 5, 6, 7, 8]) == pytest.approx(2 * 5 / 256)
    assert wilcoxon([1, 2, 3, 4, 5]) == pytest.approx(0.0625) == least_p(5)
    assert wilcoxon([0.0, 0.0]) == 1.0 == wilcoxon([])


def test_beyond_fifty_pairs_it_is_scipys_approximation():
    found = list(np.random.default_rng(0).normal(0.2, 1, 80))
    assert wilcoxon(found) == pytest.approx(stats.wilcoxon(found, method="asymptotic")[1])


def test_an_infinite_difference_is_the_largest_of_ranks():
    assert wilcoxon([math.inf, 1, 2, 3, 4, 5]) == wilcoxon([99, 1, 2, 3, 4, 5])


def test_holms_correction_is_the_papers():
    # 0.01 x 4, then 0.02 x 3, then what is before it, since adjusted values never fall.
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_between_no_correction_and_bonferronis(p_values):
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, p * len(p_values)) + 1e-12


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [bootstrap(list(rng.exponential(1.0, 40))) for _ in range(120)]
    covered = np.mean([one is not None and one[0] <= 1.0 <= one[1] for one in found])
    assert 0.86 <= covered <= 1.0
    assert bootstrap([1.0, 2.0, 4.0]) == bootstrap([1.0, 2.0, 4.0])


@pytest.mark.parametrize("found", [[], [1.0], [2.0, 2.0], [1.0, math.inf], [1.0, math.nan]])
def test_there_is_no_interval_of_one_value_or_of_an_infinite_one(found):
    assert bootstrap(found) is None


def test_pairs_are_of_one_seed_and_secret():
    one = {(0, "0"): 5.0, (0, "1"): 7.0, (1, "0"): 9.0}
    assert differences(one, {(0, "1"): 4.0, (1, "0"): 9.0, (2, "0"): 1.0}) == [3.0, 0.0]
    assert differences(one, {(0, "1"): 4.0}, higher_is_better=False) == [-3.0]


def test_a_nan_loses_its_pair():
    assert differences({(0, "0"): 1.0, (0, "1"): math.nan}, {(0, "0"): math.nan, (0, "1"): math.nan}) == [math.inf, 0.0]
    assert best_of(rows(a=[math.nan, 99], b=[1, 1])) == "b"


def test_the_best_and_what_can_not_be_told_from_it_are_bold():
    up = range(10)
    family = rows(best=[x + 3 for x in up], close=[x + (3.1 if x % 2 else 2.8) for x in up], worse=[x + 1 for x in up])
    assert not_worse(family) == ("best", "close")
    assert not_worse(family, higher_is_better=False) == ("worse",)
    told = compare(family, "best")
    assert told["worse"].significant and not told["close"].significant
    assert (told["worse"].num_pairs, told["worse"].mean) == (10, pytest.approx(2.0))
    assert told["worse"].adjusted == pytest.approx(2 * 2 / 2**10)


def test_where_no_difference_could_be_significant_nothing_is_bold():
    five = rows(a=[9, 9, 9, 9, 9], b=[1, 2, 3, 4, 5])
    assert not_worse(five) == ()
    six = rows(a=[9] * 6, b=[1, 2, 3, 4, 5, 6])
    assert not_worse(six) == ("a",)
    assert not_worse(six | rows(c=[8] * 6)) == ()  # of two comparisons, six pairs can decide none
    assert not_worse({}) == () == not_worse(rows(a=[1] * 9))
