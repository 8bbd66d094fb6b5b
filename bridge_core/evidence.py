"""What a release says of the gradient once the optimiser is undone: the measurement M = G A^T of every module.

SGD (momentum m, T steps): B = -eta s c M with c = sum_t (1 - m^t) / (1 - m), exact for T = 1, first order beyond.
AdamW, first step: B = -eta g / (|g| + eps), g = s M, so |g| = eps u / (1 - u) with u = |B| / eta. Later steps keep
signs and relative sizes only; M is then known up to scale.
"""

from typing import assert_never

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.release import Release

SMALLEST_GAP = 2.0**-24
"""1 - u below float32's resolution carries nothing: u is held this far from 1."""


def measurement_of(release: Release, recipe: s.Recipe) -> dict[str, Tensor]:
    """Measurements M (out x rank) of the mean gradient over the recipe's steps, by module.

    Raises `NotApplicable` where B was not zero before the first step.
    """
    if not recipe.starts_at_zero:
        found = f"the adapter starts from init_lora_weights {recipe.lora.init_lora_weights}, where B is not zero"
        raise NotApplicable(found, "`default` or `gaussian`", "use the bridge `oracle`")
    return {name: _undo(one.b, one.scale, recipe) for name, one in release.factors.items()}


def _undo(b: Tensor, scale: float, recipe: s.Recipe) -> Tensor:
    optimiser = recipe.optimiser
    match optimiser:
        case s.Sgd():
            return -b / (optimiser.learning_rate * scale * _step_weight(optimiser.momentum, recipe.steps))
        case s.AdamW() if recipe.steps == 1:
            u = (b.double().abs() / optimiser.learning_rate).clamp(max=1 - SMALLEST_GAP)
            return (-b.sign() * (optimiser.epsilon * u / (1 - u)) / scale).float()
        case s.AdamW():
            return -b / (optimiser.learning_rate * recipe.steps)
        case _:
            assert_never(optimiser)


def _step_weight(momentum: float, steps: int) -> float:
    return float(sum((1 - momentum**t) / (1 - momentum) for t in range(1, steps + 1)))


def stacked(measurements: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One tensor a module, secrets in front."""
    return {name: torch.stack([one[name] for one in measurements]) for name in measurements[0]}
