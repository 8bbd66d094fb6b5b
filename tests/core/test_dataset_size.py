"""The number of samples: spectra against slow references, and zoos of real PEFT adapters."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge_core import spec as s
from bridge_core.data import is_heldout, load_images
from bridge_core.errors import InvalidInput, NotApplicable
from bridge_core.estimate.dataset_size import METHODS, estimate_size, predict
from bridge_core.estimate.evaluation import cross_validated, evaluate, measured
from bridge_core.estimate.members import micro_datasets, recipe_for, train_members
from bridge_core.estimate.spectra import product_spectrum, spectra
from bridge_core.estimate.zoo import Zoo, make_zoo, read_zoo, recipe_mismatch, save_zoo
from bridge_core.models import Shape, build
from bridge_core.release import Release, read_release

VIT = s.Vit(depth=2, width=16, heads=2, patch=4)
SIZES, NUM_GROUPS = (1, 2, 3), 8
ONE_STEP = s.Recipe()


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_the_spectrum_of_the_product_is_that_of_the_full_matrix(rank: int, out: int, width: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, width, generator=rng).double(), torch.randn(out, rank, generator=rng).double()
    fast, slow = product_spectrum(a, b), torch.linalg.svdvals(b @ a)
    shared = min(len(fast), len(slow))
    assert torch.allclose(fast[:shared], slow[:shared], atol=1e-12 * max(1.0, float(slow[0])))
    assert fast[shared:].abs().sum() == 0 or float(fast[shared:].max()) < 1e-12 * float(slow[0])


def _trained(
    folder: Path, recipe: s.Recipe, seed: int = 0, rank: int = 6, num_groups: int = 1
) -> tuple[list[Release], list[int], list[int]]:
    images = load_images(s.Digits(), 8, 1)
    model = build(VIT, Shape(1, 8, 10)).requires_grad_(False)
    groups = [*enumerate(micro_datasets(images[is_heldout(images)], num_groups, max(SIZES), seed))]
    knobs = s.ZooMembersPhase(
        model=VIT,
        rank=rank,
        recipe=recipe,
        full_batch=True,
        sizes=SIZES,
        micro_datasets=num_groups,
        first=0,
        last=num_groups,
        seed=seed,
    )
    members = train_members(model, knobs, groups, folder)
    releases = [read_release(folder / one.folder) for one in members]
    return releases, [one.size for one in members], [one.group for one in members]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Release], list[int], list[int]]:
    return _trained(tmp_path_factory.mktemp("zoo"), ONE_STEP, num_groups=NUM_GROUPS)


@pytest.fixture(scope="module")
def zoo(trained: tuple[list[Release], list[int], list[int]]) -> Zoo:
    return make_zoo(*trained, ONE_STEP, full_batch=True)


def test_members_are_peft_folders_of_the_recipe(trained: tuple[list[Release], list[int], list[int]]) -> None:
    releases, sizes, groups = trained
    assert sorted(set(sizes)) == list(SIZES) and len(releases) == len(SIZES) * NUM_GROUPS == len(groups)
    first = [one.factors[releases[0].modules[0]].a for one in releases]
    assert all(not torch.equal(first[0], other) for other in first[1:])


def test_after_one_step_the_rank_is_the_number_of_images(zoo: Zoo) -> None:
    assert (cross_validated(zoo, "rank") == zoo.sizes).all()


def test_trees_tell_the_size_where_one_nearest_neighbour_of_norms_does_not(zoo: Zoo) -> None:
    found = {name: measured(zoo, cross_validated(zoo, name), name) for name in ("extra_trees", "frobenius", "constant")}
    assert found["extra_trees"].accuracy.value >= 0.9
    assert found["extra_trees"].mae.value < min(found[name].mae.value for name in ("frobenius", "constant"))


def test_shuffled_sizes_give_chance(zoo: Zoo) -> None:
    shuffled = next(one for one in evaluate(zoo, ("extra_trees",)) if one.shuffled)
    assert shuffled.accuracy.low <= 1 / len(SIZES) <= shuffled.accuracy.high


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_with_sizes_of_the_zoo(zoo: Zoo, method: str) -> None:
    told = predict(method, zoo, zoo.only(np.arange(4)).spectra)  # pyright: ignore[reportArgumentType]
    assert len(told) == 4 and set(told[~np.isnan(told)].astype(int)) <= set(SIZES)


def test_no_micro_dataset_is_known_and_asked(zoo: Zoo) -> None:
    """A method that learns groups by heart must gain nothing: with each group's sizes its own, none can be told."""
    own = Zoo(zoo.groups * 10 + 1, zoo.groups, zoo.spectra, zoo.origin)
    assert (cross_validated(own, "dsire") != own.sizes).all()


def test_a_zoo_comes_back_from_its_folder(zoo: Zoo, tmp_path: Path) -> None:
    save_zoo(zoo, tmp_path)
    back = read_zoo(tmp_path)
    assert back.origin == zoo.origin and (back.sizes == zoo.sizes).all()
    assert all((back.spectra[key] == value).all() for key, value in zoo.spectra.items())


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"recipe": {"steps": "many"}}'])
def test_a_broken_zoo_is_refused_in_one_line(zoo: Zoo, tmp_path: Path, text: str) -> None:
    save_zoo(zoo, tmp_path)
    (tmp_path / "zoo.json").write_text(text)
    with pytest.raises(InvalidInput, match="no whole zoo"):
        read_zoo(tmp_path)


def test_an_estimate_of_a_strange_micro_dataset(zoo: Zoo, tmp_path: Path) -> None:
    releases, sizes, _ = _trained(tmp_path, ONE_STEP, seed=1)
    found = [estimate_size(one, zoo) for one in releases]
    assert [one.num_samples for one in found] == sizes == [one.rank for one in found]
    assert all(abs(sum(one.probabilities.values()) - 1) < 1e-9 for one in found)


def test_another_recipe_is_warned_of(
    zoo: Zoo, trained: tuple[list[Release], list[int], list[int]], tmp_path: Path
) -> None:
    assert not recipe_mismatch(trained[0][0], zoo.origin)
    other = _trained(tmp_path, s.Recipe(optimiser=s.AdamW(), save_dtype="float16"))[0][0]
    warnings = " ".join(recipe_mismatch(other, zoo.origin))
    assert "adamw" in warnings and "float16" in warnings
    scaled = replace(zoo.origin, scales={name: 2 * x for name, x in zoo.origin.scales.items()})
    assert "scale" in " ".join(recipe_mismatch(trained[0][0], scaled))


def test_another_rank_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    other = _trained(tmp_path, ONE_STEP, rank=4)[0][0]
    with pytest.raises(NotApplicable, match="unlike the zoo's"):
        estimate_size(other, zoo)


def test_the_recipe_is_told_for_each_size() -> None:
    recipe = s.Recipe(num_samples=4, batch_size=4)
    assert recipe_for(recipe, 9, full_batch=True).batch_size == 9
    assert recipe_for(recipe, 2, full_batch=False).batch_size == 2
    assert json.loads(json.dumps(s.content(recipe_for(recipe, 9, full_batch=False))))["batch_size"] == 4


def test_spectra_have_the_optimiser_undone_where_a_recipe_tells_how(
    trained: tuple[list[Release], list[int], list[int]],
) -> None:
    release = trained[0][0]
    assert {key.rpartition("/")[2] for key in spectra(release)} == {"A", "B", "BA"}
    assert {key.rpartition("/")[2] for key in spectra(release, ONE_STEP)} == {"A", "B", "BA", "M"}
