"""The recipe, guessed from the adapter alone.

    AdamW     every entry of B is of the order of T eta, in every module: |B| = eta |g| / (|g| + eps) in one step
    SGD       entries of B spread over decades, modules over factors
    one step  under AdamW, max |B| is the learning rate itself, a round number, to the last bits
    A moved   PEFT's default A is uniform on +-1/sqrt(in): entries beyond that tell of more than one step

Told on small models: the kind, and AdamW's learning rate after one step stored in float32. Several AdamW steps tell
learning rate times steps to some percent, and the two factors at times: A's motion is seen at its largest entries only.
What can not be told: SGD's learning rate (`estimate_learning_rate` compares with proxy data), its number of steps where
A stays in range, momentum, weight decay, AdamW's epsilon and betas, and the number of samples.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median, stdev

import torch
from jaxtyping import Float
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.evidence import spacing
from bridge_core.release import Release

EVENNESS = 0.14
"""Between SGD (at most 0.10) and AdamW (at least 0.27), on small models, 1 to 40 steps of 1 to 8 images."""
NEAR, MIN_SHARE = 1e-3, 0.2
"""One AdamW step saturates: this share of B, at least, lies within NEAR of the largest entry."""
FLOAT32_STEP = 1e-6
"""AdamW's own rounding of its first step, relative."""
LOOSE = 0.05
"""How far max |B| may lie from T times the learning rate over several steps."""
MANTISSAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
COMMON_MANTISSAS = (1.0, 2.0, 3.0, 5.0)
MAX_STEPS = 200
RANK_FLOOR = 8.0
"""Singular values below so many units in the last place of the largest one are rounding."""
SAVED = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
INITS = {"True": "default", "gaussian": "gaussian"}


@dataclass(frozen=True)
class Guess:
    """A recipe, why, and whether undoing it gives the measurement up to one factor a module."""

    recipe: s.Recipe
    """Knobs that can not be told have the spec's defaults."""
    reasons: tuple[str, ...]
    trusted: bool


@dataclass(frozen=True)
class Rank:
    """Numerical rank of B."""

    rank: int
    gap: float
    """Last singular value that counts over the next one, or over rounding where there is none."""


@dataclass(frozen=True)
class RateEstimate:
    """A learning rate told from norms."""

    learning_rate: float
    spread: float
    """Standard deviation of its logarithm over the modules; NaN for one module."""


@dataclass(frozen=True)
class Signs:
    """What B and A show of the optimiser."""

    top: float
    """max |B|."""
    share: float
    """Share of the non-zero entries of B within NEAR of `top`."""
    evenness: float
    """Median over modules of max |B| / top, times the median of |B| / max |B| in a module: near 1 for AdamW."""
    excess: float | None
    """How far A leaves the range of PEFT's default; None where A was initialised otherwise."""
    resolution: float
    """Spacing of the stored format at `top`, relative."""


def guessed_recipe(release: Release, num_samples: int) -> s.Recipe:
    """The recipe that `guess_recipe` suggests, with all of the `num_samples` samples in every step."""
    return guess_recipe(release).recipe.model_copy(update={"num_samples": num_samples, "batch_size": num_samples})


def guess_recipe(release: Release) -> Guess:
    """The recipe that the adapter alone suggests; `num_samples` is left at 1.

    Raises `NotApplicable` where B is zero: nothing was trained.
    """
    signs = _signs(release)
    notes = (f"stored as {SAVED.get(release.dtype, str(release.dtype))}", *_about_start(release))
    if signs.evenness < EVENNESS:
        return _sgd(release, signs, notes)
    exact = _nearest_round(signs.top)
    off = abs(signs.top / exact - 1)
    at_exact = off <= FLOAT32_STEP + signs.resolution / 2 and signs.share >= MIN_SHARE
    if at_exact and not (signs.excess or 0) > 0:
        return _one_adamw_step(release, signs, exact, notes)
    return _several_adamw_steps(release, signs, notes)


def numerical_rank(b: Float[Tensor, "out rank"], dtype: torch.dtype = torch.float32) -> Rank:
    """Rank of B as stored in `dtype`: after linear training at most the number of inputs seen (tokens or patches)."""
    values = torch.linalg.svdvals(b.double())
    floor = float(values[0]) * RANK_FLOOR * torch.finfo(dtype).eps
    rank = int((values > floor).sum())
    if not rank:
        return Rank(0, math.nan)
    following = float(values[rank]) if rank < len(values) else 0.0
    return Rank(rank, float(values[rank - 1]) / max(following, floor / RANK_FLOOR))


def estimate_learning_rate(
    b_norms: Mapping[str, float], proxy_norms: Mapping[str, float], scale: Mapping[str, float]
) -> RateEstimate:
    """SGD's eta times its number of steps: median over modules of |B| / (s mean |M|), M those of proxy images.

    The direction of M does not tell the rate, and a base model fits its own proxy data better than a secret: then the
    rate comes out too large. Raises `NotApplicable` where no module has both norms above zero.
    """
    rates = [b / (scale[n] * proxy_norms[n]) for n, b in b_norms.items() if b > 0 and proxy_norms[n] > 0]
    if not rates:
        raise NotApplicable("norms of B or of proxy measurements that are all zero", "a trained adapter")
    spread = stdev([math.log(rate) for rate in rates]) if len(rates) > 1 else math.nan
    return RateEstimate(median(rates), spread)


