"""A prior at the end of Gauss-Newton: plug-and-play (Venkatakrishnan et al., 2013), measurements first.

At the end of the search the prior's restorer returns a picture and its own error rho, measured on held-out proxy
images. Both count by what they are worth:

    minimise |w (prediction - target)|^2 / v + |image - restored|^2 / rho^2

v is what a weighted entry of the misfit is expected to be, squared. Where measurements are exact v is tiny and the
prior can only act in their null space; where they are noisy it fills in.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core import spec as s
from bridge_core.inversion.gauss_newton import Search, Solution, State
from bridge_core.inversion.spread import Spread
from bridge_core.inversion.variable_projection import Matching
from bridge_core.priors.restoration import Restorer

STEPS = 3
"""Gauss-Newton steps towards each restored picture."""
LIKELY_NOISE = 0.2
"""RMS error of an end that its measurements do not explain, where nothing tells better."""


def restored(
    matching: Matching, knobs: s.GaussNewton, found: Solution, restorer: Restorer, rounds: int, rng: torch.Generator
) -> Solution:
    """The solution with the prior brought in, `rounds` times; the verdict is of the search before it.

    Left as it is where the restorer's own error is no smaller than the noise that the measurements leave.
    """
    noise = expected_noise(found)
    for _ in range(rounds):
        if not restorer.helps(noise):
            break
        centre, error = restorer.restore(found.images, noise, rng), restorer.error(noise)
        images, noise = _between(matching, knobs, found.images, centre, error)
        found = replace(found, images=images, cost=matching.at(images).cost())
    return found


def expected_noise(found: Solution) -> float:
    """RMS error of the solution's pixels, from its predicted PSNR."""
    predicted = found.verdict.predicted_psnr
    return LIKELY_NOISE if math.isnan(predicted) else 10 ** (-predicted / 20)


def _between(
    matching: Matching, knobs: s.GaussNewton, images: Float[Tensor, "num c h w"], centre: Tensor, error: float
) -> tuple[Float[Tensor, "num c h w"], float]:
    """The best compromise of measurements and `centre`, and the RMS noise that is left in it."""
    pixels = images[0].numel()
    spread = Spread(torch.zeros(pixels, 0, dtype=torch.float64), error)
    search = Search(matching, knobs, centre, spread, whole=True)
    u = (images - centre).flatten(1).double() / error
    point = matching.at(images)
    state = State(u, point, matching.variance(point))
    for _ in range(STEPS):
        moved = search.step(centre, state)
        if moved is None:
            break
        state = replace(moved, tau=matching.variance(moved.point))
    predicted = search.predicted_psnr(state)
    return state.point.images, error if math.isnan(predicted) else 10 ** (-predicted / 20)
