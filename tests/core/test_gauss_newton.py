"""From a released adapter to the exact secret image: every station real, on 8x8 digits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.facts import Fact, read_facts
from bridge_core.phases import start
from bridge_core.release import Factors, Release
from tests.core.cells import TINY, run_cell

MODEL = {"kind": "vit", "depth": 2, "width": 48, "heads": 4, "patch": 2, "pretraining": {"epochs": 10}}
INVERSION = {"kind": "gauss_newton", "restarts": 2, "start": {"num_pairs": 6000, "hidden": 256}}
CELL: dict[str, Any] = TINY | {"model": MODEL, "rank": 8, "num_secrets": 3, "inversion": INVERSION}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished cell."""
    folder = tmp_path_factory.mktemp("digits")
    run_cell(s.Cell.model_validate_json(json.dumps(CELL)), folder)
    return folder


def values(facts: list[Fact], name: str) -> list[float]:
    return [fact.value for fact in facts if fact.name == name]


def test_most_secrets_come_back_exactly_from_the_released_adapters(folder: Path) -> None:
    facts = read_facts(folder / "score")
    psnr, mean_image = values(facts, "psnr"), values(facts, "psnr_mean_image")
    assert sum(value > 60 for value in psnr) >= 2
    assert max(mean_image) < 15
    pictures = load_file(folder / "score" / "images.safetensors")
    exact = (pictures["truth"] == pictures["recovered"]).flatten(1).all(1)
    assert int(exact.sum()) == sum(value > 60 for value in psnr)


def test_the_start_is_better_than_the_mean_image_and_worse_than_the_end(folder: Path) -> None:
    facts = read_facts(folder / "score")
    mean = {name: sum(values(facts, name)) for name in ("psnr", "psnr_start", "psnr_mean_image")}
    assert mean["psnr"] > mean["psnr_start"] + 60
    assert mean["psnr_start"] > mean["psnr_mean_image"]


def test_a_met_target_is_told_by_its_loss(folder: Path) -> None:
    losses = values(read_facts(folder / "attack"), "final_matching_loss")
    psnr = values(read_facts(folder / "score"), "psnr")
    assert all(loss < 1e-9 for loss, value in zip(losses, psnr, strict=True) if value > 60)


def test_a_start_serves_its_own_a_alone(folder: Path) -> None:
    one = Factors(torch.rand(8, 48), torch.rand(48, 8), 1.0)
    with pytest.raises(NotApplicable, match="no start's"):
        start.serving(folder / "start", Release({"some": one}, torch.float32, {}))
