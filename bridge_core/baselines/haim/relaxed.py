"""A ReLU whose slope is smooth: the attack differentiates the slope itself, which a ReLU has none of."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SHARP = 1e4
"""Sharpness where none is given."""


class RelaxedRelu(nn.Module):
    """ReLU forwards; backwards its slope is sigmoid(sharpness * z) (Haim et al., 2022, section 5)."""

    sharpness: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sharpness", torch.tensor(SHARP), persistent=False)

    def forward(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The value of ReLU with the slope of a softplus."""
        smooth = F.softplus(self.sharpness * z) / self.sharpness
        return smooth + (F.relu(z) - smooth).detach()


def relaxed(model: nn.Module) -> nn.Module:
    """A copy of `model` with every `nn.ReLU` relaxed; other activations are smooth already and stay."""
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.ReLU):
            parent, _, last = name.rpartition(".")
            setattr(twin.get_submodule(parent), last, RelaxedRelu())
    return twin


def sharpness_buffers(model: nn.Module) -> tuple[str, ...]:
    """Names of the sharpness of every relaxed ReLU, for `torch.func.functional_call`."""
    return tuple(f"{name}.sharpness" for name, module in model.named_modules() if isinstance(module, RelaxedRelu))
