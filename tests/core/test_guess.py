"""The recipe guessed from real PEFT adapters, and what is said where it can not be told."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.gradients import tap
from bridge_core.guess import Guess, estimate_learning_rate, guess_recipe, numerical_rank
from bridge_core.release import read_release
from tests.core.examples import adapter, is_one_line, network, pictures, victim

KINDS = ("vit", "convnet")
SMALL_STEPS = ((1, 1), (3, 1), (3, 3), (10, 1))


def guessed(kind: str, folder: Path, optimiser: s.Optimiser, steps: int = 1, images: int = 1, **knobs: object) -> Guess:
    """What is guessed of a victim."""
    recipe = s.Recipe.model_validate({"optimiser": optimiser, "steps": steps, "num_samples": images, **knobs})
    victim(kind, folder, recipe, rank=4)
    return guess_recipe(read_release(folder / "release"))


@pytest.mark.parametrize(("learning_rate", "dtype"), [(0.1, "float32"), (0.01, "float16")])
@pytest.mark.parametrize(("steps", "images"), SMALL_STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_sgd_is_told_from_adamw_but_never_trusted_to_be_one_step(
    kind: str, dtype: str, steps: int, images: int, learning_rate: float, tmp_path: Path
) -> None:
    guess = guessed(kind, tmp_path, s.Sgd(learning_rate=learning_rate), steps, images, save_dtype=dtype)
    assert isinstance(guess.recipe.optimiser, s.Sgd)
    assert guess.recipe.save_dtype == dtype
    assert not guess.trusted


@pytest.mark.parametrize("learning_rate", [1e-3, 2e-4, 5e-4])
@pytest.mark.parametrize(("kind", "dtype"), list(product(KINDS, ("float32", "float16"))))
def test_the_learning_rate_of_one_adamw_step_is_exact(
    kind: str, dtype: str, learning_rate: float, tmp_path: Path
) -> None:
    guess = guessed(kind, tmp_path, s.AdamW(learning_rate=learning_rate), save_dtype=dtype)
    assert guess.recipe == s.Recipe.model_validate(
        {"optimiser": s.AdamW(learning_rate=learning_rate), "save_dtype": dtype}
    )
    assert guess.trusted == (dtype == "float32")


@pytest.mark.parametrize(("learning_rate", "dtype"), [(1e-3, "float32"), (2e-4, "float16"), (5e-4, "float32")])
@pytest.mark.parametrize(("steps", "images"), SMALL_STEPS[1:])
@pytest.mark.parametrize("kind", KINDS)
def test_several_adamw_steps_tell_rate_times_steps(
    kind: str, dtype: str, steps: int, images: int, learning_rate: float, tmp_path: Path
) -> None:
    guess = guessed(kind, tmp_path, s.AdamW(learning_rate=learning_rate), steps, images, save_dtype=dtype)
    found = guess.recipe.optimiser
    assert isinstance(found, s.AdamW) and not guess.trusted
    assert found.learning_rate * guess.recipe.steps == pytest.approx(learning_rate * steps, rel=0.06)


def test_three_steps_of_a_moving_a_are_counted(tmp_path: Path) -> None:
    for kind in KINDS:
        recipe = guessed(kind, tmp_path / kind, s.AdamW(learning_rate=1e-3), 3).recipe
        assert (recipe.steps, recipe.optimiser.learning_rate) == (3, 1e-3)


def test_bfloat16_and_a_large_epsilon_are_not_trusted(tmp_path: Path) -> None:
    assert not guessed("vit", tmp_path / "1", s.AdamW(), save_dtype="bfloat16").trusted
    unsaturated = guessed("vit", tmp_path / "2", s.AdamW(epsilon=1e-5))
    assert isinstance(unsaturated.recipe.optimiser, s.AdamW) and not unsaturated.trusted


def test_an_adapter_that_did_not_start_at_zero_is_not_trusted(tmp_path: Path) -> None:
    guess = guessed("vit", tmp_path, s.AdamW(), lora=s.Lora(init_lora_weights="pissa"))
    assert not guess.trusted
    assert any("pissa" in reason for reason in guess.reasons)


def test_an_untrained_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable) as caught:
        guess_recipe(read_release(adapter("vit", network("vit"), tmp_path / "fresh")))
    assert is_one_line(caught.value, "B is zero", "trained adapter")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_rank_of_b_is_the_number_of_inputs_seen(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    b = (torch.randn(40, 5, generator=rng) @ torch.randn(5, 12, generator=rng)).to(dtype).float()
    found = numerical_rank(b, dtype)
    assert found.rank == 5 and found.gap > 50
    assert numerical_rank(torch.zeros(3, 2)).rank == 0
    assert numerical_rank(torch.randn(20, 4, generator=rng)).rank == 4


def test_the_rank_of_a_heads_b_counts_the_images(tmp_path: Path) -> None:
    for images in (1, 2, 3):
        victim("convnet", tmp_path / str(images), s.Recipe(num_samples=images, steps=images), rank=4)
        assert numerical_rank(read_release(tmp_path / str(images) / "release").factors["head"].b).rank == images


@pytest.mark.parametrize("learning_rate", [0.1, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_sgds_rate_comes_from_norms_of_images_like_the_secret(kind: str, learning_rate: float, tmp_path: Path) -> None:
    model, _ = victim(kind, tmp_path, s.Recipe(optimiser=s.Sgd(learning_rate=learning_rate)))
    factors = read_release(tmp_path / "release").factors
    taps = tap(model, *pictures(kind, 64, seed=1), tuple(factors))
    proxy = {n: float(taps[n].measurement(one.a).flatten(1).norm(dim=1).mean()) for n, one in factors.items()}
    b, scale = {n: float(one.b.norm()) for n, one in factors.items()}, {n: one.scale for n, one in factors.items()}
    found = estimate_learning_rate(b, proxy, scale)
    assert learning_rate / 2 < found.learning_rate < learning_rate * 2
    assert 0 < found.spread < 1
    assert math.isnan(estimate_learning_rate({"a": 1.0}, {"a": 2.0}, {"a": 1.0}).spread)


def test_norms_that_are_all_zero_tell_no_rate() -> None:
    with pytest.raises(NotApplicable):
        estimate_learning_rate({"a": 0.0}, {"a": 2.0}, {"a": 1.0})
