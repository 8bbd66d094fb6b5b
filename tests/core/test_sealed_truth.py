"""The attack sees what the world sees: with the secret gone it gives the same bytes, and nothing of it is published."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bridge_core import phases
from bridge_core import spec as s
from bridge_core.data import overlap, read_images
from bridge_core.facts import read_facts
from bridge_core.phases.victim import read_secret
from tests.core.cells import inputs_of, run_cell, run_stage, tiny_cell

QUICK_START = {"kind": "gauss_newton", "iterations": 2, "restarts": 1, "start": {"num_pairs": 256, "hidden": 16}}
CELLS = {
    "direct": tiny_cell(),
    "ridge": tiny_cell(bridge={"kind": "ridge", "num_pairs": 256}),
    "mlp": tiny_cell(bridge={"kind": "mlp", "num_pairs": 256, "hidden": 16}),
    "row_mmse": tiny_cell(bridge="row_mmse", inversion={"kind": "dlg", "iterations": 5, "restarts": 1}),
    "gauss_newton": tiny_cell(inversion=QUICK_START),
    "float16": tiny_cell(bridge="projection", recipe={"save_dtype": "float16"}),
    "several images": tiny_cell(bridge="row_mmse", recipe={"num_samples": 2, "batch_size": 2}),
    "oracle": tiny_cell(bridge="oracle"),
    "told nothing": tiny_cell(
        inversion=QUICK_START,
        recipe={"optimiser": {"kind": "adamw"}},
        knowledge={"secret_labels": "searched", "optimiser": "guessed"},
    ),
    "several steps": tiny_cell(inversion=QUICK_START, recipe={"steps": 3}),
    "several images at once": tiny_cell(inversion=QUICK_START, recipe={"num_samples": 2, "batch_size": 2}),
    "decoded": tiny_cell(inversion=QUICK_START, bridge={"kind": "ridge", "num_pairs": 256, "inputs": "all"}),
}
COMMON = ("proxy", "private", "base")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages that all cells have in common, run once."""
    folder = tmp_path_factory.mktemp("shared")
    for stage in phases.stages(CELLS["direct"]):
        if stage.name in COMMON:
            run_stage(stage, folder, folder / stage.name)
    return folder


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    for name in COMMON:
        shutil.copytree(shared / name, tmp_path / name)
    return tmp_path


def prints(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", CELLS)
def test_what_is_published_holds_no_secret_and_is_all_the_attack_needs(name: str, folder: Path) -> None:
    stages = run_cell(CELLS[name], folder)
    if name != "oracle":
        assert_factors_alone(folder, CELLS[name].num_secrets)
    for part in ("victim", "private"):
        shutil.rmtree(folder / part)
    run_stage(stages["attack"], folder, folder / "again")
    assert prints(folder / "again") == prints(folder / "attack")
    assert "recovered.safetensors" in prints(folder / "again")


@pytest.mark.parametrize("name", CELLS)
def test_no_stage_before_scoring_is_given_the_victim_but_the_one_that_publishes(name: str) -> None:
    readers = {stage.name for stage in phases.stages(CELLS[name]) if {"victim", "private"} & set(stage.inputs.values())}
    assert readers == {"victim", "publish", "score"}


def assert_factors_alone(folder: Path, num_secrets: int) -> None:
    published = folder / "publish"
    tensors = {key for path in published.rglob("*.safetensors") for key in load_file(path)}
    assert tensors and all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in tensors)
    assert {p.name for p in published.iterdir()} == {"release", "told.json"}
    told = json.loads((published / "told.json").read_text())
    assert set(told) == {"recipe", "num_samples", "labels"}
    binary = [p for p in published.rglob("*") if p.is_file() and p.suffix not in (".safetensors", ".json", ".md")]
    assert not binary
    for number in range(num_secrets):
        secret = read_secret(folder / "victim", number)
        for hidden in (secret.images, *secret.gradients.values()):
            needle = hidden.contiguous().numpy().tobytes()[64:128]
            assert len(set(needle)) > 4
            assert not any(needle in p.read_bytes() for p in published.rglob("*") if p.is_file())


