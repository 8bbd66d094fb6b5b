"""What can not work is refused before anything is written, in one line; what can is let through."""

from typing import Any

import pytest

from bridge_core import phases
from bridge_core import spec as s
from bridge_core.errors import InvalidInput, UnknownName
from tests.core.examples import is_one_line

GOOD: dict[str, Any] = {
    "model": {"kind": "vit", "depth": 1, "width": 16, "heads": 2, "patch": 4},
    "rank": 2,
    "dataset": {"proxy": "digits", "private": "digits", "image_size": 8},
    "prior": "none",
    "recipe": {},
    "bridge": "direct",
    "inversion": "dlg",
    "knowledge": {},
    "seed": 0,
    "num_secrets": 1,
}
PISSA = {"recipe": {"lora": {"init_lora_weights": "pissa"}}}


def cell(**changes: Any) -> s.Cell:
    return s.Cell.model_validate(GOOD | changes, strict=False)


def refused(one: s.Cell, *words: str) -> None:
    for cells in ((one,), (cell(), one)):
        with pytest.raises(InvalidInput) as caught:
            phases.check(cells)
        assert is_one_line(caught.value, *words)
        assert caught.value.exit_code == 2 and caught.value.remedy


@pytest.mark.parametrize("bridge", ["oracle", "projection", "row_mmse", "ridge", "mlp", "direct"])
@pytest.mark.parametrize("inversion", ["dlg", "inverting_gradients", "gauss_newton"])
def test_what_can_work_is_let_through(bridge: str, inversion: str) -> None:
    phases.check((cell(bridge=bridge, inversion=inversion),))


def test_pissa_is_let_through_with_the_oracle() -> None:
    phases.check((cell(bridge="oracle", **PISSA),))


@pytest.mark.parametrize("rank", [17, 4096])
def test_a_rank_larger_than_a_layer(rank: int) -> None:
    refused(cell(rank=rank), f"rank {rank}", "16 x 16", "at most 16")


def test_the_largest_rank_is_let_through() -> None:
    phases.check((cell(rank=16),))


def test_no_matching_module_names_those_that_are_there() -> None:
    words = ("query, value", "match no", "q_proj", "v_proj")
    refused(cell(model=GOOD["model"] | {"target_modules": ["query", "value"]}), *words)
    refused(cell(recipe={"lora": {"target_modules": ["query", "value"]}}), *words)


@pytest.mark.parametrize("bridge", ["projection", "row_mmse", "ridge", "mlp", "direct"])
def test_bridges_from_measurements_need_b_at_zero(bridge: str) -> None:
    refused(cell(bridge=bridge, **PISSA), bridge, "pissa", "oracle")


def test_labels_to_be_searched_by_an_inversion_that_needs_them() -> None:
    told = {"secret_labels": "searched"}
    refused(cell(knowledge=told, inversion="dlg"), "dlg", "labels", "gauss_newton")
    phases.check((cell(knowledge=told, inversion="gauss_newton"),))


def test_a_priors_pipeline_that_is_not_there() -> None:
    missing = {"kind": "guide", "diffusion": {"kind": "pipeline", "source": "./no-such-folder"}}
    refused(cell(prior=missing, inversion="gauss_newton"), "./no-such-folder", "model_index.json", "save_pretrained")


def test_gauss_newton_needs_measurements_whatever_the_bridge() -> None:
    refused(cell(bridge="oracle", inversion="gauss_newton", **PISSA), "gauss_newton", "pissa")


def test_a_ridge_that_needs_more_memory_than_there_is() -> None:
    wide = {"kind": "vit", "depth": 1, "width": 768, "heads": 4, "patch": 4}
    refused(cell(model=wide, bridge="ridge", rank=16), "ridge", "GiB", "row_mmse")


def test_a_patch_that_does_not_divide_the_image() -> None:
    refused(cell(model=GOOD["model"] | {"patch": 3}), "patch 3", "8 pixels")


@pytest.mark.parametrize("side", ["proxy", "private"])
def test_a_source_that_is_not_there(side: str) -> None:
    dataset = GOOD["dataset"] | {side: {"kind": "parquet", "path": "none/*.parquet"}}
    with pytest.raises(UnknownName) as caught:
        phases.check((cell(dataset=dataset),))
    assert is_one_line(caught.value, "none/*.parquet")


def test_private_labels_beyond_the_head() -> None:
    refused(cell(dataset=GOOD["dataset"] | {"num_classes": 2}), "10 classes", "num_classes")


def test_a_model_folder_that_is_not_there() -> None:
    with pytest.raises(UnknownName) as caught:
        phases.check((cell(model={"kind": "folder", "path": "none/here"}),))
    assert is_one_line(caught.value, "none/here")
