"""With the base model of text at hand: what the first block's release proves of its tokens, and whole sentences.

The attack is that of the suites (`bridge_core.text`), run on an adapter that this project has not made: nothing is
known but the folder, the recipe is guessed.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from audit.checks.optimiser import recipe_of, recipes_to_try
from audit.checks.weights import seen_tokens
from audit.folder import shown
from audit.report import Finding, Gap, Severity, Tier
from audit.subject import Subject
from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.evidence import evidence_of
from bridge_core.release import Release
from bridge_core.seeding import generator
from bridge_core.text.base import check_base
from bridge_core.text.matched import recover_by_keys
from bridge_core.text.models import FirstInputs, Language, build_language, first_inputs
from bridge_core.text.objective import Target
from bridge_core.text.order import drifts_of
from bridge_core.text.recover import Recovered, recover
from bridge_core.text.span import Certificate, Probe, certify, probes_of, row_errors
from bridge_core.text.victim import SEALED_BLOCKS

MOST_SHOWN = 64
MOST_SAMPLES = 16
CLEAR, MOST_PER_INPUT = 3.0, 2
"""Best stranger's residual over the worst member's, at least; members for each independent input, at most."""
BLURRED = "members do not stand clear of strangers: dropout on the embeddings, another base, or other noise"
PUBLISHED = "do not publish this adapter; train on more data, or with noise (DP-SGD)"


@dataclass(frozen=True)
class Heard:
    """What an adapter says of the first blocks of its base."""

    language: Language
    table: FirstInputs
    probes: dict[int, list[Probe]]
    errors: dict[str, Tensor]
    target: Target


def findings_with_base(
    subject: Subject, base: str, *, attack: bool, max_tokens: int
) -> tuple[list[Finding], list[Gap]]:
    """What `--base` and `--attack` add.

    Raises `UnknownName` where the base can not be loaded, `InvalidInput` where the adapter is not of it.
    """
    language = build_language(_model(base, subject), (), 2)
    found = _named_rows(subject, language)
    guess = recipe_of(subject)
    if not subject.layout.pairs or guess is None:
        return found, [Gap(what="the base's first block", why="no trained pair of factors to hold against it")]
    release = subject.release
    check_base(release, language)
    recipes = recipes_to_try(subject, guess)
    if not recipes:
        why = "several AdamW steps leave of a gradient its signs: rows of B lie in no span of the inputs"
        return found, [Gap(what="tokens and sentences", why=why)]
    more, gaps = _first_that_tells(language, release, recipes, attack=attack, max_tokens=max_tokens)
    return found + more, gaps


def _first_that_tells(
    language: Language, release: Release, recipes: Sequence[s.Recipe], *, attack: bool, max_tokens: int
) -> tuple[list[Finding], list[Gap]]:
    """What the first recipe brings under which anything is proved; else why nothing is under the first one."""
    nothing: list[Gap] = []
    for recipe in recipes:
        try:
            heard = _heard(language, release, recipe, max_tokens)
        except NotApplicable as reason:
            nothing = nothing or [Gap(what="tokens and sentences", why=str(reason))]
            continue
        tokens, gaps = _tokens(heard)
        vague = any(gap.why == BLURRED for gap in gaps)
        sentences, missing = _sentences(heard) if attack and not vague else ([], [])
        if tokens or sentences:
            return tokens + sentences, gaps + missing
        nothing = nothing or gaps + missing
    return [], nothing


def _model(base: str, subject: Subject) -> s.TextModel:
    """The knobs of a base model by its name."""
    task = "causal" if subject.config.get("task_type") == "CAUSAL_LM" else "classification"
    if base == "minilm":
        return s.MiniLm()
    if base == "smollm2":
        return s.SmolLm2(task=task)
    if Path(base).exists():
        return s.TextFolder(path=base, task=task)
    return s.TextHub(id=base, task=task)


def _heard(language: Language, release: Release, recipe: s.Recipe, max_tokens: int) -> Heard:
    evidence = evidence_of(release, recipe)
    matrices = release.measurement_matrices()
    drifts = drifts_of({name: one.b for name, one in release.factors.items()}, recipe.steps)
    blocks = range(min(SEALED_BLOCKS, len(language.blocks)))
    probes = {
        block: probes_of(evidence.m, evidence.error, matrices, language.readers(block), drifts) for block in blocks
    }
    if not probes[0]:
        raise NotApplicable("no adapter on the first block's query, key or value", "one of them")
    target = Target(language, evidence.m, evidence.error, matrices)
    errors = {name: row_errors(one) for name, one in evidence.error.items()}
    return Heard(language, first_inputs(language, max_tokens), probes, errors, target)


def _tokens(heard: Heard) -> tuple[list[Finding], list[Gap]]:
    """Tokens that the first block's certificate proves."""
    try:
        found = certify(heard.probes[0], heard.table, _known(heard))
    except NotApplicable as reason:
        return [], [Gap(what="the span certificate of the first block", why=str(reason))]
    pairs = _certified(heard, found)
    if pairs and not _apart(found):
        return [], [Gap(what="the span certificate of the first block", why=BLURRED)]
    if not pairs:
        why = (
            f"rank {found.rank}, but no token of this vocabulary fits: another base, dropout on the embeddings, or both"
        )
        return [], [Gap(what="the span certificate of the first block", why=why)]
    tests = len(heard.table.tokens) * len(heard.table.positions)
    return [
        Finding(
            rule="certified-tokens",
            title=f"{len(pairs)} training tokens are proved by the first block",
            severity=Severity.CRITICAL,
            tier=Tier.BASE,
            by_construction=False,
            reveals="tokens of the training text" + (", each with its position" if heard.table.placed else ""),
            evidence=(
                f"residuals of at most {float(found.residuals[found.certain].max()):.1g}, the best stranger's "
                f"{found.stranger:.1g}, of {tests} pairs of token and position",
                f"{found.rank} independent inputs were seen",
            ),
            recovered=(_shown_tokens(heard, pairs),),
            where=tuple(probe.name for probe in heard.probes[0]),
            num_places=len(heard.probes[0]),
            numbers={"tokens": float(len(pairs)), "rank": float(found.rank), "best_stranger": found.stranger},
            remedy=PUBLISHED,
        )
    ], []


