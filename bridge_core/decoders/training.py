"""How networks that decode gradients are trained: Adam, one cycle, on a stream that shows each pair once."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.decoders.linear import unit
from bridge_core.errors import Diverged

WARM_UP, LEAST_RATE = 0.3, 0.04


def errors(
    guess: Float[Tensor, "n out in"], truth: Float[Tensor, "n out in"], loss: Literal["cosine", "mse"]
) -> Float[Tensor, ""]:
    """Mean over examples of 1 - cosine, or of the squared distance to the truth at unit norm."""
    g, found = unit(truth).flatten(1), guess.flatten(1)
    return (1 - (unit(found) * g).sum(1) if loss == "cosine" else (found - g).square().sum(1)).mean()


def one_cycle(done: float) -> float:
    """Share of the largest learning rate when `done` of the training (0 to 1) is done (Smith and Topin, 2018)."""
    low, share = (LEAST_RATE, done / WARM_UP) if done < WARM_UP else (0.0, (1 - done) / (1 - WARM_UP))
    return low + (1 - low) * (1 - math.cos(math.pi * share)) / 2


class Training:
    """An optimiser and its schedule over the `num_pairs` of a bridge."""

    def __init__(self, parameters: list[nn.Parameter], bridge: s.Mlp | s.Unet) -> None:
        self._optimiser = torch.optim.Adam(parameters, bridge.learning_rate)
        self._bridge, self._seen = bridge, 0

    def over(self, count: int, error: Callable[[slice], Tensor]) -> float:
        """One step for every part of `count` examples; the last part's error.

        Raises `Diverged` where it is no longer finite.
        """
        last = 0.0
        for start in range(0, count, self._bridge.batch_size):
            end = min(start + self._bridge.batch_size, count)
            self._set_rate()
            last = self._step(error(slice(start, end)))
            self._seen += end - start
        return last

    def _set_rate(self) -> None:
        """By pairs seen: a stream's batches need not be multiples of the optimiser's."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._bridge.learning_rate * one_cycle(min(1.0, self._seen / self._bridge.num_pairs))

    def _step(self, loss: Tensor) -> float:
        if not torch.isfinite(loss):
            found = f"the decoder's loss became {float(loss.detach())}"
            raise Diverged(found, "a finite loss", "lower its learning_rate")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return float(loss.detach())
