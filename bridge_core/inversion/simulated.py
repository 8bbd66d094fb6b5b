"""The last digits after several steps: the misfit of the whole simulated recipe, in place of one step's.

One step's gradient is only close to what several steps leave. Here the released B is compared with the B that the
recipe leaves when it is simulated on the images, from the initial A that ends at the released one.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import jvp, vmap

from bridge_core import spec as s
from bridge_core.inversion.problem import Problem
from bridge_core.inversion.variable_projection import Matching, Point
from bridge_core.unroll import initial_a, unrolled

TANGENTS = 64
"""Pushed forward at once; all steps' activations are held."""


class SimulatedMatching(Matching):
    """Like `Matching`, with labels and learning rate known: nothing but the images is free."""

    def __init__(
        self, problem: Problem, b: Mapping[str, Tensor], labels: Tensor, recipe: s.Recipe, scale: Mapping[str, float]
    ) -> None:
        super().__init__(problem)
        assert problem.matrices is not None
        self._released = {name: a[0] for name, a in problem.matrices.items()}
        self._norms = {name: one.norm() for name, one in b.items()}
        self._model, self._labels, self._recipe, self._lora_scale = problem.model, labels, recipe, scale
        self.target = self._stacked(b).double()
        self.expected = torch.full_like(self.target, 4e-7 / self.target.numel() ** 0.5)

    def at(self, images: Tensor, weights: Tensor | float = 1.0) -> Point:
        """The point of `images`; `weights` play no part, since nothing is projected out."""
        error = self._ends(self._initial(images))(images).double() - self.target
        nothing = torch.zeros(len(images), self.prediction.num_classes, dtype=torch.float64)
        return Point(images, nothing, self.target.new_zeros(0, len(self.target)), error)

    def jacobian(self, point: Point, directions: Tensor, weights: Tensor | float) -> Tensor:
        """Weighted derivative along `directions` of each image, the initial A held; float64."""
        ends, images = self._ends(self._initial(point.images)), point.images
        rows = []
        for number in range(len(images)):
            moves = images.new_zeros(len(directions), *images.shape)
            moves[:, number] = directions
            rows.append(vmap(lambda d: jvp(ends, (images,), (d,))[1], chunk_size=TANGENTS)(moves))
        return torch.cat(rows).double() * weights

    def _initial(self, images: Tensor) -> dict[str, Tensor]:
        return initial_a(self._model, self._released, images, self._labels, self._recipe, self._lora_scale, rounds=2).a

    def _ends(self, a0: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        run = unrolled(self._model, a0, self._labels, self._recipe, self._lora_scale)
        return lambda images: self._stacked(run(images)[1])

    def _stacked(self, b: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([(b[name] / norm).flatten() for name, norm in self._norms.items()])
