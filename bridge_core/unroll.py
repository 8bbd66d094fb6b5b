"""A recipe as a pure function of the images: what training would leave in the adapter, for Jacobians.

    images -> gradients of (A_0, B_0 = 0) -> optimiser -> (A_1, B_1) -> ... -> (A_T, B_T)

Every step is one forward and one backward pass of `torch.func.grad`, with the adapter as a hook's
`output + s B (A x)`; nothing is written in place and no branch looks at values, so that jvp, vjp and vmap go through.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, NotApplicable
from bridge_core.gradients import weight_matrix
from bridge_core.models import logits

Factors = tuple[dict[str, Tensor], dict[str, Tensor]]
"""A (rank x in) and B (out x rank), by module."""
Unrolled = Callable[[Tensor], Factors]

Key = tuple[str, str]
Weights = dict[Key, Tensor]
"""All factors in one dict: ("a" or "b", module) -> factor."""


@dataclass(frozen=True)
class Training:
    """Factors and the optimiser's memory between two steps."""

    weights: Weights
    first: Weights
    """SGD's momentum, AdamW's mean of the gradient."""
    second: Weights
    """AdamW's mean of the squared gradient; zeros under SGD."""


@dataclass(frozen=True)
class InitialA:
    """Initial first factors from which the simulated recipe ends at the released ones."""

    a: dict[str, Tensor]
    """A_0 (rank x in), by module."""
    residual: dict[str, float]
    """|A_T(A_0) - released A| / |released A| after the last round, by module."""


def unrolled(
    model: nn.Module,
    a0: Mapping[str, Float[Tensor, "rank in"]],
    labels: Int64[Tensor, "n"],
    recipe: s.Recipe,
    scale: Mapping[str, float],
) -> Unrolled:
    """A function: images (n x channels x height x width, in [0, 1]) -> final (A, B) of the recipe, by module.

    Equal to `victim.train_victim` up to rounding, before the weights are saved; `scale` is s of W0 + s B A. Images,
    `model` and the result have one number format. Differentiable in the images by `torch.func`; a forward-mode product
    costs about two steps' time a step and no memory of the steps before, a reverse-mode one keeps all steps.
    Raises `NotApplicable` where B does not start at zero, `InvalidInput` where `labels` are not `num_samples`.
    """
    _check(recipe, len(labels))
    layers = {name: model.get_submodule(name) for name in a0}
    rows = {name: weight_matrix(layer)[0] for name, layer in layers.items()}
    descend = grad(_loss(model, layers, scale))

    def run(images: Tensor) -> Factors:
        training = _fresh({name: a.to(images) for name, a in a0.items()}, rows)
        for step in range(recipe.steps):
            index = _batch_index(recipe, step)
            gradients = descend(training.weights, images[index], labels[index])
            training = _stepped(recipe.optimiser, training, gradients, step + 1)
        return tuple({name: training.weights[part, name] for name in a0} for part in "ab")  # pyright: ignore[reportReturnType]

    return run


def initial_a(
    model: nn.Module,
    released: Mapping[str, Float[Tensor, "rank in"]],
    images: Float[Tensor, "n channels height width"],
    labels: Int64[Tensor, "n"],
    recipe: s.Recipe,
    scale: Mapping[str, float],
    *,
    rounds: int = 3,
) -> InitialA:
    """A_0 = A_T - (what the simulated recipe adds to A), by fixed-point iteration from a guess of the images.

    Under SGD the motion of A is of second order in the learning rate, since B = 0 at the start: a round gains about
    that factor. Under AdamW A moves by up to the learning rate in every step after the first, and the rounds may never
    settle. A small residual says that they have, not that the images are right.
    """
    decay = (1 - recipe.optimiser.learning_rate * recipe.optimiser.weight_decay) ** recipe.steps
    a = {name: one.to(images) / decay for name, one in released.items()}
    missing = _missing(model, a, released, images, labels, recipe, scale)
    for _ in range(rounds):
        a = {name: one + missing[name] / decay for name, one in a.items()}
        missing = _missing(model, a, released, images, labels, recipe, scale)
    return InitialA(a, {name: float(one.norm() / released[name].norm()) for name, one in missing.items()})


