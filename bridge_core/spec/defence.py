"""Defences: what the publisher of an adapter does so that it tells less. The attacker is told which one it was."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bridge_core.spec.base import Axis, kind_alone


class NoDefence(Axis):
    """The recipe as it is."""

    kind: Literal["none"] = "none"


class DpSgd(Axis):
    """DP-SGD (Abadi et al., CCS 2016) by `opacus`: each sample's gradient is clipped, their sum gets Gaussian noise.

    Batches below the whole training set are Poisson samples. The guarantee is for one added or removed sample.
    """

    kind: Literal["dp_sgd"] = "dp_sgd"
    noise_multiplier: float = Field(default=1.0, gt=0)
    """Standard deviation of the noise on the sum, in units of `max_grad_norm`."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Norm over all factors to which a sample's gradient is cut."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Chance for which the epsilon that is told need not hold."""
    accountant: Literal["rdp", "prv"] = "rdp"
    """Of opacus: Rényi DP, or the tighter privacy random variables."""


class GradientNoise(Axis):
    """Gaussian noise on every step's gradient, relative to its size. It proves nothing: no sample is clipped."""

    kind: Literal["gradient_noise"] = "gradient_noise"
    relative: float = Field(default=0.1, gt=0)
    """Standard deviation of the noise, over the root mean square of the factor's gradient."""


class Clipping(Axis):
    """Every step's gradient cut to a norm, as training loops do; the gradient is that of the batch."""

    kind: Literal["clipping"] = "clipping"
    max_grad_norm: float = Field(default=1e-2, gt=0)


class Pruning(Axis):
    """The smallest entries of every B set to zero before it is published."""

    kind: Literal["pruning"] = "pruning"
    share: float = Field(default=0.9, gt=0, lt=1)


class LoraDropout(Axis):
    """Dropout of the adapter's inputs while it is trained (PEFT's `lora_dropout`)."""

    kind: Literal["lora_dropout"] = "lora_dropout"
    probability: float = Field(default=0.1, gt=0, lt=1)


class Augmentation(Axis):
    """Every image of every step turned, shifted and zoomed at random."""

    kind: Literal["augmentation"] = "augmentation"


class Refactored(Axis):
    """The product BA published without its factors: by SVD as U S and V^T, so that A0 itself is not released."""

    kind: Literal["refactored"] = "refactored"


class Merged(Axis):
    """The adapter added to the base weights, which are published in a number format; the attacker subtracts the base.

    What is left of the difference is factored by SVD at the adapter's rank, which is told.
    """

    kind: Literal["merged"] = "merged"
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"


class Int8(Axis):
    """Factors stored as whole numbers of 8 bits with one scale a row, and read back."""

    kind: Literal["int8"] = "int8"


AnyDefence = Annotated[
    NoDefence | DpSgd | GradientNoise | Clipping | Pruning | LoraDropout | Augmentation | Refactored | Merged | Int8,
    Field(discriminator="kind"),
]
Defence = Annotated[AnyDefence, BeforeValidator(kind_alone)]


def is_undefended(defence: AnyDefence) -> bool:
    """True for none: such a defence is not part of a content, so that undefended tasks keep their keys."""
    return isinstance(defence, NoDefence)


def keeps_initial_a(defence: AnyDefence) -> bool:
    """True where a single step from B = 0 leaves A as it was, since nothing but its (zero) gradient moves it."""
    return not isinstance(defence, DpSgd | Refactored | Merged | Int8)
