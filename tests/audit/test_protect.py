"""Remedies, each held against the audit that is run after it, and against what the adapter does to its base."""

import copy
from pathlib import Path

import pytest
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from audit.protect import Remedies, protect_adapter
from benchmarks.audit_makers import LEAKS, WEIGHTS, batch, start, train
from bridge_core.errors import InvalidInput, NotApplicable

pytestmark = pytest.mark.filterwarnings("ignore")
REMEDIED = ["lora_ga", "eva", "corda", "converted", "Trainer's files", "seed 42", "few inputs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEDIED)
def test_a_remedy_takes_the_finding_away(name: str, tmp_path: Path) -> None:
    make, rules = LEAKS[name]
    make(tmp_path / "a")
    done = protect_adapter(tmp_path / "a", tmp_path / "b", Remedies())
    assert set(rules) <= set(done.gone)
    assert {one.severity.value for one in done.after.findings} == {"info"}


def test_a_header_is_stripped_where_factors_are_kept(tmp_path: Path) -> None:
    make, rules = LEAKS["kohya's header"]
    make(tmp_path / "a")
    with pytest.raises(NotApplicable, match="keep-factors"):
        protect_adapter(tmp_path / "a", tmp_path / "b", Remedies())
    done = protect_adapter(tmp_path / "a", tmp_path / "b", Remedies(refactor=False))
    assert set(rules) <= set(done.gone)


@pytest.mark.parametrize("name", ["embedding rows", "modules_to_save"])
def test_what_no_remedy_hides_is_told_to_remain(name: str, tmp_path: Path) -> None:
    make, rules = LEAKS[name]
    make(tmp_path / "a")
    done = protect_adapter(tmp_path / "a", tmp_path / "b", Remedies())
    assert set(rules) <= {one.rule for one in done.after.findings}


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "error"), [(None, 1e-5), ("bfloat16", 3e-2)])
def test_the_protected_adapter_does_what_the_adapter_did(dtype: str | None, error: float, tmp_path: Path) -> None:
    model, rng = start(target_modules=["q_proj", "v_proj", "embed"], rank_pattern={"v_proj": 4})
    base = copy.deepcopy(model).unload()
    train(model, rng, steps=20)
    model.save_pretrained(str(tmp_path / "a"), save_embedding_layers=False)
    protect_adapter(tmp_path / "a", tmp_path / "b", Remedies(dtype=dtype))
    ids, _ = batch(rng)
    plain = base(ids)
    again = PeftModel.from_pretrained(base, str(tmp_path / "b"))
    set_peft_model_state_dict(again, load_file(tmp_path / "b" / WEIGHTS))
    change = model(ids) - plain
    assert (again(ids) - model(ids)).norm() < error * change.norm()


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    LEAKS["seed 42"][0](tmp_path / "a")
    with pytest.raises(InvalidInput, match="there already"):
        protect_adapter(tmp_path / "a", tmp_path / "a", Remedies())
    assert (tmp_path / "a" / WEIGHTS).exists()
