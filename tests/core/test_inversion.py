"""Predictions and Jacobians against autograd and finite differences; matching attacks that get an image back."""

import pytest
import torch
from torch import Tensor
from torch.func import jacrev
from torch.nn import functional

from bridge_core import spec as s
from bridge_core.data import load_images
from bridge_core.gradients import gradients, tap, weight_matrix
from bridge_core.inversion.functional import AtLogits, Prediction, along
from bridge_core.inversion.matching import dlg, inverting_gradients
from bridge_core.inversion.problem import Problem, best_of
from bridge_core.models import Shape, build, logits
from bridge_core.priors import penalty, total_variation
from bridge_core.seeding import generator
from tests.core.examples import SHAPES, modules_of, network, pictures

WIDE = torch.float64
KINDS = ("vit", "convnet", "resnet18")


def problem(kind: str, *, measured: bool, num_secrets: int = 1, num_samples: int = 1) -> tuple[Problem, Tensor]:
    """A float64 problem whose targets are those of known images."""
    model, shape = network(kind, WIDE), SHAPES[kind]
    modules, (images, labels) = modules_of(kind, model), pictures(kind, num_secrets * num_samples, WIDE)
    targets = gradients({n: t.grouped(num_samples) for n, t in tap(model, images, labels, modules).items()})
    widths = {name: weight_matrix(model.get_submodule(name))[1] for name in modules}
    rng = torch.Generator().manual_seed(1)
    matrices = {n: torch.randn(num_secrets, 3, width, generator=rng, dtype=WIDE) for n, width in widths.items()}
    if measured:
        targets = {n: g @ matrices[n].mT for n, g in targets.items()}
    image_shape = (shape.channels, shape.image_size, shape.image_size)
    shaped = images.reshape(num_secrets, num_samples, *image_shape)
    labels = labels.reshape(num_secrets, num_samples)
    return Problem(model, labels, image_shape, targets, matrices if measured else None), shaped


def near(found: Tensor, wanted: Tensor, share: float = 1e-6) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=share * float(wanted.abs().max()))


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("num_samples", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_meets_its_target_and_another_image_does_not(kind: str, num_samples: int, measured: bool) -> None:
    one, truth = problem(kind, measured=measured, num_secrets=2, num_samples=num_samples)
    assert float(one.cosine_distance(truth).detach().abs().max()) < 1e-7
    assert float(one.squared_distance(truth).max()) < 1e-10
    other = pictures(kind, 2 * num_samples, WIDE, seed=8)[0].reshape(truth.shape)
    assert float(one.cosine_distance(other).min()) > 1e-3
    assert float(one.squared_distance(other).min()) > 1e-3


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pure_prediction_is_the_hooked_one_at_the_targets_scale(kind: str, measured: bool) -> None:
    one, truth = problem(kind, measured=measured)
    guess = pictures(kind, 1, WIDE, seed=8)[0].reshape(truth.shape)
    wanted = {name: p.detach()[0] for name, p in one.predict(guess).items()}
    scaled = torch.cat([(p / one.targets[name].norm()).flatten() for name, p in wanted.items()])
    prediction = Prediction(one)
    near(prediction.at(guess[0, 0], cross_entropy(one)), scaled)
    whole = prediction.flat({name: target[0] for name, target in one.targets.items()})
    assert float(whole.square().sum()) == pytest.approx(len(one.targets))


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_is_the_logits_basis_times_the_gradient_at_the_logits(kind: str, measured: bool) -> None:
    one, truth = problem(kind, measured=measured)
    prediction, image = Prediction(one), truth[0, 0]
    found = logits(one.model, image[None])[0]
    delta = found.softmax(0) - functional.one_hot(one.labels[0, 0], len(found))
    near(delta @ prediction.basis(image), prediction.at(image, cross_entropy(one)))


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_pushed_directions_are_those_of_the_jacobian(kind: str, measured: bool) -> None:
    one, truth = problem(kind, measured=measured)
    prediction, rng, image = Prediction(one), torch.Generator().manual_seed(2), truth[0, 0]
    loss = along(torch.randn(prediction.num_classes, generator=rng, dtype=WIDE))
    directions = torch.randn(3, *image.shape, generator=rng, dtype=WIDE)
    step = 1e-4 if kind == "vit" else 1e-6
    for jvp, direction in zip(prediction.pushed(image, loss, directions), directions, strict=True):
        ahead, behind = (prediction.at(image + sign * step * direction, loss) for sign in (1, -1))
        near(jvp, (ahead - behind) / (2 * step), 5e-3 if kind == "vit" else 1e-5)


def test_pushed_units_are_reverse_modes_jacobian_and_the_linear_maps() -> None:
    one, truth = problem("convnet", measured=True)
    prediction, image = Prediction(one), truth[0, 0]
    loss, pixels = along(torch.linspace(-1, 1, prediction.num_classes, dtype=WIDE)), truth[0].numel()
    units = torch.eye(pixels, dtype=WIDE).reshape(pixels, *image.shape)
    jacobian: Tensor = jacrev(lambda x: prediction.at(x, loss))(image)  # pyright: ignore[reportAssignmentType]
    pushed, maps = prediction.pushed(image, loss, units), prediction.linearised(image, loss)
    near(pushed.T, jacobian.flatten(1), 1e-9)
    near(maps.forward(units[5]), pushed[5], 1e-9)
    cotangent = torch.linspace(0, 1, pushed.shape[1], dtype=WIDE)
    near(maps.backward(cotangent).flatten(), pushed @ cotangent, 1e-9)


def cross_entropy(one: Problem) -> AtLogits:
    return lambda found: functional.cross_entropy(found, one.labels[0, :1])


def test_only_picks_secrets_and_repeats_them() -> None:
    one, truth = problem("convnet", measured=True, num_secrets=3)
    chosen = one.only(torch.tensor([2, 0, 2]))
    assert float(chosen.squared_distance(truth[[2, 0, 2]]).max()) < 1e-10
    assert float(chosen.squared_distance(truth).max()) > 1e-3


def test_best_of_keeps_each_secrets_lowest_loss_and_never_a_nan() -> None:
    images = torch.arange(6.0).reshape(6, 1, 1, 1, 1)
    loss = torch.tensor([torch.nan, 2.0, 5.0, 3.0, 1.0, torch.nan])
    found = best_of(images, loss, 3)
    assert found.loss.tolist() == [1.0, 2.0]
    assert found.images.flatten().tolist() == [4.0, 1.0]


def test_total_variation_is_the_mean_step_between_neighbours() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 1, 4, 4)
    assert float(total_variation(ramp)) == 1.0
    assert float(total_variation(torch.full((1, 2, 1, 4, 4), 0.3))) == 0
    assert float(penalty(s.TotalVariation(weight=0.5), ramp)) == 0.5
    assert float(penalty(s.NoPrior(), ramp)) == 0


