"""Defences while the adapter is trained: how a step is taken."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import assert_never

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.augment import moved
from bridge_core.defence.private import PrivateSteps
from bridge_core.errors import Diverged
from bridge_core.models import logits
from bridge_core.seeding import generator

Take = Callable[[nn.Module, torch.optim.Optimizer, int], float]
"""Takes a step of the model by the optimiser, and returns the loss before it."""
Change = Callable[[list[nn.Parameter]], None]


def taker(defence: s.AnyDefence, recipe: s.Recipe, images: Tensor, labels: Tensor, seed: int) -> Take | None:
    """How `defence` takes a step on the images; None where steps are taken as ever."""
    rng = generator(seed, "defence", defence.kind)

    def loss(model: nn.Module, step: int, change: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        index = torch.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size) % len(labels)
        return F.cross_entropy(logits(model, change(images[index])), labels[index])

    match defence:
        case s.NoDefence() | s.Pruning() | s.Refactored() | s.Merged() | s.Int8():
            return None
        case s.DpSgd():
            return PrivateSteps(defence, recipe, images, labels, rng)
        case s.GradientNoise():
            return lambda model, optimiser, step: stepped(
                loss(model, step), optimiser, lambda parameters: _add_noise(parameters, defence.relative, rng)
            )
        case s.Clipping():
            return lambda model, optimiser, step: stepped(
                loss(model, step), optimiser, lambda parameters: _clip(parameters, defence.max_grad_norm)
            )
        case s.Augmentation():
            return lambda model, optimiser, step: stepped(loss(model, step, lambda x: moved(x, rng)), optimiser)
        case s.LoraDropout():

            def take(model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> float:
                with _dropout(model, defence.probability, seed * 100_003 + step):
                    return stepped(loss(model, step), optimiser)

            return take
        case _:
            assert_never(defence)


def stepped(loss: Tensor, optimiser: torch.optim.Optimizer, change: Change | None = None) -> float:
    """One step down `loss`; `change` may alter the gradients first. Raises `Diverged` where the loss is not finite."""
    if not torch.isfinite(loss):
        raise Diverged(f"the victim's loss became {float(loss.detach())}", "a finite loss", "lower the learning rate")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if change:
        change([p for group in optimiser.param_groups for p in group["params"] if p.grad is not None])
    optimiser.step()
    return float(loss.detach())


def _add_noise(parameters: list[nn.Parameter], relative: float, rng: torch.Generator) -> None:
    for p in parameters:
        assert p.grad is not None
        size = p.grad.square().mean().sqrt()
        p.grad = p.grad + relative * size * torch.randn(p.shape, generator=rng)


def _clip(parameters: list[nn.Parameter], max_norm: float) -> None:
    nn.utils.clip_grad_norm_(parameters, max_norm)


@contextmanager
def _dropout(model: nn.Module, probability: float, seed: int) -> Generator[None]:
    """The adapter's dropout at work, with a random state of its own; the base model's stays at rest."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.lora_A:
                module.lora_dropout[name] = nn.Dropout(probability).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