def _signs(release: Release) -> Signs:
    entries = [b[b > 0] for one in release.factors.values() if (b := one.b.double().abs()).any()]
    if not entries:
        raise NotApplicable("an adapter whose B is zero", "a trained adapter", "name another folder")
    tops = [float(b.max()) for b in entries]
    pooled, top = torch.cat(entries), max(tops)
    inside = median(float(b.median() / b.max()) for b in entries)
    share = float((pooled > top * (1 - NEAR)).double().mean())
    resolution = float(spacing(pooled.max(), release.dtype)) / top
    return Signs(top, share, median(tops) / top * inside, _excess(release), resolution)


def _excess(release: Release) -> float | None:
    if _initialisation(release) != "True":
        return None
    beyond = [float(one.a.abs().max()) - one.a.shape[1] ** -0.5 for one in release.factors.values()]
    rounding = [float(spacing(one.a.abs().max(), release.dtype)) for one in release.factors.values()]
    return max(far - near for far, near in zip(beyond, rounding, strict=True))


def _about_start(release: Release) -> tuple[str, ...]:
    init = _initialisation(release)
    return () if init in INITS else (f"init_lora_weights is {init[:40]}: B may not have started at zero",)


def _initialisation(release: Release) -> str:
    return str(release.config.get("init_lora_weights", True))


def _recipe(release: Release, optimiser: s.Optimiser, steps: int) -> s.Recipe:
    config = release.config
    init = INITS.get(_initialisation(release), "default")
    alpha = float(config.get("lora_alpha", 16.0))
    lora = s.Lora.model_validate(
        {"alpha": alpha, "use_rslora": bool(config.get("use_rslora")), "init_lora_weights": init}
    )
    saved = SAVED.get(release.dtype, "float32")
    return s.Recipe.model_validate({"optimiser": optimiser, "steps": steps, "lora": lora, "save_dtype": saved})


def _sgd(release: Release, signs: Signs, notes: tuple[str, ...]) -> Guess:
    ranks = [numerical_rank(one.b, release.dtype).rank for one in release.factors.values()]
    reasons = (
        *notes,
        f"evenness of B is {signs.evenness:.2g}, below {EVENNESS}: its entries keep the gradient's sizes, as under SGD",
        f"rank of B is {min(ranks)} to {max(ranks)}: at least so many inputs were seen",
        "the learning rate only scales B: it is left at the default, and does not matter to a unit norm per module",
        _about_motion(signs),
    )
    moved = (signs.excess or 0) > 0
    return Guess(_recipe(release, s.Sgd(), 2 if moved else 1), reasons, trusted=False)


def _about_motion(signs: Signs) -> str:
    if signs.excess is None:
        return "A does not start from a bounded range: the number of steps can not be told"
    if signs.excess > 0:
        return f"A leaves its initial range by {signs.excess:.2g}: it has moved, so there was more than one step"
    return "A lies in its initial range: one step, or several that moved it little"


def _one_adamw_step(release: Release, signs: Signs, rate: float, notes: tuple[str, ...]) -> Guess:
    coarse = release.dtype is not torch.float32
    known_start = _initialisation(release) in INITS
    reasons = (
        *notes,
        f"max |B| is {signs.top:.9g}, the round number {rate:g} to the resolution of AdamW's first step",
        f"{signs.share:.0%} of B lies within {NEAR:g} of it: saturated entries of one step",
        _about_motion(signs),
        "epsilon is taken to be torch's: another one only scales the measurement",
        *(("the stored format is too coarse to tell it from a few steps at less",) if coarse else ()),
    )
    return Guess(_recipe(release, s.AdamW(learning_rate=rate), 1), reasons, known_start and not coarse)


def _several_adamw_steps(release: Release, signs: Signs, notes: tuple[str, ...]) -> Guess:
    rate, steps = _rate_and_steps(signs)
    reasons = (
        *notes,
        f"evenness of B is {signs.evenness:.2g}, above {EVENNESS}: its entries have one size, as under AdamW",
        f"max |B| is {signs.top:.6g}, about learning rate times steps: the product is known better than its factors",
        _about_motion(signs),
    )
    return Guess(_recipe(release, s.AdamW(learning_rate=rate), steps), reasons, trusted=False)


def _rate_and_steps(signs: Signs) -> tuple[float, int]:
    """Among round rates whose multiple is max |B|, the one whose number of steps fits the motion of A."""
    motion = (signs.excess or 0.0) / signs.top
    first = 1 if motion <= 0 else 2
    fits = [
        (abs(_motion(steps) - motion), rate, steps)
        for rate in _round_numbers(signs.top / MAX_STEPS, signs.top * 1.5, COMMON_MANTISSAS)
        if (steps := round(signs.top / rate)) >= first and abs(signs.top / (steps * rate) - 1) < LOOSE
    ]
    _, rate, steps = min(fits, default=(0.0, signs.top / first, first))
    return rate, steps


def _motion(steps: int, beta1: float = 0.9, beta2: float = 0.999) -> float:
    """How far AdamW moves A, over how far it moves B, where B's gradient is constant and A's grows with B."""
    first = second = a = 0.0
    for count in range(1, steps + 1):
        gradient = count - 1
        first += (1 - beta1) * (gradient - first)
        second += (1 - beta2) * (gradient**2 - second)
        if second > 0:
            a += first / (1 - beta1**count) / math.sqrt(second / (1 - beta2**count))
    return a / steps


def _nearest_round(value: float) -> float:
    return min(_round_numbers(value / 2, value * 2, MANTISSAS), key=lambda one: abs(math.log(value / one)))


def _round_numbers(low: float, high: float, mantissas: tuple[float, ...]) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    numbers = [float(f"{mantissa}e{decade}") for decade in decades for mantissa in mantissas]
    return [one for one in numbers if low <= one <= high]
