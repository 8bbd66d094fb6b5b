"""The victim's recipe."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bridge_core.spec.base import Axis, Spec, kind_alone


class Sgd(Spec):
    """torch.optim.SGD."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)


class AdamW(Spec):
    """torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


AnyOptimiser = Annotated[Sgd | AdamW, Field(discriminator="kind")]
Optimiser = Annotated[AnyOptimiser, BeforeValidator(kind_alone)]


class Lora(Spec):
    """The adapter's own knobs, but for its rank, which is an axis."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale numerator: s = alpha / r, or alpha / sqrt(r) with `use_rslora`."""
    use_rslora: bool = False
    target_modules: tuple[str, ...] | None = None
    """Endings of the adapted modules' names; the model's own choice where it is not given."""
    init_lora_weights: Literal["default", "gaussian", "orthogonal", "olora", "pissa", "random"] = "default"
    """PEFT's initialisation; `random` is its False, where B is random too. Bridges from measurements need B = 0 at the
    start: `default` or `gaussian`."""


class Recipe(Axis):
    """How the victim trains its adapter."""

    optimiser: Optimiser = Sgd()
    steps: int = Field(default=1, ge=1, le=100_000)
    num_samples: int = Field(default=1, ge=1)
    """Secret images in the training set, N."""
    batch_size: int = Field(default=1, ge=1)
    """Images a step; batches follow one another through the training set."""
    lora: Lora = Lora()
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _batch_fits(self) -> "Recipe":
        if self.batch_size > self.num_samples:
            raise ValueError(f"batch_size {self.batch_size} is larger than num_samples {self.num_samples}")
        return self

    @property
    def starts_at_zero(self) -> bool:
        """True where B = 0 before the first step, so that `B` is a measurement of the gradient."""
        return self.lora.init_lora_weights in ("default", "gaussian")

    @property
    def releases_initial_a(self) -> bool:
        """True where the released A is the initial A to the last bit: it has not moved, decayed or been rounded."""
        return (
            self.starts_at_zero
            and self.steps == 1
            and self.optimiser.weight_decay == 0.0
            and self.save_dtype == "float32"
        )
