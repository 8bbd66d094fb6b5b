"""Whole weights that are shipped, and embeddings whose non-zero rows are the tokens seen."""

import math
from collections.abc import Iterator, Sequence

from jaxtyping import Int64
from torch import Tensor

from audit.checks.files import MOST_SHOWN
from audit.folder import shown
from audit.layout import EmbeddingPair
from audit.report import Finding, Severity
from audit.subject import Subject
from audit.tensors import Entry

MOST_IDS = 40
HEADS = ("classifier", "score", "lm_head", "head", "fc", "qa_outputs", "out_proj")
EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "shared", "lm_head", "embed_in", "embed_out")
LAST = "leave it out of `modules_to_save` and train again"


def findings(subject: Subject) -> Iterator[Finding]:
    """Embedding rows, whole weights, a classifier's head, and biases."""
    for name, pair in subject.layout.embeddings.items():
        yield from _rows(subject, name, pair)
    if subject.method.name.startswith("LoRA") or subject.config.get("modules_to_save"):
        yield from _whole(subject)


def seen_tokens(subject: Subject, pair: EmbeddingPair) -> Int64[Tensor, "n"]:
    """Tokens whose column of A is not zero: PEFT starts A at zero, and a token that was not seen has no gradient."""
    a = subject.tensors.read(pair.a.name)
    return (a != 0).any(0).nonzero().flatten()


def is_head(entry: Entry) -> bool:
    """True for a classifier's last layer, by its name."""
    parts = entry.name.split(".")
    return any(part in HEADS for part in parts)


def _rows(subject: Subject, name: str, pair: EmbeddingPair) -> Iterator[Finding]:
    if len(pair.a.shape) != 2:
        return
    ids = seen_tokens(subject, pair)
    number, total = len(ids), pair.a.shape[1]
    if not number or number == total:
        return
    yield Finding(
        rule="embedding-rows",
        title=f"The adapted embedding tells which {number} tokens were seen",
        severity=Severity.HIGH,
        reveals="the set of all tokens of the training data, whatever the optimiser and the number of steps",
        evidence=(
            f"{number} of {total} columns of lora_embedding_A are not zero",
            f"token ids {', '.join(map(str, ids[:MOST_IDS].tolist()))}{', …' if number > MOST_IDS else ''}",
        ),
        where=(shown(name),),
        num_places=1,
        numbers={"tokens": float(number), "vocabulary": float(total)},
        remedy="none that keeps the adapter: leave the embedding out of target_modules and train again",
    )


def _whole(subject: Subject) -> Iterator[Finding]:
    entries = [one for one in subject.layout.full if one.dtype.is_floating_point]
    if subject.layout.format != "peft":
        entries = [one for one in entries if one.name.endswith((".weight", ".bias"))]
    large = [one for one in entries if len(one.shape) > 1]
    embeddings = [one for one in large if any(part in EMBEDDINGS for part in one.name.split("."))]
    heads = [one for one in entries if is_head(one) and one not in embeddings]
    rest = [one for one in large if one not in embeddings and one not in heads]
    small = [one for one in entries if len(one.shape) <= 1 and one not in heads]
    if embeddings:
        yield _finding(
            embeddings,
            "whole-embedding",
            "A whole embedding is shipped",
            Severity.HIGH,
            "which rows moved away from the base model's: the tokens that were seen",
        )
    if heads:
        yield _finding(
            heads,
            "whole-head",
            "A whole classifier's head is shipped",
            Severity.MEDIUM,
            "its update, hence how many samples of each class a batch held (iDLG, iLRG), and the number of classes",
        )
    if rest:
        yield _finding(
            rest,
            "whole-weights",
            "Whole weights are shipped",
            Severity.MEDIUM,
            "full-rank updates against the public base: gradients of these layers, not only measurements of them",
        )
    if small:
        yield _finding(
            small,
            "whole-biases",
            "Biases or norms are shipped",
            Severity.LOW,
            "sums of output gradients over all tokens or patches",
        )


def _finding(entries: Sequence[Entry], rule: str, title: str, severity: Severity, reveals: str) -> Finding:
    return Finding(
        rule=rule,
        title=title,
        severity=severity,
        reveals=reveals,
        evidence=(f"{sum(math.prod(one.shape) for one in entries)} numbers in {len(entries)} tensors",),
        where=tuple(shown(one.name) for one in entries[:MOST_SHOWN]),
        num_places=len(entries),
        remedy=LAST,
    )
