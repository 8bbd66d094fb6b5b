"""What practice on proxy sentences says of a ranking's worth."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.release import Release, read_release
from bridge_core.spec import text as t
from bridge_core.text.batches import encode
from bridge_core.text.corpus import load_sentences
from bridge_core.text.models import Language, build_language, target_endings
from bridge_core.text.practice import MOST_STEPS, Practised, fit_weights, log_frequency, practise, standardised
from bridge_core.victim import fresh_adapter

VOCABULARY, POSITIONS, LENGTH = 400, 6, 5
NO_RELEASE = Release({}, torch.float32, {})


def examples(informative: bool, frequent: bool) -> tuple[list[Practised], dict[int, Tensor], Tensor]:
    """Practised releases with scores that do or do not know the members, which are or are not frequent tokens."""
    rng = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 1000, (VOCABULARY,), generator=rng)
    odds = (counts + 1).double() if frequent else torch.ones(VOCABULARY).double()
    made: list[Practised] = []
    scores: dict[int, Tensor] = {}
    for _ in range(100):
        ids = torch.multinomial(odds, LENGTH, generator=rng)
        one = Practised(NO_RELEASE, {}, [ids.tolist()])
        score = torch.randn(VOCABULARY, POSITIONS, generator=rng, dtype=torch.float64)
        score[ids, torch.arange(LENGTH)] -= 2.0 if informative else 0.0
        scores[id(one)] = score
        made.append(one)
    return made, scores, log_frequency(counts)


@pytest.mark.parametrize("informative", [True, False])
@pytest.mark.parametrize("frequent", [True, False])
def test_weights_are_what_scores_and_frequencies_are_worth(informative: bool, frequent: bool) -> None:
    made, scores, log_prior = examples(informative, frequent)
    weights = fit_weights(made, lambda one: scores[id(one)], log_prior)
    assert weights.fit == pytest.approx(2.0 if informative else 0.0, abs=0.3)
    assert weights.prior == pytest.approx(1.0 if frequent else 0.0, abs=0.15)


def test_log_odds_are_smaller_for_what_fits_and_is_frequent() -> None:
    made, scores, log_prior = examples(informative=True, frequent=True)
    weights = fit_weights(made, lambda one: scores[id(one)], log_prior)
    score = scores[id(made[0])]
    found = weights.of(score, log_prior)
    torch.testing.assert_close(found, weights.fit * standardised(score) - weights.prior * log_prior[:, None])
    ids = torch.tensor(made[0].sentences[0])
    assert found[ids, torch.arange(LENGTH)].mean() < found.mean() - found.std()


@pytest.fixture(scope="module")
def language() -> Language:
    knobs = t.TinyText(width=32, heads=2, vocabulary=400)
    return build_language(knobs, load_sentences(t.Canaries(), 2).texts, 2)


@pytest.fixture(scope="module")
def released(language: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    fresh_adapter(language.model, target_endings(language, None), 4, s.Lora(), 3, folder)
    return folder


def practised(language: Language, released: Path, recipe: s.Recipe) -> Iterator[Practised]:
    corpus = t.Corpus(proxy=t.Canaries(), private=t.Canaries(), max_tokens=12)
    proxy = encode(language, load_sentences(t.Canaries(), 2), corpus)
    yield from practise(language, released, recipe, proxy, 0, number=2)


def test_practised_adapters_start_from_the_released_matrix(language: Language, released: Path) -> None:
    own = read_release(released)
    for one in practised(language, released, s.Recipe(num_samples=2, batch_size=2)):
        assert len(one.sentences) == 2 and one.gradients
        for name, factors in one.release.factors.items():
            assert torch.equal(factors.a, own.factors[name].a)
            assert factors.b.abs().sum() > 0


def test_a_long_recipe_is_cut(language: Language, released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bridge_core.text import practice

    steps: list[int] = []
    whole = practice.train_text_victim

    def counted(language: Language, adapter: Path, secret, recipe: s.Recipe, folder: Path):  # type: ignore[no-untyped-def]
        steps.append(recipe.steps)
        return whole(language, adapter, secret, recipe, folder)

    monkeypatch.setattr(practice, "train_text_victim", counted)
    assert len(list(practised(language, released, s.Recipe(steps=MOST_STEPS + 30)))) == 2
    assert steps == [MOST_STEPS, MOST_STEPS]
