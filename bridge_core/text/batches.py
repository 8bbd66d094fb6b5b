"""Sentences as token ids: how a victim's batch is made, and its loss."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from bridge_core.spec import text as t
from bridge_core.text.corpus import Sentences
from bridge_core.text.models import Language

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Sentences of one step, padded on the right."""

    ids: Int64[Tensor, "n t"]
    mask: Bool[Tensor, "n t"]
    labels: Int64[Tensor, "n"]
    """Classes; a causal model does not look at them."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Int64[Tensor, "k"]) -> "Batch":
        mask = self.mask[index]
        length = int(mask.sum(1).max())
        return Batch(self.ids[index, :length], mask[:, :length], self.labels[index])

    def sentences(self) -> list[list[int]]:
        """Ids without padding."""
        return [row[keep].tolist() for row, keep in zip(self.ids, self.mask, strict=True)]


def encode(language: Language, sentences: Sentences, corpus: t.Corpus) -> Batch:
    """All sentences of `sentences` that the corpus lets in, as `encode_rows` gives them."""
    return encode_rows(language, sentences, corpus)[0]


def encode_rows(language: Language, sentences: Sentences, corpus: t.Corpus) -> tuple[Batch, Int64[Tensor, "n"]]:
    """All sentences of `sentences` that the corpus lets in, cut to `max_tokens`, and the rows they come from.

    A causal model's sentences end with the end-of-text token, as in fine-tuning: the last token of a sentence is input
    of no prediction otherwise. Texts of the same ids come once.
    """
    tokenizer: Any = language.tokenizer
    cut = {"truncation": True, "max_length": corpus.max_tokens} if corpus.longer == "cut" else {}
    limit = cut if language.task == "classification" else cut | {"max_length": corpus.max_tokens - 1} if cut else {}
    encoded: list[list[int]] = tokenizer(list(sentences.texts), **limit)["input_ids"] if len(sentences) else []
    end = [int(tokenizer.eos_token_id)] if language.task == "causal" else []
    kept: dict[tuple[int, ...], int] = {}
    for row, ids in enumerate(encoded):
        whole = tuple([*ids, *end])
        if corpus.min_tokens <= len(whole) <= corpus.max_tokens:
            kept.setdefault(whole, row)
    rows = torch.tensor(list(kept.values()), dtype=torch.int64)
    return padded([list(ids) for ids in kept], sentences.labels[rows], language.pad), rows


def padded(sentences: list[list[int]], labels: Int64[Tensor, "n"], pad: int) -> Batch:
    """Ids of different lengths as one batch."""
    length = max(map(len, sentences), default=1)
    ids = torch.tensor([one + [pad] * (length - len(one)) for one in sentences]).reshape(-1, length)
    lengths = torch.tensor([len(one) for one in sentences])
    return Batch(ids, torch.arange(length) < lengths[:, None], labels)


def embeddings(language: Language, ids: Int64[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
    """Token embeddings, without positions."""
    model: Any = language.model
    return model.get_input_embeddings()(ids)


def loss_of(
    language: Language, model: Any, batch: Batch, embedded: Float[Tensor, "n t d"] | None = None
) -> Float[Tensor, ""]:
    """Mean cross-entropy: of the classes, or of every next token.

    `model` is the language's own or the same with an adapter; `embedded` stands in for the tokens' embeddings.
    """
    given = {"input_ids": batch.ids} if embedded is None else {"inputs_embeds": embedded}
    logits: Tensor = model(**given, attention_mask=batch.mask.long()).logits
    if language.task == "classification":
        return F.cross_entropy(logits, batch.labels)
    following = batch.ids[:, 1:].masked_fill(~batch.mask[:, 1:], IGNORED)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), following.flatten(), ignore_index=IGNORED)
