"""First-order gradient matching: DLG (Zhu et al., 2019) and Inverting Gradients (Geiping et al., 2020)."""

from collections.abc import Callable

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.inversion.problem import Inverted, Problem, best_of
from bridge_core.priors import penalty

SOLVED = 1e-13
"""Relative squared distance below which a DLG start is not continued."""
REPORTS = 50

Report = Callable[[int, int, Tensor], None]
"""Told (iteration, iterations, matching loss of each start)."""
Target = Callable[[Tensor], Tensor]
"""Images (secrets x num x c x h x w) -> where a prior draws them to."""


def dlg(
    problem: Problem,
    knobs: s.Dlg,
    prior: s.Prior,
    rng: torch.Generator,
    report: Report,
    target: Target | None = None,
) -> Inverted:
    """L-BFGS with a strong-Wolfe line search on the squared distance, one secret and start after the other.

    With `sds` the end is drawn to the prior's `target`, as often as its `rounds` say.
    """
    starts = [(restart, secret) for restart in range(knobs.restarts) for secret in range(problem.num_secrets)]
    images, losses = [], []
    for done, (_restart, secret) in enumerate(starts, 1):
        one = problem.only(torch.tensor([secret]))
        image, loss = _lbfgs(one, torch.rand(one.guess_shape, generator=rng), knobs.iterations, prior)
        for _ in range(prior.rounds if isinstance(prior, s.Sds) and target is not None else 0):
            image, loss = _lbfgs(one, image, knobs.iterations, prior, target(image) if target else None)
        images.append(image)
        losses.append(loss)
        report(done, len(starts), loss)
    return best_of(torch.cat(images), torch.cat(losses), knobs.restarts)


def _lbfgs(
    problem: Problem, start: Tensor, iterations: int, prior: s.Prior, centre: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    guess = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [guess],
        lr=1,
        max_iter=iterations,
        max_eval=iterations * 5 // 4,
        history_size=100,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (problem.squared_distance(guess) + penalty(prior, guess)).sum()
        if centre is not None and isinstance(prior, s.Sds):
            loss = loss + prior.weight * (guess - centre).square().flatten(1).mean(1).sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    return guess.detach(), problem.squared_distance(guess).detach()


def inverting_gradients(
    problem: Problem,
    knobs: s.InvertingGradients,
    prior: s.Prior,
    rng: torch.Generator,
    report: Report,
    target: Target | None = None,
) -> Inverted:
    """Adam on the sign of the cosine distance's gradient, boxed to [0, 1], all secrets and starts in one batch.

    With `sds` the gradient of weight |guess - target|^2 / pixels is added, its target drawn anew at each iteration.
    """
    secrets = torch.arange(problem.num_secrets).repeat(knobs.restarts)
    batch = problem.only(secrets)
    guess = torch.rand(batch.guess_shape, generator=rng).requires_grad_()
    optimiser = torch.optim.Adam([guess], knobs.learning_rate)
    milestones = [knobs.iterations * eighths // 8 for eighths in (3, 5, 7)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)
    for iteration in range(1, knobs.iterations + 1):
        distance = batch.cosine_distance(guess)
        (gradient,) = torch.autograd.grad((distance + penalty(prior, guess)).sum(), guess)
        if target is not None and isinstance(prior, s.Sds):
            away = guess.detach() - target(guess.detach())
            gradient = gradient + 2 * prior.weight * away / away[0].numel()
        guess.grad = gradient.sign()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            guess.clamp_(0, 1)
        if iteration % max(1, knobs.iterations // REPORTS) == 0:
            report(iteration, knobs.iterations, distance.detach())
    return best_of(guess.detach(), batch.cosine_distance(guess).detach(), knobs.restarts)
