"""Priors as restorers: a reconstruction and its noise in, a better one and its error out.

An inversion that knows how far its measurements hold (Gauss-Newton) weighs what a restorer says by the error that the
restorer makes at this noise, measured on held-out proxy images: plug-and-play (Venkatakrishnan et al., 2013).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
from jaxtyping import Float, Int64
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from bridge_core import spec as s
from bridge_core.priors.diffusion import Diffusion, weights_of

LEVELS = tuple(float(x) for x in np.geomspace(0.003, 0.3, 9))
"""Noises that a restorer is measured at, RMS on the scale of [0, 1]."""
TIMES = 12
"""Times of a schedule that `guide` chooses from at each noise, denser where it is nearly clean."""
MOST_MEASURED = 32
"""Held-out images that a restorer is measured on."""

Restore = Callable[[Float[Tensor, "n c h w"], float, torch.Generator], Float[Tensor, "n c h w"]]
"""Images of about the given RMS noise -> restored images."""


@dataclass(frozen=True)
class Restorer:
    """A prior with its measured error."""

    restore: Restore
    errors: tuple[float, ...]
    """RMS error of what it returns, at each of `LEVELS`, on held-out proxy images."""

    def error(self, noise: float) -> float:
        """RMS error at `noise`, between the measured levels on a logarithmic scale; never 0."""
        return float(np.exp(np.interp(np.log(max(noise, 1e-12)), np.log(LEVELS), np.log(self.errors))))

    def helps(self, noise: float) -> bool:
        """True where it leaves less than it was given; below the least measured level it is not asked."""
        return noise >= LEVELS[0] and self.error(noise) < noise


def restorer_of(
    prior: s.Prior, diffusion: Diffusion | None, heldout: Float[Tensor, "n c h w"], rng: torch.Generator
) -> Restorer | None:
    """The restorer of `prior`, measured on held-out proxy images; None for the prior `none`."""
    seen = heldout[:MOST_MEASURED]
    match prior:
        case s.NoPrior():
            return None
        case s.TotalVariation():
            return measured(lambda images, noise, _: tv_restored(images, noise), seen, rng)
        case s.Sds():
            assert diffusion is not None
            model = diffusion
            return measured(lambda images, _, draw: distilled(model, prior, images, draw), seen, rng)
        case s.Guide():
            assert diffusion is not None
            return measured(guided(diffusion, seen, rng), seen, rng)
        case _:
            assert_never(prior)


def measured(restore: Restore, heldout: Float[Tensor, "n c h w"], rng: torch.Generator) -> Restorer:
    """`restore` with its error at every level."""
    errors = [_rms(restore(_noised(heldout, level, rng), level, rng) - heldout) for level in LEVELS]
    return Restorer(restore, tuple(max(one, 1e-6) for one in errors))


def tv_restored(images: Float[Tensor, "n c h w"], noise: float) -> Float[Tensor, "n c h w"]:
    """Total-variation denoising (Chambolle, 2004; scikit-image), its weight the noise."""
    cleaned = [denoise_tv_chambolle(one.double().numpy(), weight=noise, channel_axis=0) for one in images]
    return torch.from_numpy(np.stack(cleaned)).to(images)


def distilled(
    model: Diffusion, prior: s.Sds, images: Float[Tensor, "n c h w"], rng: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Where score distillation draws images to: the mean over `draws` times and noises, weighed as w(t) = 1 - a_t."""
    total, weight = torch.zeros_like(images), torch.zeros(len(images), 1, 1, 1)
    for _ in range(prior.draws):
        times = drawn_times(model, prior, len(images), rng)
        each = distilling_weights(model, times)
        total += each * model.distil(images, times, rng)
        weight += each
    return total / weight


def distilling_weights(model: Diffusion, times: Int64[Tensor, "n"]) -> Float[Tensor, "n 1 1 1"]:
    """What DreamFusion's w(t) = 1 - a_t leaves of image - target at each time."""
    return weights_of(model.schedule.products, times).reshape(-1, 1, 1, 1)


def drawn_times(model: Diffusion, prior: s.Sds, count: int, rng: torch.Generator) -> Int64[Tensor, "n"]:
    """Times between the prior's earliest and latest, evenly."""
    share = prior.earliest + (prior.latest - prior.earliest) * torch.rand(count, generator=rng)
    return (share * (model.num_times - 1)).round().long()


def guided(model: Diffusion, heldout: Float[Tensor, "n c h w"], rng: torch.Generator) -> Restore:
    """Cleaning at the time whose noise is the image's: at every level the one that does best on held-out images."""
    candidates = (torch.linspace(0, 0.7, TIMES).square() * (model.num_times - 1)).round().long().unique()
    half = heldout[: max(1, len(heldout) // 2)]
    best: list[float] = []
    for level in LEVELS:
        noised = _noised(half, level, rng)
        left = [_rms(model.clean(noised, time.expand(len(half))) - half) for time in candidates]
        best.append(float(candidates[int(np.argmin(left))]))

    def restore(images: Tensor, noise: float, _: torch.Generator) -> Tensor:
        time = round(float(np.interp(np.log(max(noise, 1e-12)), np.log(LEVELS), best)))
        return model.clean(images, torch.full((len(images),), time))

    return restore


def _noised(images: Tensor, level: float, rng: torch.Generator) -> Tensor:
    return images + level * torch.randn(images.shape, generator=rng)


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())
