"""DP-SGD by opacus: per-sample gradients, clipping, noise, and the epsilon that its accountant gives."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

import torch
from opacus import GradSampleModule
from opacus.accountants import create_accountant
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.errors import Diverged
from bridge_core.models import logits


def epsilon(defence: s.DpSgd, recipe: s.Recipe) -> float:
    """Epsilon of the whole training at the defence's delta, for one added or removed sample."""
    accountant = create_accountant(defence.accountant)
    accountant.history = [(defence.noise_multiplier, recipe.batch_size / recipe.num_samples, recipe.steps)]
    with warnings.catch_warnings():  # of the range of orders: the bound holds all the same
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=defence.delta))


class PrivateSteps:
    """Steps on Poisson samples of the training set, or on all of it, through opacus's `DPOptimizer`."""

    def __init__(
        self, defence: s.DpSgd, recipe: s.Recipe, images: Tensor, labels: Tensor, rng: torch.Generator
    ) -> None:
        self._defence, self._recipe, self._images, self._labels, self._rng = defence, recipe, images, labels, rng
        self._private: DPOptimizer | None = None

    def __call__(self, model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> float:
        """Take a step; the loss is that of the sample, NaN of an empty one. Raises `Diverged` as plain steps do."""
        private = self._private or DPOptimizer(
            optimiser,
            noise_multiplier=self._defence.noise_multiplier,
            max_grad_norm=self._defence.max_grad_norm,
            expected_batch_size=self._recipe.batch_size,
            generator=self._rng,
        )
        self._private = private
        index = self._sample()
        loss = self._sealed(model, index)
        private.zero_grad(set_to_none=True)
        with _alone(model, private.params):
            per_sample_gradients(model, private.params, self._images[index], self._labels[index])
        private.step()
        return loss

    def _sample(self) -> Tensor:
        share = self._recipe.batch_size / self._recipe.num_samples
        return torch.nonzero(torch.rand(len(self._labels), generator=self._rng) < share).flatten()

    def _sealed(self, model: nn.Module, index: Tensor) -> float:
        """The full gradient of the base weights, added up beside the private one: the truth that scores open."""
        if not len(index):
            return float("nan")
        loss = F.cross_entropy(logits(model, self._images[index]), self._labels[index])
        if not torch.isfinite(loss):
            raise Diverged(
                f"the victim's loss became {float(loss.detach())}", "a finite loss", "lower the learning rate"
            )
        loss.backward()
        return float(loss.detach())


def per_sample_gradients(model: nn.Module, parameters: list[nn.Parameter], images: Tensor, labels: Tensor) -> None:
    """Leave in each parameter's `grad_sample` (n x its shape) the gradient of every image's own loss."""
    if not len(labels):
        for p in parameters:
            setattr(p, "grad_sample", p.new_zeros(0, *p.shape))  # noqa: B010
        return
    wrapped = GradSampleModule(model, loss_reduction="mean", strict=False)
    try:
        with warnings.catch_warnings():  # images ask for no gradient, and opacus's hooks need none of them
            warnings.simplefilter("ignore", UserWarning)
            F.cross_entropy(logits(wrapped, images), labels).backward()
    finally:
        wrapped.remove_hooks()


@contextmanager
def _alone(model: nn.Module, parameters: list[nn.Parameter]) -> Generator[None]:
    """No other parameter asks for a gradient, and the layers that hold these are in training, as opacus wants."""
    chosen = set(map(id, parameters))
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    layers = [m for m in model.modules() if any(id(p) in chosen for p in m.parameters(recurse=False))]
    for p in others:
        p.requires_grad_(False)
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for p in others:
            p.requires_grad_(True)
        for layer in layers:
            layer.eval()
