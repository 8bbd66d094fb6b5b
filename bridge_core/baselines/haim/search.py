"""The attack: images and multipliers that fulfil the equation, sought from many random starts at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap

from bridge_core.baselines.haim.relaxed import relaxed
from bridge_core.baselines.haim.stationarity import Stationarity
from bridge_core.spec.baseline import Haim

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-12
CHUNK = 16
"""Trials that are differentiated side by side."""
Report = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Draws:
    """What each trial has drawn, a number a trial."""

    image_rate: Float[Tensor, "trials"]
    multiplier_rate: Float[Tensor, "trials"]
    smallest: Float[Tensor, "trials"]
    sharpness: Float[Tensor, "trials"]


@dataclass(frozen=True)
class Found:
    """Candidates of the kept trials, the lowest misfit first."""

    images: Float[Tensor, "kept m c h w"]
    """Not cut to [0, 1]."""
    multipliers: Float[Tensor, "kept m"]
    misfit: Float[Tensor, "kept"]
    """|target - combination|^2 / |target|^2 at the end, without the penalties."""


class Sweep:
    """One problem and the knobs of all trials."""

    def __init__(
        self, problem: Stationarity, knobs: Haim, num_samples: int, public: Tensor, rng: torch.Generator
    ) -> None:
        """`public` (k x c x h x w): the attacker's images; their mean is the centre, their gradients the unit."""
        self.problem = replace(problem, model=relaxed(problem.model))
        self.knobs = knobs
        self.centre = public.mean(0)
        half = max(1, math.ceil(num_samples * knobs.candidates / 2))
        self.signs = torch.cat([public.new_ones(half), -public.new_ones(half)])
        lengths = problem.gradients(public).norm(dim=0)
        self.unit = float(problem.size / (lengths.mean() * num_samples**0.5).clamp_min(1e-30))
        self.draws = Draws(*(self._drawn(span, rng) for span in self._spans()))
        shape = (knobs.trials, 2 * half, *self.centre.shape)
        spread = self._drawn(knobs.start_scale, rng).reshape(-1, 1, 1, 1, 1)
        self.start = torch.randn(shape, generator=rng) * spread, torch.rand(shape[:2], generator=rng)
        self._slopes = vmap(grad(self._loss, argnums=(0, 1), has_aux=True), chunk_size=CHUNK)

    def run(self, report: Report | None = None) -> Found:
        """All trials to their end, and the images of those that fulfil the equation best."""
        descent, iterations = Descent(self.start), self.knobs.iterations
        for iteration in range(iterations):
            slopes, misfit = self._slopes(*descent.at, self.draws.smallest, self.draws.sharpness)
            decay = 1 - iteration / iterations
            descent.step(slopes, (decay * self.draws.image_rate, decay * self.draws.multiplier_rate))
            if report is not None and iteration % max(1, iterations // 50) == 0:
                report(iteration, iterations, float(misfit.min()))
        _, misfit = self._slopes(*descent.at, self.draws.smallest, self.draws.sharpness)
        best = misfit.nan_to_num(torch.inf).argsort()[: self.knobs.kept]
        offsets, multipliers = descent.at
        return Found(self.centre + offsets[best], multipliers[best] * self.unit, misfit[best])

    def _loss(self, offsets: Tensor, multipliers: Tensor, smallest: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of one trial and its misfit: stationarity, box, and multipliers above lambda_min."""
        images = self.centre + offsets
        misfit = self.problem.misfit(images, multipliers * self.unit * self.signs, sharpness)
        box = (images - images.clamp(0, 1)).square().flatten(1).sum(1).mean()
        short = (smallest - multipliers).clamp_min(0).square().mean()
        return misfit + self.knobs.box_weight * box + self.knobs.multiplier_weight * short, misfit.detach()

    def _spans(self) -> tuple[tuple[float, float], ...]:
        knobs = self.knobs
        return (
            knobs.image_learning_rate,
            knobs.multiplier_learning_rate,
            knobs.smallest_multiplier,
            knobs.sharpness,
        )

    def _drawn(self, span: tuple[float, float], rng: torch.Generator) -> Tensor:
        low, high = (math.log(end) for end in span)
        return torch.exp(low + (high - low) * torch.rand(self.knobs.trials, generator=rng))


class Descent:
    """Adam (Kingma & Ba, 2015) on images and multipliers, with rates of its own for every trial."""

    def __init__(self, start: tuple[Tensor, Tensor]) -> None:
        self.at = start
        self._first = tuple(torch.zeros_like(one) for one in start)
        self._second = tuple(torch.zeros_like(one) for one in start)
        self._count = 0

    def step(self, slopes: tuple[Tensor, Tensor], rates: tuple[Tensor, Tensor]) -> None:
        """One step; a slope that is no number counts as zero."""
        self._count += 1
        slopes = slopes[0].nan_to_num(0), slopes[1].nan_to_num(0)
        self._first = tuple(BETA1 * m + (1 - BETA1) * g for m, g in zip(self._first, slopes, strict=True))
        self._second = tuple(BETA2 * v + (1 - BETA2) * g * g for v, g in zip(self._second, slopes, strict=True))
        correction = (1 - BETA2**self._count) ** 0.5 / (1 - BETA1**self._count)
        moved: list[Tensor] = []
        for x, m, v, rate in zip(self.at, self._first, self._second, rates, strict=True):
            size = correction * rate.reshape(-1, *[1] * (x.ndim - 1))
            moved.append(x - size * m / (v.sqrt() + EPSILON))
        self.at = moved[0], moved[1]


def reconstruct(
    problem: Stationarity,
    knobs: Haim,
    num_samples: int,
    public: Float[Tensor, "k c h w"],
    rng: torch.Generator,
    report: Report | None = None,
) -> Found:
    """Candidates for the training set of `num_samples` images, from the released parameters alone.

    `public`: some images of the same kind that the victim did not train on, for the centre and the multipliers' unit.
    """
    return Sweep(problem, knobs, num_samples, public, rng).run(report)
