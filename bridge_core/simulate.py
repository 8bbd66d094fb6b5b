"""Streamed proxy pairs: simulated single-step updates, never all held at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core.data import Images
from bridge_core.errors import InvalidInput
from bridge_core.gradients import Tap, tap

BATCH_IMAGES = 128
MAX_TURN, MAX_SHIFT, MAX_ZOOM = 0.26, 0.12, 0.12
"""Augmentation: radians, share of the side, share of the scale."""


@dataclass(frozen=True)
class Batch:
    """Examples of a stream: an example is the `num_samples` images of one simulated step."""

    images: Float[Tensor, "m channels height width"]
    labels: Int64[Tensor, "m"]
    taps: Mapping[str, Tap]

    def __len__(self) -> int:
        return len(next(iter(self.taps.values())).inputs)


def stream(
    model: nn.Module,
    proxy: Images,
    modules: Sequence[str],
    num_pairs: int,
    rng: torch.Generator,
    *,
    num_samples: int = 1,
    augment: bool = True,
) -> Iterator[Batch]:
    """Yield `num_pairs` simulated single-step updates of `num_samples` proxy images each, in batches.

    Every proxy image is used once, in random order, before any is used again. With `augment` each is shown in a pose of
    its own: gradients of images that the base model was trained on are unlike those of a secret. Memory is that of one
    batch. Raises `InvalidInput` where there is no proxy image.
    """
    if not len(proxy):
        raise InvalidInput("a proxy part with no image", "at least one", "name a larger proxy source")
    per_batch = max(1, BATCH_IMAGES // num_samples)
    order = _shuffled(proxy, rng)
    for start in range(0, num_pairs, per_batch):
        wanted = min(per_batch, num_pairs - start) * num_samples
        index = torch.cat([next(order) for _ in range(wanted)])
        images, labels = proxy.pixels[index].float() / 255, proxy.labels[index]
        if augment:
            images = moved(images, rng)
        taps = tap(model, images, labels, modules)
        yield Batch(images, labels, {name: one.grouped(num_samples) for name, one in taps.items()})


def moved(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image turned, shifted and zoomed at random (bilinear, edges continued)."""
    n = len(images)
    turn, zoom = ((torch.rand(n, generator=rng) * 2 - 1) * size for size in (MAX_TURN, MAX_ZOOM))
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * 2 * MAX_SHIFT
    scale = 1 + zoom
    rows = torch.stack([scale * turn.cos(), -scale * turn.sin(), scale * turn.sin(), scale * turn.cos()], 1)
    affine = torch.cat([rows.reshape(n, 2, 2), shift[:, :, None]], 2)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _shuffled(proxy: Images, rng: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(len(proxy), generator=rng).split(1)
