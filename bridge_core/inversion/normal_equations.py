"""One Gauss-Newton step: (T^T (J^T J + box) T + (tau + damping) I) du = -slope, with a matrix or without.

T is the spread, J the weighted Jacobian of all images, box the soft residual of pixels outside [0, 1].
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core.inversion.spread import Spread
from bridge_core.inversion.variable_projection import Matching, Point

CG_ITERATIONS, CG_TOLERANCE = 300, 1e-3
"""Products at most, and the residual's share at which conjugate gradients stop: an inexact Newton step is enough."""


@dataclass(frozen=True)
class Penalty:
    """What is added to the misfit."""

    tau: float
    """Strength of |u|^2."""
    u: Float[Tensor, "num k"]
    box: float
    """Strength of |excess|^2."""
    excess: Float[Tensor, "num pixels"]


@runtime_checkable
class Steps(Protocol):
    """Solutions of the linear problem for any damping."""

    def solve(self, damping: float) -> Float[Tensor, "num k"]:
        """`du`."""
        ...


class Dense:
    """The normal matrix in float64."""

    def __init__(
        self, matching: Matching, point: Point, weights: Tensor, transform: Float[Tensor, "pixels k"], penalty: Penalty
    ) -> None:
        """`transform` may hold the leading columns of T alone: u does not move along the others."""
        self._penalty, self._kept, self._transform, self._weights = penalty, transform.shape[1], transform, weights
        directions = transform.mT.to(point.images.dtype).reshape(-1, *point.images.shape[1:])
        self._jacobian = matching.jacobian(point, directions, weights)
        self.normal = self._jacobian @ self._jacobian.T
        if penalty.box:
            outside = [transform[one != 0] for one in penalty.excess]
            self.normal += penalty.box * torch.block_diag(*[rows.mT @ rows for rows in outside])
        self._slope = self._slope_at(point, penalty)

    def chord(self, point: Point, penalty: Penalty) -> Float[Tensor, "num k"]:
        """`du` from a new point with the Jacobian of the old one, which costs no Jacobian."""
        self._penalty, self._slope = penalty, self._slope_at(point, penalty)
        return self.solve(0.0)

    def _slope_at(self, point: Point, penalty: Penalty) -> Tensor:
        u = penalty.u[:, : self._kept]
        slope = self._jacobian @ (point.error * self._weights) + penalty.tau * u.flatten()
        return slope + penalty.box * (penalty.excess @ self._transform).flatten()

    def solve(self, damping: float) -> Float[Tensor, "num k"]:
        """By Cholesky's factors; the matrix is positive definite for tau > 0."""
        shifted = self.normal.clone()
        shifted.diagonal().add_(self._penalty.tau + damping)
        factor = torch.linalg.cholesky(shifted)
        step = torch.zeros_like(self._penalty.u)
        step[:, : self._kept] = -torch.cholesky_solve(self._slope[:, None], factor)[:, 0].reshape(len(step), -1)
        return step


class Conjugate:
    """Conjugate gradients; a product is one forward-mode and one reverse-mode pass through the model's gradient."""

    def __init__(self, matching: Matching, point: Point, weights: Tensor, spread: Spread, penalty: Penalty) -> None:
        self._penalty, self._spread, self._shape = penalty, spread, point.images.shape
        self._map = matching.linearised(point, weights)
        self._outside = (penalty.excess != 0).double()
        slope = self._adjoint(self._map.backward(point.error * weights)) + penalty.tau * penalty.u
        self._slope = slope + penalty.box * spread.adjoint(penalty.excess)

    def solve(self, damping: float) -> Float[Tensor, "num k"]:
        """Until the residual is `CG_TOLERANCE` of the slope."""
        step, residual = torch.zeros_like(self._slope), -self._slope
        direction, size = residual, residual.square().sum()
        target = CG_TOLERANCE**2 * size
        for _ in range(CG_ITERATIONS):
            if size <= target:
                break
            product = self._product(direction, damping)
            length = size / (direction * product).sum()
            step, residual = step + length * direction, residual - length * product
            size, before = residual.square().sum(), size
            direction = residual + (size / before) * direction
        return step

    def _product(self, u: Tensor, damping: float) -> Tensor:
        change = self._spread.apply(u)
        curved = self._adjoint(self._map.backward(self._map.forward(change.reshape(self._shape))))
        boxed = self._spread.adjoint(self._outside * change) if self._penalty.box else 0.0
        return curved + self._penalty.box * boxed + (self._penalty.tau + damping) * u

    def _adjoint(self, images: Tensor) -> Tensor:
        return self._spread.adjoint(images.flatten(1))
