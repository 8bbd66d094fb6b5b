"""Phase `text_score`: sentences against truth, with the controls beside them. The only phase that opens the secret."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import publish, text_attack, text_prior, text_statistics
from bridge_core.phases.cosines import cosine_columns
from bridge_core.phases.text_victim import SealedText, read_sealed_text
from bridge_core.statistics import read_statistics
from bridge_core.text.metrics import recall_at, text_scores, unigram_ranking
from bridge_core.text.models import Language, first_inputs, read_language
from bridge_core.text.recover import Recovered, read_recovered

FILE = "sentences.json"
MANY = 100


@dataclass(frozen=True)
class Scored:
    """A secret, what was made of it, and what an attacker without a release would say."""

    truth: SealedText
    found: Recovered
    guesses: dict[str, list[list[int]]]
    """Sentences by the suffix of their facts: recovered, frequent tokens, language model."""


def run(spec: s.TextScorePhase, inputs: Mapping[str, Path], out: Path) -> None:
    """Write scores and controls of every secret, and truth and reconstruction as text."""
    language, prior = read_language(inputs["base"]), text_prior.read(inputs["prior"])
    found = read_recovered(inputs["attack"] / text_attack.FILE)
    placed = first_inputs(language, spec.dataset.max_tokens).placed
    alone = cache(prior.alone)
    scored: list[Scored] = []
    for number, one in enumerate(found):
        truth = read_sealed_text(inputs["victim"], number)
        controls = {"_frequent": prior.frequent, "_language_model": alone}
        lengths = [len(ids) for ids in truth.ids]
        guesses = {name: [control(length) for length in lengths] for name, control in controls.items()}
        scored.append(Scored(truth, one, {"": one.sentences} | guesses))
    unigram = unigram_ranking(prior.counts.float())
    pairs = [pairs_read(one.truth.ids, placed=placed, causal=language.task == "causal") for one in scored]
    facts = [*sentence_facts(language, scored)]
    for i, one in enumerate(scored):
        facts += token_facts(i, one, unigram, pairs[i], pairs[i - 1])
    if "statistics" in inputs:
        facts += gradient_facts(inputs, [one.truth for one in scored])
    (out / FILE).write_text(json.dumps([_shown(language, i, one) for i, one in enumerate(scored)], indent=1))
    write_facts(facts, out)


def sentence_facts(language: Language, scored: Sequence[Scored]) -> Iterator[Fact]:
    """All scores of `text_scores`, of the recovered sentences and of the controls."""
    truth_ids = [one.truth.ids for one in scored]
    truth = [[language.text_of(ids) for ids in one] for one in truth_ids]
    marked = [list(one.truth.marked) for one in scored]
    for suffix in scored[0].guesses:
        guess_ids = [one.guesses[suffix] for one in scored]
        guess = [[language.text_of(ids) for ids in one] for one in guess_ids]
        for name, values in vars(text_scores(truth, guess, truth_ids, guess_ids, marked)).items():
            yield from (Fact(f"{name}{suffix}", float(value), secret=i) for i, value in enumerate(values))


def pairs_read(ids: Sequence[Sequence[int]], *, placed: bool, causal: bool) -> set[tuple[int, int]]:
    """Tokens with their positions that a first block reads (0 where it is not told of positions).

    A causal model predicts a sentence's last token, and never reads it.
    """
    return {(token, place if placed else 0) for one in ids for place, token in enumerate(one[:-1] if causal else one)}


def token_facts(
    number: int, one: Scored, unigram: Tensor, pairs: set[tuple[int, int]], other: set[tuple[int, int]]
) -> list[Fact]:
    """Recall of the secret's tokens by the attack's ranking and by that of frequent ones; the certificate's truth.

    `pairs` are the secret's own, `other` those of another secret: what this release certifies of them is the negative
    control.
    """
    wanted = {token for token, _ in pairs}
    rankings = {"": torch.tensor(one.found.ranked), "_unigram": unigram}
    numbers = {f"recall_ranked{end}": recall_at(order, wanted, len(wanted)) for end, order in rankings.items()}
    numbers |= {f"recall_{MANY}{end}": recall_at(order, wanted, MANY) for end, order in rankings.items()}
    certified = set(one.found.certified)
    numbers["certified"] = len(pairs & certified) / len(pairs)
    numbers["false_certificates"] = len(certified - pairs)
    numbers["certificate_tests"] = one.found.tests
    if strange := other - pairs:
        numbers["certified_of_another"] = len(strange & certified) / len(strange)
    return [Fact(name, float(value), secret=number) for name, value in numbers.items()]


def gradient_facts(inputs: Mapping[str, Path], truths: Sequence[SealedText]) -> Iterator[Fact]:
    """Cosine of the decoded with the victim's own gradient, beside floor, projection and mean proxy gradient."""
    known = read_statistics(inputs["statistics"] / text_statistics.FILE)
    releases = publish.read_releases(inputs["victim"])
    matrices = [one.measurement_matrices() for one in releases]
    for module, guess in text_attack.read_decoded(inputs["attack"]).items():
        for number, truth in enumerate(truths):
            a, mean = matrices[number][module], known.mean_gradient[module]
            columns = cosine_columns("gradient_cosine", truth.gradients[module][None], guess[number][None], a, mean)
            yield from (Fact(name, float(value), secret=number, module=module) for name, value in columns.items())


def _shown(language: Language, number: int, one: Scored) -> dict[str, object]:
    return {
        "secret": number,
        "truth": [language.text_of(ids) for ids in one.truth.ids],
        "recovered": [language.text_of(ids) for ids in one.guesses[""]],
        "verdict": one.found.verdict,
        "why": one.found.why,
        "control": [language.text_of(ids) for ids in one.guesses["_language_model"]],
    }
