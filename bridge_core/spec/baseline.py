"""Knobs of attacks of others."""

from typing import Annotated

from pydantic import Field, model_validator

from bridge_core.spec.base import Axis

Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class Haim(Axis):
    """Reconstruction from stationarity: gradient descent on |theta - sum lambda y grad f|^2 (Haim et al., 2022).

    Every range is swept: a trial draws its values log-uniformly. The paper's trials are told apart by the truth; here
    the misfit alone decides which are kept.
    """

    trials: int = Field(default=16, ge=1)
    """Random starts, each with knobs of its own."""
    kept: int = Field(default=4, ge=1)
    """Trials of the lowest misfit whose images are handed in."""
    iterations: int = Field(default=2000, ge=1)
    candidates: int = Field(default=2, ge=1)
    """Images of each class sought by a trial, in multiples of half the training set (the paper's m = 2 n)."""
    image_learning_rate: Range = (1e-3, 3e-2)
    """Adam's; the paper's is SGD with momentum."""
    multiplier_learning_rate: Range = (1e-3, 1e-1)
    start_scale: Range = (1e-2, 0.5)
    """Standard deviation of the first images about the centre, in units of the pixels' range."""
    smallest_multiplier: Range = (1e-3, 0.3)
    """lambda_min, in units of the typical multiplier."""
    sharpness: Range = (10.0, 500.0)
    """Of the sigmoid that stands for the slope of a ReLU."""
    box_weight: float = Field(default=1.0, ge=0)
    """Of the mean squared distance from [0, 1]."""
    multiplier_weight: float = Field(default=1.0, ge=0)
    """Of the mean squared shortfall below lambda_min."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> "Haim":
        for name in type(self).model_fields:
            if isinstance(value := getattr(self, name), tuple) and value[0] > value[1]:
                raise ValueError(f"{name} {value[0]} to {value[1]} falls")
        return self
