"""The equation of Haim et al. for given parameters: its two sides, and how far they lie apart."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad

from bridge_core.baselines.haim.relaxed import sharpness_buffers
from bridge_core.errors import NotApplicable
from bridge_core.lora import as_weight
from bridge_core.models import head
from bridge_core.release import Release

TINY = 1e-30
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Stationarity:
    """`target = sum_i lambda_i y_i grad f(x_i)`, the gradient taken at `parameters`.

    f is the margin of a classifier of two classes: logit of class 1 minus logit of class 0, whose logistic loss is the
    classifier's cross-entropy.
    """

    model: nn.Module
    """The base model; the attack relaxes it (`relaxed`)."""
    parameters: Parameters
    """Where the gradient is taken: weights by their name, or the factors `a/module` and `b/module`."""
    target: Parameters
    """The released parameters, or what training has added to a known start."""
    scale: Mapping[str, float]
    """s of W0 + s B A by module; empty where whole weights are released."""

    def margin(
        self, parameters: Parameters, images: Float[Tensor, "n c h w"], sharpness: Tensor | None = None
    ) -> Float[Tensor, "n"]:
        """F of images in [0, 1]; `sharpness` is that of a relaxed model's ReLUs."""
        weights = self._weights(parameters)
        if sharpness is not None:
            weights |= dict.fromkeys(sharpness_buffers(self.model), sharpness)
        output = functional_call(self.model, weights, (images * 2 - 1,))
        logits = output if isinstance(output, Tensor) else output.logits
        return logits[:, 1] - logits[:, 0]

    def combination(
        self, images: Float[Tensor, "n c h w"], weights: Float[Tensor, "n"], sharpness: Tensor | None = None
    ) -> Parameters:
        """`sum_i w_i grad f(x_i)`, in one backward pass; w is lambda times the label's sign."""
        return grad(lambda p: (weights * self.margin(p, images, sharpness)).sum())(self.parameters)

    def misfit(
        self, images: Float[Tensor, "n c h w"], weights: Float[Tensor, "n"], sharpness: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """`|target - combination|^2 / |target|^2`: the paper's stationarity loss, blind to the parameters' scale."""
        found = self.combination(images, weights, sharpness)
        apart = torch.stack([(one - found[name]).square().sum() for name, one in self.target.items()]).sum()
        return apart / self.size.square()

    def gradients(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "parameters n"]:
        """A column an image: the gradient of its margin, over the parameters that `target` names."""
        columns: list[Tensor] = []
        for one in images[:, None]:
            found = self.combination(one, one.new_ones(1))
            columns.append(torch.cat([found[name].flatten() for name in self.target]))
        return torch.stack(columns, 1)

    def flat_target(self) -> Float[Tensor, "parameters"]:
        """The target as one vector, in the order of `gradients`."""
        return torch.cat([one.flatten() for one in self.target.values()])

    @property
    def size(self) -> Tensor:
        """|target|."""
        return self.flat_target().norm().clamp_min(TINY)

    def _weights(self, parameters: Parameters) -> Parameters:
        if not self.scale:
            return dict(parameters)
        weights: Parameters = {}
        for name, scale in self.scale.items():
            base = self.model.get_submodule(name).weight
            assert isinstance(base, Tensor)
            weights[f"{name}.weight"] = base + as_weight(
                scale * parameters[f"b/{name}"] @ parameters[f"a/{name}"], base.shape
            )
        return weights


def of_weights(model: nn.Module) -> Stationarity:
    """The published case: all weights of `model` are released.

    Raises `NotApplicable` for more than two classes.
    """
    _binary(model)
    weights = {name: one.detach().clone() for name, one in model.named_parameters()}
    return Stationarity(_still(model), weights, weights, {})


def of_release(base: nn.Module, release: Release) -> Stationarity:
    """A released adapter at its stationary point: `homogeneous` or `decayed`.

    Raises `NotApplicable` for more than two classes.
    """
    _binary(base)
    factors = _factors(release)
    return Stationarity(_still(base), factors, factors, _scales(release))


def of_start(base: nn.Module, start: Release, release: Release) -> Stationarity:
    """What training has added to a known start: `kernel`.

    Where B starts at zero, the gradient with respect to A is zero there, and the motion of A is left out: the linear
    model says nothing of it. Raises `NotApplicable` for more than two classes.
    """
    _binary(base)
    before, after = _factors(start), _factors(release)
    unmoved = {name for name in before if name.startswith("a/") and not before[f"b/{name[2:]}"].any()}
    added = {name: after[name] - one for name, one in before.items() if name not in unmoved}
    return Stationarity(_still(base), before, added, _scales(release))


def signs(labels: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    """y: +1 for class 1, -1 for class 0."""
    return labels * 2.0 - 1.0


def imbalance(release: Release) -> float:
    """`|A A^T - B^T B| / (|A A^T| + |B^T B|)`, the largest of any module: 0 at a stationary point under L2 decay.

    `s B^T G = -w A` and `s G A^T = -w B` give `A A^T = B^T B`; gradient flow without decay keeps the difference, which
    a homogeneous adapter outgrows. Public: an attacker can tell that the equation does not hold, not that it does.
    """
    found: list[float] = []
    for one in release.factors.values():
        a, b = one.a.double() @ one.a.double().mT, one.b.double().mT @ one.b.double()
        found.append(float((a - b).norm() / (a.norm() + b.norm()).clamp_min(TINY)))
    return max(found)


def _factors(release: Release) -> Parameters:
    a = {f"a/{name}": one.a for name, one in release.factors.items()}
    return a | {f"b/{name}": one.b for name, one in release.factors.items()}


def _scales(release: Release) -> dict[str, float]:
    return {name: one.scale for name, one in release.factors.items()}


def _still(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _binary(model: nn.Module) -> None:
    if (classes := head(model).out_features) != 2:
        raise NotApplicable(f"a classifier of {classes} classes", "two, as the equation is stated", "use two classes")
