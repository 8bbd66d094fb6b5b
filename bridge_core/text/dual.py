"""Ridge regression vec(M) -> vec(G) from fewer pairs than a measurement has entries: `Mᵀ (M Mᵀ + λ)⁻¹ G`, its dual.

A language model's module has 10^5 weights and thousands of measured entries, and a proxy a thousand sentences. The
normal matrix is then pairs x pairs, and what is decoded a combination of the pairs' own gradients, which are kept as
inputs and output gradients: a few rows each. `decoders.linear.RidgeSum` is the slow reference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge_core.decoders import alike
from bridge_core.decoders.linear import TINY, solution, unit
from bridge_core.gradients import Tap
from bridge_core.simulate import Batch

BATCH_PAIRS = 64
"""Pairs whose gradients are formed at a time."""


@dataclass(frozen=True)
class DualRidge:
    """A frozen ridge for one set of measurement matrices A."""

    a: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    """By module: `coefficients` (pairs x out*rank), and `inputs` (pairs x tokens x in) and `output_gradients` (pairs x
    tokens x out) of the pairs at unit norm."""

    def decode(self, m: Mapping[str, Float[Tensor, "n out _rank"]]) -> dict[str, Float[Tensor, "n out _in"]]:
        """Directions of G (unit norm) from measurements of all modules, by module."""
        return {name: unit(self._estimate(name, one)) for name, one in m.items()}

    def serves(self, a: Mapping[str, Tensor]) -> bool:
        """True where a release carries the matrices that the decoder was fitted for, or all but (`decoders.alike`)."""
        return alike(self.a, a)

    def _estimate(self, name: str, m: Float[Tensor, "n out rank"]) -> Float[Tensor, "n out in"]:
        shares = unit(m).flatten(1) @ self.tensors[f"{name}/coefficients"].T
        found = torch.zeros(len(m), m.shape[1] * self.a[name].shape[1])
        for part, gradients in zip(shares.split(BATCH_PAIRS, 1), self._gradients(name), strict=True):
            found.addmm_(part, gradients.flatten(1))
        return found.reshape(len(m), m.shape[1], -1)

    def _gradients(self, name: str) -> Iterator[Float[Tensor, "part out in"]]:
        parts = (self.tensors[f"{name}/{kind}"].split(BATCH_PAIRS) for kind in ("inputs", "output_gradients"))
        return (Tap(inputs, back).gradient() for inputs, back in zip(*parts, strict=True))


class DualRidgeSum:
    """Keeps the pairs of a stream and solves for their coefficients."""

    def __init__(self, a: Mapping[str, Tensor], ridge: float) -> None:
        self._a, self._ridge = a, ridge
        self._m: dict[str, list[Tensor]] = {name: [] for name in a}
        self._taps: dict[str, list[Tap]] = {name: [] for name in a}

    def add(self, batch: Batch) -> None:
        """Keep a batch of pairs."""
        for name, a in self._a.items():
            x, d = batch.taps[name].inputs, batch.taps[name].output_gradients
            square = ((d @ d.mT) * (x @ x.mT)).sum((1, 2), keepdim=True)
            self._m[name].append(unit(batch.taps[name].measurement(a)).flatten(1))
            self._taps[name].append(Tap(x, d * square.clamp_min(TINY).rsqrt()))

    def decoder(self) -> DualRidge:
        """The frozen decoder; the ridge is relative to the mean diagonal of the primal's normal matrix.

        Raises `InvalidInput` where the matrix is singular, as it is for equal pairs and no ridge.
        """
        tensors: dict[str, Tensor] = {}
        for name in self._a:
            tensors[f"{name}/coefficients"] = self._coefficients(torch.cat(self._m[name]))
            tensors[f"{name}/inputs"] = _joined([one.inputs for one in self._taps[name]])
            tensors[f"{name}/output_gradients"] = _joined([one.output_gradients for one in self._taps[name]])
        return DualRidge(self._a, tensors)

    def _coefficients(self, m: Float[Tensor, "pairs k"]) -> Float[Tensor, "pairs k"]:
        kernel = m.double() @ m.double().T
        kernel.diagonal().add_(self._ridge * float(kernel.diagonal().sum()) / m.shape[1])
        return solution(kernel, m)


def dual_bytes(shapes: Mapping[str, tuple[int, int]], rank: int, num_pairs: int, tokens: int) -> int:
    """Memory of a fit on modules of (out, in), in bytes, pairs of `tokens` tokens; joining and solving included."""
    kept = [num_pairs * (tokens * (out + width) + out * rank) for out, width in shapes.values()]
    return 8 * sum(kept) + 24 * num_pairs**2


def _joined(parts: list[Float[Tensor, "_n _tokens k"]]) -> Float[Tensor, "pairs longest k"]:
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])
