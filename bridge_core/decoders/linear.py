"""Linear bridges: projection, row-wise MMSE, and ridge regression with streamed sufficient statistics."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core.errors import InvalidInput
from bridge_core.simulate import Batch

TINY = 1e-30


def unit(x: Float[Tensor, "n *rest"]) -> Float[Tensor, "n *rest"]:
    """Each example scaled to norm 1."""
    return x / x.flatten(1).norm(dim=1).clamp_min(TINY).reshape(-1, *[1] * (x.ndim - 1))


def row_mmse(
    m: Float[Tensor, "*n out rank"], a: Float[Tensor, "rank in"], moment: Float[Tensor, "in in"], ridge: float
) -> Float[Tensor, "*n out in"]:
    """Row-wise linear minimum mean-square estimate M (A S A^T + ridge)^-1 A S, `ridge` relative to the mean diagonal.

    With S = I and no ridge it is `lora.project`.
    """
    a64, s64 = a.double(), moment.double()
    normal = a64 @ s64 @ a64.T
    normal = normal + ridge * normal.diagonal().mean() * torch.eye(len(a64), dtype=torch.float64)
    return m @ torch.linalg.solve(normal, a64 @ s64).to(m.dtype)


class RidgeSum:
    """Normal equations of vec(M) -> vec(G), one pair of matrices a module, whatever the number of pairs."""

    def __init__(self, a: Mapping[str, Tensor], ridge: float) -> None:
        self._a, self._ridge = a, ridge
        self._mm: dict[str, Tensor] = {}
        self._mg: dict[str, Tensor] = {}

    def add(self, batch: Batch) -> None:
        """Add a batch of pairs."""
        for name, a in self._a.items():
            m = unit(batch.taps[name].measurement(a)).flatten(1)
            g = unit(batch.taps[name].gradient()).flatten(1)
            if name not in self._mm:
                self._mm[name] = torch.zeros(m.shape[1], m.shape[1])
                self._mg[name] = torch.zeros(m.shape[1], g.shape[1])
            self._mm[name].addmm_(m.T, m)
            self._mg[name].addmm_(m.T, g)

    def tensors(self) -> dict[str, Float[Tensor, "out_rank out_in"]]:
        """`<module>/weight`; the ridge is relative to the mean diagonal of the normal matrix."""
        weights: dict[str, Tensor] = {}
        for name, mm in self._mm.items():
            normal = mm.double()
            normal.diagonal().add_(self._ridge * normal.diagonal().mean())
            weights[f"{name}/weight"] = solution(normal, self._mg[name])
        return weights


def solution(normal: Float[Tensor, "k k"], moments: Float[Tensor, "k outputs"]) -> Float[Tensor, "k outputs"]:
    """`normal^-1 moments` by Cholesky in float64.

    Raises `InvalidInput` where `normal` is singular, as it is with fewer pairs than inputs and no ridge.
    """
    factor, failed = torch.linalg.cholesky_ex(normal.double())
    if int(failed):
        raise InvalidInput("the ridge's normal matrix is singular", "a regular one", "raise `ridge` or `num_pairs`")
    return torch.cholesky_solve(moments.double(), factor).float()


def ridge_bytes(shapes: Mapping[str, tuple[int, int]], rank: int) -> int:
    """Memory of a ridge fit on modules of (out, in), in bytes; the largest module's solution in float64 included."""
    sizes = [(out * rank) * (out * rank + out * width) for out, width in shapes.values()]
    return 4 * sum(sizes) + 16 * max(sizes)
