"""Defences do to real adapters what they say, fast paths as slow references, and epsilon is the accountant's."""

import copy
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.graph import build_graph
from benchmark.suite import LabelledCell
from bridge_core import phases
from bridge_core import spec as s
from bridge_core.defence.private import epsilon, per_sample_gradients
from bridge_core.defence.release import int8, merged_difference, pruned, refactored
from bridge_core.defence.uncertainty import added_error
from bridge_core.evidence import measurement_of
from bridge_core.facts import read_facts
from bridge_core.models import logits
from bridge_core.phases import publish
from bridge_core.release import Release, read_release
from bridge_core.victim import train_victim
from tests.core.cells import run_cell, tiny_cell
from tests.core.examples import adapter, network, pictures

TRAINING = ("dp_sgd", "gradient_noise", "clipping", "lora_dropout", "augmentation")
KINDS = ("none", *TRAINING, "pruning", "refactored", "merged", "int8")
ANY = TypeAdapter[s.AnyDefence](s.AnyDefence)
RATE = 0.5


def defence(kind: str, **knobs: object) -> s.AnyDefence:
    return ANY.validate_python({"kind": kind, **knobs})


def released(folder: Path, chosen: s.AnyDefence, samples: int = 1, steps: int = 1, batch: int | None = None) -> Release:
    """The adapter of a victim who defends itself; all start from one fresh adapter."""
    recipe = s.Recipe(
        optimiser=s.Sgd(learning_rate=RATE), steps=steps, num_samples=samples, batch_size=batch or samples
    )
    model = network("vit")
    fresh = folder / "fresh"
    if not fresh.exists():
        adapter("vit", model, fresh)
    out = folder / f"{chosen.kind}-{samples}-{steps}-{batch}"
    train_victim(model, fresh, *pictures("vit", samples), recipe, out, chosen, seed=7)
    return read_release(out)


def products(release: Release) -> Tensor:
    return torch.cat([(one.scale * one.b @ one.a).flatten() for one in release.factors.values()])


def all_of(release: Release) -> Tensor:
    return torch.cat([one.b.flatten() for one in release.factors.values()])


def test_every_kind_is_covered() -> None:
    told = ANY.json_schema()["$defs"].values()
    assert {each["properties"]["kind"]["const"] for each in told} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_is_released_as_it_was_exactly_where_the_defence_says_so(kind: str, tmp_path: Path) -> None:
    chosen = defence(kind)
    after = released(tmp_path, chosen, samples=2).measurement_matrices()
    before = read_release(tmp_path / "fresh").measurement_matrices()
    assert all(torch.equal(a, before[name]) for name, a in after.items()) is s.keeps_initial_a(chosen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defended_folder_is_a_real_peft_adapter(kind: str, tmp_path: Path) -> None:
    released(tmp_path, defence(kind), samples=4, steps=3, batch=2)
    folder = next(path for path in tmp_path.iterdir() if path.name.startswith(kind))
    loaded = PeftModel.from_pretrained(copy.deepcopy(network("vit")), str(folder)).eval()
    assert torch.isfinite(logits(loaded, pictures("vit", 2)[0])).all()


def in_training(model: nn.Module) -> list[nn.Parameter]:
    for module in model.modules():
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            module.train()
    return [p for p in model.parameters() if p.requires_grad]


def one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> list[list[Tensor]]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        list(torch.autograd.grad(F.cross_entropy(logits(model, images[i : i + 1]), labels[i : i + 1]), parameters))
        for i in range(len(labels))
    ]


