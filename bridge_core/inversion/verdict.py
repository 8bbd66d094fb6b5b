"""What a reconstruction is worth, told without the truth: from the misfit that is left and from the Jacobian there.

Two questions. Is the misfit what the target's errors explain? If not, the search has stalled. And how well do the
measurements, with those errors, determine the image (Laplace's approximation: covariance T (N / v + I)^-1 T^T, v the
variance of a residual)? Thresholds were set on proxy images; `docs/results.md` has the counts of right and wrong.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core.inversion.spread import Spread
from bridge_core.inversion.variable_projection import Matching, Point

ROUND_OFF = 1e-9
"""Misfit (sum over modules of squared distances of unit vectors) that float32 explains, with some room."""
EXACT_PSNR, APPROXIMATE_PSNR = 48.0, 20.0
APPROXIMATE_MISFIT = 1e-4


class Label(StrEnum):
    """The verdict in a word."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    FAILED = "failed"


GRADES = {Label.FAILED: 0, Label.APPROXIMATE: 1, Label.EXACT: 2}
"""The verdict as a number, for tables."""


@dataclass(frozen=True)
class Verdict:
    """How far a reconstruction can be trusted."""

    label: Label
    misfit: float
    """Squared distance to the target, modules at unit norm."""
    predicted_psnr: float
    """dB that the measurements and their errors leave, were the search not stalled; NaN where no matrix was formed."""


def judge(matching: Matching, point: Point, normal: Float[Tensor, "k k"] | None, spread: Spread) -> Verdict:
    """Grade the end of a search; `normal` is T^T J^T J T there."""
    misfit = point.cost()
    explained = misfit <= ROUND_OFF or matching.explained(point)
    predicted = predicted_psnr(matching.variance(point), normal, spread) if normal is not None else math.nan
    if explained and not predicted < EXACT_PSNR:
        label = Label.EXACT
    elif (explained and not predicted < APPROXIMATE_PSNR) or misfit <= APPROXIMATE_MISFIT:
        label = Label.APPROXIMATE
    else:
        label = Label.FAILED
    return Verdict(label, misfit, predicted)


def predicted_psnr(variance: float, normal: Float[Tensor, "k k"], spread: Spread) -> float:
    """DB of an image whose errors are what weighted misfits of this variance and the spread leave."""
    precision = normal / max(variance, 1e-30)
    precision.diagonal().add_(1.0)
    transform, k = spread.matrix(), spread.width
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    blocks = range(0, len(inverse), k)
    error = sum(float(((transform @ inverse[i : i + k, i : i + k]) * transform).sum()) for i in blocks)
    return -10 * math.log10(max(error / (len(transform) * len(blocks)), 1e-20))
