"""Patches read off the span of the first block's inputs: from exact gradients, and from real releases of high rank."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import ViTForImageClassification

from bridge_core import spec as s
from bridge_core.evidence import evidence_of, stacked
from bridge_core.gradients import tap
from bridge_core.inversion import patch_span
from bridge_core.inversion.patch_span import spanned
from bridge_core.inversion.problem import Problem
from bridge_core.models import Shape, adapted_modules, build
from bridge_core.release import read_release
from bridge_core.seeding import generator
from bridge_core.victim import fresh_adapter, train_victim
from tests.core.examples import network

SHAPE = Shape(1, 8, 10)
MODEL = s.Vit(depth=2, width=48, heads=2, patch=4)
"""Five tokens of 16 pixels: two readers of rank r give 2 (r - 5) equations for 17 unknowns."""


def vit(dtype: torch.dtype = torch.float32) -> ViTForImageClassification:
    """A random ViT whose first norm has a gain and a shift, as a trained one has."""
    model = build(MODEL, SHAPE, seed=3).requires_grad_(False)
    assert isinstance(model, ViTForImageClassification)
    norm, rng = model.get_submodule("vit.layers.0.layernorm_before"), generator(1, "norm")
    norm.weight.add_(0.3 * torch.randn(MODEL.width, generator=rng))  # pyright: ignore[reportCallIssue]
    norm.bias.add_(0.3 * torch.randn(MODEL.width, generator=rng))  # pyright: ignore[reportCallIssue]
    model.to(dtype)  # pyright: ignore[reportArgumentType]
    return model


def pictures(count: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    rng = generator(0, "pictures")
    return torch.rand(count, 1, 8, 8, generator=rng, dtype=torch.float64).to(dtype), torch.arange(count)


def exact(count: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Problem, Tensor]:
    """The exact gradient of one step."""
    model, (images, labels) = vit(dtype), pictures(count, dtype)
    taps = tap(model, images, labels, adapted_modules(model, MODEL.target_modules))
    targets = {name: one.grouped(count).gradient() for name, one in taps.items()}
    return Problem(model, labels[None], (1, 8, 8), targets), images


def released(folder: Path, rank: int, recipe: s.Recipe) -> tuple[Problem, Tensor]:
    """Measurements of a real PEFT adapter, read back from its folder."""
    model, (images, labels) = vit(), pictures()
    fresh_adapter(model, MODEL.target_modules, rank, recipe.lora, 5, folder / "fresh")
    train_victim(model, folder / "fresh", images, labels, recipe, folder / "release")
    release = read_release(folder / "release")
    m = stacked([evidence_of(release, recipe).m])
    return Problem(model, labels[None], (1, 8, 8), m, stacked([release.measurement_matrices()])), images


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * float((one - other).square().mean().log10())


def test_the_embedding_is_what_the_first_block_reads() -> None:
    model, (images, _) = vit(torch.float64), pictures(1, torch.float64)
    seen: list[Tensor] = []
    norm = model.get_submodule("vit.layers.0.layernorm_before")
    norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))  # pyright: ignore
    model(images * 2 - 1)
    embedding = patch_span._embedding(model)
    patches = torch.nn.functional.unfold(images * 2 - 1, 4, stride=4)[0].T
    rows = embedding.without_mean(patches @ embedding.weight.T + embedding.places)
    sigma = (rows / embedding.gain).square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(rows / sigma + embedding.shift, seen[0][0, 1:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 150.0), (torch.float32, 60.0)])
def test_an_exact_gradient_gives_its_image_in_closed_form(dtype: torch.dtype, least: float) -> None:
    problem, images = exact(dtype=dtype)
    found = spanned(problem, 0)
    assert found is not None and found.residual < 1e-3
    assert psnr(found.image, images[0].float()) > min(least, 130.0)


@pytest.mark.parametrize("steps", [1, 20])
def test_a_release_of_high_rank_gives_its_image_after_any_number_of_steps(tmp_path: Path, steps: int) -> None:
    problem, images = released(tmp_path, 24, s.Recipe(steps=steps))
    found = spanned(problem, 0)
    assert found is not None
    assert psnr(found.image, images[0]) > 50


def test_the_label_plays_no_part(tmp_path: Path) -> None:
    problem, _ = released(tmp_path, 24, s.Recipe())
    one, other = spanned(problem, 0), spanned(replace(problem, labels=problem.labels + 3), 0)
    assert one is not None and other is not None
    assert torch.equal(one.image, other.image)


def test_too_small_a_rank_two_images_noise_or_another_model_give_none(tmp_path: Path) -> None:
    assert spanned(released(tmp_path, 12, s.Recipe())[0], 0) is None
    assert spanned(exact(count=2)[0], 0) is None
    problem, _ = exact()
    rng = generator(2, "noise")
    noisy = {n: t + 0.1 * t.std() * torch.randn(t.shape, generator=rng) for n, t in problem.targets.items()}
    assert spanned(replace(problem, targets=noisy), 0) is None
    assert spanned(replace(problem, model=network("convnet")), 0) is None
    deeper = {n: t for n, t in problem.targets.items() if "layers.0." not in n}
    assert spanned(replace(problem, targets=deeper), 0) is None
