"""LoRA in closed form: `W = W0 + s B A`, its gradients, and what a training step reveals of the full gradient.

    A  rank x in    first factor         G  out x in      full gradient of W0
    B  out x rank   second factor        M  out x rank    measurement, G A^T
    s  scale

Every module is a matrix here: a convolution's kernels (out, in, height, width) flatten to (out, in * height * width),
and the (in, out) weight of a `Conv1D` is transposed. `docs/derivation.ipynb` derives these forms and holds them
against autograd.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core.errors import InvalidInput, NotApplicable


@dataclass(frozen=True)
class FactorGradients:
    """Gradients of the loss with respect to both factors."""

    a: Float[Tensor, "*n rank in"]
    b: Float[Tensor, "*n out rank"]


def lora_scale(alpha: float, rank: int, *, use_rslora: bool = False) -> float:
    """`s = alpha / r`, or `alpha / sqrt(r)` for rank-stabilised LoRA (Kalajdzievski, 2023).

    Raises `InvalidInput` where `rank` is below 1.
    """
    if rank < 1:
        raise InvalidInput(f"rank {rank}", "at least 1")
    return alpha / math.sqrt(rank) if use_rslora else alpha / rank


def weight_change(a: Float[Tensor, "rank in"], b: Float[Tensor, "out rank"], scale: float) -> Float[Tensor, "out in"]:
    """What the adapter adds to the base weight: `s B A` (Hu et al., 2022, equation 3)."""
    return scale * (b @ a)


def factor_gradients(
    gradient: Float[Tensor, "*n out in"], a: Float[Tensor, "rank in"], b: Float[Tensor, "out rank"], scale: float
) -> FactorGradients:
    """`dL/dA = s B^T G` and `dL/dB = s G A^T`, where `G` is taken at `W0 + s B A`."""
    return FactorGradients(a=scale * (b.mT @ gradient), b=scale * (gradient @ a.mT))


def measure(gradient: Float[Tensor, "*n out in"], a: Float[Tensor, "rank in"]) -> Float[Tensor, "*n out rank"]:
    """`M = G A^T`: `rank` linear measurements of every row of the gradient."""
    return gradient @ a.mT


def measurement_of_step(
    b: Float[Tensor, "*n out rank"], learning_rate: float, scale: float
) -> Float[Tensor, "*n out rank"]:
    """`M = -B / (eta s)`: what one step of plain SGD from `B = 0` has left in the released `B`."""
    return b / (-learning_rate * scale)


def project(measurement: Float[Tensor, "*n out rank"], a: Float[Tensor, "rank in"]) -> Float[Tensor, "*n out in"]:
    """`M (A A^T)^-1 A`: the smallest gradient with this measurement, and all of it that needs no prior knowledge.

    By QR of `A^T` in float64, so that `A`'s condition number enters once and not squared; the result has the number
    format of `measurement`. Raises `NotApplicable` where the rows of `A` are linearly dependent.
    """
    q, r = torch.linalg.qr(a.mT.double())
    pivots = r.diagonal().abs()
    if a.shape[0] > a.shape[1] or not pivots.min() > pivots.max() * max(a.shape) * torch.finfo(a.dtype).eps:
        raise NotApplicable("the rows of A are linearly dependent", "a measurement matrix of full row rank")
    return (torch.linalg.solve_triangular(r, measurement.double(), upper=True, left=False) @ q.mT).to(measurement.dtype)


def cosine_floor(rank: int, width: int) -> float:
    """`sqrt(r / d)`: cosine of `project` with a gradient that knows nothing of a random A of `width` d columns."""
    return math.sqrt(rank / width)


def as_matrix(weight: Float[Tensor, "..."], *, transposed: bool = False) -> Float[Tensor, "out in"]:
    """The weight, factor or gradient of a module as a matrix; `transposed` for the (in, out) weight of a `Conv1D`."""
    return weight.mT if transposed else weight.flatten(1)


def as_weight(matrix: Float[Tensor, "out in"], shape: torch.Size, *, transposed: bool = False) -> Float[Tensor, "..."]:
    """The inverse of `as_matrix` for a weight of the given shape."""
    return (matrix.mT if transposed else matrix).reshape(shape)
