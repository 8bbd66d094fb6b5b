from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from jaxtyping import Float64
from torch import Tensor

from bridge_core import spec as s
from bridge_core.evidence import PASS_ERROR, evidence_of
from bridge_core.gradients import weight_matrix
from bridge_core.lora import as_matrix
from bridge_core.release import read_release
from bridge_core.spec import text as t
from bridge_core.text.assembly import Sentence, assemble
from bridge_core.text.batches import Batch, encode, loss_of
from bridge_core.text.corpus import load_sentences, private_part, proxy_part
from bridge_core.text.models import FirstInputs, Language, build_language, first_inputs, target_endings
from bridge_core.text.order import drifts_of
from bridge_core.text.span import Certificate, Probe, certify, probes_of
from bridge_core.text.victim import train_text_victim
from bridge_core.victim import fresh_adapter

BLOCKS, MOST_TOKENS = range(3), 15


@dataclass(frozen=True)
class Case:
    """A release's probes, with what it was trained on."""

    language: Language
    truth: list[list[int]]
    probes: dict[int, list[Probe]]
    errors: dict[str, Float64[Tensor, "out"]]

    @property
    def table(self) -> FirstInputs:
        return first_inputs(self.language, MOST_TOKENS)

    def certificate(self) -> Certificate:
        begin, table = self.language.begin, self.table
        known = None if begin is None else table.at(torch.tensor([begin]), torch.tensor([0]))
        return certify(self.probes[0], table, known)

    def assembled(self, *, errors: bool = True) -> list[Sentence]:
        given = self.errors if errors else None
        return assemble(self.language, self.probes, self.certificate(), self.table, len(self.truth), errors=given)


@cache
def language_of(name: str) -> Language:
    match name:
        case "minilm":
            return build_language(t.MiniLm(), [], 2)
        case "smollm2":
            return build_language(t.SmolLm2(), [], 2)
        case _:
            task = "classification" if name == "bert" else "causal"
            knobs = t.TinyText(family=name, width=128, depth=3, vocabulary=500, task=task)  # pyright: ignore[reportArgumentType]
            return build_language(knobs, load_sentences(t.Canaries(), 2).texts, 2)


@cache
def private(name: str) -> Batch:
    every = load_sentences(t.Canaries(), 2)
    corpus = t.Corpus(proxy=t.Canaries(), private=t.Canaries(), max_tokens=MOST_TOKENS)
    return encode(language_of(name), private_part(every, proxy_part(every)), corpus)


def secret(name: str, num_samples: int, seed: int) -> Batch:
    sentences = private(name)
    return sentences[torch.randperm(len(sentences), generator=torch.Generator().manual_seed(seed))[:num_samples]]


def released(name: str, batch: Batch, rank: int, steps: int = 1, learning_rate: float = 0.1) -> Case:
    """A real adapter, trained by SGD on all sentences at once."""
    language = language_of(name)
    optimiser = s.Sgd(learning_rate=learning_rate)
    recipe = s.Recipe(optimiser=optimiser, steps=steps, num_samples=len(batch), batch_size=len(batch))
    with TemporaryDirectory() as folder:
        start, end = Path(folder) / "start", Path(folder) / "end"
        fresh_adapter(language.model, target_endings(language, None), rank, s.Lora(), 0, start)
        train_text_victim(language, start, batch, recipe, end)
        release = read_release(end)
    evidence = evidence_of(release, recipe)
    drifts = drifts_of({name: one.b for name, one in release.factors.items()}, steps)
    return _case(language, batch, evidence.m, evidence.error, release.measurement_matrices(), drifts)


def exact(name: str, batch: Batch) -> Case:
    """The exact gradient of the query's and the value's module."""
    language = language_of(name)
    names = [one for block in BLOCKS for one in language.readers(block) if "key" not in one and "k_proj" not in one]
    modules: list[Any] = [language.model.get_submodule(one) for one in names]
    weights = [module.weight.requires_grad_(True) for module in modules]
    found = torch.autograd.grad(loss_of(language, language.model, batch), weights)
    for weight in weights:
        weight.requires_grad_(False)
    turned = [weight_matrix(module)[0] != module.weight.shape[0] for module in modules]
    gradients = {one: as_matrix(grad, transposed=turn) for one, grad, turn in zip(names, found, turned, strict=True)}
    errors = {one: torch.full_like(g, PASS_ERROR * float(g.square().mean().sqrt())) for one, g in gradients.items()}
    return _case(language, batch, gradients, errors, None)


def _case(
    language: Language,
    batch: Batch,
    targets: dict[str, Tensor],
    errors: dict[str, Tensor],
    matrices: dict[str, Tensor] | None,
    drifts: dict[str, Tensor] | None = None,
) -> Case:
    probes = {block: probes_of(targets, errors, matrices, language.readers(block), drifts) for block in BLOCKS}
    rows = {name: error.double().square().mean(1).sqrt() for name, error in errors.items()}
    return Case(language, batch.sentences(), probes, rows)


def check(case: Case, found: Sequence[Sentence]) -> None:
    """All sentences, each once, none in doubt."""
    assert sorted(one.ids for one in found) == sorted(case.truth)
    assert all(one.sure for one in found)


