"""The measurement as a pure function of the image, for Jacobians: the gradient with respect to a zero LoRA factor."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad, jvp, vmap
from torch.nn import functional as F

from bridge_core.inversion.problem import Problem
from bridge_core.models import logits

CHUNK = 128
"""Tangents pushed forward at once."""
TINY = 1e-30

Residual = Callable[[Tensor], Float[Tensor, "m"]]


def unit_prediction(problem: Problem) -> Residual:
    """A function: images (num_samples x channels x height x width) -> all modules' predictions, each of unit norm.

    `problem` holds one secret. Equal to `Problem.predict` up to the scale of each module.
    """
    layers = {name: problem.model.get_submodule(name) for name in problem.targets}
    matrices = {name: None if problem.matrices is None else problem.matrices[name][0] for name in layers}
    zeros = {name: torch.zeros_like(target[0]) for name, target in problem.targets.items()}

    def loss(factors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        hooks = [layer.register_forward_hook(_adds(factors[name], matrices[name])) for name, layer in layers.items()]
        try:
            return F.cross_entropy(logits(problem.model, images), problem.labels[0])
        finally:
            for hook in hooks:
                hook.remove()

    def predict(images: Tensor) -> Tensor:
        found = grad(loss)(zeros, images)
        return torch.cat([(g / g.norm().clamp_min(TINY)).flatten() for g in found.values()])

    return predict


def unit_target(problem: Problem) -> Float[Tensor, "m"]:
    """The only secret's targets in the order and scale of `unit_prediction`."""
    return torch.cat([(t[0] / t[0].norm().clamp_min(TINY)).flatten() for t in problem.targets.values()])


def pushed(predict: Residual, images: Tensor, directions: Float[Tensor, "k *image"]) -> Float[Tensor, "k m"]:
    """Jacobian-vector products of `predict` at `images` along every direction (forward mode, in chunks)."""

    def along(direction: Tensor) -> Tensor:
        return jvp(predict, (images,), (direction,))[1]

    return vmap(along, chunk_size=CHUNK)(directions)


def _adds(factor: Tensor, a: Tensor | None):
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if isinstance(module, nn.Conv2d):
            if a is None:
                return output + _convolve(module, x, factor)
            return output + F.conv2d(_convolve(module, x, a), factor[:, :, None, None])
        return output + F.linear(x if a is None else F.linear(x, a), factor)

    return hook


def _convolve(module: nn.Conv2d, x: Tensor, kernels: Tensor) -> Tensor:
    shaped = kernels.reshape(-1, module.in_channels, *module.kernel_size)
    return F.conv2d(x, shaped, None, module.stride, module.padding, module.dilation)
