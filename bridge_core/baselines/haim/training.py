"""Training to where the equation holds: logistic loss far below what accuracy needs, or to rest under weight decay."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core.baselines.haim.stationarity import signs
from bridge_core.errors import Diverged
from bridge_core.models import logits

LARGE = 20.0
"""Margin from which log(1 + exp(-margin)) is exp(-margin) to float32's accuracy."""
ANNEALED = 0.98
"""Share of the rate that the last steps have lost: what would swing across the kinks of ReLUs comes to rest."""
Saved = Callable[[int, float], None]
"""Told after a step that is to be kept: its number, and the logarithm of the loss before it."""


def log_loss(model: nn.Module, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, "n"]) -> Float[Tensor, ""]:
    """Natural logarithm of the mean of log(1 + exp(-y f)), the cross-entropy of two classes; exact where that is 0."""
    found = logits(model, images)
    margins = signs(labels) * (found[:, 1] - found[:, 0])
    each = torch.where(margins > LARGE, -margins, F.softplus(-margins.clamp_max(LARGE)).log())
    return each.logsumexp(0) - math.log(len(labels))


def descend(
    parameters: list[nn.Parameter],
    logarithm: Callable[[], Tensor],
    keep: tuple[int, ...],
    kept: Saved,
    *,
    rate: float = 0.03,
    largest_step: float = 0.02,
) -> None:
    """Full-batch gradient descent on the logarithm of the loss, in place, for as many steps as the last of `keep`.

    Dividing the gradient by the loss keeps the pace as the loss falls, and the direction converges as gradient flow's
    (Lyu & Li, 2020): thousands of steps do what takes millions at a fixed rate. The pace falls as the margins grow,
    whose curvature grows with them, and a step is at most `largest_step` of the parameters' norm. Raises `Diverged`
    when the loss is no number.
    """
    for step in range(1, max(keep) + 1):
        value = logarithm()
        if not torch.isfinite(value):
            raise Diverged(f"the loss's logarithm became {value.item()}", "a finite number", "lower the rate")
        slopes = torch.autograd.grad(value, parameters)
        length, size = (_norm(tensors) for tensors in (slopes, parameters))
        rest = 1 - ANNEALED * step / max(keep)
        pace = min(rate * rest / max(1.0, -value.item()), largest_step * float(size / length.clamp_min(1e-30)))
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter -= pace * slope
        if step in keep:
            kept(step, value.item())


def shrunk(folder: Path, out: Path, base: nn.Module, factor: float) -> Path:
    """The adapter of `folder` with all factors scaled by `factor`, saved by PEFT into `out`: a small start."""
    model = PeftModel.from_pretrained(copy.deepcopy(base), str(folder))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter *= factor
    model.save_pretrained(str(out))
    return out


def train_adapter(
    base: nn.Module,
    adapter: Path,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, "n"],
    keep: tuple[int, ...],
    folder_of: Callable[[int], Path],
    *,
    rate: float = 0.03,
) -> dict[int, float]:
    """`descend` on a PEFT adapter, each step of `keep` saved as a release of its own; the loss's logarithm by step."""
    model = PeftModel.from_pretrained(copy.deepcopy(base), str(adapter), is_trainable=True)  # pyright: ignore[reportArgumentType]
    model.eval()
    losses: dict[int, float] = {}

    def kept(step: int, loss: float) -> None:
        model.save_pretrained(str(folder_of(step)))
        losses[step] = loss

    trained = [p for p in model.parameters() if p.requires_grad]
    descend(trained, lambda: log_loss(model, images, labels), keep, kept, rate=rate)
    return losses


def _norm(tensors: list[nn.Parameter] | tuple[Tensor, ...]) -> Tensor:
    return torch.stack([one.detach().square().sum() for one in tensors]).sum().sqrt()
