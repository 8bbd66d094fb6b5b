"""Decoders of text gradients: cells through all phases, the dual ridge against the primal one, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_core import phases
from bridge_core import spec as s
from bridge_core.decoders.linear import unit
from bridge_core.errors import InvalidInput, NotApplicable
from bridge_core.facts import read_facts
from bridge_core.gradients import Tap
from bridge_core.phases import publish, text_attack, text_decoder
from bridge_core.phases.text_victim import read_sealed_text
from bridge_core.seeding import generator
from bridge_core.spec import text as t
from bridge_core.text.batches import Batch, encode
from bridge_core.text.corpus import load_sentences
from bridge_core.text.decoding import decoded_modules, fit_bytes, pairs_of
from bridge_core.text.dual import DualRidge, DualRidgeSum
from bridge_core.text.metrics import recall_at
from bridge_core.text.models import Language, build_language, first_inputs
from bridge_core.text.recover import NOTHING, read_recovered
from bridge_core.text.span import by_token, probes_of, ranking
from bridge_core.text.stream import stream, tap
from tests.core.cells import run_cell
from tests.core.examples import is_one_line
from tests.core.text.test_cells import family, text_cell, values
from tests.core.text.test_stream import CORPUS, modules_of

RANK = 6
RIDGE: dict[str, Any] = {"kind": "ridge", "num_pairs": 400, "ridge": 0.1}
MLP: dict[str, Any] = {"kind": "mlp", "num_pairs": 640, "hidden": 16}
COLUMNS = ("", "_projection", "_mean_gradient", "_floor")


def language() -> Language:
    return build_language(t.TinyText(width=32, heads=2, vocabulary=400), load_sentences(t.Canaries(), 2).texts, 2)


def sentences(model: Language) -> Batch:
    return encode(model, load_sentences(t.Canaries(), 2), CORPUS)


def matrices(modules: tuple[str, ...], rank: int = 4, width: int = 32) -> dict[str, Tensor]:
    return {name: torch.randn(rank, width, generator=generator(0, name)) for name in modules}


def by_module(folder: Path, stage: str, name: str) -> list[float]:
    return [fact.value for fact in read_facts(folder / stage) if fact.name == name and fact.module is not None]


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of cells that differ in their bridge alone."""
    found: dict[str, Path] = {}
    for name, bridge in {"projection": "projection", "row_mmse": "row_mmse", "ridge": RIDGE, "mlp": MLP}.items():
        found[name] = tmp_path_factory.mktemp(name)
        run_cell(text_cell(rank=RANK, bridge=bridge), found[name])
    return found


@pytest.mark.parametrize("bridge", ["projection", "row_mmse", "ridge", "mlp"])
def test_held_out_and_victims_cosines_stand_beside_their_controls(decoded: dict[str, Path], bridge: str) -> None:
    folder = decoded[bridge]
    assert values(folder, "decoder", "num_heldout")[0] >= 4
    for stage, prefix, count in (("decoder", "heldout_cosine", 6), ("score", "gradient_cosine", 12)):
        found = {end: by_module(folder, stage, prefix + end) for end in COLUMNS}
        assert {len(each) for each in found.values()} == {count}
        assert found["_floor"] == pytest.approx([(RANK / 64) ** 0.5] * count)
        pairs = list(zip(found[""], found["_projection"], strict=True))
        if bridge == "projection":
            assert all(one == pytest.approx(other, abs=1e-5) for one, other in pairs)
        else:
            assert all(one > other + 0.05 for one, other in pairs)


@pytest.mark.parametrize("bridge", ["projection", "row_mmse", "ridge", "mlp"])
def test_what_is_handed_over_is_near_the_victims_gradient(decoded: dict[str, Path], bridge: str) -> None:
    folder = decoded[bridge]
    saved, told = text_attack.read_decoded(folder / "attack"), values(folder, "score", "gradient_cosine")
    truths = [read_sealed_text(folder / "victim", number).gradients for number in range(2)]
    cosines = [
        float((one / one.norm() * saved[name][number]).sum())
        for name in saved
        for number, one in enumerate(truth[name] for truth in truths)
    ]
    assert cosines == pytest.approx(told, abs=1e-4)


