"""Sentences of a text cell out of the store: truth, what came back, what a control would say."""

import json
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from benchmark.tui.pictures import artefact_folder

FILE = "sentences.json"
MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Sentences:
    """Of one secret; the lists are as long as the secret has sentences."""

    truth: tuple[str, ...]
    recovered: tuple[str, ...]
    control: tuple[str, ...]
    verdict: str
    """What the attack says of its own result, without the truth."""


def load_sentences(store: Path, key: str) -> tuple[Sentences, ...] | str:
    """The sentences of the score artefact `key`, one entry a secret; or why there are none."""
    folder = artefact_folder(store, key)
    path = folder / FILE if folder else None
    if path is None or not path.is_file():
        return "no sentences in the store"
    try:
        if path.stat().st_size > MAX_BYTES:
            return "too many sentences to show here"
        return tuple(_read(entry) for entry in json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError) as fault:
        return f"the sentences can not be read: {fault}"


def _read(entry: dict[str, Any]) -> Sentences:
    return Sentences(
        truth=tuple(map(str, entry["truth"])),
        recovered=tuple(map(str, entry["recovered"])),
        control=tuple(map(str, entry.get("control", ()))),
        verdict=str(entry.get("verdict", "")),
    )


def compared(truth: str, guess: str) -> list[tuple[str, bool]]:
    """The words of `guess` in order, each with whether it stands where the truth has it."""
    wanted, found = truth.split(), guess.split()
    right = [False] * len(found)
    for block in SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks():
        right[block.b : block.b + block.size] = [True] * block.size
    return list(zip(found, right, strict=True))
