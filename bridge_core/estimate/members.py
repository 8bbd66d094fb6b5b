"""The adapters of a zoo: real PEFT folders, trained on micro-datasets of known size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.data import Images
from bridge_core.errors import InvalidInput
from bridge_core.models import logits
from bridge_core.seeding import generator
from bridge_core.victim import batch_index, fine_tune, fresh_adapter

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Member:
    """One adapter of a zoo."""

    folder: str
    group: int
    """Micro-dataset."""
    size: int


def recipe_for(recipe: s.Recipe, size: int, *, full_batch: bool) -> s.Recipe:
    """The zoo's recipe on `size` samples; a batch is all of them, or the recipe's own, at most all."""
    batch = size if full_batch else min(recipe.batch_size, size)
    return recipe.model_copy(update={"num_samples": size, "batch_size": batch})


def micro_datasets(images: Images, num_groups: int, size: int, seed: int) -> list[Images]:
    """Groups of `size` images, none in two of them. Raises `InvalidInput` where there are too few."""
    if num_groups * size > len(images):
        remedy = "lower the number of micro-datasets or the largest size, or name a larger source"
        raise InvalidInput(f"{len(images)} images", f"{num_groups * size} (micro-datasets x largest size)", remedy)
    order = torch.randperm(len(images), generator=generator(seed, "micro-datasets"))
    return [images[index] for index in order[: num_groups * size].reshape(num_groups, size)]


def train_members(
    model: nn.Module,
    spec: s.ZooMembersPhase,
    groups: Iterable[tuple[int, Images]],
    out: Path,
    told: Told = lambda done, total: None,
) -> list[Member]:
    """Train an adapter on the first n images of each group, for every size n; each has an A of its own."""
    endings = spec.recipe.lora.target_modules or spec.model.target_modules
    listed = list(groups)
    made: list[Member] = []
    for group, images in listed:
        pixels = images.pixels.float() / 255
        for size in spec.sizes:
            recipe = recipe_for(spec.recipe, size, full_batch=spec.full_batch)
            name = f"{group:04d}-{size:04d}"
            seed = int(torch.randint(2**31 - 1, (1,), generator=generator(spec.seed, "zoo", name)))
            fresh_adapter(model, endings, spec.rank, recipe.lora, seed, out / name)
            fine_tune(model, out / name, _loss(pixels, images.labels, recipe), recipe, out / name, sealed=())
            made.append(Member(name, group, size))
            told(len(made), len(listed) * len(spec.sizes))
    return made


def _loss(pixels: Tensor, labels: Tensor, recipe: s.Recipe) -> Callable[[nn.Module, int], Tensor]:
    def loss_at(model: nn.Module, step: int) -> Tensor:
        index = batch_index(recipe, step, recipe.num_samples)
        return F.cross_entropy(logits(model, pixels[index]), labels[index])

    return loss_at
