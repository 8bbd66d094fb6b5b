"""Gradient matching and keys: fast paths against slow ones, sentences out of updates, and what is claimed."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.gradients import weight_matrix
from bridge_core.models import adapted_modules
from bridge_core.seeding import generator
from bridge_core.spec import text as t
from bridge_core.text import keys as k
from bridge_core.text.batches import Batch, encode
from bridge_core.text.corpus import load_sentences
from bridge_core.text.edits import Editor
from bridge_core.text.matched import Unknown, recover_by_matching
from bridge_core.text.matching import all_labels, match, ranked_sentence, starts_of
from bridge_core.text.models import FirstInputs, Language, build_language, first_inputs, target_endings
from bridge_core.text.objective import Guess, Objective, Target
from bridge_core.text.prior import Bigram, fit_bigram
from bridge_core.text.recover import EXACT, NOTHING
from bridge_core.text.span import probes_of, ranking
from bridge_core.text.stream import tap
from tests.core.cells import run_cell
from tests.core.text.test_cells import family, text_cell, values

Family = Literal["bert", "gpt2", "llama"]
LENGTH = 12
CORPUS = t.Corpus(proxy=t.Canaries(), private=t.Canaries(), max_tokens=LENGTH)
FAST = t.EmbeddingMatching(keys=False, steps=60, restarts=1, learning_rate=0.5)


def tiny(name: Family = "bert", task: t.Task = "classification", *, width: int = 64) -> tuple[Language, Batch]:
    knobs = t.TinyText(family=name, width=width, heads=2, depth=3, vocabulary=600, task=task)
    texts = load_sentences(t.Canaries(), 2)
    language = build_language(knobs, texts.texts, 2)
    return language, encode(language, texts, CORPUS)


def bigram(language: Language, batch: Batch) -> Bigram:
    return fit_bigram(batch[torch.arange(100, len(batch))].sentences(), language.vocabulary)


def target(language: Language, batch: Batch, rank: int | None) -> Target:
    """Of one step on `batch`: measurements at `rank`, or the gradients themselves."""
    modules = adapted_modules(language.model, target_endings(language, None))
    taps = tap(language, batch, modules, num_samples=len(batch))
    dtype = next(language.model.parameters()).dtype
    if rank is None:
        found = {name: one.gradient()[0] for name, one in taps.items()}
        return Target(language, found, errors_of(found), None)
    widths = {name: weight_matrix(language.model.get_submodule(name))[1] for name in modules}
    a = {name: torch.randn(rank, d, generator=generator(0, name)).to(dtype) / d**0.5 for name, d in widths.items()}
    found = {name: one.measurement(a[name])[0] for name, one in taps.items()}
    return Target(language, found, errors_of(found), a)


def errors_of(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.full_like(one, 4e-7 * float(one.square().mean().sqrt())) for name, one in found.items()}


def scores_of(target: Target, table: FirstInputs) -> Tensor:
    readers = target.language.readers(0)
    return ranking(probes_of(target.values, target.errors, target.matrices, readers), table)


def guess_of(batch: Batch) -> Guess:
    return Guess(tuple(tuple(ids) for ids in batch.sentences()), tuple(batch.labels.tolist()))


@pytest.mark.parametrize(("name", "task"), [("bert", "classification"), ("gpt2", "causal"), ("llama", "causal")])
@pytest.mark.parametrize("num_samples", [1, 2])
def test_guesses_of_many_lengths_cost_together_what_they_cost_alone(
    name: Family, task: t.Task, num_samples: int
) -> None:
    language, batch = tiny(name, task)
    language.model.double()
    parts = [batch[torch.arange(i, i + num_samples)] for i in range(0, 3 * num_samples, num_samples)]
    guesses = [guess_of(part) for part in parts]
    guesses = [one.with_sentence(0, one.sentences[0][: LENGTH - i]) for i, one in enumerate(guesses)]
    aimed = target(language, parts[0], 4)
    objective = Objective(aimed, bigram(language, batch), 0.01)
    for measure in (objective.cost, objective.misfit, objective.surprise):
        alone = torch.cat([measure([one]) for one in guesses])
        torch.testing.assert_close(measure(guesses), alone, rtol=1e-4, atol=1e-6)
    assert float(objective.misfit(guesses[:1])) < 1 < float(objective.misfit(guesses[1:]).min())


def test_keys_by_products_of_tables_are_keys_one_by_one() -> None:
    language, batch = tiny()
    aimed = target(language, batch[torch.tensor([3])], 4)
    keys = k.keys_of(language, aimed.values, aimed.errors, first_inputs(language, LENGTH))
    every = torch.arange(language.vocabulary)
    for place in (0, 5):
        slow = keys.at(every, torch.full_like(every, place))
        torch.testing.assert_close(k._whole(keys).at(place).double(), slow, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "task"), [("bert", "classification"), ("gpt2", "causal")])
def test_keys_name_every_token_at_a_third_of_the_rank_that_rows_need(name: Family, task: t.Task) -> None:
    language, batch = tiny(name, task)
    table, first = first_inputs(language, LENGTH), 0 if language.begin is None else 1
    for number in range(5):
        one = batch[torch.tensor([number])]
        aimed = target(language, one, 6)
        keys = k.keys_of(language, aimed.values, aimed.errors, table)
        found = k.pursue(keys, LENGTH, 1, generator(number), first=first)
        ids = one.sentences()[0][: LENGTH - (task == "causal")]
        assert found is not None
        assert found.pairs == [(token, place) for place, token in enumerate(ids)][first:]
        assert found.unexplained < 2
        assert found.rivalry > 1e6


def test_columns_of_noise_name_no_token() -> None:
    language, batch = tiny()
    aimed = target(language, batch[torch.tensor([0])], 6)
    noise = {name: torch.randn(one.shape, generator=generator(0, name)) for name, one in aimed.values.items()}
    keys = k.keys_of(language, noise, errors_of(noise), first_inputs(language, LENGTH))
    found = k.pursue(keys, LENGTH - 1, 1, generator(0))
    assert found is not None
    assert not found.certain
    blurred = k.keys_of(language, noise, noise, first_inputs(language, LENGTH))
    assert k.pursue(blurred, LENGTH - 1, 1, generator(0)) is None


def test_rotated_keys_are_refused() -> None:
    language, batch = tiny("llama", "causal")
    aimed = target(language, batch[torch.tensor([0])], 6)
    with pytest.raises(NotApplicable, match="rotated"):
        k.keys_of(language, aimed.values, aimed.errors, first_inputs(language, LENGTH))


@pytest.mark.parametrize("rank", [None, 8])
def test_matching_alone_gives_a_sentence_back_and_knows_it(rank: int | None) -> None:
    language, batch = tiny()
    one = batch[torch.tensor([20])]
    aimed, table = target(language, one, rank), first_inputs(language, LENGTH)
    unknown = Unknown(1, range(LENGTH, LENGTH + 1), all_labels(language, 1, 2), 2)
    found = recover_by_matching(
        aimed, table, scores_of(aimed, table), bigram(language, batch), unknown, FAST, generator(0)
    )
    assert found.sentences == one.sentences()
    assert found.verdict == EXACT
    assert found.sure == [True]


def test_a_target_of_large_errors_proves_nothing() -> None:
    language, batch = tiny()
    one = batch[torch.tensor([0])]
    aimed = target(language, one, 8)
    blurred = replace(aimed, errors={name: value.abs() + 1e-12 for name, value in aimed.values.items()})
    table = first_inputs(language, LENGTH)
    unknown, knobs = Unknown(1, range(LENGTH, LENGTH + 1), [(0,)], 2), FAST.model_copy(update={"steps": 1, "sweeps": 1})
    found = recover_by_matching(
        blurred, table, scores_of(aimed, table), bigram(language, batch), unknown, knobs, generator(0)
    )
    assert found.verdict == NOTHING
    assert not any(found.sure)
    assert found.certified == []


def test_the_truth_is_exact_and_its_neighbour_is_not() -> None:
    language, batch = tiny()
    one = batch[torch.tensor([0])]
    aimed, table, prior = target(language, one, 8), first_inputs(language, LENGTH), bigram(language, batch)
    truth, scores = guess_of(one), scores_of(aimed, table)
    idle = FAST.model_copy(update={"steps": 1, "sweeps": 0})
    assert match(aimed, [truth], scores, prior, idle, 2, generator(0)).exact
    assert not match(aimed, [truth.with_token(0, 3, 7)], scores, prior, idle, 2, generator(0)).exact


def test_a_heavy_prior_is_respected_and_a_light_one_gives_way() -> None:
    language, batch = tiny()
    one = batch[torch.tensor([0])]
    aimed, table, prior = target(language, one, 8), first_inputs(language, LENGTH), bigram(language, batch)
    scores, start = scores_of(aimed, table), guess_of(one).with_token(0, 3, 7)
    found = {
        weight: Editor(Objective(aimed, prior, weight), scores, FAST, 2, generator(0)).search(start, {}).guess
        for weight in (0.0, 10.0)
    }
    objective = Objective(aimed, prior, 0.0)
    distances, surprises = (
        measure([start, found[0.0], found[10.0]]) for measure in (objective.cost, objective.surprise)
    )
    assert distances[1] < distances[0]
    assert surprises[2] == surprises.min()
    assert distances[1] < distances[2]


def test_starts_have_the_lengths_classes_and_ends_that_are_asked_for() -> None:
    language, batch = tiny()
    aimed, table = target(language, batch[torch.tensor([0])], 8), first_inputs(language, LENGTH)
    starts = starts_of(language, scores_of(aimed, table), 2, (5, 9), all_labels(language, 2, 2))
    assert [len(one.sentences[0]) for one in starts] == [5] * 4 + [9] * 4
    assert {one.labels for one in starts} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert all(ids[0] == language.begin and ids[-1] == language.end for one in starts for ids in one.sentences)
    assert len(ranked_sentence(language, torch.rand(600, 1).double(), 1, 7)) == 7


CASES: dict[str, dict[str, Any]] = {
    "one step": {},
    "20 steps": {"recipe": {"steps": 20}},
    "saved in bfloat16": {"recipe": {"save_dtype": "bfloat16"}},
    "exact gradient": {"bridge": "oracle"},
    "GPT-2": {"model": family("gpt2")},
}


@pytest.mark.parametrize("case", CASES)
def test_a_release_of_half_the_rank_gives_its_sentence_back(case: str, tmp_path: Any) -> None:
    run_cell(text_cell(rank=6, inversion="embedding_matching", **CASES[case]), tmp_path)
    assert values(tmp_path, "score", "exact_match") == [1.0, 1.0]
    assert values(tmp_path, "attack", "verdict") == [2.0, 2.0]
    assert values(tmp_path, "score", "false_certificates") == [0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [{}, {"steps": 20}, {"optimiser": "adamw"}])
def test_minilm_at_half_the_rank_gives_its_sentence_back(recipe: dict[str, Any], tmp_path: Any) -> None:
    data = {"kind": "text", "proxy": "python_reference", "private": "canaries", "max_tokens": 15, "longer": "drop"}
    cell = text_cell(
        model={"kind": "minilm"}, rank=8, dataset=data, recipe=recipe, inversion=s.content(s.EmbeddingMatching())
    )
    run_cell(cell, tmp_path)
    assert values(tmp_path, "score", "exact_match") == [1.0, 1.0]
    assert values(tmp_path, "attack", "verdict") == [2.0, 2.0]
