import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_core.errors import NotApplicable
from bridge_core.text.models import FirstInputs
from bridge_core.text.span import Form, Probe, annihilators, certify, log10_expected, residual

VOCABULARY, POSITIONS, WIDTH = 300, 8, 48


def table(seed: int = 0, centred: bool = True) -> FirstInputs:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randn(VOCABULARY, WIDTH, generator=rng, dtype=torch.float64)
    positions = torch.randn(POSITIONS, WIDTH, generator=rng, dtype=torch.float64)
    gain = 1 + 0.1 * torch.randn(WIDTH, generator=rng, dtype=torch.float64)
    shift = 0.1 * torch.randn(WIDTH, generator=rng, dtype=torch.float64)
    return FirstInputs(tokens, positions, gain, shift if centred else torch.zeros_like(shift), 1e-5, centred)


@pytest.mark.parametrize("centred", [True, False])
def test_the_form_by_products_is_the_form_input_by_input(centred: bool) -> None:
    inputs, form = table(centred=centred), Form(torch.randn(5, WIDTH, dtype=torch.float64))
    ids = torch.arange(VOCABULARY).repeat_interleave(POSITIONS)
    slow = form.of(inputs.at(ids, torch.arange(POSITIONS).repeat(VOCABULARY)))
    torch.testing.assert_close(form.over(inputs).flatten(), slow, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(9, 16), st.integers(0, 10_000))
def test_members_lie_below_a_millionth_and_strangers_above_a_thousandth(length: int, rank: int, seed: int) -> None:
    inputs, rng = table(seed), torch.Generator().manual_seed(seed)
    ids = torch.randperm(VOCABULARY, generator=rng)[:length]
    x, positions = inputs.at(ids, torch.arange(length)), torch.arange(length)
    probes = [_probe(x, rank, rng), _probe(x, rank, rng)]
    found = certify(probes, inputs)
    certified = set(zip(*(part.tolist() for part in found.certified()), strict=True))
    assert certified == set(zip(ids.tolist(), positions.tolist(), strict=True))
    assert found.residuals[found.certain].max() < 1e-6
    assert found.stranger > 1e-3
    assert found.rank == length


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(9, 16),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 10_000),
)
def test_training_both_factors_in_float64_leaves_members_in_the_span(
    length: int, rank: int, steps: int, momentum: float, weight_decay: float, seed: int
) -> None:
    """Any linear optimiser on A and B, whatever the output gradients: members and strangers one by one."""
    inputs, rng = table(seed), torch.Generator().manual_seed(seed)
    ids = torch.randperm(VOCABULARY, generator=rng)[:length]
    x = inputs.at(ids, torch.arange(length))
    probes = [_trained(x, rank, steps, momentum, weight_decay, rng) for _ in range(2)]
    matrices, _, probes = annihilators(probes)
    every = inputs.at(torch.arange(VOCABULARY).repeat_interleave(POSITIONS), torch.arange(POSITIONS).repeat(VOCABULARY))
    left = residual(matrices, probes, every).reshape(VOCABULARY, POSITIONS)
    members = torch.zeros_like(left, dtype=torch.bool)
    members[ids, torch.arange(length)] = True
    assert left[members].max() < 1e-6
    assert left[~members].min() > 1e-3


def test_kindred_tokens_in_many_dimensions_are_not_certified() -> None:
    rng, plain = torch.Generator().manual_seed(0), table()
    kindred = plain.tokens.clone()
    kindred[150:] = kindred[:150] + 0.02 * torch.randn(150, WIDTH, generator=rng, dtype=torch.float64)
    inputs = FirstInputs(kindred, plain.positions, plain.gain, plain.shift, plain.epsilon, plain.centred)
    ids, positions = torch.tensor([3, 7, 11]), torch.arange(3)
    found = certify([_probe(inputs.at(ids, positions), 40, rng) for _ in range(2)], inputs)
    assert (found.log10_expected < -3).sum() > 3  # what E alone would certify
    assert set(found.certified()[0].tolist()) == {3, 7, 11}


def test_a_release_that_spans_everything_certifies_nothing() -> None:
    rng, inputs = torch.Generator().manual_seed(0), table()
    x = inputs.at(torch.arange(8), torch.arange(8))
    with pytest.raises(NotApplicable, match="spans everything"):
        certify([_probe(x, 8, rng)], inputs)


def test_the_expected_number_goes_on_where_the_probability_underflows() -> None:
    scores = torch.logspace(-150, 0, 500, dtype=torch.float64)
    found = log10_expected(scores, 6, 1000)
    assert found.isfinite().all()
    assert (found.diff() > 0).all()
    assert float(found[-1]) == pytest.approx(3 + math.log10(0.014387677966970687), abs=1e-6)


def _trained(
    x: torch.Tensor, rank: int, steps: int, momentum: float, weight_decay: float, rng: torch.Generator
) -> Probe:
    """Rows of B after training both factors so that A moves by less than its own size, over the error of float64."""
    a = torch.nn.Parameter(torch.randn(rank, WIDTH, generator=rng, dtype=torch.float64) / math.sqrt(WIDTH))
    b = torch.nn.Parameter(torch.zeros(64, rank, dtype=torch.float64))
    optimiser = torch.optim.SGD([a, b], lr=5e-3, momentum=momentum, weight_decay=weight_decay)
    for _ in range(steps):
        optimiser.zero_grad()
        deltas = torch.randn(64, len(x), generator=rng, dtype=torch.float64)
        (deltas * (b @ a @ x.T)).sum().backward()
        optimiser.step()
    rows = b.detach()
    return Probe("query", rows / (1e-13 * rows.norm()), a.detach())


def _probe(x: torch.Tensor, rank: int, rng: torch.Generator) -> Probe:
    """Rows of a float32 release: output gradients times A x, over the error that float32 leaves."""
    a = torch.randn(rank, WIDTH, generator=rng, dtype=torch.float64) / math.sqrt(WIDTH)
    b = (torch.randn(64, len(x), generator=rng, dtype=torch.float64) @ (x @ a.T)).float().double()
    return Probe("query", b / (4e-7 * b.square().mean().sqrt()), a)
