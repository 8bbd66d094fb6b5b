"""Text scores against slow references and hand counts, and the assignment of guesses to their truth."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_core.text.metrics import TextScores, recall_at, text_scores, unigram_ranking

VOCABULARY = ("the", "ward", "code", "is", "Mara", "4471", "river", "blue", "of", "coat")
words = st.lists(st.sampled_from(VOCABULARY), min_size=2, max_size=7)
sentence_lists = st.lists(words, min_size=1, max_size=3)
NAMES = tuple(TextScores.__dataclass_fields__)

Words = list[str]


def ids(sentence: Words) -> list[int]:
    return [VOCABULARY.index(word) for word in sentence]


def scored(truth: list[Words], guess: list[Words], secrets: list[tuple[str, ...]] | None = None) -> dict[str, float]:
    """Scores of one secret whose tokens are its words."""
    found = text_scores(
        [[" ".join(x) for x in truth]],
        [[" ".join(x) for x in guess]],
        [[ids(x) for x in truth]],
        [[ids(x) for x in guess]],
        [secrets or [()] * len(truth)],
    )
    return {name: float(getattr(found, name)[0]) for name in NAMES}


def split(*texts: str) -> list[Words]:
    return [text.split() for text in texts]


def common_subsequence(one: Words, other: Words) -> int:
    """Length of the longest one, by trying every choice of words."""
    for size in range(len(one), 0, -1):
        if {*itertools.combinations(one, size)} & {*itertools.combinations(other, size)}:
            return size
    return 0


def f1(common: int, one: int, other: int) -> float:
    return 2 * common / (one + other) if common else 0.0


def f1_of_runs(one: Words, other: Words, size: int) -> float:
    runs = [Counter(zip(*(x[i:] for i in range(size)), strict=False)) for x in (one, other)]
    return f1((runs[0] & runs[1]).total(), runs[0].total(), runs[1].total())


def lowered(sentence: Words) -> Words:
    return [word.lower() for word in sentence]


def levenshtein(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def bleu(truth: Words, guess: Words) -> float:
    """Papineni et al. (2002), one added above one word, and 0 where no longest run is right."""
    most, logs = min(4, len(truth)), 0.0
    for size in range(1, most + 1):
        runs = [Counter(zip(*(x[i:] for i in range(size)), strict=False)) for x in (truth, guess)]
        common, total = (runs[0] & runs[1]).total(), runs[1].total()
        if not common:
            return 0.0
        more = size > 1
        logs += math.log((common + more) / (total + more)) / most
    return math.exp(logs) * min(1.0, math.exp(1 - len(truth) / len(guess)))


@given(sentence_lists)
def test_what_is_identical_scores_one(truth: list[Words]) -> None:
    found = scored(truth, truth, [(sentence[0],) for sentence in truth])
    assert found == pytest.approx(dict.fromkeys(NAMES, 1.0))


@given(sentence_lists, st.lists(words, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_guesses_is_irrelevant(truth: list[Words], guess: list[Words], random: object) -> None:
    turned = list(guess)
    random.shuffle(turned)  # pyright: ignore[reportAttributeAccessIssue]
    secrets = [(sentence[-1],) for sentence in truth]
    assert scored(truth, guess, secrets) == scored(truth, turned, secrets)


@given(sentence_lists, st.lists(words, max_size=4))
def test_every_score_is_a_share(truth: list[Words], guess: list[Words]) -> None:
    found = scored(truth, guess, [(sentence[0],) for sentence in truth])
    assert all(0 <= value <= 1 + 1e-6 for value in found.values())


@given(words, words)
def test_rouge_is_that_of_a_slow_count(truth: Words, guess: Words) -> None:
    found, one, other = scored([truth], [guess]), lowered(truth), lowered(guess)
    assert found["rouge1"] == pytest.approx(f1_of_runs(one, other, 1))
    assert found["rouge2"] == pytest.approx(f1_of_runs(one, other, 2))
    assert found["rougeL"] == pytest.approx(f1(common_subsequence(one, other), len(one), len(other)))


@given(words, words)
def test_bleu_is_that_of_a_slow_count(truth: Words, guess: Words) -> None:
    assert scored([truth], [guess])["bleu"] == pytest.approx(bleu(truth, guess), abs=1e-5)


@given(words, words)
def test_edit_similarity_is_levenshteins(truth: Words, guess: Words) -> None:
    one, other = " ".join(truth)[:24], " ".join(guess)[:24]
    found = text_scores([[one]], [[other]], [[[1]]], [[[2]]], [[()]])
    assert float(found.edit_similarity) == pytest.approx(1 - levenshtein(one, other) / max(len(one), len(other)))


@given(st.text("ab ", min_size=60, max_size=90), st.text("ab ", min_size=1, max_size=90))
@settings(max_examples=25)
def test_edit_similarity_of_long_text_is_a_lower_bound(one: str, other: str) -> None:
    found = float(text_scores([[one]], [[other]], [[[1]]], [[[2]]], [[()]]).edit_similarity)
    assert 0 <= found <= 1 - levenshtein(one, other) / max(len(one), len(other)) + 1e-9


@given(st.lists(words, min_size=1, max_size=3), st.lists(words, min_size=1, max_size=4))
@settings(max_examples=50)
def test_the_assignment_is_the_best_of_all(truth: list[Words], guess: list[Words]) -> None:
    def worth(one: Words, other: Words) -> float:
        return f1(common_subsequence(lowered(one), lowered(other)), len(one), len(other))

    padded: list[Words] = [*guess, *([[]] * len(truth))]
    best = max(
        sum(worth(one, other) for one, other in zip(truth, chosen, strict=True))
        for chosen in itertools.permutations(padded, len(truth))
    )
    assert scored(truth, guess)["rougeL"] == pytest.approx(best / len(truth), abs=1e-5)


def test_a_sentence_without_a_guess_scores_nothing() -> None:
    truth = split("the code is 4471", "Mara of the ward")
    secrets = [("4471",), ("Mara",)]
    half, none = scored(truth, truth[:1], secrets), scored(truth, [], secrets)
    assert half == pytest.approx(dict.fromkeys(NAMES, 0.5))
    assert none == dict.fromkeys(NAMES, 0.0)


def test_guesses_that_are_left_over_do_not_count() -> None:
    truth, more = split("the code is 4471"), split("Mara of the ward", "blue coat")
    assert scored(truth, truth + more) == pytest.approx(scored(truth, truth), nan_ok=True)
    wrong = scored(truth, split("the code is blue", "4471 coat"))
    assert wrong["token_recall"] == pytest.approx(3 / 4)


def test_token_scores_are_those_of_a_hand_count() -> None:
    found = scored(split("the code is 4471", "the blue coat"), split("code the is 4471 4471", "the blue coat of"))
    assert found["exact_match"] == 0
    assert found["token_accuracy"] == pytest.approx((2 + 3) / 7)
    assert found["token_recall"] == 1
    twice = scored(split("the the the ward"), split("the of of of"))
    assert twice["token_recall"] == pytest.approx(1 / 4)


def test_recall_is_of_the_whole_secret() -> None:
    """A token that was put into the wrong sentence is found all the same."""
    found = scored(split("the code is blue", "Mara of river"), split("the code is river", "Mara of blue"))
    assert found["token_recall"] == 1
    assert found["token_accuracy"] == pytest.approx(5 / 7)


def test_ties_of_rouge_go_to_the_very_same_sentence() -> None:
    texts = [["the code is 4471", "The Code is 4471."]]
    tokens = [[[1, 2, 3], [7, 8, 3, 9]]]
    for order in ([0, 1], [1, 0]):
        guess, guess_ids = [[texts[0][i] for i in order]], [[tokens[0][i] for i in order]]
        found = text_scores(texts, guess, tokens, guess_ids, [[(), ()]])
        assert found.exact_match.tolist() == [1] and found.edit_similarity.tolist() == [1]


def test_secrets_are_found_without_case_and_white_space() -> None:
    def found(guess: str, *spans: str) -> float:
        scores = text_scores([["Call Ruth Hale, 40 mg"]], [[guess]], [[[1]]], [[[1]]], [[spans]])
        return float(scores.secrets_found)

    assert found("call ruth  hale , 40mg", "Ruth Hale", "40 mg") == 1
    assert found("call ruth hale , 50 mg", "Ruth Hale", "40 mg") == 0.5
    assert found("nothing of it", "Ruth Hale", "40 mg") == 0
    assert math.isnan(found("call ruth hale , 40 mg"))


def test_a_secret_is_sought_in_its_own_sentence() -> None:
    truth, guess = split("the code is 4471", "Mara of the ward"), split("the code is Mara", "4471 of the ward")
    found = scored(truth, guess, [("4471",), ("Mara",)])
    assert found["secrets_found"] == 0


def test_each_secret_is_scored_alone() -> None:
    texts, tokens = [["the code"], ["blue coat", "the river"], ["the ward"]], [[[0, 2]], [[7, 9], [0, 6]], [[0, 1]]]
    guess, guess_ids = [["the code"], [], ["the coat"]], [[[0, 2]], [], [[0, 9]]]
    found = text_scores(texts, guess, tokens, guess_ids, [[("code",)], [(), ()], [("ward",)]])
    assert found.exact_match.tolist() == [1, 0, 0]
    assert found.token_accuracy.tolist() == [1, 0, 0.5]
    assert found.secrets_found.isnan().tolist() == [False, True, False]
    assert all(getattr(found, name).shape == (3,) for name in NAMES)
    assert all(getattr(found, name).dtype == torch.float64 for name in NAMES)


def test_no_secret_and_no_sentence_are_no_failure() -> None:
    assert text_scores([], [], [], [], []).rougeL.shape == (0,)
    empty = text_scores([[]], [["the code"]], [[]], [[[0, 2]]], [[]])
    assert all(getattr(empty, name).isnan().all() for name in NAMES)


@given(st.permutations(range(12)), st.sets(st.integers(0, 15), min_size=1), st.integers(0, 14))
def test_recall_at_counts_the_first(ranking: list[int], wanted: set[int], k: int) -> None:
    found = recall_at(torch.tensor(ranking), wanted, k)
    assert found == sum(i in wanted for i in ranking[:k]) / len(wanted)
    assert found <= recall_at(torch.tensor(ranking), wanted, k + 1)


def test_recall_of_nothing_is_not_a_number() -> None:
    assert math.isnan(recall_at(torch.arange(3), set(), 2))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_unigrams_are_ranked_by_count_then_by_id(counts: list[int]) -> None:
    wanted = sorted(range(len(counts)), key=lambda i: (-counts[i], i))
    assert unigram_ranking(torch.tensor(counts, dtype=torch.float32)).tolist() == wanted