@pytest.mark.parametrize("bridge", ["projection", "row_mmse", "ridge", "mlp"])
def test_a_decoded_gradient_proves_nothing(decoded: dict[str, Path], bridge: str) -> None:
    folder = decoded[bridge]
    for one in read_recovered(folder / "attack" / text_attack.FILE):
        assert (one.verdict, one.certified, any(one.sure)) == (NOTHING, [], False)
        assert len(one.ranked) > 100 and "decoded" in one.why
    assert values(folder, "score", "certified") == values(folder, "score", "false_certificates") == [0.0, 0.0]


@pytest.mark.parametrize(("name", "bridge"), [("bert", "projection"), ("gpt2", "row_mmse")])
def test_nothing_is_claimed_where_the_release_itself_would_prove_the_sentence(
    name: str, bridge: str, tmp_path: Path
) -> None:
    run_cell(text_cell(model=family(name), bridge=bridge, num_secrets=1), tmp_path)
    assert values(tmp_path, "attack", "verdict") == [0.0]


@pytest.mark.parametrize(("share", "least", "most"), [(1e-8, 0.99, 1.0), (0.5, 0.0, 0.9)])
def test_a_ranking_is_as_good_as_the_error_it_is_told(share: float, least: float, most: float) -> None:
    model = language()
    batch = sentences(model)[torch.arange(5)]
    modules, table = model.readers(0)[2:], first_inputs(model, CORPUS.max_tokens)
    gradients, recalls = unit(tap(model, batch, modules)[modules[0]].gradient()), list[float]()
    for ids, gradient in zip(batch.sentences(), gradients, strict=True):
        error = torch.full_like(gradient, (share / gradient.numel()) ** 0.5)
        noisy = gradient + error * torch.randn(gradient.shape, generator=generator(0))
        probes = probes_of({modules[0]: noisy}, {modules[0]: error}, None, modules)
        recalls.append(recall_at(by_token(ranking(probes, table)), set(ids), len(set(ids))))
    assert least <= sum(recalls) / len(recalls) <= most


def test_the_dual_ridge_decodes_as_the_primal_one_in_float64() -> None:
    model, penalty = language(), 0.1
    batch, modules = sentences(model), modules_of(model)
    a, fit = matrices(modules), DualRidgeSum(matrices(modules), penalty)
    pairs = list(stream(model, batch, modules, 70, generator(0)))
    for one in pairs:
        fit.add(one)
    apart = next(stream(model, batch, modules, 5, generator(1)))
    decoded = fit.decoder().decode({name: one.measurement(a[name]) for name, one in apart.taps.items()})
    for name, found in decoded.items():
        m, g = (torch.cat([part(one.taps[name]).flatten(1) for one in pairs]) for part in (measured(a[name]), truth))
        normal = m.T @ m
        normal += penalty * normal.diagonal().mean() * torch.eye(len(normal))
        wanted = measured(a[name])(apart.taps[name]).flatten(1) @ torch.linalg.solve(normal, m.T @ g)
        torch.testing.assert_close(found.flatten(1).double(), unit(wanted), rtol=0, atol=1e-5)


def measured(a: Tensor) -> Callable[[Tap], Tensor]:
    return lambda tap: unit(tap.measurement(a).double())


def truth(tap: Tap) -> Tensor:
    return unit(tap.gradient().double())


def test_a_ridge_without_a_penalty_gives_its_own_pairs_back() -> None:
    model = language()
    batch, modules = sentences(model), modules_of(model)
    a = matrices(modules)
    fit = DualRidgeSum(a, 1e-9)
    pairs = next(stream(model, batch, modules, 20, generator(0)))
    fit.add(pairs)
    decoder = fit.decoder()
    found = decoder.decode({name: one.measurement(a[name]) for name, one in pairs.taps.items()})
    for name, one in pairs.taps.items():
        torch.testing.assert_close(found[name], unit(one.gradient()), rtol=0, atol=5e-3)


