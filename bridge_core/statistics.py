"""What proxy data says of gradients before any adapter is seen: the controls, and what the row-wise bridge needs."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core.simulate import Batch

TINY = 1e-30


@dataclass(frozen=True)
class Statistics:
    """Means over proxy samples, every gradient scaled to unit norm per module."""

    mean_image: Float[Tensor, "channels height width"]
    mean_gradient: dict[str, Float[Tensor, "out in"]]
    row_moment: dict[str, Float[Tensor, "in in"]]
    """S = E[G^T G]."""


class StatisticsSum:
    """Accumulates `Statistics` over a stream; never forms a sample's gradient."""

    def __init__(self) -> None:
        self._count = 0
        self._images: Tensor | float = 0.0
        self._gradient: dict[str, Tensor] = {}
        self._moment: dict[str, Tensor] = {}

    def add(self, batch: Batch) -> None:
        """Add a batch of single-sample examples."""
        self._count += len(batch)
        self._images = self._images + batch.images.sum(0)
        for name, one in batch.taps.items():
            x, d = one.inputs, one.output_gradients
            kernel = d @ d.mT
            weight = (kernel * (x @ x.mT)).sum((1, 2), keepdim=True).clamp_min(TINY).rsqrt()
            gradient = (d * weight).flatten(0, 1).T @ x.flatten(0, 1)
            moment = x.flatten(0, 1).T @ (weight**2 * (kernel @ x)).flatten(0, 1)
            self._gradient[name] = self._gradient.get(name, torch.zeros(())) + gradient
            self._moment[name] = self._moment.get(name, torch.zeros(())) + moment

    def mean(self) -> Statistics:
        """What has been added, divided by its number."""
        n = self._count
        image = torch.as_tensor(self._images) / n
        gradient = {name: g / n for name, g in self._gradient.items()}
        return Statistics(image, gradient, {name: m / n for name, m in self._moment.items()})


def save_statistics(statistics: Statistics, path: Path) -> None:
    """Write as safetensors."""
    tensors = {"mean_image": statistics.mean_image}
    tensors |= {f"mean_gradient/{name}": g for name, g in statistics.mean_gradient.items()}
    tensors |= {f"row_moment/{name}": m for name, m in statistics.row_moment.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def read_statistics(path: Path) -> Statistics:
    """Read what `save_statistics` wrote."""
    tensors = load_file(path)

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    return Statistics(tensors["mean_image"], part("mean_gradient/"), part("row_moment/"))
