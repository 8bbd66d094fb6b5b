"""Priors beside measurements: they fill what the measurements leave open, and bend nothing that these say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.inversion.consistent import consistent
from bridge_core.inversion.gauss_newton import Search
from bridge_core.inversion.plug_and_play import expected_noise, restored
from bridge_core.inversion.problem import Problem
from bridge_core.inversion.variable_projection import Matching
from bridge_core.priors.restoration import LEVELS, Restorer
from bridge_core.seeding import generator
from tests.core.test_engine import even, near_start, problem

KNOBS = s.GaussNewton(restarts=1)


def oracle(truth: Tensor, error: float) -> Restorer:
    """Returns the truth with an error of the size that it tells."""
    return Restorer(lambda _images, _noise, _rng: near_start(truth, error, 9), (error,) * len(LEVELS))


def rms(images: Tensor, truth: Tensor) -> float:
    return float((images - truth).square().mean().sqrt())


def searched(one: Problem, truth: Tensor) -> tuple[Matching, Tensor]:
    matching = Matching(one)
    return matching, Search(matching, KNOBS, near_start(truth, 0.05), even(truth, 0.05)).best(0).images


def test_an_exact_end_is_left_as_it_is() -> None:
    one, truth = problem()
    matching, found = searched(one, truth)
    assert restored(matching, KNOBS, found, expected_noise(60.0), oracle(truth, 0.01), 3, generator(0)) is found


def test_a_noisy_end_gains() -> None:
    one, truth = problem(error=0.03)
    assert one.errors is not None
    noisy = {n: t + 0.03 * float(t.norm()) * torch.randn(t.shape, generator=generator(1), dtype=t.dtype)
             for n, t in one.targets.items()}  # fmt: skip
    matching, found = searched(replace(one, targets=noisy), truth)
    before = rms(found, truth)
    after = restored(matching, KNOBS, found, before, oracle(truth, before / 2), 1, generator(0))
    assert rms(after, truth) < before / 2


@pytest.mark.parametrize("solver", ["dense", "cg"])
def test_exact_measurements_leave_the_prior_their_null_space_alone(solver: str) -> None:
    one, truth = problem()
    matching = Matching(one)
    start = near_start(truth, 0.03)
    knobs = s.GaussNewton(restarts=1, iterations=30, solver=solver)  # pyright: ignore[reportArgumentType]
    found = Search(matching, knobs, start, even(truth, 0.05)).best(0).images
    after = restored(matching, knobs, found, 0.05, oracle(truth, 0.01), 1, generator(0))
    units = torch.eye(truth[0].numel(), dtype=truth.dtype).reshape(-1, *truth[0].shape)
    jacobian = matching.jacobian(matching.at(truth), units, 1.0).T
    _, values, rows = torch.linalg.svd(jacobian, full_matrices=True)
    told = int((values > 1e-3 * values[0]).sum())
    assert 5 < told < len(rows) - 5
    before, gone = (rows @ (x - truth).flatten() for x in (found, after))
    assert float(gone[told:].norm()) < 0.5 * float(before[told:].norm())
    assert matching.at(after).cost() < 1e-4 * matching.at(near_start(truth, 0.01, 9)).cost()


def test_a_consistent_target_is_the_measurement_in_its_rows_and_the_decoders_guess_elsewhere() -> None:
    rng = generator(2)
    g, a = torch.randn(5, 7, generator=rng).double(), torch.randn(3, 7, generator=rng).double()
    decoded = g + 0.1 * torch.randn(5, 7, generator=rng).double()
    exact = torch.full((5, 3), 1e-12, dtype=torch.float64)
    made = consistent(decoded / decoded.norm(), g @ a.T, exact, a, 0.01)
    torch.testing.assert_close(made.matrix @ made.matrix.T, torch.eye(7, dtype=torch.float64))
    recovered = made.target @ made.matrix
    torch.testing.assert_close(recovered @ a.T, g @ a.T)
    seen = torch.linalg.pinv(a) @ a
    aligned, length = ((decoded @ seen) * (g @ seen)).sum(), (decoded @ seen).square().sum()
    outside = torch.eye(7, dtype=torch.float64) - seen
    torch.testing.assert_close(recovered @ outside, aligned / length * decoded @ outside)
    assert float(made.error[:, :3].max()) < 1e-9
    assert float(made.error[:, 3:].min()) > 1e-3


def test_the_error_of_a_consistent_target_is_propagated_from_the_measurements() -> None:
    rng = generator(3)
    g, a = torch.randn(4, 6, generator=rng).double(), torch.randn(2, 6, generator=rng).double()
    m, error = g @ a.T, torch.tensor([0.01, 0.1], dtype=torch.float64).expand(4, 2)
    noise = error * torch.randn(2000, 4, 2, generator=rng).double()
    drawn = np.stack([consistent(g, m + one, error, a, 0.01).target[:, :2].numpy() for one in noise])
    told = consistent(g, m, error, a, 0.01).error[:, :2].numpy()
    np.testing.assert_allclose(drawn.std(0), told, rtol=0.1)