def test_per_sample_gradients_are_those_of_one_image_at_a_time(tmp_path: Path) -> None:
    fresh = adapter("vit", network("vit"), tmp_path / "fresh")
    model = PeftModel.from_pretrained(network("vit"), str(fresh), is_trainable=True).eval()
    parameters, (images, labels) = in_training(model), pictures("vit", 3)
    slow = one_by_one(model, images, labels)
    per_sample_gradients(model, parameters, images, labels)
    for place, p in enumerate(parameters):
        wanted = torch.stack([one[place] for one in slow])
        torch.testing.assert_close(p.grad_sample, wanted, rtol=1e-4, atol=1e-6)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_private_step_is_the_mean_of_clipped_gradients(tmp_path: Path) -> None:
    chosen = s.DpSgd(noise_multiplier=1e-9, max_grad_norm=0.05)
    found = released(tmp_path, chosen, samples=4)
    model = PeftModel.from_pretrained(network("vit"), str(tmp_path / "fresh"), is_trainable=True).eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    clipped = [torch.zeros(()) for _ in names]
    norms = []
    for each in one_by_one(model, *pictures("vit", 4)):
        norm = math.sqrt(sum(float(g.square().sum()) for g in each))
        norms.append(norm)
        clipped = [sum_ + g * min(1.0, 0.05 / (norm + 1e-6)) / 4 for sum_, g in zip(clipped, each, strict=True)]
    assert max(norms) > 0.05
    for name, g in zip(names, clipped, strict=True):
        if "lora_B" in name:
            module = name.removeprefix("base_model.model.").split(".lora_B")[0]
            torch.testing.assert_close(found.factors[module].b, -RATE * g, rtol=1e-4, atol=1e-7)


def test_private_noise_has_the_size_that_was_accounted(tmp_path: Path) -> None:
    quiet, loud = (released(tmp_path / str(z), s.DpSgd(noise_multiplier=z), samples=2) for z in (1e-9, 3.0))
    noise = all_of(loud) - all_of(quiet)
    assert float(noise.std()) == pytest.approx(RATE * 3.0 * 1.0 / 2, rel=0.15)


def test_epsilon_of_one_full_batch_step_is_the_gaussian_mechanisms() -> None:
    sigma, delta = 2.0, 1e-5
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
    wanted = min(a / (2 * sigma**2) - (math.log(delta) + math.log(a)) / (a - 1) + math.log((a - 1) / a) for a in orders)
    found = epsilon(s.DpSgd(noise_multiplier=sigma, delta=delta), s.Recipe(num_samples=5, batch_size=5))
    assert found == pytest.approx(wanted, rel=1e-3)


def test_epsilon_falls_with_noise_and_sampling_and_grows_with_steps() -> None:
    many = s.Recipe(num_samples=100, batch_size=10, steps=50)
    base = epsilon(s.DpSgd(), many)
    assert (
        epsilon(s.DpSgd(noise_multiplier=2.0), many) < base < epsilon(s.DpSgd(), many.model_copy(update={"steps": 100}))
    )
    assert base < epsilon(s.DpSgd(), many.model_copy(update={"batch_size": 50}))
    assert epsilon(s.DpSgd(accountant="prv"), many) <= base * 1.01


def test_gradient_noise_is_as_large_as_it_says_and_clipping_is_a_scale(tmp_path: Path) -> None:
    plain = all_of(released(tmp_path, s.NoDefence()))
    noisy = all_of(released(tmp_path, s.GradientNoise(relative=0.2)))
    assert float((noisy - plain).norm() / plain.norm()) == pytest.approx(0.2, rel=0.2)
    cut = all_of(released(tmp_path, s.Clipping(max_grad_norm=1e-3)))
    assert float(cut.norm()) == pytest.approx(RATE * 1e-3, rel=1e-3)
    torch.testing.assert_close(cut / cut.norm(), plain / plain.norm(), rtol=1e-3, atol=1e-6)


def test_pruning_keeps_the_largest_entries() -> None:
    b = torch.tensor([[0.1, -5.0], [3.0, -0.2]])
    assert torch.equal(pruned(b, 0.5), torch.tensor([[0.0, -5.0], [3.0, 0.0]]))
    assert torch.equal(pruned(b, 0.1), b)


