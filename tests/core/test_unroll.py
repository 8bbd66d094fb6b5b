"""The unrolled recipe against PEFT's own training, and its derivatives against differences in float64."""

import copy
from itertools import product
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, NotApplicable
from bridge_core.models import logits
from bridge_core.release import Release, read_release
from bridge_core.unroll import Factors, Unrolled, initial_a, unrolled
from tests.core.examples import adapter, is_one_line, network, pictures, victim

RECIPES = {
    "sgd": s.Recipe(optimiser=s.Sgd(learning_rate=0.1)),
    "sgd, 5 steps": s.Recipe(optimiser=s.Sgd(learning_rate=0.1), steps=5, num_samples=2),
    "sgd, 20 steps": s.Recipe(optimiser=s.Sgd(learning_rate=0.1), steps=20, num_samples=3, batch_size=2),
    "momentum, decay": s.Recipe(
        optimiser=s.Sgd(learning_rate=0.05, momentum=0.9, weight_decay=0.1), steps=5, num_samples=4, batch_size=3
    ),
    "adamw": s.Recipe(optimiser=s.AdamW(epsilon=1e-6)),
    "adamw, 5 steps": s.Recipe(
        optimiser=s.AdamW(learning_rate=1e-2, beta1=0.8, weight_decay=0.1, epsilon=1e-6),
        steps=5,
        num_samples=3,
        batch_size=2,
    ),
}
KINDS = ("vit", "convnet")


def unrolled_from(folder: Path, kind: str, recipe: s.Recipe, dtype: torch.dtype = torch.float32) -> Unrolled:
    """The unrolled recipe of the fresh adapter in `folder`."""
    fresh = read_release(folder).factors
    a0, scale = {n: f.a.to(dtype) for n, f in fresh.items()}, {n: f.scale for n, f in fresh.items()}
    return unrolled(network(kind, dtype), a0, pictures(kind, recipe.num_samples)[1], recipe, scale)


