"""Text cells run phase by phase: from a corpus to scored sentences, the truth sealed on the way."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge_core import phases
from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.facts import read_facts
from tests.core.cells import run_cell, run_stage
from tests.core.examples import is_one_line

TINY: dict[str, Any] = {
    "model": {"kind": "tiny_text", "width": 64, "heads": 2, "depth": 3, "vocabulary": 600},
    "rank": 20,
    "dataset": {"kind": "text", "proxy": "canaries", "private": "canaries", "max_tokens": 12},
    "prior": {},
    "recipe": {},
    "bridge": "direct",
    "inversion": "span",
    "knowledge": {},
    "seed": 0,
    "num_secrets": 2,
}


def text_cell(**changes: Any) -> s.TextCell:
    return s.TextCell.model_validate_json(json.dumps(TINY | changes))


def family(name: str) -> dict[str, Any]:
    task = "classification" if name == "bert" else "causal"
    return TINY["model"] | {"family": name, "task": task}


def values(folder: Path, stage: str, name: str) -> list[float]:
    return [fact.value for fact in read_facts(folder / stage) if fact.name == name]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("bridge", ["direct", "oracle"])
def test_one_step_gives_the_sentence_back_and_the_attack_knows_it(name: str, bridge: str, tmp_path: Path) -> None:
    run_cell(text_cell(model=family(name), bridge=bridge), tmp_path)
    assert values(tmp_path, "score", "exact_match") == [1.0, 1.0]
    assert values(tmp_path, "attack", "verdict") == [2.0, 2.0]
    assert values(tmp_path, "score", "false_certificates") == [0.0, 0.0]
    assert max(values(tmp_path, "score", "exact_match_language_model")) == 0.0
    shown = json.loads((tmp_path / "score" / "sentences.json").read_text())
    assert all(one["truth"] == one["recovered"] for one in shown)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_two_sentences_of_one_step_are_told_apart(name: str, tmp_path: Path) -> None:
    recipe = {"num_samples": 2, "batch_size": 2}
    run_cell(text_cell(model=family(name), rank=32, recipe=recipe), tmp_path)
    assert values(tmp_path, "score", "exact_match") == [1.0, 1.0]


def test_where_the_release_spans_everything_its_keys_prove_the_sentence(tmp_path: Path) -> None:
    run_cell(text_cell(rank=6), tmp_path)
    assert values(tmp_path, "attack", "verdict") == [2.0, 2.0]
    assert values(tmp_path, "score", "exact_match") == [1.0, 1.0]
    assert values(tmp_path, "score", "false_certificates") == [0.0, 0.0]


def test_without_keys_a_release_that_spans_everything_proves_nothing(tmp_path: Path) -> None:
    run_cell(text_cell(rank=6, inversion={"kind": "span", "keys": False}), tmp_path)
    assert values(tmp_path, "attack", "verdict") == [0.0, 0.0]
    assert values(tmp_path, "score", "certified") == [0.0, 0.0]
    ranked, unigram = (values(tmp_path, "score", f"recall_ranked{end}") for end in ("", "_unigram"))
    assert sum(ranked) > sum(unigram)


ALL_LINEAR = {
    "bert": ["query", "key", "value", "dense"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


def everywhere(name: str, steps: int) -> dict[str, Any]:
    optimiser = {"kind": "sgd", "learning_rate": 0.01}
    return {"lora": {"target_modules": ALL_LINEAR[name]}, "steps": steps, "optimiser": optimiser}


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_adapters_on_all_linear_layers_give_the_sentence_away(name: str, tmp_path: Path) -> None:
    run_cell(text_cell(model=family(name), recipe=everywhere(name, 20)), tmp_path)
    assert values(tmp_path, "score", "exact_match") == [1.0, 1.0]
    assert min(values(tmp_path, "attack", "verdict")) >= 1.0
    assert values(tmp_path, "score", "false_certificates") == [0.0, 0.0]


def test_keys_that_were_trained_prove_nothing(tmp_path: Path) -> None:
    run_cell(text_cell(rank=6, recipe=everywhere("bert", 20)), tmp_path)
    assert values(tmp_path, "attack", "verdict") == [0.0, 0.0]
    assert values(tmp_path, "score", "false_certificates") == [0.0, 0.0]


def test_the_attack_needs_nothing_of_the_victim(tmp_path: Path) -> None:
    stages = run_cell(text_cell(), tmp_path)
    for part in ("victim", "private"):
        shutil.rmtree(tmp_path / part)
    run_stage(stages["attack"], tmp_path, tmp_path / "again")
    one, two = ((tmp_path / name / "recovered.json").read_bytes() for name in ("attack", "again"))
    assert one == two
    readers = {stage.name for stage in stages.values() if {"victim", "private"} & set(stage.inputs.values())}
    assert readers == {"victim", "publish", "score"}


def test_lora_on_no_first_layer_module_is_refused() -> None:
    lora = {"lora": {"target_modules": ["output.dense"]}}
    with pytest.raises(InvalidInput) as caught:
        phases.check((text_cell(recipe=lora),))
    assert is_one_line(caught.value, "output.dense", "first block", "query")
