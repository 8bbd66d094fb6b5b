"""How near a decoded gradient is to the true one, beside what it must be held against."""

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core.lora import cosine_floor, project
from bridge_core.metrics import cosines


def cosine_columns(
    prefix: str,
    truth: Float[Tensor, "n out in"],
    guess: Float[Tensor, "n out in"],
    a: Float[Tensor, "rank in"],
    mean: Float[Tensor, "out in"],
) -> dict[str, Float[Tensor, "n"]]:
    """By the name of a fact: cosine of the guess, of the projection, of the mean proxy gradient, and the floor."""
    return {
        prefix: cosines(truth, guess),
        f"{prefix}_projection": cosines(truth, project(truth @ a.T, a)),
        f"{prefix}_mean_gradient": cosines(truth, mean),
        f"{prefix}_floor": torch.full((len(truth),), cosine_floor(len(a), a.shape[1])),
    }
