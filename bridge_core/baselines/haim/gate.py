"""The oracle gate: does the equation hold at all? Asked of the TRUE data, so it scores and never attacks."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.optimize import nnls
from torch import Tensor

from bridge_core.baselines.haim.stationarity import Stationarity, signs
from bridge_core.errors import NotApplicable

LARGEST_RESIDUAL = 0.3
"""|target - combination| / |target| of the true data up to which the equation counts as fulfilled: 91 % of the squared
length explained. A convention, set between what converged training leaves (0.001 to 0.2) and what it does not."""
LARGEST_SHARE = 0.5
"""Of the residual that as many strangers leave: an equation that any data fulfil says nothing of the secret."""


@dataclass(frozen=True)
class Gate:
    """What non-negative least squares finds on the true data, beside a control."""

    residual: float
    """|target - sum lambda_i y_i grad f(x_i)| / |target| at the best lambda >= 0, float64."""
    residual_strangers: float
    """The same for held-out images of the same labels that training never saw."""
    multipliers: Float[Tensor, "n"]
    """lambda of every true image."""

    @property
    def applicable(self) -> bool:
        """True where the true data fulfil the equation and strangers do not."""
        return holds(self.residual, self.residual_strangers)

    def require(self) -> None:
        """Raise `NotApplicable` with the residual where the equation does not hold."""
        if not self.applicable:
            found = (
                f"not applicable: the true data leave a residual of {self.residual:.3f} "
                f"(strangers {self.residual_strangers:.3f})"
            )
            wanted = f"at most {LARGEST_RESIDUAL} and {LARGEST_SHARE} of the strangers'"
            raise NotApplicable(found, wanted, "read no reconstruction from these parameters")


def holds(residual: float, residual_strangers: float) -> bool:
    """True where a residual is small, and well below that of strangers."""
    return residual <= min(LARGEST_RESIDUAL, LARGEST_SHARE * residual_strangers)


def oracle_gate(
    problem: Stationarity,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, "n"],
    strangers: Float[Tensor, "n c h w"],
) -> Gate:
    """Ask the true images, and as a control as many `strangers` under the same labels."""
    multipliers, residual = nonnegative(problem, images, labels)
    return Gate(residual, nonnegative(problem, strangers, labels)[1], multipliers)


def nonnegative(
    problem: Stationarity, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], float]:
    """The lambda >= 0 of least residual (scipy's NNLS, float64), and the residual relative to the target."""
    columns = (problem.gradients(images) * signs(labels).to(images)).double().numpy()
    target = problem.flat_target().double().numpy()
    multipliers, distance = nnls(columns, target)
    return torch.from_numpy(multipliers), float(distance / max(np.linalg.norm(target), np.finfo(float).tiny))
