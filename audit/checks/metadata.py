"""What headers, configurations and model cards say in words."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from audit.checks.files import STRIP
from audit.folder import parse_json, read_text, shown
from audit.report import Finding, Severity
from audit.subject import Subject

HARMLESS = ("format", "lora_adapter_metadata")
CONTENT = ("ss_tag_frequency", "ss_dataset_dirs", "ss_datasets", "ss_bucket_info", "ss_reg_dataset_dirs", "ss_caption")
COUNTS = (
    "ss_num_train_images",
    "ss_num_reg_images",
    "ss_num_batches_per_epoch",
    "ss_num_epochs",
    "ss_max_train_steps",
    "ss_steps",
    "ss_epoch",
    "ss_total_batch_size",
    "ss_batch_size_per_device",
)
MOST_WORDS = 12
LOCAL = re.compile(
    r"(?:^|[\s\"'=:(])((?:/(?:home|Users|root|mnt|data|workspace|scratch|tmp|content|kaggle)/|~/|[A-Za-z]:\\)\S*)"
)
CARD = "README.md"


def findings(subject: Subject) -> Iterator[Finding]:
    """Metadata of the header, paths of the trainer's machine, and data sets named in the model card."""
    yield from _header(subject)
    yield from _paths(subject)
    yield from _tokens(subject)
    yield from _card(subject)


def _header(subject: Subject) -> Iterator[Finding]:
    metadata = {key: value for key, value in subject.tensors.metadata.items() if key not in HARMLESS}
    where, remedy = (shown(subject.weights.name),), "`bridge protect` writes a header without metadata"
    content = {key: value for key, value in metadata.items() if key.startswith(CONTENT)}
    counts = {key: value for key, value in metadata.items() if key in COUNTS}
    rest = {key: value for key, value in metadata.items() if key not in content and key not in counts}
    if content:
        yield Finding(
            rule="metadata-content",
            title="The header names captions, tags or folders of the training set",
            severity=Severity.HIGH,
            reveals="what the training images show, in the trainer's own words, and where they were kept",
            evidence=tuple(_content(key, value) for key, value in list(content.items())[:MOST_WORDS]),
            where=where,
            num_places=len(content),
            remedy=remedy,
        )
    if counts:
        yield Finding(
            rule="metadata-counts",
            title="The header counts the training set",
            severity=Severity.MEDIUM,
            reveals="the number of training images, epochs and steps",
            evidence=tuple(f"{shown(key, 60)} is {shown(value, 60)}" for key, value in counts.items()),
            where=where,
            num_places=len(counts),
            remedy=remedy,
        )
    if rest:
        yield Finding(
            rule="metadata-recipe",
            title="The header carries metadata that no loader needs",
            severity=Severity.LOW,
            reveals="circumstances of the training run: recipe, dates, names",
            evidence=tuple(f"{shown(key, 60)} is {shown(value, 60)}" for key, value in list(rest.items())[:MOST_WORDS]),
            where=where,
            num_places=len(rest),
            remedy=remedy,
        )


def _content(key: str, value: str) -> str:
    try:
        parsed = parse_json(value.encode())
    except (ValueError, RecursionError):
        parsed = value
    words = list(_words(parsed, 0))[:MOST_WORDS]
    return f"{shown(key, 40)}: {shown(', '.join(words), 200)}"


def _words(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping) and depth < 4:
        for key, inner in list(value.items())[:MOST_WORDS]:
            yield shown(f"{key} ({inner})" if isinstance(inner, int | float) else str(key), 60)
            yield from _words(inner, depth + 1)
    elif isinstance(value, str):
        yield shown(value, 60)


def _paths(subject: Subject) -> Iterator[Finding]:
    text = json.dumps(subject.config, ensure_ascii=False)
    found = {f"adapter_config.json: {shown(path, 100)}" for path in LOCAL.findall(text.replace("\\\\", "\\"))}
    for value in subject.tensors.metadata.values():
        found |= {f"the header: {shown(path, 100)}" for path in LOCAL.findall(value[:100_000])}
    if found:
        yield Finding(
            rule="local-paths",
            title="Paths of the machine that trained it",
            severity=Severity.LOW,
            reveals="names of users, projects and folders",
            evidence=tuple(sorted(found))[:MOST_WORDS],
            where=("adapter_config.json",),
            num_places=len(found),
            remedy="name the base model by its public id; " + STRIP,
        )


def _tokens(subject: Subject) -> Iterator[Finding]:
    ids = subject.config.get("trainable_token_indices") or subject.config.get("token_indices")
    if ids:
        yield Finding(
            rule="trained-tokens",
            title="The configuration lists the tokens whose embeddings were trained",
            severity=Severity.MEDIUM,
            reveals="words that the training data were expected to hold",
            evidence=(shown(f"token ids {ids}", 200),),
            where=("adapter_config.json",),
            num_places=1,
            remedy="none without retraining: the rows would be trained still",
        )


def _card(subject: Subject) -> Iterator[Finding]:
    card = subject.folder.file(CARD) if CARD in {one.name for one in subject.folder.files} else None
    head = read_text(card).partition("---\n")[2].partition("\n---")[0] if card else ""
    match = re.search(r"^datasets?:[ \t]*(?P<inline>\S.*)?(?P<items>(?:\n[ \t]*- .+)*)", head, re.MULTILINE)
    named = shown(((match["inline"] or "") + (match["items"] or "")).replace("- ", "")) if match else ""
    if named and named not in ("[]", "unknown", "generated_from_trainer"):
        yield Finding(
            rule="card-names-data",
            title="The model card names the data set",
            severity=Severity.LOW,
            reveals="where candidates for a membership test are to be found",
            evidence=(named,),
            where=(CARD,),
            num_places=1,
            remedy="leave it out of the card, if the data set is to stay unknown",
        )
