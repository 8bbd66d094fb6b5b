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
BEST_ENTRIES = 0.1
"""Quantile of the expected errors that stands for the best of them."""
EXPLAINED = 4.0
"""Times its expected size that a squared misfit counts as explained."""
VARIANCE_ROUNDS = 40
TINY = 1e-40


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
        self.noise = float(self.expected.kthvalue(max(1, round(BEST_ENTRIES * len(self.expected))))[0])
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
        """sqrt(`variance` / (expected error^2 + unexplained variance)): far from the solution all entries count alike
        but those that say nothing, close to it each by what it is worth.
        """
        unexplained = unexplained_variance(point.error, self.expected)
        return ((self.noise**2 + unexplained) / (self.expected.square() + unexplained).clamp_min(TINY)).sqrt()

    def variance(self, point: Point) -> float:
        """What a weighted entry of the misfit is expected to be, squared."""
        return self.noise**2 + unexplained_variance(point.error, self.expected)

    def explained(self, point: Point) -> bool:
        """True where the expected errors account for the misfit of all entries that say something."""
        telling = self.expected <= max(float(self.target.square().mean().sqrt()), self.noise)
        ratio = point.error[telling].square() / self.expected[telling].square().clamp_min(TINY)
        return float(ratio.mean()) <= EXPLAINED

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


def unexplained_variance(error: Float[Tensor, "m"], expected: Float[Tensor, "m"]) -> float:
    """Most likely v where error_i has variance expected_i^2 + v; 0 where the expected errors account for all.

    The scale of a misfit whose entries are known unequally well (the between-study variance of Mandel and Paule, 1982):
    entries that say nothing have no part in it, as they have in the mean square.
    """
    squared, known = error.square(), expected.square()
    v = float(squared.mean())
    for _ in range(VARIANCE_ROUNDS):
        share = 1 / (known + v).clamp_min(TINY).square()
        share /= share.sum()
        before, v = v, max(float((share * (squared - known)).sum()), 0.0)
        if abs(v - before) <= 1e-3 * v:
            break
    return v


def _orthonormal(columns: Float[Tensor, "free m"]) -> Float[Tensor, "m free"]:
    return torch.linalg.qr(columns.T)[0]


def _without(rows: Float[Tensor, "*k m"], basis: Float[Tensor, "m free"]) -> Float[Tensor, "*k m"]:
    return rows - (rows @ basis) @ basis.T
