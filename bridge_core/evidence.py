"""What a release says of the gradient once the optimiser is undone: the measurement M = G A^T of every module.

SGD (momentum m, T steps): B = -eta s c M with c = sum_t (1 - m^t) / (1 - m), exact for T = 1, first order beyond.
AdamW, first step: B = -eta g / (|g| + eps), g = s M, so |g| = eps u / (1 - u) with u = |B| / eta. Later steps keep
signs and relative sizes only; M is then known up to scale.

Standard errors of one step, as variances that add up (units of M):

    storage       ulp(B)^2 / 12 in the stored format, through the inverse of the step
    float32 step  AdamW alone: u is known to 7e-8 u, hence dg = eps du / (1 - u)^2
    float32 pass  (4e-7 rms(M))^2: the victim's forward and backward pass
    rounding of A |G_i|^2 mean(ulp(A)^2) / 12, with |G_i|^2 = mean_r(M_ir^2) / mean(A^2) as for a random A

Several steps: the linear model's own error is larger than any of these and is not covered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import assert_never

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.release import Factors, Release

PASS_ERROR = 4e-7
"""Relative to a module's rms. Measured, float32 against float64: 2.2e-7 (8x8 pixels) to 8e-7 (12 layers)."""
SATURATED = 3.0
"""1 - u below so many of its standard errors bounds the gradient from one side only."""
NUM_CALIBRATIONS = 4096


@dataclass(frozen=True)
class Evidence:
    """Measurements with their standard errors.

    Where AdamW's step is saturated (1 - u below three standard errors) only the sign and a lower bound are known: the
    value is near that bound, the error is the largest magnitude that float32 could tell, eps / (7e-8 s).
    """

    m: dict[str, Float[Tensor, "out rank"]]
    """M = G A^T of the mean gradient, with A as released."""
    error: dict[str, Float[Tensor, "out rank"]]
    """Standard error of each entry, in the units of `m`, above 0."""


@dataclass(frozen=True)
class Undone:
    """A step of the optimiser undone, in float64."""

    m: Float64[Tensor, "out rank"]
    error: Float64[Tensor, "out rank"]
    """What storage and the optimiser's own float32 arithmetic leave open."""


@dataclass(frozen=True)
class Calibration:
    """|B| / eta = numerator |g| / (denominator |g| + eps) (1 + noise), as float32 computes AdamW's first step."""

    numerator: float
    denominator: float
    noise: float
    """Relative standard deviation."""


def measurement_of(release: Release, recipe: s.Recipe) -> dict[str, Tensor]:
    """Measurements M (out x rank) of the mean gradient over the recipe's steps, by module.

    Raises `NotApplicable` where B was not zero before the first step.
    """
    return {name: undone.m.float() for name, undone in _undone(release, recipe).items()}


def evidence_of(release: Release, recipe: s.Recipe) -> Evidence:
    """Measurements as `measurement_of` gives them, with the standard error of each entry.

    The errors are those of one step (see above). After several SGD steps they are a lower bound; after several AdamW
    steps, which leave M without a scale, the error is the module's rms. Raises `NotApplicable` as `measurement_of`.
    """
    undone = _undone(release, recipe)
    errors = {name: _error(one, release.factors[name], release.dtype) for name, one in undone.items()}
    return Evidence({name: one.m.float() for name, one in undone.items()}, errors)


def through_adamw(m: Float[Tensor, "*n out rank"], optimiser: s.AdamW, scale: float) -> Float[Tensor, "*n out rank"]:
    """What `measurement_of` makes of one float32 AdamW step on a gradient that measures `m`: large entries are cut."""
    known = calibration(optimiser)
    size = (scale * m).abs().float()
    u = known.numerator * size / (known.denominator * size + optimiser.epsilon)
    found, _ = _adamw(u.double(), torch.zeros((), dtype=torch.float64), optimiser)
    return (m.sign() * found / scale).to(m.dtype)


