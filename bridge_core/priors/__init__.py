"""Priors: what is added to a matching loss, or done to its result, because images look like images."""

from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core import spec as s


def penalty(prior: s.Prior, guess: Float[Tensor, "secrets num channels height width"]) -> Float[Tensor, "secrets"]:
    """The prior's cost of each secret's images; 0 for priors that have a gradient, or a restorer, and no cost."""
    match prior:
        case s.NoPrior() | s.Sds() | s.Guide():
            return torch.zeros(len(guess))
        case s.TotalVariation():
            return prior.weight * total_variation(guess)
        case _:
            assert_never(prior)


def total_variation(guess: Float[Tensor, "secrets num channels height width"]) -> Float[Tensor, "secrets"]:
    """Anisotropic total variation: mean absolute difference of neighbours, rows plus columns."""
    rows = guess.diff(dim=-2).abs().flatten(1).mean(1)
    columns = guess.diff(dim=-1).abs().flatten(1).mean(1)
    return rows + columns
