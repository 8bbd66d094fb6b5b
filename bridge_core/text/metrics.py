"""Truth and guess -> scores of text, one number a secret: a victim's sentences together."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.text import bleu_score, edit_distance

ROUGES = ("rouge1", "rouge2", "rougeL")
TIE = 1e-6
"""Weight of what decides between assignments of equal ROUGE-L."""

_Rouge = Callable[[str, str], dict[str, float]]
"""Truth and guess -> F1 by the names in `ROUGES`."""


@dataclass(frozen=True)
class TextScores:
    """One number a secret, in [0, 1]; means over its sentences unless said otherwise.

    A sentence that no guess is left for scores 0. NaN where a secret has no sentence.
    """

    exact_match: Float64[Tensor, "n"]
    """Share of the sentences whose ids are all equal."""
    token_accuracy: Float64[Tensor, "n"]
    """Share of all the truth's positions that hold the right id."""
    token_recall: Float64[Tensor, "n"]
    """Share of the truth's ids that stand anywhere in the matched guesses, each as often as it is found there."""
    rouge1: Float64[Tensor, "n"]
    """F1 of single words (Lin, 2004); the package's words: lower case, letters and digits of ASCII, no stemming."""
    rouge2: Float64[Tensor, "n"]
    """F1 of pairs of words; 0 where the truth has only one."""
    rougeL: Float64[Tensor, "n"]
    """F1 of the longest common subsequence of words."""
    bleu: Float64[Tensor, "n"]
    """BLEU (Papineni et al., 2002), smoothed as Lin and Och (2004), of up to four words, or as many as the truth has.

    0 where no run of that many words is right: torchmetrics smooths only what is above zero.
    """
    edit_similarity: Float64[Tensor, "n"]
    """1 - Levenshtein distance / length of the longer text, by character.

    torchmetrics looks for edits within 25 characters of the diagonal: a lower bound where text moved further.
    """
    secrets_found: Float64[Tensor, "n"]
    """Share of the marked spans that stand in the matched guess, without case and white space. NaN: nothing marked."""


@dataclass(frozen=True)
class _Sentence:
    """A sentence of the truth, its guess (empty if none was left) and the spans marked in the truth."""

    truth: str
    guess: str
    truth_ids: list[int]
    guess_ids: list[int]
    secrets: tuple[str, ...]


def text_scores(
    truth: list[list[str]],
    guess: list[list[str]],
    truth_ids: list[list[list[int]]],
    guess_ids: list[list[list[int]]],
    secrets: list[list[tuple[str, ...]]],
) -> TextScores:
    """Scores of each secret; every list holds one entry a secret, and that one entry a sentence.

    `guess` may have more sentences than `truth`, or fewer, in any order: each sentence of the truth is first given a
    guess so that the sum of ROUGE-L F1 is largest (Hungarian assignment). What is left over is not scored.
    """
    rouge = _rouge()
    parts = zip(truth, guess, truth_ids, guess_ids, secrets, strict=True)
    each = [_scores_of_one(_matched(*part, rouge), rouge) for part in parts]
    names = TextScores.__dataclass_fields__
    return TextScores(**{name: torch.tensor([one[name] for one in each], dtype=torch.float64) for name in names})


def recall_at(ranking: Int64[Tensor, "m"], wanted: set[int], k: int) -> float:
    """Share of the `wanted` ids that stand among the first `k` of `ranking`; NaN where none is wanted."""
    return _ratio(len(wanted & set(ranking[:k].tolist())), len(wanted))


def unigram_ranking(counts: Float[Tensor, "v"]) -> Int64[Tensor, "v"]:
    """Ids by falling count, equal counts by rising id: what an attacker knows without a release."""
    return torch.argsort(counts, descending=True, stable=True)


def _rouge() -> _Rouge:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(ROUGES)
    return lambda truth, guess: {name: found.fmeasure for name, found in scorer.score(truth, guess).items()}


def _matched(
    truth: list[str],
    guess: list[str],
    truth_ids: list[list[int]],
    guess_ids: list[list[int]],
    secrets: list[tuple[str, ...]],
    rouge: _Rouge,
) -> list[_Sentence]:
    # Sorted, so that no order of the guesses tips a tie.
    guesses = sorted(zip(guess, guess_ids, strict=True))
    wanted = list(zip(truth, truth_ids, secrets, strict=True))
    worth = np.array([[_worth(rouge, text, ids, *other) for other in guesses] for text, ids, _ in wanted])
    rows, columns = linear_sum_assignment(worth.reshape(len(wanted), len(guesses)), maximize=True)
    given = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    nothing: tuple[str, list[int]] = ("", [])
    chosen = [guesses[given[i]] if i in given else nothing for i in range(len(wanted))]
    pairs = zip(wanted, chosen, strict=True)
    return [_Sentence(text, other, ids, other_ids, spans) for (text, ids, spans), (other, other_ids) in pairs]


def _worth(rouge: _Rouge, text: str, ids: list[int], other: str, other_ids: list[int]) -> float:
    """ROUGE-L F1; it is blind to case and signs, so that ties go to the right ids and the same characters."""
    tie = (_ratio(_right_positions(ids, other_ids), max(len(ids), 1)) + (text == other)) / 2
    return rouge(text, other)["rougeL"] + TIE * tie


def _scores_of_one(sentences: list[_Sentence], rouge: _Rouge) -> dict[str, float]:
    """Each score of one secret, by its name in `TextScores`."""
    rouges = [rouge(one.truth, one.guess) for one in sentences]
    num_ids = sum(len(one.truth_ids) for one in sentences)
    right = sum(_right_positions(one.truth_ids, one.guess_ids) for one in sentences)
    spans = [(span, one.guess) for one in sentences for span in one.secrets]
    return {
        "exact_match": _mean([float(one.truth_ids == one.guess_ids) for one in sentences]),
        "token_accuracy": _ratio(right, num_ids),
        "token_recall": _ratio(_found_ids(sentences), num_ids),
        **{name: _mean([scores[name] for scores in rouges]) for name in ROUGES},
        "bleu": _mean([_bleu(one.truth, one.guess) for one in sentences]),
        "edit_similarity": _mean([_edit_similarity(one.truth, one.guess) for one in sentences]),
        "secrets_found": _mean([float(solid(span) in solid(text)) for span, text in spans]),
    }


def _found_ids(sentences: list[_Sentence]) -> int:
    wanted = Counter(i for one in sentences for i in one.truth_ids)
    return (wanted & Counter(i for one in sentences for i in one.guess_ids)).total()


def _right_positions(ids: list[int], other: list[int]) -> int:
    return sum(one == two for one, two in zip(ids, other, strict=False))


def _bleu(truth: str, guess: str) -> float:
    num_words = len(truth.split())
    return float(bleu_score([guess], [[truth]], n_gram=max(1, min(4, num_words)), smooth=True))


def _edit_similarity(truth: str, guess: str) -> float:
    distance = int(edit_distance(guess, truth, substitution_cost=1, reduction="sum"))
    return 1 - distance / max(len(truth), len(guess), 1)


def solid(text: str) -> str:
    """Without case and white space: how a marked span is looked for."""
    return "".join(text.split()).casefold()


def _mean(values: list[float]) -> float:
    return _ratio(math.fsum(values), len(values))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