@pytest.mark.parametrize(("name", "rank"), [("bert", 32), ("gpt2", 16), ("llama", 16)])
@pytest.mark.parametrize(("steps", "learning_rate"), [(1, 0.1), (20, 0.01)])
def test_one_sentence_comes_back_whole(name: str, rank: int, steps: int, learning_rate: float) -> None:
    case = released(name, secret(name, 1, 0), rank, steps, learning_rate)
    check(case, case.assembled())


def test_a_llama_s_order_needs_the_matrix_that_it_was_trained_with() -> None:
    """A sentence whose loss falls by a quarter in 20 steps: the released A is no longer that of the steps."""
    case = released("llama", secret("llama", 1, 0), 16, 20, 0.03)
    (moved,) = case.assembled()
    assert moved.ids == case.truth[0]
    still = {block: [replace(one, drift=None) for one in probes] for block, probes in case.probes.items()}
    (lost,) = replace(case, probes=still).assembled()
    assert lost.ids != case.truth[0] and not lost.sure


def test_a_token_that_is_not_certified_is_proved_by_the_deeper_blocks() -> None:
    case = released("bert", secret("bert", 1, 0), 32)
    found = case.certificate()
    lost = int(torch.nonzero(found.certain & (found.positions == 5))[0])
    expected = found.log10_expected.clone()
    expected[lost] = 0.0
    holed = replace(found, log10_expected=expected)
    (sentence,) = assemble(case.language, case.probes, holed, case.table, 1)
    assert sentence.ids == case.truth[0] and sentence.sure
    (alone,) = assemble(case.language, {0: case.probes[0]}, holed, case.table, 1)
    assert alone.ids == case.truth[0] and not alone.sure


def test_a_wrong_token_at_a_place_leaves_doubt() -> None:
    case = released("bert", secret("bert", 1, 0), 32)
    found = case.certificate()
    lost = int(torch.nonzero(found.certain & (found.positions == 5))[0])
    unexplained = found.excess.clone()
    unexplained[lost] = torch.inf
    (sentence,) = assemble(case.language, case.probes, replace(found, excess=unexplained), case.table, 1)
    assert sentence.ids[5] != case.truth[0][5] and not sentence.sure


@pytest.mark.parametrize("num_samples", [2, 3])
def test_sentences_of_a_bert_are_separated(num_samples: int) -> None:
    case = exact("bert", secret("bert", num_samples, 1))
    found = case.assembled()
    check(case, found)
    assert max(one.residual for one in found) < 1e-4


def test_sentences_of_a_released_bert_are_separated() -> None:
    case = released("bert", secret("bert", 2, 1), 48)
    check(case, case.assembled())


@pytest.mark.parametrize("num_samples", [2, 4, 8])
def test_sentences_of_a_gpt2_are_separated(num_samples: int) -> None:
    case = exact("gpt2", secret("gpt2", num_samples, 2))
    check(case, case.assembled())


def test_sentences_of_a_released_gpt2_are_separated() -> None:
    case = released("gpt2", secret("gpt2", 3, 2), 48)
    check(case, case.assembled())


def test_sentences_of_a_llama_are_separated() -> None:
    case = exact("llama", secret("llama", 4, 3))
    check(case, case.assembled())


def test_the_deeper_blocks_tell_a_llamas_order_without_its_queries() -> None:
    case = released("llama", secret("llama", 1, 4), 16)
    check(case, case.assembled(errors=False))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_nothing_is_sure_of_two_sentences_without_a_deeper_block(name: str) -> None:
    case = released(name, secret(name, 2, 5), 32)
    blind = {0: case.probes[0]}
    found = assemble(case.language, blind, case.certificate(), case.table, 2)
    assert len(found) == 2
    assert not any(one.sure for one in found)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_nothing_is_sure_where_another_batch_trained_the_deeper_blocks(name: str) -> None:
    case, other = exact(name, secret(name, 2, 6)), exact(name, secret(name, 2, 7))
    mixed = {0: case.probes[0], 1: other.probes[1], 2: other.probes[2]}
    found = assemble(case.language, mixed, case.certificate(), case.table, 2)
    assert not any(one.sure for one in found)


@pytest.mark.slow
@pytest.mark.parametrize(("num_samples", "seed"), [(n, seed) for n in (2, 3, 4) for seed in (0, 1, 2)])
def test_sentences_of_a_released_minilm_are_separated(num_samples: int, seed: int) -> None:
    case = released("minilm", secret("minilm", num_samples, seed), 64)
    check(case, case.assembled())


@pytest.mark.slow
@pytest.mark.parametrize(("num_samples", "seed"), [(4, 0), (8, 0), (8, 1)])
def test_an_exact_gradient_of_minilm_gives_all_sentences(num_samples: int, seed: int) -> None:
    case = exact("minilm", secret("minilm", num_samples, seed))
    check(case, case.assembled())


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "learning_rate"), [(1, 0.1), (20, 0.01), (20, 0.1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_of_a_released_smollm2_comes_back(steps: int, learning_rate: float, seed: int) -> None:
    case = released("smollm2", secret("smollm2", 1, seed), 16, steps, learning_rate)
    check(case, case.assembled())
