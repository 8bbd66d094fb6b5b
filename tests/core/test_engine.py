"""Gauss-Newton's parts: free logits, both solvers, the metric, weights, several images and steps, verdicts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.gradients import tap
from bridge_core.inversion.amortised import order, whiten
from bridge_core.inversion.gauss_newton import Search, excess
from bridge_core.inversion.normal_equations import Conjugate, Dense, Penalty
from bridge_core.inversion.problem import Problem
from bridge_core.inversion.simulated import SimulatedMatching
from bridge_core.inversion.spread import Spread, spread_of
from bridge_core.inversion.variable_projection import Matching, unexplained_variance
from bridge_core.inversion.verdict import Label, judge
from bridge_core.models import logits
from bridge_core.unroll import unrolled
from tests.core.examples import SHAPES, modules_of, network, pictures

WIDE = torch.float64


def problem(num_samples: int = 1, error: float = 0.0) -> tuple[Problem, Tensor]:
    """A float64 ConvNet's measurements at rank 3 of known images."""
    model, shape = network("convnet", WIDE), SHAPES["convnet"]
    modules, (images, labels) = modules_of("convnet", model), pictures("convnet", num_samples, WIDE)
    taps = {n: t.grouped(num_samples) for n, t in tap(model, images, labels, modules).items()}
    rng = torch.Generator().manual_seed(1)
    matrices = {n: torch.randn(1, 3, t.inputs.shape[-1], generator=rng, dtype=WIDE) for n, t in taps.items()}
    targets = {n: t.measurement(matrices[n]) for n, t in taps.items()}
    errors = {n: torch.full_like(t, error * float(t.norm())) for n, t in targets.items()} if error else None
    image_shape = (shape.channels, shape.image_size, shape.image_size)
    return Problem(model, labels[None], image_shape, targets, matrices, errors), images


def near_start(truth: Tensor, size: float, seed: int = 3) -> Tensor:
    return truth + size * torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed), dtype=truth.dtype)


def even(truth: Tensor, size: float) -> Spread:
    return Spread(size * torch.eye(truth[0].numel(), dtype=WIDE), 0.0)