# --- images come back -------------------------------------------------------------------------------------------------


def faces(num_secrets: int) -> tuple[Problem, Tensor, Tensor]:
    """Exact gradients of a fresh ConvNet on 16x16 faces; truth, and the mean of the other faces."""
    model = build(s.ConvNet(width=12), Shape(1, 16, 10), seed=1).requires_grad_(False)
    pixels = load_images(s.Lfw(), 16, 1).pixels.float() / 255
    truth, labels = pixels[:num_secrets], torch.arange(num_secrets) % 10
    modules = modules_of("convnet", model)
    targets = gradients(tap(model, truth, labels, modules))
    return Problem(model, labels[:, None], (1, 16, 16), targets), truth[:, None], pixels[num_secrets:].mean(0)


def psnr(truth: Tensor, guess: Tensor) -> Tensor:
    return -10 * (truth - guess.clamp(0, 1)).square().flatten(1).mean(1).log10()


class Curve:
    """Keeps the mean matching losses it is told."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, _step: int, _steps: int, loss: Tensor) -> None:
        self.losses.append(float(loss.mean()))


def test_dlg_gets_faces_back_from_the_exact_gradient() -> None:
    one, truth, mean = faces(2)
    start = one.squared_distance(torch.rand(one.guess_shape, generator=generator(0))).mean()
    found = dlg(one, s.Dlg(iterations=150, restarts=2), s.NoPrior(), generator(0), Curve())
    assert float(found.loss.max()) < 1e-4 * float(start)
    assert bool((psnr(truth, found.images) > psnr(truth, mean.expand_as(truth)) + 10).all())
    assert float(psnr(truth, found.images).min()) > 25


def test_inverting_gradients_gets_faces_back_from_the_exact_gradient() -> None:
    one, truth, mean = faces(2)
    curve = Curve()
    knobs = s.InvertingGradients(iterations=400, restarts=1)
    found = inverting_gradients(one, knobs, s.TotalVariation(weight=1e-4), generator(0), curve)
    assert len(curve.losses) == 50 and curve.losses[-1] < 0.05 * curve.losses[0]
    assert float(found.images.min()) >= 0 and float(found.images.max()) <= 1
    torch.testing.assert_close(found.loss, one.cosine_distance(found.images).detach(), rtol=1e-3, atol=1e-6)
    assert bool((psnr(truth, found.images) > psnr(truth, mean.expand_as(truth)) + 3).all())


@pytest.mark.parametrize("attack", ["dlg", "inverting_gradients"])
def test_an_attack_repeats_itself_from_its_seed(attack: str) -> None:
    one, _, _ = faces(1)

    def run(seed: int) -> Tensor:
        if attack == "dlg":
            return dlg(one, s.Dlg(iterations=5, restarts=1), s.NoPrior(), generator(seed), Curve()).images
        knobs = s.InvertingGradients(iterations=5, restarts=2)
        return inverting_gradients(one, knobs, s.NoPrior(), generator(seed), Curve()).images

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_a_problem_is_left_as_it_was() -> None:
    one, _, _ = faces(1)
    before = {name: t.clone() for name, t in one.targets.items()}
    state = {name: t.clone() for name, t in one.model.state_dict().items()}
    dlg(one, s.Dlg(iterations=3, restarts=1), s.NoPrior(), generator(0), Curve())
    Prediction(one).basis(torch.rand(1, 16, 16))
    assert all(torch.equal(t, before[name]) for name, t in one.targets.items())
    assert all(torch.equal(t, state[name]) for name, t in one.model.state_dict().items())
    assert not any(module._forward_hooks for module in one.model.modules())
