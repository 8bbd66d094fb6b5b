"""Streamed proxy pairs: simulated single-step updates, never all held at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.augment import Labelled, broad, mislabelled, moved
from bridge_core.data import Images
from bridge_core.errors import InvalidInput
from bridge_core.gradients import Tap, tap
from bridge_core.models import head

BATCH_IMAGES = 128


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
    augment: s.Augment = "poses",
) -> Iterator[Batch]:
    """Yield `num_pairs` simulated single-step updates of `num_samples` proxy images each, in batches.

    Every proxy image is used once, in random order, before any is used again. With `poses` each is shown in a pose of
    its own: gradients of images that the base model was trained on are unlike those of a secret. `broad` is for secrets
    unlike the proxy (`augment.broad`). Memory is that of one batch. Raises `InvalidInput` where
    there is no proxy image.
    """
    if not len(proxy):
        raise InvalidInput("a proxy part with no image", "at least one", "name a larger proxy source")
    per_batch = max(1, BATCH_IMAGES // num_samples)
    order = _shuffled(proxy, rng)
    for start in range(0, num_pairs, per_batch):
        wanted = min(per_batch, num_pairs - start) * num_samples
        index = torch.cat([next(order) for _ in range(wanted)])
        drawn = Labelled(proxy.pixels[index].float() / 255, proxy.labels[index])
        shown = _augmented(drawn, augment, head(model).out_features, rng)
        taps = tap(model, shown.images, shown.labels, modules)
        yield Batch(shown.images, shown.labels, {name: one.grouped(num_samples) for name, one in taps.items()})


def _augmented(batch: Labelled, augment: s.Augment, num_classes: int, rng: torch.Generator) -> Labelled:
    match augment:
        case "none":
            return batch
        case "labels":
            return mislabelled(batch, num_classes, rng)
        case "poses":
            return Labelled(moved(batch.images, rng), batch.labels)
        case "broad":
            return broad(batch, num_classes, rng)
        case _:
            assert_never(augment)


def _shuffled(proxy: Images, rng: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(len(proxy), generator=rng).split(1)