@pytest.mark.parametrize("num_samples", [1, 2])
def test_the_truth_has_no_misfit_and_its_delta_is_the_softmax_less_the_label(num_samples: int) -> None:
    one, truth = problem(num_samples)
    point = Matching(one).at(truth)
    assert point.cost() < 1e-12
    wanted = logits(one.model, truth).softmax(1)
    wanted[torch.arange(num_samples), one.labels[0]] -= 1
    torch.testing.assert_close(point.delta * num_samples, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert point.delta.argmin(1).tolist() == one.labels[0].tolist()


def test_no_other_delta_leaves_less() -> None:
    one, truth = problem()
    matching = Matching(one)
    weights = torch.rand(len(matching.target), generator=torch.Generator().manual_seed(0), dtype=WIDE)
    point = matching.at(near_start(truth, 0.3), weights)
    slope = (point.columns * weights) @ (point.error * weights)
    assert float(slope.abs().max()) < 1e-6 * float((point.columns * weights).norm())


@pytest.mark.parametrize("num_samples", [1, 2])
@pytest.mark.parametrize("box", [0.0, 0.7])
def test_conjugate_gradients_take_the_dense_step(num_samples: int, box: float) -> None:
    one, truth = problem(num_samples)
    matching, images = Matching(one), near_start(truth, 0.2)
    point, spread = matching.at(images), even(truth, 0.1)
    weights = torch.linspace(0.5, 1, len(matching.target), dtype=WIDE)
    u = 0.1 * torch.ones(num_samples, spread.width, dtype=WIDE)
    penalty = Penalty(1e-1, u, box, excess(images))
    dense = Dense(matching, point, weights, spread.matrix(), penalty).solve(0.05)
    free = Conjugate(matching, point, weights, spread, penalty).solve(0.05)
    assert float((dense - free).norm()) < 5e-3 * float(dense.norm())


def test_the_dense_step_is_the_least_squares_solution_of_autograds_jacobian() -> None:
    one, truth = problem()
    matching, spread = Matching(one), even(truth, 0.1)
    point, tau = matching.at(near_start(truth, 0.2)), 1e-2
    nothing = Penalty(tau, torch.zeros(1, spread.width, dtype=WIDE), 0.0, torch.zeros(1, truth[0].numel(), dtype=WIDE))
    step = Dense(matching, point, torch.ones_like(matching.target), spread.matrix(), nothing).solve(0.0)
    units = torch.eye(truth[0].numel(), dtype=WIDE).reshape(-1, *truth[0].shape)
    jacobian = 0.1 * matching.jacobian(point, units, 1.0).T
    stacked = torch.cat([jacobian, tau**0.5 * torch.eye(spread.width, dtype=WIDE)])
    wanted = torch.linalg.lstsq(stacked, torch.cat([-point.error, torch.zeros(spread.width, dtype=WIDE)])).solution
    torch.testing.assert_close(step[0], wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("solver", ["dense", "cg"])
def test_both_solvers_bring_the_image_back_without_its_label(solver: str) -> None:
    one, truth = problem()
    knobs = s.GaussNewton(iterations=30, restarts=1, solver=solver)  # pyright: ignore[reportArgumentType]
    found = Search(Matching(one), knobs, near_start(truth, 0.05), even(truth, 0.05)).best(0)
    start_error = float((near_start(truth, 0.05) - truth).square().mean())
    assert found.cost < 1e-8
    assert found.labels.tolist() == one.labels[0].tolist()
    assert float((found.images - truth).square().mean()) < start_error


def test_entries_far_from_their_worth_count_less_near_the_solution_alone() -> None:
    one, truth = problem(error=1e-6)
    assert one.errors is not None
    poor = {n: torch.arange(e.numel()).reshape(e.shape) % 2 == 0 for n, e in one.errors.items()}
    errors = {n: torch.where(poor[n], 1e3 * e, e) for n, e in one.errors.items()}
    matching = Matching(replace(one, errors=errors))
    worse = matching.expected > 30 * matching.noise
    far, close = (matching.weights(matching.at(near_start(truth, size))) for size in (0.5, 1e-7))
    assert float(far.min()) > 0.9
    assert float(close[worse].max()) < 0.1
    assert float(close[~worse].min()) > 0.3


def test_the_unexplained_variance_is_that_of_the_entries_that_say_something() -> None:
    rng = torch.Generator().manual_seed(0)
    noise, known = torch.randn(4000, generator=rng, dtype=WIDE), torch.full((4000,), 1e-6, dtype=WIDE)
    known[::2] = 10.0
    for hidden in (1e-3, 1e-1):
        found = unexplained_variance(noise * (known.square() + hidden**2).sqrt(), known)
        assert found == pytest.approx(hidden**2, rel=0.15)
    assert unexplained_variance(noise * known, known) < 1e-12
    assert unexplained_variance(noise * 0, known) == 0


def test_a_spread_is_the_root_of_the_second_moment() -> None:
    errors = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 1, 12)
    t = spread_of(errors).matrix()
    wanted = (errors.T @ errors / 200).double()
    torch.testing.assert_close(t @ t.T, wanted, rtol=0, atol=2e-4 * float(wanted.max()))
    assert (t.norm(dim=0).diff() <= 1e-9).all()


def test_a_leading_spread_with_a_floor_is_its_own_matrix() -> None:
    one = Spread(torch.rand(6, 2, dtype=WIDE), 0.3)
    t, u, image = one.matrix(), torch.rand(2, 8, dtype=WIDE), torch.rand(2, 6, dtype=WIDE)
    torch.testing.assert_close(one.apply(u), u @ t.T)
    torch.testing.assert_close(one.adjoint(image), image @ t)
    torch.testing.assert_close(t @ t.T, one.factor @ one.factor.T + 0.09 * torch.eye(6, dtype=WIDE))


def test_whitened_measurements_have_no_correlation() -> None:
    rng = torch.Generator().manual_seed(0)
    mixed = torch.randn(4000, 6, generator=rng) @ torch.randn(6, 6, generator=rng)
    m = {"some": mixed.reshape(4000, 3, 2)}
    seen = whiten(m).inputs(m)
    assert float((torch.cov(seen.T) - torch.eye(6)).abs().max()) < 0.25


def test_images_of_a_step_stand_by_label_then_by_brightness() -> None:
    images = torch.tensor([0.9, 0.1, 0.5, 0.3]).reshape(1, 4, 1, 1, 1)
    assert order(torch.tensor([[1, 1, 0, 1]]), images).tolist() == [[2, 1, 3, 0]]


def test_the_simulated_recipe_has_no_misfit_at_the_truth_and_a_true_jacobian() -> None:
    one, truth = problem()
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=0.05), steps=4)
    assert one.matrices is not None
    a0, scale = {n: a[0] for n, a in one.matrices.items()}, dict.fromkeys(one.matrices, 2.0)
    a, b = unrolled(one.model, a0, one.labels[0], recipe, scale)(truth)
    released = Problem(one.model, one.labels, one.image_shape, one.targets, {n: x[None] for n, x in a.items()})
    matching = SimulatedMatching(released, b, one.labels[0], recipe, scale)
    assert matching.at(truth).cost() < 1e-8
    images = near_start(truth, 0.1)
    direction = torch.randn(truth[0].shape, generator=torch.Generator().manual_seed(5), dtype=WIDE)
    slope = matching.jacobian(matching.at(images), direction[None], 1.0)[0]
    ends = matching._ends(matching._initial(images))
    wanted = (ends(images + 1e-6 * direction) - ends(images - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(slope, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_a_verdict_tells_a_met_target_from_a_missed_one() -> None:
    one, truth = problem()
    matching, spread = Matching(one), even(truth, 0.1)
    met, missed = matching.at(truth), matching.at(near_start(truth, 0.5))
    assert judge(matching, met, None, spread).label is Label.EXACT
    assert judge(matching, missed, None, spread).label is Label.FAILED
