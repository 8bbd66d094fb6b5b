"""Ridge regression that sees all modules: a module's own measurement, and the leading components of everybody's.

Modules of one step share their tokens, so what one measures tells of another's gradient.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core import spec as s
from bridge_core.decoders.linear import solution, unit
from bridge_core.simulate import BATCH_IMAGES, Batch

BASIS_SHARE = 8
"""One in so many pairs, the first ones, tells the components; none but their last batch is regressed on."""
POWER_STEPS, SLACK = 2, 64


def stack(m: Mapping[str, Float[Tensor, "n _out _rank"]]) -> Float[Tensor, "n k"]:
    """Measurements of all modules side by side, each at unit norm, in the order of their names."""
    return torch.cat([unit(m[name]).flatten(1) for name in sorted(m)], 1)


def components(stacked: Float[Tensor, "n k"], wanted: int, rng: torch.Generator) -> Float[Tensor, "k components"]:
    """Orthonormal leading right singular vectors, `wanted` or as many as there are, by power iteration.

    Source: Halko, Martinsson and Tropp (2011), algorithm 4.4.
    """
    most = min(stacked.shape)
    width = min(wanted + SLACK, most)
    found = stacked.T @ torch.randn(len(stacked), width, generator=rng, dtype=stacked.dtype)
    for _ in range(POWER_STEPS):
        found = stacked.T @ (stacked @ torch.linalg.qr(found).Q)
    span = torch.linalg.qr(found).Q
    _, _, turned = torch.linalg.svd(torch.linalg.qr(stacked @ span).R)
    return (span @ turned.T)[:, : min(wanted, most)].contiguous()


class StackedRidgeSum:
    """Normal equations of (own measurement, components of all) -> vec(G), whatever the number of pairs."""

    def __init__(self, a: Mapping[str, Tensor], bridge: s.Ridge, rng: torch.Generator) -> None:
        self._a, self._bridge, self._rng = a, bridge, rng
        self._first: list[Tensor] = []
        self._missing = bridge.num_pairs // BASIS_SHARE
        self._basis: Tensor | None = None
        self._mm: dict[str, Tensor] = {}
        self._mg: dict[str, Tensor] = {}

    def add(self, batch: Batch) -> None:
        """Add a batch of pairs; the first ones are kept, as measurements alone, until they tell the components."""
        m = {name: batch.taps[name].measurement(a) for name, a in self._a.items()}
        stacked = stack(m)
        if self._missing > 0:
            self._first.append(stacked)
            self._missing -= len(stacked)
            if self._missing > 0:
                return
        shared = stacked @ self._components()
        for name in self._a:
            self._add(name, inputs(m[name], shared), unit(batch.taps[name].gradient()).flatten(1))

    def tensors(self) -> dict[str, Tensor]:
        """`basis` (k x components), and `<module>/weight` ((own + components) x out*in).

        The ridge is relative to the mean diagonal of the normal matrix, of the own part and the shared part each.
        Raises `InvalidInput` where the matrix is singular.
        """
        weights = {f"{name}/weight": self._solve(name) for name in self._mm}
        return {"basis": self._components(), **weights}

    def _components(self) -> Tensor:
        if self._basis is None:
            self._basis = components(torch.cat(self._first), self._bridge.components, self._rng)
            self._first = []
        return self._basis

    def _add(self, name: str, x: Float[Tensor, "n inputs"], g: Float[Tensor, "n outputs"]) -> None:
        if name not in self._mm:
            self._mm[name] = torch.zeros(x.shape[1], x.shape[1])
            self._mg[name] = torch.zeros(x.shape[1], g.shape[1])
        self._mm[name].addmm_(x.T, x)
        self._mg[name].addmm_(x.T, g)

    def _solve(self, name: str) -> Float[Tensor, "inputs outputs"]:
        normal, shared = self._mm[name].double(), self._components().shape[1]
        for part in normal.diagonal().tensor_split([len(normal) - shared]):
            part.add_(self._bridge.ridge * part.mean())
        return solution(normal, self._mg[name])


def inputs(m: Float[Tensor, "n out rank"], shared: Float[Tensor, "n components"]) -> Float[Tensor, "n inputs"]:
    """What the regression of one module sees: the shared components, and its own measurement if that is no longer.

    A wide convolution's own measurement would need more memory than all components.
    """
    own = unit(m).flatten(1)
    return torch.cat([own, shared], 1) if own.shape[1] <= shared.shape[1] else shared


def decode(m: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "n _out_in"]]:
    """Flat directions of G by module, from the measurements of all of them and `StackedRidgeSum.tensors`."""
    shared = stack(m) @ tensors["basis"]
    return {name: inputs(one, shared) @ tensors[f"{name}/weight"] for name, one in m.items()}


def stacked_bytes(shapes: Mapping[str, tuple[int, int]], rank: int, wanted: int, num_pairs: int) -> int:
    """Memory of such a fit on modules of (out, in), in bytes; the largest module's solution in float64 included."""
    total = sum(out * rank for out, _ in shapes.values())
    kept = min(wanted, total, max(num_pairs // BASIS_SHARE, BATCH_IMAGES))
    seen = [kept + (out * rank if out * rank <= kept else 0) for out, _ in shapes.values()]
    sizes = [one * (one + out * width) for one, (out, width) in zip(seen, shapes.values(), strict=True)]
    first = num_pairs // BASIS_SHARE * total
    return 4 * (sum(sizes) + 2 * first + 3 * total * (kept + SLACK)) + 20 * max(sizes)
