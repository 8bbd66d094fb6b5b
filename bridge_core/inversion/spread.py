"""The metric of the search: a square root of the second moment of a start's errors."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MOST_DENSE = 4096
"""Pixels up to which all directions are kept; beyond, the leading ones and an even floor."""
MOST_LEADING = 512
SMALLEST = 1e-4
"""Variances are lifted by this share of the largest."""


@dataclass(frozen=True)
class Spread:
    """T with T T^T = factor factor^T + floor^2 I; image = centre + T u, so that likely errors have small u."""

    factor: Float[Tensor, "pixels k"]
    """Columns in falling order of length, float64."""
    floor: float
    """0 where the columns span all pixels."""

    @property
    def width(self) -> int:
        """Unknowns u of one image."""
        return self.factor.shape[1] + (len(self.factor) if self.floor else 0)

    def apply(self, u: Float[Tensor, "*n width"]) -> Float[Tensor, "*n pixels"]:
        """`T u`."""
        k = self.factor.shape[1]
        image = u[..., :k] @ self.factor.mT
        return image + self.floor * u[..., k:] if self.floor else image

    def adjoint(self, image: Float[Tensor, "*n pixels"]) -> Float[Tensor, "*n width"]:
        """`T^T image`."""
        leading = image @ self.factor
        return torch.cat([leading, self.floor * image], -1) if self.floor else leading

    def matrix(self) -> Float[Tensor, "pixels width"]:
        """`T` itself."""
        return self.apply(torch.eye(self.width, dtype=self.factor.dtype)).mT


def spread_of(errors: Float[Tensor, "n pixels"]) -> Spread:
    """From errors of single images (truth - estimate)."""
    n, pixels = errors.shape
    e = errors.double()
    if pixels <= MOST_DENSE:
        values, vectors = torch.linalg.eigh(e.T @ e / n)
        values = values.clamp_min(0).flip(0)
        return Spread(vectors.flip(1) * (values + SMALLEST * values[0]).sqrt(), 0.0)
    values, left = torch.linalg.eigh(e @ e.T / n)
    kept = min(MOST_LEADING, n)
    values, left = values[-kept:].flip(0).clamp_min(1e-12), left[:, -kept:].flip(1)
    leading = e.T @ left / n**0.5
    rest = (float(e.square().sum()) / n - float(values.sum())) / pixels
    return Spread(leading, max(rest, SMALLEST * float(values[0])) ** 0.5)