def test_a_ridge_is_shown_every_sentence_once() -> None:
    assert pairs_of(s.Ridge(num_pairs=50_000), 900, 1) == 900
    assert pairs_of(s.Ridge(num_pairs=500), 900, 1) == 500
    assert pairs_of(s.Ridge(num_pairs=5000), 900, 2) == 5000
    assert pairs_of(s.Mlp(num_pairs=5000), 900, 1) == 5000
    assert pairs_of(s.RowMmse(), 900, 1) == 0


def test_decoders_read_back_decode_alike(decoded: dict[str, Path]) -> None:
    for name, bridge in {"row_mmse": s.RowMmse(), "ridge": s.Ridge(), "mlp": s.Mlp(hidden=16)}.items():
        decoding = text_decoder.read_decoding(bridge, decoded[name] / "decoder")
        assert isinstance(decoding.decoders[0], DualRidge) == (name == "ridge")
        release = publish.read_releases(decoded[name] / "publish")[0]
        found, errors = decoding.of(release, {n: one.b for n, one in release.factors.items()})
        assert found.keys() == errors.keys() == set(decoded_modules_of(decoded[name]))
        for module, one in errors.items():
            assert float(one.square().sum()) == pytest.approx(decoding.shares[module], rel=1e-4)
        other = publish.read_releases(decoded["mlp"] / "publish")[0]
        for factors in other.factors.values():
            factors.a.neg_()
        with pytest.raises(NotApplicable):
            decoding.of(other, {})


def decoded_modules_of(folder: Path) -> list[str]:
    return [fact.module for fact in read_facts(folder / "decoder") if fact.name == "heldout_cosine" and fact.module]


def test_modules_of_the_first_blocks_are_decoded() -> None:
    knobs = t.TinyText(width=32, heads=2, vocabulary=400, depth=5)
    model = build_language(knobs, load_sentences(t.Canaries(), 2).texts, 2)
    every = modules_of(model)
    assert (len(every), len(decoded_modules(model, every))) == (10, 6)
    assert decoded_modules(model, ("classifier",)) == ()


@pytest.mark.parametrize("bridge", ["projection", "row_mmse", RIDGE, MLP])
def test_bridges_that_fit_are_let_through(bridge: str | dict[str, Any]) -> None:
    phases.check((text_cell(rank=RANK, bridge=bridge),))


def test_bridges_from_measurements_need_b_at_zero() -> None:
    with pytest.raises(InvalidInput, match="row_mmse on init_lora_weights pissa"):
        phases.check((text_cell(bridge="row_mmse", recipe={"lora": {"init_lora_weights": "pissa"}}),))


@pytest.mark.parametrize("kind", ["ridge", "mlp"])
def test_augmentation_of_sentences_is_refused(kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        phases.check((text_cell(bridge={"kind": kind, "num_pairs": 100, "augment": "broad"}),))
    assert is_one_line(caught.value, kind, "broad", "sentences")


@pytest.mark.parametrize("bridge", [{"kind": "ridge"}, {"kind": "mlp", "hidden": 4096}])
def test_a_fit_that_is_too_large_is_refused_with_its_size_and_a_remedy(bridge: dict[str, Any]) -> None:
    wide = text_cell(rank=16, bridge=bridge, model=family("bert") | {"width": 512, "heads": 8})
    with pytest.raises(InvalidInput) as caught:
        phases.check((wide,))
    assert is_one_line(caught.value, bridge["kind"], "GiB", "at most 4 GiB", "row_mmse")


def test_the_dual_needs_far_less_where_pairs_are_few() -> None:
    shapes = {"query": (384, 384), "value": (384, 384)}
    small, large = (fit_bytes(s.Ridge(num_pairs=n), shapes, 8, 15) for n in (1000, 50_000))
    assert small < 1 << 29 < 3 << 30 < large
    assert fit_bytes(s.RowMmse(), shapes, 8, 15) == 0
    assert fit_bytes(s.Mlp(hidden=64), shapes, 8, 15) < fit_bytes(s.Mlp(hidden=512), shapes, 8, 15)
    assert fit_bytes(s.Ridge(inputs="all", components=512), shapes, 8, 15) > 0
