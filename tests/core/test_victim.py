"""A real adapter folder, the sealed truth beside it, and a base model left as it was."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.errors import Diverged, InvalidInput
from bridge_core.gradients import gradients, tap
from bridge_core.models import logits
from bridge_core.release import read_release
from bridge_core.victim import DTYPES, fresh_adapter, train_victim
from tests.core.examples import MODELS, adapter, is_one_line, modules_of, network, pictures, victim

ONE_STEP = s.Recipe(optimiser=s.Sgd(learning_rate=0.05))
MANY_STEPS = s.Recipe(
    optimiser=s.Sgd(learning_rate=0.05, momentum=0.9, weight_decay=0.01), steps=3, num_samples=4, batch_size=2
)
RECIPES = {
    "one step": ONE_STEP,
    "gaussian": ONE_STEP.model_copy(update={"lora": s.Lora(init_lora_weights="gaussian")}),
    "adamw": s.Recipe(optimiser=s.AdamW()),
    "batch": s.Recipe(num_samples=4, batch_size=4),
    "many steps": MANY_STEPS,
    "adamw, many steps": s.Recipe(optimiser=s.AdamW(weight_decay=0.1), steps=3, num_samples=2),
    "weight decay": s.Recipe(optimiser=s.Sgd(learning_rate=0.05, weight_decay=0.1)),
    "float16": ONE_STEP.model_copy(update={"save_dtype": "float16"}),
    "bfloat16": ONE_STEP.model_copy(update={"save_dtype": "bfloat16"}),
    "pissa": ONE_STEP.model_copy(update={"lora": s.Lora(init_lora_weights="pissa")}),
    "orthogonal": ONE_STEP.model_copy(update={"lora": s.Lora(init_lora_weights="orthogonal")}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_initial_a_is_released_exactly_when_the_recipe_says_so(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    victim("vit", tmp_path, recipe, rank=4)
    before, after = (read_release(tmp_path / part).measurement_matrices() for part in ("fresh", "release"))
    assert before.keys() == after.keys()
    assert all(torch.equal(a, after[module]) for module, a in before.items()) is recipe.releases_initial_a


@pytest.mark.parametrize("name", ["one step", "adamw", "batch", "many steps", "adamw, many steps"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_folder_is_a_real_peft_adapter_that_acts_as_trained(kind: str, name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    model, secret = victim(kind, tmp_path, recipe)
    adapted = PeftModel.from_pretrained(copy.deepcopy(model), str(tmp_path / "release")).eval()
    images, labels = pictures(kind, recipe.num_samples)
    assert len(secret.losses) == recipe.steps
    with torch.no_grad():
        before, after = (F.cross_entropy(logits(m, images), labels) for m in (model, adapted))
    assert float(after) < float(before)
    assert {p.name for p in (tmp_path / "release").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}


def by_peft(model: nn.Module, folder: Path, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Full gradients of the adapted model's base weights, by autograd through PEFT."""
    adapted = PeftModel.from_pretrained(copy.deepcopy(model), str(folder)).eval().requires_grad_(True)
    F.cross_entropy(logits(adapted, images), labels).backward()
    marker, head = ".base_layer.weight", "base_model.model."
    named = {n: p.grad for n, p in adapted.named_parameters() if n.endswith(marker) and p.grad is not None}
    return {n.removeprefix(head).removesuffix(marker): g.flatten(1) for n, g in named.items()}


@pytest.mark.parametrize("kind", MODELS)
def test_the_captured_gradient_is_autograds(kind: str, tmp_path: Path) -> None:
    recipe = s.Recipe(num_samples=3, batch_size=3)
    model, secret = victim(kind, tmp_path, recipe)
    wanted = by_peft(model, tmp_path / "fresh", *pictures(kind, 3))
    assert wanted.keys() == secret.gradients.keys() == set(modules_of(kind, model))
    taps = tap(model, *pictures(kind, 3), tuple(wanted))
    fast = gradients({name: one.grouped(3) for name, one in taps.items()})
    for name, g in secret.gradients.items():
        for other in (wanted[name], fast[name][0]):
            torch.testing.assert_close(g, other, rtol=1e-4, atol=1e-5 * float(g.abs().max()))


def test_over_steps_the_captured_gradient_is_the_mean_along_the_way(tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=0.5), steps=2, num_samples=2)
    model, secret = victim("convnet", tmp_path, recipe)
    images, labels = pictures("convnet", 2)
    first = by_peft(model, tmp_path / "fresh", images[:1], labels[:1])
    train_victim(
        model, tmp_path / "fresh", images[:1], labels[:1], s.Recipe(optimiser=recipe.optimiser), tmp_path / "1"
    )
    second = by_peft(model, tmp_path / "1", images[1:], labels[1:])
    for name, g in secret.gradients.items():
        torch.testing.assert_close(g, (first[name] + second[name]) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_saved_in_the_number_format_asked(dtype: str, tmp_path: Path) -> None:
    recipe = ONE_STEP.model_copy(update={"save_dtype": dtype})
    victim("vit", tmp_path, recipe)
    tensors = load_file(tmp_path / "release" / "adapter_model.safetensors")
    assert tensors and {t.dtype for t in tensors.values()} == {DTYPES[dtype]}
    assert read_release(tmp_path / "release").dtype is DTYPES[dtype]


def test_the_base_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = network("resnet18")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    fresh = adapter("resnet18", model, tmp_path / "fresh")
    train_victim(model, fresh, *pictures("resnet18", 4), MANY_STEPS, tmp_path / "release")
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.state_dict().keys() == before.keys()
    assert not any(p.requires_grad for p in model.parameters()) and not model.training


def test_the_same_seed_gives_the_same_adapter_whatever_was_drawn_before(tmp_path: Path) -> None:
    model = network("vit")
    torch.rand(3)
    one = read_release(adapter("vit", model, tmp_path / "one")).measurement_matrices()
    torch.rand(5)
    state = torch.random.get_rng_state()
    two = read_release(adapter("vit", model, tmp_path / "two")).measurement_matrices()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, two[name]) for name, a in one.items())
    fresh_adapter(model, ("q_proj", "v_proj"), 3, s.Lora(), 6, tmp_path / "other")
    other = read_release(tmp_path / "other").measurement_matrices()
    assert not any(torch.equal(a, other[name]) for name, a in one.items())


def test_a_learning_rate_out_of_all_bounds_diverges(tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=1e30), steps=4)
    with pytest.raises(Diverged) as caught:
        victim("convnet", tmp_path, recipe)
    assert is_one_line(caught.value, "loss became", "lower the learning rate")
    assert not (tmp_path / "release").exists()


def test_a_last_step_out_of_all_bounds_diverges(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        victim("convnet", tmp_path, s.Recipe(optimiser=s.Sgd(learning_rate=3e38), lora=s.Lora(alpha=1e6)))
    assert not (tmp_path / "release").exists()


def test_a_rank_larger_than_a_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        adapter("vit", network("vit"), tmp_path / "fresh", rank=17)
    assert is_one_line(caught.value, "rank 17", "16 x 16", "at most 16")
    assert not (tmp_path / "fresh").exists()


def test_the_adapter_folder_tells_no_path_of_this_machine(tmp_path: Path) -> None:
    victim("vit", tmp_path, ONE_STEP)
    for path in (tmp_path / "release").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
