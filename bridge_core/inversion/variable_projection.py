"""Where an inversion stands: images, the loss's gradient at their logits, and the misfit that is left.

The misfit is linear in the gradient delta at the logits, so that the best delta of given images is found at once
(variable projection: Golub and Pereyra, 1973) and the search is over images alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core.inversion.functional import Linearised, Prediction, along
from bridge_core.inversion.problem import Problem

DELTA_RIDGE = 1e-10
"""Relative to the mean diagonal of delta's normal matrix."""


@dataclass(frozen=True)
class Point:
    """Images and what they miss."""

    images: Float[Tensor, "num c h w"]
    delta: Float[Tensor, "num classes"]
    """Loss's gradient at each image's logits, up to the scale of the target; sums to 0."""
    columns: Float[Tensor, "free m"]
    """Changes of the prediction that a change of delta can make."""
    error: Float[Tensor, "m"]
    """Prediction - target, float64."""

    def cost(self, weights: Tensor | float = 1.0) -> float:
        """Weighted squared distance to the target."""
        return float((self.error * weights).square().sum())


class Matching:
    """The target of one secret, scaled to norm 1 a module, and the error that is expected of it."""

    def __init__(self, problem: Problem) -> None:
        self.prediction = Prediction(problem)
        parts = {name: target[0] for name, target in problem.targets.items()}
        self.target = self.prediction.flat(parts).double()
        self.expected = torch.zeros_like(self.target)
        if problem.errors is not None:
            self.expected = self.prediction.flat({name: e[0] for name, e in problem.errors.items()}).double()
        classes = self.prediction.num_classes
        free = torch.eye(classes, dtype=torch.float64) - 1 / classes
        self._free = torch.linalg.qr(free[:, : classes - 1])[0]

    def at(self, images: Float[Tensor, "num c h w"], weights: Tensor | float = 1.0) -> Point:
        """The point of `images`, with the delta that leaves the least weighted misfit."""
        basis = torch.stack([self.prediction.basis(image) for image in images]).double()
        columns = torch.einsum("kf,nkm->nfm", self._free, basis).flatten(0, 1)
        seen = columns * weights
        normal = seen @ seen.T
        normal.diagonal().add_(DELTA_RIDGE * normal.diagonal().mean())
        found = torch.linalg.solve(normal, seen @ (self.target * weights))
        delta = found.reshape(len(images), -1) @ self._free.T
        return Point(images, delta, columns, found @ columns - self.target)

    def weights(self, point: Point) -> Float[Tensor, "m"]:
        """1 / sqrt(1 + (expected error / present misfit)^2): far from the solution all entries count alike, close to it
        each by what it is worth.
        """
        present = (point.cost() / len(self.target)) ** 0.5
        return 1 / (1 + (self.expected / max(present, 1e-30)).square()).sqrt()

    def jacobian(
        self, point: Point, directions: Float[Tensor, "k c h w"], weights: Tensor | float
    ) -> Float[Tensor, "num_k m"]:
        """Weighted derivative along `directions` of each image, as far as delta can not make up for it; float64."""
        rows = [
            self.prediction.pushed(image, along(delta.to(image.dtype)), directions)
            for image, delta in zip(point.images, point.delta, strict=True)
        ]
        return _without(torch.cat(rows).double() * weights, _orthonormal(point.columns * weights))

    def linearised(self, point: Point, weights: Tensor | float) -> Linearised:
        """The same derivative as a map from changes of all images, and its transpose; float64 outside."""
        single = [
            self.prediction.linearised(image, along(delta.to(image.dtype)))
            for image, delta in zip(point.images, point.delta, strict=True)
        ]
        basis, kind = _orthonormal(point.columns * weights), point.images.dtype

        def forward(change: Tensor) -> Tensor:
            parts = [one.forward(c.to(kind)) for one, c in zip(single, change, strict=True)]
            return _without(torch.stack(parts).sum(0).double() * weights, basis)

        def backward(cotangent: Tensor) -> Tensor:
            seen = (_without(cotangent, basis) * weights).to(kind)
            return torch.stack([one.backward(seen) for one in single]).double()

        return Linearised(forward, backward)


def _orthonormal(columns: Float[Tensor, "free m"]) -> Float[Tensor, "m free"]:
    return torch.linalg.qr(columns.T)[0]


def _without(rows: Float[Tensor, "*k m"], basis: Float[Tensor, "m free"]) -> Float[Tensor, "*k m"]:
    return rows - (rows @ basis) @ basis.T