def assert_same(found: Factors, release: Release, rtol: float, atol: float) -> None:
    """Both factors of every module, to `atol` relative to the factor's largest entry."""
    for name, one in release.factors.items():
        for value, wanted in ((found[0][name], one.a), (found[1][name], one.b)):
            torch.testing.assert_close(value, wanted, rtol=rtol, atol=atol * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("kind", "name"),
    [*product(KINDS, RECIPES), ("resnet18", "momentum, decay"), ("resnet18", "adamw")],
)
def test_the_unrolled_recipe_ends_at_pefts_adapter(kind: str, name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    victim(kind, tmp_path, recipe)
    found = unrolled_from(tmp_path / "fresh", kind, recipe)(pictures(kind, recipe.num_samples)[0])
    assert_same(found, read_release(tmp_path / "release"), rtol=1e-3, atol=1e-3)


def by_torch(model: nn.Module, folder: Path, images: Tensor, labels: Tensor, recipe: s.Recipe) -> dict[str, Tensor]:
    """PEFT's training in float64 by torch.optim, without saving."""
    peft = PeftModel.from_pretrained(copy.deepcopy(model), str(folder), is_trainable=True).double().eval()
    trained = {n: p for n, p in peft.named_parameters() if p.requires_grad}
    knobs = recipe.optimiser.model_dump(exclude={"kind", "learning_rate", "beta1", "beta2", "epsilon"})
    if isinstance(recipe.optimiser, s.AdamW):
        betas = (recipe.optimiser.beta1, recipe.optimiser.beta2)
        knobs |= {"betas": betas, "eps": recipe.optimiser.epsilon}
    kind = torch.optim.SGD if isinstance(recipe.optimiser, s.Sgd) else torch.optim.AdamW
    optimiser = kind(trained.values(), lr=recipe.optimiser.learning_rate, **knobs)
    for step in range(recipe.steps):
        index = [i % recipe.num_samples for i in range(step * recipe.batch_size, (step + 1) * recipe.batch_size)]
        optimiser.zero_grad()
        F.cross_entropy(logits(peft, images[index]), labels[index]).backward()
        optimiser.step()
    return {n.removeprefix("base_model.model."): p.detach().flatten(1) for n, p in trained.items()}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("kind", KINDS)
def test_in_float64_it_is_torchs_training_to_the_last_digits(kind: str, name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    model = network(kind, torch.float64)
    fresh = adapter(kind, model, tmp_path / "fresh")
    images, labels = pictures(kind, recipe.num_samples, torch.float64)
    wanted = by_torch(model, fresh, images, labels, recipe)
    a, b = unrolled_from(fresh, kind, recipe, torch.float64)(images)
    for module in a:
        for part, value in (("A", a[module]), ("B", b[module])):
            assert value.dtype == torch.float64
            torch.testing.assert_close(value, wanted[f"{module}.lora_{part}.default.weight"], rtol=1e-8, atol=1e-12)


@pytest.fixture
def softmax_keeps_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers' eager attention asks for a float32 softmax: differences would see its rounding alone."""
    softmax = nn.functional.softmax
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim=None, dtype=None: softmax(x, dim=dim))


def flat(run: Unrolled):
    """All factors as one vector."""
    return lambda images: torch.cat([t.flatten() for part in run(images) for t in part.values()])


@pytest.mark.parametrize("name", ["sgd, 5 steps", "momentum, decay", "adamw", "adamw, 5 steps"])
@pytest.mark.usefixtures("softmax_keeps_float64")
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_the_limit_of_differences(kind: str, name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    run = flat(unrolled_from(adapter(kind, network(kind), tmp_path / "fresh"), kind, recipe, torch.float64))
    images = pictures(kind, recipe.num_samples, torch.float64)[0]
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pushed = jvp(run, (images,), (direction,))[1]
    small = 1e-7
    wanted = (run(images + small * direction) - run(images - small * direction)) / (2 * small)
    assert float((pushed - wanted).norm() / wanted.norm()) < 1e-5
    pull = vjp(run, images)[1]
    weights = torch.randn(pushed.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close((pull(weights)[0] * direction).sum(), weights @ pushed, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["momentum, decay", "adamw, 5 steps"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_tangents_at_once_are_each_tangent_alone(kind: str, name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    run = flat(unrolled_from(adapter(kind, network(kind), tmp_path / "fresh"), kind, recipe, torch.float64))
    images = pictures(kind, recipe.num_samples, torch.float64)[0]
    directions = torch.randn(3, *images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = vmap(lambda d: jvp(run, (images,), (d,))[1])(directions)
    alone = torch.stack([jvp(run, (images,), (d,))[1] for d in directions])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9 * float(alone.abs().max()))


@pytest.mark.parametrize("name", ["sgd, 20 steps", "momentum, decay"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_initial_a_comes_back_from_the_released_one(kind: str, name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    model, _ = victim(kind, tmp_path, recipe)
    fresh, release = (read_release(tmp_path / part) for part in ("fresh", "release"))
    scale = {n: one.scale for n, one in release.factors.items()}
    images, labels = pictures(kind, recipe.num_samples)
    found = initial_a(model, release.measurement_matrices(), images, labels, recipe, scale, rounds=8)
    for module, one in fresh.factors.items():
        moved = float((release.factors[module].a - one.a).norm())
        assert float((found.a[module] - one.a).norm()) < 0.01 * moved
        assert found.residual[module] < 0.01 * moved


def test_a_recipe_that_does_not_start_at_zero_is_refused() -> None:
    recipe = s.Recipe(lora=s.Lora(init_lora_weights="pissa"))
    with pytest.raises(NotApplicable) as caught:
        unrolled(network("vit"), {}, torch.zeros(1, dtype=torch.long), recipe, {})
    assert is_one_line(caught.value, "pissa", "gaussian")


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        unrolled(network("vit"), {}, torch.zeros(2, dtype=torch.long), s.Recipe(), {})
    assert is_one_line(caught.value, "2 labels", "num_samples, 1")
