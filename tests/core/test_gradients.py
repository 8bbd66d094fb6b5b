"""Gradients of a whole batch in one pass, held against autograd one sample at a time in float64."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core.errors import InvalidInput
from bridge_core.gradients import gradients, measurements, tap, weight_matrix
from bridge_core.models import logits
from tests.core.examples import MODELS, modules_of, network, pictures

WIDE = torch.float64


def by_autograd(model: nn.Module, modules: tuple[str, ...], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of the mean loss with respect to the weights, as matrices."""
    weights = [model.get_submodule(name).get_parameter("weight").requires_grad_() for name in modules]
    found = torch.autograd.grad(F.cross_entropy(logits(model, images), labels), weights)
    model.requires_grad_(False)
    return {name: g.flatten(1) for name, g in zip(modules, found, strict=True)}


def assert_same(found: Tensor, wanted: Tensor) -> None:
    # transformers' eager attention takes its softmax in float32 whatever the model's format.
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("kind", MODELS)
def test_each_samples_gradient_is_that_of_autograd_on_it_alone(kind: str) -> None:
    model = network(kind, WIDE)
    modules, (images, labels) = modules_of(kind, model), pictures(kind, 4, WIDE)
    found = gradients(tap(model, images, labels, modules))
    assert tuple(found) == modules
    for i in range(4):
        alone = by_autograd(model, modules, images[i : i + 1], labels[i : i + 1])
        assert all(g.norm() > 1e-6 for g in alone.values())
        for name in modules:
            assert_same(found[name][i], alone[name])


@pytest.mark.parametrize("kind", MODELS)
def test_measurement_is_gradient_times_a(kind: str) -> None:
    model = network(kind, WIDE)
    modules, (images, labels) = modules_of(kind, model), pictures(kind, 3, WIDE)
    taps = tap(model, images, labels, modules)
    widths = {name: weight_matrix(model.get_submodule(name))[1] for name in modules}
    a = {name: torch.randn(2, width, dtype=WIDE) for name, width in widths.items()}
    for name, m in measurements(taps, a).items():
        assert_same(m, taps[name].gradient() @ a[name].T)
        each = torch.stack([a[name] * factor for factor in (1, 2, 3)])
        assert_same(taps[name].measurement(each), m * torch.tensor([1.0, 2, 3], dtype=WIDE)[:, None, None])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [1, 3])
def test_grouped_gradient_is_that_of_the_batch_mean(kind: str, size: int) -> None:
    model = network(kind, WIDE)
    modules, (images, labels) = modules_of(kind, model), pictures(kind, 6, WIDE)
    taps = tap(model, images, labels, modules)
    for group in range(6 // size):
        part = slice(group * size, (group + 1) * size)
        wanted = by_autograd(model, modules, images[part], labels[part])
        for name in modules:
            assert_same(taps[name].grouped(size).gradient()[group], wanted[name])


@pytest.mark.parametrize("kind", MODELS)
def test_a_tap_can_be_differentiated_with_respect_to_the_image(kind: str) -> None:
    model = network(kind, WIDE)
    modules, (images, labels) = modules_of(kind, model), pictures(kind, 1, WIDE)
    direction = torch.randn(images.shape, dtype=WIDE, generator=torch.Generator().manual_seed(1))

    def size(moved: Tensor) -> Tensor:
        found = gradients(tap(model, moved, labels, modules, create_graph=True))
        return torch.stack([g.square().sum() for g in found.values()]).log().sum()

    guess = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(size(guess), guess)
    step = 1e-4
    wanted = (size(images + step * direction) - size(images - step * direction)) / (2 * step)
    torch.testing.assert_close((slope * direction).sum(), wanted.detach(), rtol=2e-3, atol=0)


@pytest.mark.parametrize("kind", MODELS)
def test_tap_leaves_the_model_as_it_was(kind: str) -> None:
    model = network(kind)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    tap(model, *pictures(kind, 5), modules_of(kind, model))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_hooks_are_gone_after_a_failed_pass() -> None:
    model = network("convnet")
    with pytest.raises(RuntimeError):
        tap(model, torch.rand(1, 3, 8, 8), torch.tensor([0]), ("conv1",))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_grouped_convolution_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a Conv2d can not be adapted here; wanted Linear"):
        weight_matrix(nn.Conv2d(4, 4, 3, groups=2))