def stacked(measurements: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One tensor a module, secrets in front."""
    return {name: torch.stack([one[name] for one in measurements]) for name in measurements[0]}


def spacing(values: Float[Tensor, "*shape"], dtype: torch.dtype) -> Float64[Tensor, "*shape"]:
    """Distance to the next number of format `dtype` at each value, in float64; subnormal numbers have the smallest."""
    kind = torch.finfo(dtype)
    magnitude = values.double().abs().clamp_min(kind.smallest_normal)
    return kind.eps * torch.exp2(torch.floor(torch.log2(magnitude)))


def calibration(optimiser: s.AdamW) -> Calibration:
    """What torch.optim.AdamW makes of known gradients: roundings of its constants shift u by as much as its noise."""
    return _calibration(optimiser.learning_rate, optimiser.beta1, optimiser.beta2, optimiser.epsilon)


@cache
def _calibration(learning_rate: float, beta1: float, beta2: float, epsilon: float) -> Calibration:
    def step(gradients: Tensor) -> Tensor:
        parameter = torch.nn.Parameter(torch.zeros_like(gradients))
        parameter.grad = gradients
        torch.optim.AdamW([parameter], learning_rate, (beta1, beta2), epsilon, 0.0).step()
        return -parameter.detach().double() / learning_rate

    mantissa = 1 + torch.rand(NUM_CALIBRATIONS, generator=torch.Generator().manual_seed(0))
    small, large = 1e-3 * mantissa, 1e10 * mantissa
    numerator = float((step(epsilon * small) * (1 + 1 / small.double())).mean())
    saturated = step(epsilon * large)
    return Calibration(numerator, numerator / float(saturated.mean()), float(saturated.std()))


def _undone(release: Release, recipe: s.Recipe) -> Mapping[str, Undone]:
    if not recipe.starts_at_zero:
        found = f"the adapter starts from init_lora_weights {recipe.lora.init_lora_weights}, where B is not zero"
        raise NotApplicable(found, "`default` or `gaussian`", "use the bridge `oracle`")
    return {name: _undo(one, release.dtype, recipe) for name, one in release.factors.items()}


def _undo(factors: Factors, dtype: torch.dtype, recipe: s.Recipe) -> Undone:
    b, scale, optimiser = factors.b.double(), factors.scale, recipe.optimiser
    rounding = spacing(b, dtype) / 12**0.5
    match optimiser:
        case s.Sgd():
            factor = optimiser.learning_rate * scale * _step_weight(optimiser.momentum, recipe.steps)
            return Undone(-b * _shrinkage(recipe) / factor, rounding * _shrinkage(recipe) / factor)
        case s.AdamW() if recipe.steps == 1:
            size, error = _adamw(b.abs() / optimiser.learning_rate, rounding / optimiser.learning_rate, optimiser)
            return Undone(-b.sign() * size * _shrinkage(recipe) / scale, error * _shrinkage(recipe) / scale)
        case s.AdamW():
            m = -b / (optimiser.learning_rate * recipe.steps)
            return Undone(m, m.square().mean().sqrt().expand_as(m))
        case _:
            assert_never(optimiser)


def _adamw(u: Tensor, rounding: Tensor, optimiser: s.AdamW) -> tuple[Tensor, Tensor]:
    """|g| of AdamW's first step and its standard error, from u = |B| / eta and the error of its storage."""
    known = calibration(optimiser)
    noise = (rounding.square() + (known.noise * u).square()).sqrt()
    gap = known.numerator - known.denominator * u
    error = optimiser.epsilon * noise / gap.square()
    largest = optimiser.epsilon / known.noise
    return optimiser.epsilon * u / torch.maximum(gap, noise), torch.where(gap < SATURATED * noise, largest, error)


def _shrinkage(recipe: s.Recipe) -> float:
    """Released A over the A of the first step: M is told for the released one."""
    decay = recipe.optimiser.learning_rate * recipe.optimiser.weight_decay
    return 1 - decay if recipe.steps == 1 else 1.0


def _step_weight(momentum: float, steps: int) -> float:
    return float(sum((1 - momentum**t) / (1 - momentum) for t in range(1, steps + 1)))


def _error(undone: Undone, factors: Factors, dtype: torch.dtype) -> Tensor:
    m = undone.m
    terms = [undone.error, PASS_ERROR * m.square().mean().sqrt().expand_as(m)]
    if dtype is not torch.float32:
        terms.append(_error_of_a(m, factors.a, dtype))
    total = torch.stack(terms).square().sum(0).sqrt()
    return total.clamp_min(torch.finfo(torch.float32).tiny).float()


def _error_of_a(m: Tensor, a: Tensor, dtype: torch.dtype) -> Tensor:
    """What rounding the released A adds: G (A - released A)^T, its rows as long as M says."""
    relative = (spacing(a, dtype).square().mean() / 12).sqrt() / a.double().square().mean().sqrt()
    # A row of few entries tells its length badly: one more entry, of the module's size, steadies it.
    rows = (m.square().sum(1, keepdim=True) + m.square().mean()) / (m.shape[1] + 1)
    return relative * rows.sqrt().expand_as(m)
