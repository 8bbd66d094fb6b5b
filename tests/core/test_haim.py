"""Haim et al.'s equation, its oracle gate and the attack, on real PEFT adapters of small perceptrons."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.baselines.haim.gate import nonnegative, oracle_gate
from bridge_core.baselines.haim.relaxed import RelaxedRelu, relaxed
from bridge_core.baselines.haim.search import reconstruct
from bridge_core.baselines.haim.stationarity import (
    Stationarity,
    imbalance,
    of_release,
    of_start,
    of_weights,
    signs,
)
from bridge_core.baselines.haim.training import log_loss, shrunk, train_adapter
from bridge_core.baselines.nearest import nearest
from bridge_core.errors import NotApplicable
from bridge_core.models import Shape, build, centred
from bridge_core.release import read_release
from bridge_core.seeding import generator
from bridge_core.victim import fresh_adapter, train_victim
from tests.core.examples import is_one_line, proxy_digits

LAST = 2000
UNTRAINED = s.Pretraining(epochs=0)
ZERO = s.Perceptron(depth=1, width=32, hidden="zero", pretraining=UNTRAINED)
RANDOM = s.Perceptron(depth=2, width=24, bias=True, pretraining=UNTRAINED)


def network(knobs: s.Perceptron, classes: int = 2) -> nn.Module:
    model = build(knobs, Shape(1, 8, classes), seed=1).requires_grad_(False)
    centred(model, proxy_digits().pixels[:500].float() / 255)
    return model


def secrets(count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Digits, and whether they are odd."""
    part = proxy_digits()[torch.arange(first, first + count)]
    return part.pixels.float() / 255, part.labels % 2


def start_of(model: nn.Module, folder: Path, init: str, rank: int = 4) -> Path:
    lora = s.Lora.model_validate({"init_lora_weights": init, "alpha": float(rank)})
    fresh_adapter(model, ("linear",), rank, lora, 3, folder)
    return folder


def trained(folder: Path, recipe: s.Recipe) -> tuple[nn.Module, Tensor, Tensor]:
    """An ordinary adapter in `folder`/release, from the start in `folder`/start."""
    model = network(RANDOM)
    images, labels = secrets(recipe.num_samples)
    train_victim(model, start_of(model, folder / "start", "default"), images, labels, recipe, folder / "release")
    return model, images, labels