def test_labels_and_recipe_are_told_only_where_the_suite_says_so(folder: Path) -> None:
    run_cell(CELLS["told nothing"], folder)
    told = json.loads((folder / "publish" / "told.json").read_text())
    assert told == {"recipe": None, "num_samples": 1, "labels": None}
    assert {fact.name for fact in read_facts(folder / "score")} >= {"psnr", "labels_found"}


def test_only_the_oracle_is_told_the_gradient(folder: Path) -> None:
    run_cell(CELLS["oracle"], folder)
    told = load_file(folder / "publish" / "gradient.safetensors")
    for number in range(2):
        secret = read_secret(folder / "victim", number)
        assert all(torch.equal(told[module][number], g) for module, g in secret.gradients.items())


def test_secrets_are_private_and_no_two_victims_share_one(folder: Path) -> None:
    run_cell(CELLS["several images"], folder)
    private, proxy = (read_images(folder / part / f"{part}.safetensors") for part in ("private", "proxy"))
    assert overlap(private, proxy) == 0
    held = {bytes(p.numpy()) for p in private.pixels}
    images = torch.cat([read_secret(folder / "victim", number).images for number in range(2)])
    seen = [bytes((image * 255).round().to(torch.uint8).numpy()) for image in images]
    assert len(set(seen)) == 4 and set(seen) <= held


def test_a_phase_run_twice_gives_the_same_bytes(folder: Path) -> None:
    stages = run_cell(CELLS["ridge"], folder)
    for name, stage in stages.items():
        run_stage(stage, folder, folder / "again" / name)
        # PEFT's model card and parquet's own notes are no results.
        one, two = (
            {file: mark for file, mark in prints(where / name).items() if file.endswith((".safetensors", ".png"))}
            for where in (folder, folder / "again")
        )
        assert one == two and one
        assert read_facts(folder / name) == read_facts(folder / "again" / name)


def test_two_seeds_have_other_secrets_and_another_a(folder: Path) -> None:
    run_cell(CELLS["direct"], folder)
    other = folder / "other"
    for name in COMMON:
        shutil.copytree(folder / name, other / name)
    run_cell(tiny_cell(seed=1), other)
    one, two = (read_secret(where / "victim", 0) for where in (folder, other))
    assert not torch.equal(one.images, two.images)
    adapters = [load_file(where / "adapter/release/000/adapter_model.safetensors") for where in (folder, other)]
    assert not any(torch.equal(a, adapters[1][key]) for key, a in adapters[0].items() if "lora_A" in key)


def test_scores_come_with_their_controls(folder: Path) -> None:
    stages = run_cell(CELLS["ridge"], folder)
    facts = read_facts(folder / "score")
    for name in ("psnr", "ssim", "mse", "feature_distance"):
        for end in ("", "_mean_image"):
            assert [f.secret for f in facts if f.name == name + end] == [0, 1]
    modules = {f.module for f in facts if f.name == "gradient_cosine"}
    for end in ("", "_floor", "_projection", "_mean_gradient"):
        found = [(f.secret, f.module) for f in facts if f.name == f"gradient_cosine{end}"]
        assert sorted(found, key=str) == sorted(((i, m) for i in range(2) for m in modules), key=str)
    assert set(inputs_of(stages["attack"], folder)) == {"base", "publish", "decoder"}
    pictures = load_file(folder / "score" / "images.safetensors")
    truth = torch.stack([read_secret(folder / "victim", number).images for number in range(2)])
    assert torch.equal(pictures["truth"], (truth * 255).round().to(torch.uint8))


def test_an_exact_gradient_scores_a_cosine_of_one(folder: Path) -> None:
    run_cell(CELLS["oracle"], folder)
    cosines = [f.value for f in read_facts(folder / "score") if f.name == "gradient_cosine"]
    assert cosines == pytest.approx([1.0] * len(cosines)) and cosines


def test_the_cells_differ_in_what_they_claim() -> None:
    assert len({json.dumps(s.content(cell), sort_keys=True) for cell in CELLS.values()}) == len(CELLS)