def test_int8_keeps_every_entry_to_half_a_step() -> None:
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    step = x.abs().amax(1, keepdim=True) / 127
    assert ((int8(x) - x).abs() <= step / 2 * 1.001).all()
    assert (int8(x) / step).round().unique().numel() <= 255
    assert torch.equal(int8(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_refactoring_keeps_the_product_and_hides_the_factors(tmp_path: Path) -> None:
    plain, other = released(tmp_path, s.NoDefence(), 2), released(tmp_path, s.Refactored(), 2)
    torch.testing.assert_close(products(other), products(plain), rtol=1e-4, atol=1e-6)
    for name, one in other.factors.items():
        torch.testing.assert_close(one.a @ one.a.T, torch.eye(3), rtol=0, atol=1e-5)
        rows = one.a[one.b.norm(dim=0) > 1e-3 * one.b.norm()]
        inside = torch.linalg.lstsq(plain.factors[name].a.T, rows.T).solution
        # What an attacker can still use: the rows of the new A span what the old ones did.
        torch.testing.assert_close(plain.factors[name].a.T @ inside, rows.T, rtol=0, atol=1e-3)


def test_a_merged_release_is_as_precise_as_its_format(tmp_path: Path) -> None:
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    change = 1e-2 * torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    errors = [
        float((merged_difference(weight, change, dtype) - change).norm() / change.norm())
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ]
    assert errors[0] < 1e-5 < errors[1] < 0.1 < errors[2]
    a, b = refactored(merged_difference(weight, change, torch.float32), 6)
    torch.testing.assert_close(b @ a, change, rtol=1e-3, atol=1e-6)
    plain = products(released(tmp_path, s.NoDefence(), 2))
    torch.testing.assert_close(products(released(tmp_path, s.Merged(), 2)), plain, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora_dropout", "augmentation"])
def test_chance_in_training_changes_the_release_and_comes_back_with_its_seed(kind: str, tmp_path: Path) -> None:
    plain = all_of(released(tmp_path, s.NoDefence()))
    one, two = (all_of(released(tmp_path / str(i), defence(kind))) for i in range(2))
    assert not torch.equal(one, plain) and torch.equal(one, two)


@pytest.mark.parametrize("kind", ["gradient_noise", "dp_sgd", "int8", "lora_dropout"])
def test_the_attacker_is_told_how_unsure_the_measurement_is(kind: str, tmp_path: Path) -> None:
    chosen = s.DpSgd(noise_multiplier=0.01) if kind == "dp_sgd" else defence(kind)
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=RATE))
    true = measurement_of(released(tmp_path, s.NoDefence()), recipe)
    other = released(tmp_path, chosen)
    found = measurement_of(other, recipe)
    for name, m in ((name, m) for name, m in found.items() if name.endswith("v_proj")):
        # The untrained queries' gradient is rounding, which no first-order error covers.
        scale = float((true[name] * m).sum() / m.square().sum())  # clipping is a scale, which is searched for
        off = (scale * m - true[name]).square().mean().sqrt()
        told = scale * added_error(chosen, recipe, m, other.factors[name]).square().mean().sqrt()
        assert 0.1 < float(off / told) < 4, name


def test_what_is_undefended_keeps_its_content_and_its_keys() -> None:
    plain, defended = tiny_cell(), tiny_cell(defence="int8")
    assert "defence" not in s.content(plain) and s.content(defended)["defence"] == {"kind": "int8"}
    graph = build_graph("one", [LabelledCell(each, {}) for each in (plain, defended)], version=lambda phase: "0")
    one, other = graph.cells
    shared = {stage for stage, key in one.tasks.items() if other.tasks[stage] == key}
    assert shared == {"proxy", "private", "base", "statistics", "adapter"}
    victim = next(task for task in graph.tasks.values() if task.key == one.tasks["victim"])
    assert "defence" not in s.content(victim.spec)


def test_a_defended_cell_tells_its_defence_and_its_use(tmp_path: Path) -> None:
    cell = tiny_cell(
        defence={"kind": "dp_sgd", "noise_multiplier": 2.0}, inversion={"kind": "inverting_gradients", "iterations": 2}
    )
    run_cell(cell, tmp_path)
    assert publish.read_told(tmp_path / "publish").defence == cell.defence
    facts = read_facts(tmp_path / "victim")
    told = {(fact.name, fact.secret): fact.value for fact in facts}
    assert told["epsilon", None] == pytest.approx(epsilon(s.DpSgd(noise_multiplier=2.0), cell.recipe))
    assert {("heldout_loss_base", None), ("heldout_loss", 0), ("heldout_accuracy", 1)} <= told.keys()
    assert 0 <= told["heldout_accuracy", 0] <= 1
    stages = {stage.name: stage for stage in phases.stages(cell)}
    assert "victim" not in stages["attack"].inputs.values()
    assert not any("secret" in path.name for path in (tmp_path / "publish").rglob("*"))
    assert load_file(tmp_path / "publish" / "release" / "000" / "adapter_model.safetensors")