@pytest.fixture(scope="module")
def converged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A homogeneous adapter trained on six digits far beyond zero loss, and as it was after one step."""
    folder, model = tmp_path_factory.mktemp("homogeneous"), network(ZERO)
    small = shrunk(start_of(model, folder / "start", "random", rank=8), folder / "small", model, 0.1)
    train_adapter(model, small, *secrets(6), (1, LAST), lambda step: folder / f"release{step}", rate=0.02)
    return folder, model


def slow_misfit(problem: Stationarity, images: Tensor, weights: Tensor) -> Tensor:
    """The loss by autograd, one sample at a time, the adapter as a second path beside the base model."""
    factors = {name: one.clone().requires_grad_() for name, one in problem.parameters.items()}
    found = {name: torch.zeros_like(one) for name, one in factors.items()}
    layers: dict[str, nn.Module] = dict(problem.model.named_modules())
    for image, weight in zip(images, weights, strict=True):
        hidden = (image * 2 - 1 - problem.model.get_buffer("centre")).flatten()
        for depth in range(2):
            name = f"layers.{depth}.linear"
            added = factors[f"b/{name}"] @ (factors[f"a/{name}"] @ hidden)
            hidden = layers[f"layers.{depth}.activation"](layers[name](hidden) + problem.scale[name] * added)
        logits = layers["head"](hidden)
        slopes = torch.autograd.grad(logits[1] - logits[0], list(factors.values()), create_graph=True)
        found = {name: found[name] + weight * one for name, one in zip(factors, slopes, strict=True)}
    apart = torch.stack([(one - found[name]).square().sum() for name, one in problem.target.items()]).sum()
    return apart / torch.stack([one.square().sum() for one in problem.target.values()]).sum()


def test_the_loss_and_its_slopes_are_autograds(tmp_path: Path) -> None:
    model = network(RANDOM)
    release = read_release(start_of(model, tmp_path / "start", "random"))
    problem = of_release(model, release)
    model = relaxed(problem.model).double()
    for module in model.modules():
        if isinstance(module, RelaxedRelu):
            module.sharpness = torch.tensor(30.0, dtype=torch.float64)
    factors = {name: one.double() for name, one in problem.parameters.items()}
    problem = replace(problem, model=model, parameters=factors, target=factors)
    images = secrets(3)[0].double().requires_grad_()
    weights = torch.tensor([0.7, -1.3, 0.2], dtype=torch.float64, requires_grad=True)
    fast = problem.misfit(images, weights, torch.tensor(30.0, dtype=torch.float64))
    slow = slow_misfit(problem, images, weights)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=0)
    pairs = zip(torch.autograd.grad(fast, (images, weights)), torch.autograd.grad(slow, (images, weights)), strict=True)
    for one, other in pairs:
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-14)


def test_a_relaxed_relu_keeps_its_values_and_smooths_its_slope() -> None:
    one = RelaxedRelu()
    one.sharpness = torch.tensor(5.0)
    z = torch.linspace(-1, 1, 9, requires_grad=True)
    (slope,) = torch.autograd.grad(one(z).sum(), z, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    sigmoid = torch.sigmoid(5 * z.detach())
    assert torch.equal(one(z), F.relu(z))
    torch.testing.assert_close(slope.detach(), sigmoid)
    torch.testing.assert_close(curvature, 5 * sigmoid * (1 - sigmoid), rtol=1e-4, atol=1e-6)


def test_the_gate_recovers_planted_multipliers_and_refuses_other_data(tmp_path: Path) -> None:
    model = network(RANDOM)
    problem = of_release(model, read_release(start_of(model, tmp_path / "start", "random")))
    (images, labels), (strangers, _) = secrets(5), secrets(5, first=50)
    planted = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])
    target = problem.combination(images, planted * signs(labels))
    gate = oracle_gate(replace(problem, target=target), images, labels, strangers)
    torch.testing.assert_close(gate.multipliers.float(), planted, rtol=1e-3, atol=1e-3)
    assert gate.residual < 1e-5
    assert gate.residual_strangers > 0.3
    gate.require()
    refused = oracle_gate(replace(problem, target=target), strangers, labels, images)
    assert not refused.applicable
    with pytest.raises(NotApplicable) as error:
        refused.require()
    assert is_one_line(error.value, "not applicable", f"{refused.residual:.3f}", "wanted")


def test_the_gate_refuses_what_training_has_not_brought_to_rest(converged: tuple[Path, nn.Module]) -> None:
    folder, model = converged
    (images, labels), (strangers, _) = secrets(6), secrets(6, first=50)
    gates = {}
    for step in (1, LAST):
        problem = of_release(model, read_release(folder / f"release{step}"))
        gates[step] = oracle_gate(problem, images, labels, strangers)
    assert not gates[1].applicable and gates[1].residual > 0.9
    assert gates[LAST].applicable and gates[LAST].residual < 0.2
    assert imbalance(read_release(folder / "release1")) > 0.3
    assert imbalance(read_release(folder / f"release{LAST}")) < 0.02


def test_after_one_step_from_zero_the_kernel_equation_is_exact(tmp_path: Path) -> None:
    recipe = s.Recipe(num_samples=3, batch_size=3, optimiser=s.Sgd(learning_rate=0.1))
    model, images, labels = trained(tmp_path, recipe)
    start, release = read_release(tmp_path / "start"), read_release(tmp_path / "release")
    multipliers, residual = nonnegative(of_start(model, start, release), images, labels)
    margins = of_release(model, start).margin(of_release(model, start).parameters, images) * signs(labels)
    assert residual < 1e-5
    torch.testing.assert_close(multipliers.float(), 0.1 * torch.sigmoid(-margins) / 3, rtol=1e-3, atol=1e-5)
    assert nonnegative(of_release(model, release), images, labels)[1] > 0.9


def test_weight_decay_at_rest_fulfils_the_equation_of_an_ordinary_base_model(tmp_path: Path) -> None:
    decayed = s.Sgd(learning_rate=0.2, weight_decay=0.02)
    recipe = s.Recipe(num_samples=3, batch_size=3, steps=1500, optimiser=decayed)
    model, images, labels = trained(tmp_path, recipe)
    release = read_release(tmp_path / "release")
    gate = oracle_gate(of_release(model, release), images, labels, secrets(3, first=50)[0])
    assert gate.applicable and gate.residual < 0.1
    assert imbalance(release) < 1e-2


@pytest.mark.slow
def test_a_homogeneous_adapter_at_rest_gives_images_back_above_the_null(converged: tuple[Path, nn.Module]) -> None:
    folder, model = converged
    (images, _), (strangers, _), (public, _) = secrets(6), secrets(6, first=50), secrets(100, first=100)
    problem = of_release(model, read_release(folder / f"release{LAST}"))
    found = reconstruct(problem, s.Haim(trials=8, iterations=1500), 6, public, generator(0, "test"))
    candidates = found.images.flatten(0, 1)
    assert float(found.misfit[0]) < 0.05
    assert nearest(images, candidates).psnr.mean() > nearest(strangers, candidates).psnr.mean() + 1


def test_the_loss_is_right_where_float32_would_round_it_to_zero() -> None:
    model = network(RANDOM)
    images, labels = secrets(4)
    near = log_loss(model, images, labels)
    logits = model(images * 2 - 1).double()
    torch.testing.assert_close(near.double(), F.cross_entropy(logits, labels).log(), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
        model.get_parameter("head.bias").copy_(torch.tensor([-100.0, 100.0]))
    torch.testing.assert_close(log_loss(model, images[:1], torch.tensor([1])), torch.tensor(-200.0))


def test_the_nearest_candidate_is_found_by_squared_error() -> None:
    rng = generator(0, "nearest")
    truth, candidates = torch.rand(4, 1, 12, 12, generator=rng), torch.rand(7, 1, 12, 12, generator=rng) * 1.4 - 0.2
    found = nearest(truth, candidates)
    mse = (truth[:, None] - candidates.clamp(0, 1)).square().flatten(2).mean(2)
    torch.testing.assert_close(found.psnr, -10 * mse.min(1).values.log10())
    assert nearest(truth, torch.cat([candidates, truth])).psnr.isinf().all()


def test_ten_classes_are_refused_in_one_line() -> None:
    with pytest.raises(NotApplicable) as error:
        of_weights(network(RANDOM, classes=10))
    assert is_one_line(error.value, "10 classes", "two")
