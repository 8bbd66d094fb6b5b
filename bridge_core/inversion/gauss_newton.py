"""Gauss-Newton inversion from an amortised start, iteratively regularised (Bakushinsky, 1992).

Unknown u: image = start + T u, T a square root of the start's error covariance, so that steps go where errors lie and
small u are likely. Each step minimises |F + J du - target|^2 + tau |u + du|^2 in float64, J by forward mode over the
measurement's gradient; tau cools from step to step down to the noise of the target. Images are not boxed on the way:
clamping stalls it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core import spec as s
from bridge_core.inversion.amortised import Start
from bridge_core.inversion.functional import Residual, pushed, unit_prediction, unit_target
from bridge_core.inversion.matching import Report
from bridge_core.inversion.problem import Inverted, Problem

SOLVED = 1e-11
"""Sum over the modules of squared distance of unit vectors: float32's own error."""
SMALLEST_EIGENVALUE = 1e-4
"""Eigenvalues of the covariance are lifted by this share of the largest."""
SETTLED = 1e-3
"""Relative gain of a step, at the target's own noise, that is not worth another Jacobian."""
GROWTH, TRIES = 8.0, 6


@dataclass(frozen=True)
class State:
    """Where one attempt stands."""

    u: Float[Tensor, "d"]
    image: Float[Tensor, "num c h w"]
    error: Float[Tensor, "m"]
    tau: float

    @property
    def cost(self) -> float:
        """Squared distance to the target, without the regularisation."""
        return float(self.error.double().square().sum())


def gauss_newton(
    problem: Problem, knobs: s.GaussNewton, starts: list[Tensor], priors: list[Start], noise: float, report: Report
) -> Inverted:
    """Invert every secret of `problem`, from `starts[i]` with the prior of `priors[i]`.

    `noise` is the target's own error: the expected sum over modules of squared distances between unit vectors, 0 for
    exact measurements. A secret whose exact target is not met is tried again from random errors of the start, at most
    `knobs.restarts` times; the attempt with the lowest cost is kept. A noisy target is tried once: its lowest cost
    tells nothing of the image.
    """
    images, losses = [], []
    for secret in range(problem.num_secrets):
        one = problem.only(torch.tensor([secret]))
        image, cost = _attempts(one, knobs, starts[secret], priors[secret], noise, secret)
        images.append(image)
        losses.append(cost)
        report(secret + 1, problem.num_secrets, torch.tensor([cost]))
    return Inverted(torch.stack(images), torch.tensor(losses), torch.stack(starts))


def _attempts(
    problem: Problem, knobs: s.GaussNewton, start: Tensor, prior: Start, noise: float, seed: int
) -> tuple[Tensor, float]:
    predict, target, spread = unit_prediction(problem), unit_target(problem), _spread(prior.covariance)
    rng = torch.Generator().manual_seed(seed)
    best, cost = start, torch.inf
    for attempt in range(1 if noise else knobs.restarts):
        offset = torch.randn(spread.shape[1], generator=rng, dtype=torch.float64) * (attempt > 0)
        centre = start + (spread @ offset).float().reshape(start.shape)
        image, reached = _descend(predict, target, centre, spread, knobs, noise)
        if reached < cost:
            best, cost = image, reached
        if cost <= SOLVED:
            break
    return best, cost


def _descend(
    predict: Residual, target: Tensor, centre: Tensor, spread: Tensor, knobs: s.GaussNewton, noise: float
) -> tuple[Tensor, float]:
    directions = spread.T.float().reshape(-1, *centre.shape)
    zero = torch.zeros(spread.shape[1], dtype=torch.float64)
    state = State(zero, centre, predict(centre) - target, torch.nan)
    state = replace(state, tau=4 * state.cost / len(zero))
    floor = max(noise / len(zero), 1e-16)
    for _ in range(knobs.iterations):
        jacobian = pushed(predict, state.image, directions).double()
        moved = _step(predict, target, centre, spread, jacobian, state)
        if moved is None and state.tau <= floor:
            break
        settled = moved is not None and state.tau <= floor and moved.cost > (1 - SETTLED) * state.cost
        state = replace(moved or state, tau=max(state.tau * knobs.cooling, floor))
        if settled or state.cost < SOLVED:
            break
    return state.image, state.cost


def _step(
    predict: Residual, target: Tensor, centre: Tensor, spread: Tensor, jacobian: Tensor, state: State
) -> State | None:
    """The first of a few ever shorter steps that lowers the regularised cost; None where none does."""
    normal, slope = jacobian @ jacobian.T, jacobian @ state.error.double()
    goal = state.cost + state.tau * float(state.u @ state.u)
    identity, damping = torch.eye(len(normal), dtype=torch.float64), 0.0
    for _ in range(TRIES):
        du = torch.linalg.solve(normal + (state.tau + damping) * identity, -slope - state.tau * state.u)
        u = state.u + du
        image = centre + (spread @ u).float().reshape(centre.shape)
        moved = State(u, image, predict(image) - target, state.tau)
        if moved.cost + state.tau * float(u @ u) < goal:
            return moved
        damping = max(damping * GROWTH, 4 * state.tau)
    return None


def _spread(covariance: Tensor) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance.double())
    values = values.clamp_min(0)
    return vectors * (values + SMALLEST_EIGENVALUE * values.max()).sqrt()
