"""What a defence leaves uncertain of a measurement, for an attacker who knows it: standard errors in the units of M.

The attacker is told the defence with its knobs (Kerckhoffs), and weighs what is left by these. Of several steps the
noise is taken to average out. They are first-order estimates: an attack weighed by them can be wrong, never blind.
"""

from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core import spec as s
from bridge_core.defence.release import DTYPES, LEVELS
from bridge_core.release import Factors

UNIFORM = 12**-0.5
"""Standard deviation of a rounding, in steps."""


def added_error(
    defence: s.AnyDefence, recipe: s.Recipe, m: Float[Tensor, "out rank"], factors: Factors
) -> Float[Tensor, "out rank"]:
    """Standard error that `defence` adds to the measurement `m` of one module."""
    rms, steps = m.square().mean().sqrt(), recipe.steps**0.5
    match defence:
        case s.NoDefence() | s.Clipping() | s.Augmentation():
            return torch.zeros_like(m)
        case s.GradientNoise():
            return (defence.relative * rms / steps).expand_as(m)
        case s.LoraDropout():
            return (rms * (defence.probability / (1 - defence.probability)) ** 0.5 / steps).expand_as(m)
        case s.DpSgd():
            return _of_noise(defence, recipe, m, factors)
        case s.Pruning():
            kept = m.abs()[m != 0]
            bound = kept.min() if len(kept) else rms
            return torch.where(m == 0, bound / 3**0.5, torch.zeros_like(m))
        case s.Refactored():
            return (rms * _tilt(factors)).expand_as(m)
        case s.Merged():
            return (rms * _tilt(factors)).expand_as(m) + _rows(m, factors) * _lost(defence, m, factors)
        case s.Int8():
            of_b = m.abs().amax(1, keepdim=True) / LEVELS * UNIFORM
            of_a = _rows(m, factors) * factors.a.abs().max() / LEVELS * UNIFORM
            return (of_b.square() + of_a.square()).sqrt().expand_as(m)
        case _:
            assert_never(defence)


def _of_noise(defence: s.DpSgd, recipe: s.Recipe, m: Tensor, factors: Factors) -> Tensor:
    """Of B's noise, s M off by sigma C / batch a step; and of A's, which moves A off the one that measured."""
    noise = defence.noise_multiplier * defence.max_grad_norm / recipe.batch_size
    of_b = noise / factors.scale / recipe.steps**0.5
    moved = recipe.optimiser.learning_rate * noise * recipe.steps**0.5
    return (of_b**2 + (_rows(m, factors) * moved).square()).sqrt().expand_as(m)


def _rows(m: Tensor, factors: Factors) -> Float[Tensor, "out 1"]:
    """|G_i| of every row, as long as M says of a random A."""
    return (m.square().mean(1, keepdim=True) / factors.a.square().mean()).sqrt()


def _tilt(factors: Factors) -> float:
    """How far A0's own rows are from orthonormal ones, which V^T takes them for."""
    rank, width = factors.a.shape
    return ((rank + 1) / width) ** 0.5


def _lost(defence: s.Merged, m: Tensor, factors: Factors) -> float:
    """A guess: the format's resolution over the change, taken for a thousandth of the weight."""
    return torch.finfo(DTYPES[defence.save_dtype]).eps * 1e3 * UNIFORM / factors.a.shape[1] ** 0.5
