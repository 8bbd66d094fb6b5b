"""What an adapter is good for: loss and accuracy of the published folder on private images that nobody trained on."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F

from bridge_core.data import Images
from bridge_core.models import logits

MOST, LEAST = 256, 16
"""Held-out images that are looked at, and below which nothing is measured."""


@dataclass(frozen=True)
class Utility:
    """On held-out images of the victim's own task."""

    loss: float
    """Mean cross entropy, nats."""
    accuracy: float
    """Share of labels that are right."""


def utility(model: nn.Module, heldout: Images) -> Utility:
    """Loss and accuracy of `model`, base or adapted."""
    with torch.no_grad():
        found = torch.cat([logits(model, pixels.float() / 255) for pixels in heldout.pixels.split(128)])
    return Utility(
        float(F.cross_entropy(found, heldout.labels)), float((found.argmax(1) == heldout.labels).double().mean())
    )


def adapted(base: nn.Module, folder: Path) -> nn.Module:
    """A copy of `base` with the adapter of `folder`, as whoever downloads it has it."""
    return PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).eval()  # pyright: ignore[reportArgumentType]
