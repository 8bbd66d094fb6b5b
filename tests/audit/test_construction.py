"""Leaks by construction, each on a real adapter that PEFT has made; and every method of PEFT, analysed or named."""

from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftType, VeraConfig, get_peft_model

from audit.checks.seeds import COMMON_SEEDS, find_starts, stream_of
from audit.report import Severity
from audit.run import audit_adapter
from audit.subject import read_subject
from audit.variants import ANALYSED, NOT_ANALYSED, OPTIONS
from benchmarks.audit_makers import LEAKS, Small, ordinary, seeded, start, train

SLOW = ("eva", "corda", "lora_ga")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow) if one in SLOW else one for one in LEAKS])
def test_a_leak_by_construction_is_found(name: str, tmp_path: Path) -> None:
    make, rules = LEAKS[name]
    make(tmp_path / "a")
    found = {one.rule: one for one in audit_adapter(tmp_path / "a").findings}
    assert set(rules) <= set(found)
    others = {rule for rule, one in found.items() if one.severity.level > 0} - set(rules)
    assert others == set()


@pytest.mark.parametrize("number", range(3))
def test_none_is_claimed_on_an_ordinary_adapter(number: int, tmp_path: Path) -> None:
    ordinary(tmp_path / "a", number)
    report = audit_adapter(tmp_path / "a")
    assert report.at_or_above(Severity.LOW) == ()
    assert report.verdicts and "no proof" in report.disclaimer


def test_the_tokens_of_an_embedding_are_those_that_were_seen(tmp_path: Path) -> None:
    model, rng = start(target_modules=["embed"])
    train(model, rng, steps=2)
    model.save_pretrained(str(tmp_path / "a"), save_embedding_layers=False)
    a = model.get_parameter("base_model.model.embed.lora_embedding_A.default")
    (found,) = [one for one in audit_adapter(tmp_path / "a").findings if one.rule == "embedding-rows"]
    assert found.numbers["tokens"] == int((a != 0).any(0).sum()) <= 96


@pytest.mark.parametrize("seed", [0, 42, 2024])
def test_a_start_is_made_again_from_its_seed_though_training_has_moved_it(seed: int, tmp_path: Path) -> None:
    seeded(tmp_path / "a", seed)
    (found,) = [one for one in audit_adapter(tmp_path / "a").findings if one.rule == "seeded-start"]
    assert found.numbers["seed"] == seed
    assert 0.9 < found.numbers["correlation"] < 1 - 1e-6
    assert found.num_places == 6


def test_the_stream_of_a_seed_is_what_peft_draws() -> None:
    torch.manual_seed(42)
    assert torch.equal(stream_of(42, 100), (torch.rand(100) - 0.5) * 12**0.5)


def test_chance_makes_no_start() -> None:
    rng = torch.Generator().manual_seed(987654321)
    random = {str(number): torch.rand(512, generator=rng) - 0.5 for number in range(6)}
    assert find_starts(random, 1 << 16) == ()
    assert 987654321 not in COMMON_SEEDS


@pytest.mark.slow
def test_an_orthogonal_start_is_told_though_the_configuration_denies_it(tmp_path: Path) -> None:
    LEAKS["eva"][0](tmp_path / "a")
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace('"eva"', "true"))
    assert "orthogonal-start" in {one.rule for one in audit_adapter(tmp_path / "a").findings}


def test_every_method_of_peft_is_analysed_or_named() -> None:
    assert {one.value for one in PeftType} - set(ANALYSED) - set(NOT_ANALYSED) == set()
    assert set(OPTIONS) <= set(LoraConfig.__dataclass_fields__)


@pytest.mark.parametrize("config", [LoHaConfig, LoKrConfig, VeraConfig])
def test_another_method_is_named_as_not_analysed_and_no_attack_is_denied(config: type, tmp_path: Path) -> None:
    targets = ["q_proj"]
    model = get_peft_model(Small(), config(r=4, target_modules=targets))
    train(model, torch.Generator().manual_seed(1))
    model.save_pretrained(str(tmp_path))
    report = audit_adapter(tmp_path)
    assert any("PEFT's" in gap.what for gap in report.not_analysed)
    assert {one.status for one in report.verdicts} == {"out_of_calibration"}


def test_dora_is_out_of_calibration(tmp_path: Path) -> None:
    model, rng = start(use_dora=True)
    train(model, rng)
    model.save_pretrained(str(tmp_path))
    report = audit_adapter(tmp_path)
    assert report.adapter.method == "LoRA + DoRA"
    assert report.verdicts[0].status == "out_of_calibration"


def test_scales_are_those_of_peft(tmp_path: Path) -> None:
    for number, options in enumerate(
        [{"use_rslora": True}, {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"layers.1.v_proj": 3}}, {"r": 2}]
    ):
        model, _ = start(**options)  # pyright: ignore[reportArgumentType]
        model.save_pretrained(str(tmp_path / str(number)))
        for name, pair in read_subject(tmp_path / str(number)).layout.pairs.items():
            layer = model.get_submodule(f"base_model.model.{name}")
            assert pair.scale == pytest.approx(layer.scaling["default"]), name  # pyright: ignore
