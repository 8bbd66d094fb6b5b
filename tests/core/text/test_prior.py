"""The bigram model against a slow reference, and against what it has not seen."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge_core.spec import text as t
from bridge_core.text.batches import Batch, encode
from bridge_core.text.controls import fit_controls, read_controls, save_controls
from bridge_core.text.corpus import is_heldout, load_sentences
from bridge_core.text.models import build_language
from bridge_core.text.prior import Bigram, fit_bigram, read_bigram, save_bigram

VOCABULARY = 12
IDS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=7)
SENTENCES = [[1, 4, 5, 2], [1, 4, 6, 2], [1, 5, 4, 5, 2], [1, 4, 5, 2]]


def slow(sentences: list[list[int]], context: int, token: int) -> float:
    """Interpolated absolute discounting, straight from the counts."""
    pairs = Counter(pair for one in sentences for pair in pairwise([VOCABULARY, *one]))
    follows = Counter(token for _, token in pairs)

    def discount(numbers: list[int]) -> float:
        once, twice = numbers.count(1), numbers.count(2)
        return min(max(once / (once + 2 * twice), 0.1), 0.9) if once else 0.5

    low, high = discount(list(follows.values())), discount(list(pairs.values()))
    spared = low * len(follows) / sum(follows.values())
    lower = max(follows[token] - low, 0) / sum(follows.values()) + spared / VOCABULARY
    after = {pair: number for pair, number in pairs.items() if pair[0] == context}
    if not after:
        return lower
    total = sum(after.values())
    return max(after.get((context, token), 0) - high, 0) / total + high * len(after) / total * lower


@given(st.lists(IDS, min_size=1, max_size=8), st.integers(0, VOCABULARY))
def test_the_model_is_the_slow_one_and_adds_up_to_one(sentences: list[list[int]], context: int) -> None:
    prior = fit_bigram(sentences, VOCABULARY)
    found = prior.log_next(None if context == VOCABULARY else context)
    wanted = torch.tensor([slow(sentences, context, token) for token in range(VOCABULARY)])
    torch.testing.assert_close(found.exp(), wanted, rtol=1e-5, atol=1e-7)
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-5)
    contexts = torch.full((VOCABULARY,), context)
    torch.testing.assert_close(prior.log_pairs(contexts, torch.arange(VOCABULARY)), found)


def test_a_sentence_is_the_product_of_its_pairs_and_padding_counts_nothing() -> None:
    prior = fit_bigram(SENTENCES, VOCABULARY)
    ids, mask = torch.tensor([[1, 4, 5, 2, 0]]), torch.tensor([[True, True, True, True, False]])
    steps = [(None, 1), (1, 4), (4, 5), (5, 2)]
    wanted = sum(float(prior.log_next(context)[token]) for context, token in steps)
    assert float(prior.log_probability(ids, mask)) == pytest.approx(wanted, rel=1e-5)
    assert float(prior.log_probability(ids[:, :4])) == pytest.approx(wanted, rel=1e-5)


def test_sentences_like_the_proxy_are_likelier_than_shuffled_ones() -> None:
    language = build_language(t.TinyText(vocabulary=1500), load_sentences(t.PythonReference(), 2).texts, 2)
    corpus = t.Corpus(proxy=t.PythonReference(), private=t.PythonReference())
    sentences = load_sentences(t.PythonReference(), 2)
    held = is_heldout(sentences)
    prior = fit_bigram(encode(language, sentences[~held], corpus).sentences(), 1500)
    heldout = encode(language, sentences[held], corpus)
    shuffled = heldout.ids.clone()
    for row, length in zip(shuffled, heldout.mask.sum(1).tolist(), strict=True):
        row[:length] = row[torch.randperm(length, generator=torch.Generator().manual_seed(0))]
    num_tokens = int(heldout.mask.sum())
    bigram = _perplexity(prior, heldout, num_tokens)
    unigram = math.exp(-float(_unigram(prior, heldout)) / num_tokens)
    assert bigram < 0.6 * unigram
    shuffled_ones = _perplexity(prior, Batch(shuffled, heldout.mask, heldout.labels), num_tokens)
    assert shuffled_ones > 3 * bigram


def test_the_prior_alone_says_the_likeliest_sentence() -> None:
    prior = fit_bigram(SENTENCES, VOCABULARY)
    assert prior.alone(4, end=2) == [1, 4, 5, 2]
    assert torch.equal(prior.counts, torch.tensor([0, 4, 4, 0, 4, 4, 1, 0, 0, 0, 0, 0]))


def test_the_prior_alone_does_not_go_round_in_circles() -> None:
    prior = fit_bigram([[1, 4, 5] * 5], VOCABULARY)
    found = prior.alone(9, end=2)
    assert len(found) == 9 and found[-1] == 2 and 2 not in found[:-1]
    assert len(set(pairwise(found))) == 8


def test_a_prior_comes_back_from_its_file(tmp_path: Path) -> None:
    prior = fit_bigram(SENTENCES, VOCABULARY)
    save_bigram(prior, tmp_path / "prior.safetensors")
    again = read_bigram(tmp_path / "prior.safetensors")
    assert torch.equal(again.counts, prior.counts)
    assert all(torch.equal(again.log_next(token), prior.log_next(token)) for token in range(VOCABULARY))


def _perplexity(prior: Bigram, batch: Batch, num_tokens: int) -> float:
    return math.exp(-float(prior.log_probability(batch.ids, batch.mask).sum()) / num_tokens)


def _unigram(prior: Bigram, batch: Batch) -> torch.Tensor:
    share = (prior.counts + 1).double() / (prior.counts + 1).sum()
    return (share.log()[batch.ids] * batch.mask).sum()


def test_controls_say_what_stands_most_often_at_each_place(tmp_path: Path) -> None:
    controls = fit_controls(SENTENCES, VOCABULARY)
    save_controls(controls, tmp_path)
    again = read_controls(tmp_path)
    assert again.frequent(4) == controls.frequent(4) == [1, 4, 5, 2]
    assert again.alone(4) == controls.alone(4) == [1, 4, 5, 2]