def _missing(
    model: nn.Module,
    a: Mapping[str, Tensor],
    released: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    recipe: s.Recipe,
    scale: Mapping[str, float],
) -> dict[str, Tensor]:
    final, _ = unrolled(model, a, labels, recipe, scale)(images)
    return {name: (released[name].to(images) - one).detach() for name, one in final.items()}


def _check(recipe: s.Recipe, num_labels: int) -> None:
    if not recipe.starts_at_zero:
        found = f"the adapter starts from init_lora_weights {recipe.lora.init_lora_weights}, where B is not zero"
        raise NotApplicable(found, "`default` or `gaussian`", "simulate another recipe")
    if num_labels != recipe.num_samples:
        raise InvalidInput(f"{num_labels} labels", f"the recipe's num_samples, {recipe.num_samples}")


def _batch_index(recipe: s.Recipe, step: int) -> Int64[Tensor, "batch"]:
    return torch.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size) % recipe.num_samples


def _fresh(a0: Mapping[str, Tensor], rows: Mapping[str, int]) -> Training:
    weights: Weights = {("a", name): a for name, a in a0.items()}
    weights |= {("b", name): a.new_zeros(rows[name], len(a)) for name, a in a0.items()}
    nothing = {key: torch.zeros_like(one) for key, one in weights.items()}
    return Training(weights, nothing, nothing)


def _loss(
    model: nn.Module, layers: Mapping[str, nn.Module], scale: Mapping[str, float]
) -> Callable[[Weights, Tensor, Tensor], Tensor]:
    def loss(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
        hooks = [
            layer.register_forward_hook(_adds(weights["a", name], weights["b", name], scale[name]))
            for name, layer in layers.items()
        ]
        try:
            return F.cross_entropy(logits(model, images), labels)
        finally:
            for hook in hooks:
                hook.remove()

    return loss


def _adds(a: Tensor, b: Tensor, scale: float):
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if isinstance(module, nn.Conv2d):
            kernels = a.reshape(-1, module.in_channels, *module.kernel_size)
            hidden = F.conv2d(x, kernels, None, module.stride, module.padding, module.dilation)
            return output + scale * F.conv2d(hidden, b[:, :, None, None])
        return output + scale * F.linear(F.linear(x, a), b)

    return hook


def _stepped(optimiser: s.Optimiser, before: Training, gradients: Weights, count: int) -> Training:
    """The `count`-th step (from 1) of torch.optim's update."""
    match optimiser:
        case s.Sgd():
            return _sgd(optimiser, before, gradients)
        case s.AdamW():
            return _adamw(optimiser, before, gradients, count)
        case _:
            assert_never(optimiser)


def _sgd(knobs: s.Sgd, before: Training, gradients: Weights) -> Training:
    first = {
        key: knobs.momentum * before.first[key] + (g + knobs.weight_decay * before.weights[key])
        for key, g in gradients.items()
    }
    weights = {key: one - knobs.learning_rate * first[key] for key, one in before.weights.items()}
    return Training(weights, first, before.second)


def _adamw(knobs: s.AdamW, before: Training, gradients: Weights, count: int) -> Training:
    size = knobs.learning_rate / (1 - knobs.beta1**count)
    spread = (1 - knobs.beta2**count) ** 0.5
    first = {key: before.first[key] + (1 - knobs.beta1) * (g - before.first[key]) for key, g in gradients.items()}
    second = {key: knobs.beta2 * before.second[key] + (1 - knobs.beta2) * g * g for key, g in gradients.items()}
    weights = {
        key: (1 - knobs.learning_rate * knobs.weight_decay) * one
        - size * first[key] / (_root(second[key]) / spread + knobs.epsilon)
        for key, one in before.weights.items()
    }
    return Training(weights, first, second)


def _root(square: Tensor) -> Tensor:
    """The square root, of slope zero at zero: A's first gradient is exactly zero, and 0 times infinity is NaN."""
    return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()
