"""The target as a pure function of the image and of the loss's gradient at the logits, for Jacobians.

The gradient of a weight is linear in the gradient at the logits: G(z) = sum_c delta_c dlogit_c/dW. Where delta is left
free, the softmax, whose probabilities flip the direction of the whole gradient, is no longer in the way, and neither a
label nor the loss's scale has to be known: the class with the negative delta is the label.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad, jvp, linearize, vjp, vmap

from bridge_core.inversion.problem import Problem
from bridge_core.models import head, logits

CHUNK = 128
"""Tangents pushed forward at once."""
TINY = 1e-30

AtLogits = Callable[[Tensor], Tensor]
"""Logits (1 x classes) -> a scalar."""


@dataclass(frozen=True)
class Linearised:
    """The derivative at one image as a linear map and its transpose, without a matrix."""

    forward: Callable[[Tensor], Float[Tensor, "m"]]
    """Change of an image -> change of the prediction."""
    backward: Callable[[Float[Tensor, "m"]], Tensor]
    """The transpose."""


class Prediction:
    """What one image leaves in all adapted modules, each module scaled by the norm of the target it is to meet.

    `problem` holds one secret. A prediction is a vector of m numbers: modules one after the other, rows first.
    """

    def __init__(self, problem: Problem) -> None:
        self.model = problem.model
        names = tuple(problem.targets)
        self.layers = {name: problem.model.get_submodule(name) for name in names}
        self.matrices = {name: None if problem.matrices is None else problem.matrices[name][0] for name in names}
        self.zeros = {name: torch.zeros_like(problem.targets[name][0]) for name in names}
        self.scale = {name: 1 / problem.targets[name][0].norm().clamp_min(TINY) for name in names}
        self.num_classes = head(problem.model).out_features

    def flat(self, parts: Mapping[str, Tensor]) -> Float[Tensor, "m"]:
        """Values by module (targets, their errors) in the order and scale of a prediction."""
        return torch.cat([(parts[name] * scale).flatten() for name, scale in self.scale.items()])

    def at(self, image: Float[Tensor, "c h w"], loss: AtLogits) -> Float[Tensor, "m"]:
        """Gradient of `loss` with respect to every factor at zero."""

        def value(factors: Mapping[str, Tensor], x: Tensor) -> Tensor:
            hooks = [
                layer.register_forward_hook(_adds(factors[name], self.matrices[name]))
                for name, layer in self.layers.items()
            ]
            try:
                return loss(logits(self.model, x[None]))
            finally:
                for hook in hooks:
                    hook.remove()

        return self.flat(grad(value)(self.zeros, image))

    def basis(self, image: Float[Tensor, "c h w"]) -> Float[Tensor, "classes m"]:
        """What each logit's gradient alone would leave."""
        directions = torch.eye(self.num_classes, dtype=image.dtype)
        return vmap(lambda delta: self.at(image, along(delta)), chunk_size=32)(directions)

    def pushed(
        self, image: Float[Tensor, "c h w"], loss: AtLogits, directions: Float[Tensor, "k c h w"]
    ) -> Float[Tensor, "k m"]:
        """Jacobian-vector products along every direction (forward mode, in chunks)."""
        return vmap(lambda d: jvp(lambda x: self.at(x, loss), (image,), (d,))[1], chunk_size=CHUNK)(directions)

    def linearised(self, image: Float[Tensor, "c h w"], loss: AtLogits) -> Linearised:
        """The derivative without a matrix: both maps reuse one trace."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node", UserWarning)
            forward: Callable[[Tensor], Tensor] = linearize(lambda x: self.at(x, loss), image)[1]
        backward: Callable[[Tensor], tuple[Tensor]] = vjp(lambda x: self.at(x, loss), image)[1]  # pyright: ignore[reportAssignmentType]
        return Linearised(forward, lambda cotangent: backward(cotangent)[0])


def along(delta: Float[Tensor, "classes"]) -> AtLogits:
    """The loss whose gradient at the logits is `delta`."""
    return lambda found: (found[0] * delta).sum()


def _adds(factor: Tensor, a: Tensor | None):
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if isinstance(module, nn.Conv2d):
            if a is None:
                return output + _convolve(module, x, factor)
            return output + nn.functional.conv2d(_convolve(module, x, a), factor[:, :, None, None])
        return output + nn.functional.linear(x if a is None else nn.functional.linear(x, a), factor)

    return hook


def _convolve(module: nn.Conv2d, x: Tensor, kernels: Tensor) -> Tensor:
    shaped = kernels.reshape(-1, module.in_channels, *module.kernel_size)
    return nn.functional.conv2d(x, shaped, None, module.stride, module.padding, module.dilation)