def _apart(found: Certificate) -> bool:
    """True where the certified ones stand clear of all others, and are no more than what was seen can span.

    With dropout on the embeddings no input is a lookup: then vague residuals pass the certificate's own test.
    """
    worst = float(found.residuals[found.certain].max())
    return not worst > found.stranger / CLEAR and int(found.certain.sum()) <= MOST_PER_INPUT * found.rank


def _certified(heard: Heard, found: Certificate) -> list[tuple[int, int]]:
    """Certified tokens by position; those that stand at the beginning of every sentence say nothing alone."""
    ids, positions = found.certified()
    pairs = sorted(zip(positions.tolist(), ids.tolist(), strict=True))
    return [(token, place) for place, token in pairs] if any(i != heard.language.begin for _, i in pairs) else []


def _shown_tokens(heard: Heard, pairs: list[tuple[int, int]]) -> str:
    tokenizer = heard.language.tokenizer
    words = [str(tokenizer.convert_ids_to_tokens(token)) for token, _ in pairs[:MOST_SHOWN]]
    return shown(" ".join(words), 1000) + (" …" if len(pairs) > MOST_SHOWN else "")


def _sentences(heard: Heard) -> tuple[list[Finding], list[Gap]]:
    """The sentences themselves, as far as they are proved; else why not."""
    number = _num_samples(heard)
    by_keys = partial(recover_by_keys, heard.target, heard.table, number, generator(0, "keys"))
    knobs = s.Span()
    found = recover(
        heard.language, heard.probes, heard.errors, heard.table, number, knobs, otherwise=lambda rest: by_keys(rest)
    )
    texts = [heard.language.text_of(ids) for ids, sure in zip(found.sentences, found.sure, strict=True) if sure]
    if not texts:
        guesses = "; ".join(heard.language.text_of(ids) for ids in found.sentences)
        why = found.why or "no sentence is proved whole"
        return [], [Gap(what="sentences", why=f"{why}; the best guess, unproved, is “{shown(guesses, 200)}”")]
    return [_told(found, texts)], []


def _told(found: Recovered, texts: list[str]) -> Finding:
    return Finding(
        rule="recovered-sentences",
        title=f"{len(texts)} training {'sentences' if len(texts) > 1 else 'sentence'} read out of the adapter",
        severity=Severity.CRITICAL,
        tier=Tier.ATTACK,
        by_construction=False,
        reveals="the training text, word for word",
        evidence=(
            f"{len(found.certified)} tokens proved of {found.tests} pairs that were tested",
            *(f"residual {one:.1g}" for one in found.residuals if not math.isnan(one)),
        ),
        recovered=tuple(f"“{shown(text, 2000)}”" for text in texts[:MOST_SHOWN]),
        numbers={"sentences": float(len(texts))},
        remedy=PUBLISHED,
    )


def _num_samples(heard: Heard) -> int:
    """The most tokens that are proved at one position: N, but for sentences that share them."""
    if not heard.table.placed:
        return 1
    try:
        _, positions = certify(heard.probes[0], heard.table, _known(heard)).certified()
    except NotApplicable:
        return 1
    return min(max(Counter(positions.tolist()).values(), default=1), MOST_SAMPLES)


def _known(heard: Heard) -> Tensor | None:
    begin = heard.language.begin
    return None if begin is None else heard.table.at(torch.tensor([begin]), torch.tensor([0]))


def _named_rows(subject: Subject, language: Language) -> list[Finding]:
    """The words of an adapted embedding's rows."""
    found: list[Finding] = []
    for name, pair in subject.layout.embeddings.items():
        ids = seen_tokens(subject, pair).tolist()
        if len(ids) < pair.a.shape[1] == language.vocabulary:
            words = [str(language.tokenizer.convert_ids_to_tokens(token)) for token in ids[:MOST_SHOWN]]
            found.append(
                Finding(
                    rule="embedding-words",
                    title=f"The {len(ids)} tokens that were seen, in words",
                    severity=Severity.CRITICAL,
                    tier=Tier.BASE,
                    reveals="the vocabulary of the training text",
                    recovered=(shown(" ".join(words), 1000) + (" …" if len(ids) > MOST_SHOWN else ""),),
                    where=(shown(name),),
                    num_places=1,
                    remedy="leave the embedding out of target_modules and train again",
                )
            )
    return found
