"""Small models, images and adapters that the tests of the core share."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.data import Images, load_images, proxy_part
from bridge_core.errors import BridgeError
from bridge_core.models import Shape, adapted_modules, build
from bridge_core.seeding import generator
from bridge_core.victim import Secret, fresh_adapter, train_victim

VIT = s.Vit(depth=2, width=16, heads=2, patch=4)
CONVNET = s.ConvNet(width=4)
RESNET = s.ResNet18(width=4)
MODELS: dict[str, s.Model] = {"vit": VIT, "convnet": CONVNET, "resnet18": RESNET}
SHAPES = {"vit": Shape(1, 8, 10), "convnet": Shape(1, 8, 10), "resnet18": Shape(1, 16, 10)}


def network(kind: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A built-in model with random weights that ask for no gradient."""
    return build(MODELS[kind], SHAPES[kind], seed=3).to(dtype).requires_grad_(False)


def modules_of(kind: str, model: nn.Module) -> tuple[str, ...]:
    """The modules that carry LoRA."""
    knobs = MODELS[kind]
    return adapted_modules(model, knobs.target_modules)


def pictures(kind: str, count: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random images of the model's shape, and labels."""
    shape, rng = SHAPES[kind], generator(seed, "pictures")
    images = torch.rand(count, shape.channels, shape.image_size, shape.image_size, generator=rng, dtype=torch.float64)
    return images.to(dtype), torch.randint(shape.num_classes, (count,), generator=rng)


@cache
def digits() -> Images:
    """scikit-learn's digits."""
    return load_images(s.Digits(), 8, 1)


@cache
def proxy_digits() -> Images:
    """Their public part."""
    return proxy_part(digits())


def adapter(kind: str, model: nn.Module, folder: Path, rank: int = 3, lora: s.Lora | None = None) -> Path:
    """A fresh PEFT adapter on disk."""
    fresh_adapter(model, MODELS[kind].target_modules, rank, lora or s.Lora(), 5, folder)
    return folder


def victim(kind: str, folder: Path, recipe: s.Recipe, *, rank: int = 3) -> tuple[nn.Module, Secret]:
    """A victim on random pictures: its base model and its secret; `folder` holds `fresh` and `release`."""
    model = network(kind)
    fresh = adapter(kind, model, folder / "fresh", rank, recipe.lora)
    images, labels = pictures(kind, recipe.num_samples)
    return model, train_victim(model, fresh, images, labels, recipe, folder / "release")


def is_one_line(error: BridgeError, *words: str) -> bool:
    """True where the message is a single line that holds every word."""
    return "\n" not in str(error) and all(word in str(error) for word in words)


def no_progress(step: int, total: int, **metrics: float) -> None:
    """A listener that does not listen."""
