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
from bridge_core.inversion.gauss_newton import Search, State
from bridge_core.inversion.spread import Spread
from bridge_core.inversion.variable_projection import Matching, Point
from bridge_core.inversion.verdict import ROUND_OFF
from bridge_core.priors.restoration import Restorer

STEPS = 3
"""Gauss-Newton steps towards each restored picture."""
COOLING, COOLINGS = 30.0, 10
"""Factor between, and most, regularisations on the way from a restored picture to what was measured."""
LIKELY_NOISE = 0.2
"""RMS error of an end that its measurements do not explain, where nothing tells better."""


def restored(
    matching: Matching,
    knobs: s.GaussNewton,
    images: Float[Tensor, "num c h w"],
    noise: float,
    restorer: Restorer,
    rounds: int,
    rng: torch.Generator,
) -> Float[Tensor, "num c h w"]:
    """The end of a search, `images` of RMS error `noise`, with the prior brought in, `rounds` times.

    Left as it is where the restorer's own error is no smaller than the noise that the measurements leave.
    """
    for _ in range(rounds):
        if not restorer.helps(noise):
            break
        centre, error = restorer.restore(images, noise, rng), restorer.error(noise)
        images, noise = _between(matching, knobs, images, centre, error)
    return images


def expected_noise(predicted_psnr: float) -> float:
    """RMS error of pixels, from the PSNR (dB) that a verdict predicts; NaN where it does not."""
    return LIKELY_NOISE if math.isnan(predicted_psnr) else 10 ** (-predicted_psnr / 20)


def _between(
    matching: Matching, knobs: s.GaussNewton, images: Float[Tensor, "num c h w"], centre: Tensor, error: float
) -> tuple[Float[Tensor, "num c h w"], float]:
    """The best compromise of measurements and `centre`, and the RMS noise that is left in it."""
    spread = Spread(torch.zeros(images[0].numel(), 0, dtype=torch.float64), error)
    search = Search(matching, knobs, centre, spread, whole=True)
    point = matching.at(images)
    u = (images - centre).flatten(1).double() / error
    near, far = State(u, point, _level(matching, point)), State(u * 0, matching.at(centre), 0.0)
    weights = matching.weights(point)
    ends = _settled(search, centre, near), _cooled(search, centre, far, near.tau)
    state = min(ends, key=lambda end: _objective(end, weights))
    predicted = search.predicted_psnr(state)
    return state.point.images, error if math.isnan(predicted) else 10 ** (-predicted / 20)


def _settled(search: Search, centre: Tensor, state: State) -> State:
    """From where the measurements are met."""
    for _ in range(STEPS):
        moved = search.step(centre, state)
        if moved is None:
            break
        state = replace(moved, tau=_level(search.matching, moved.point))
    return state


def _cooled(search: Search, centre: Tensor, state: State, level: float) -> State:
    """From the restored picture: where measurements bend with the image, their null space is followed from there."""
    state = replace(state, tau=max(level, state.point.cost() / search.unknowns))
    for _ in range(COOLINGS):
        moved = search.step(centre, state)
        if moved is None:
            break
        last = state.tau <= level
        state = replace(moved, tau=max(level, state.tau / COOLING))
        if last:
            break
    return replace(state, tau=level)


def _level(matching: Matching, point: Point) -> float:
    """What an entry of the misfit is expected to be, squared; no less than float32 can tell."""
    return max(matching.variance(point), ROUND_OFF / len(matching.target))


def _objective(state: State, weights: Tensor) -> float:
    return state.point.cost(weights) + state.tau * float(state.u.square().sum())
