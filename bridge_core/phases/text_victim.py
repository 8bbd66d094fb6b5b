"""Phase `text_victim`: adapters trained on secret sentences, and the sealed truth beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import Progress, adapter, sealed, text_private
from bridge_core.seeding import generator
from bridge_core.text.batches import Batch, encode_rows
from bridge_core.text.corpus import Sentences, read_sentences, save_sentences
from bridge_core.text.metrics import solid
from bridge_core.text.models import Language, read_language
from bridge_core.text.victim import train_text_victim


@dataclass(frozen=True)
class SealedText:
    """The truth of one secret."""

    ids: list[list[int]]
    marked: tuple[tuple[str, ...], ...]
    """Of each sentence, the marked spans (names, numbers) that its tokens hold."""
    gradients: dict[str, torch.Tensor]


def run(spec: s.TextVictimPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Train `num_secrets` adapters, each on `num_samples` private sentences that no other one has."""
    language = read_language(inputs["base"])
    sentences = read_sentences(inputs["private"] / text_private.FILE)
    batch, rows = encode_rows(language, sentences, spec.dataset)
    choice = _choose(spec, len(batch))
    facts: list[Fact] = []
    for number, index in enumerate(choice):
        part = batch[index]
        gradients, losses = train_text_victim(
            language, inputs["adapter"] / adapter.FOLDER, part, spec.recipe, sealed.release_folder(out, number)
        )
        tensors = {"ids": part.ids, "mask": part.mask, "labels": part.labels}
        sealed.seal(tensors, gradients, out, number)
        save_sentences(_with_held_spans(language, sentences[rows[index]], part), _texts(out, number))
        facts += [Fact("loss", loss, secret=number, step=step) for step, loss in enumerate(losses)]
        progress(number + 1, spec.num_secrets, loss=losses[-1])
    write_facts(facts, out)


def read_sealed_text(victim: Path, number: int) -> SealedText:
    """Open the sealed truth of one secret. Only scoring may call this."""
    tensors, gradients = sealed.unseal(victim, number)
    batch = Batch(tensors["ids"], tensors["mask"], tensors["labels"])
    return SealedText(batch.sentences(), read_sentences(_texts(victim, number)).secrets, gradients)


def _choose(spec: s.TextVictimPhase, available: int) -> list[torch.Tensor]:
    wanted = spec.num_secrets * spec.recipe.num_samples
    if wanted > available:
        remedy = "lower num_secrets or num_samples, widen min_tokens to max_tokens, or name a larger source"
        raise InvalidInput(f"{available} private sentences", f"{wanted} (num_secrets x num_samples)", remedy)
    order = torch.randperm(available, generator=generator(spec.seed, "secret"))[:wanted]
    return list(order.reshape(spec.num_secrets, -1))


def _with_held_spans(language: Language, sentences: Sentences, batch: Batch) -> Sentences:
    """The sentences with those of their marked spans that were not cut off."""
    texts = [solid(language.text_of(ids)) for ids in batch.sentences()]
    pairs = zip(sentences.secrets, texts, strict=True)
    held = tuple(tuple(span for span in spans if solid(span) in text) for spans, text in pairs)
    return Sentences(sentences.texts, sentences.labels, held)


def _texts(folder: Path, number: int) -> Path:
    return folder / sealed.SECRET / f"{number:03d}.parquet"
