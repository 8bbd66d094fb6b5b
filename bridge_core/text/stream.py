"""Simulated pairs of text: what one step on proxy sentences would reveal, many steps in one forward and backward pass.

Taps are those of `bridge_core.gradients`: inputs X (tokens x in) and output gradients D (tokens x out) of every
adapted module, so that G = D^T X and M = D^T (X A^T).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core.errors import InvalidInput
from bridge_core.gradients import Tap
from bridge_core.simulate import Batch as Pairs
from bridge_core.text.batches import IGNORED, Batch
from bridge_core.text.models import Language

BATCH_SENTENCES = 32


def stream(
    language: Language,
    proxy: Batch,
    modules: Sequence[str],
    num_pairs: int,
    rng: torch.Generator,
    *,
    num_samples: int = 1,
) -> Iterator[Pairs]:
    """Yield `num_pairs` simulated single-step updates of `num_samples` proxy sentences each, in batches.

    Every sentence is used once, in random order, before any is used again. Where a picture has pixels, `images` has the
    counts of a sentence's tokens (1 x 1 x vocabulary): their mean over the proxy is the unigram control. Memory is that
    of one batch. Raises `InvalidInput` where there is no proxy sentence.
    """
    if not len(proxy):
        raise InvalidInput("a proxy part with no sentence", "at least one", "name a larger proxy source")
    per_batch = max(1, BATCH_SENTENCES // num_samples)
    order = _shuffled(len(proxy), rng)
    for start in range(0, num_pairs, per_batch):
        wanted = min(per_batch, num_pairs - start) * num_samples
        batch = proxy[torch.stack([next(order) for _ in range(wanted)])]
        yield Pairs(token_counts(language, batch), batch.labels, tap(language, batch, modules, num_samples=num_samples))


def tap(
    language: Language,
    batch: Batch,
    modules: Sequence[str],
    *,
    num_samples: int = 1,
    embedded: Float[Tensor, "m t d"] | None = None,
    create_graph: bool = False,
) -> dict[str, Tap]:
    """Taps of `modules` under `batches.loss_of`, one example apart from the other; D is zero at padding.

    An example is `num_samples` sentences of `batch` that follow one another and made one step together. `embedded`
    stands in for the tokens' embeddings; with `create_graph` the result can be differentiated with respect to it.
    """
    model = language.model
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def listen(name: str):
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_()
            seen[name] = (inputs[0], output)
            return output

        return hook

    def instead(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if embedded is None else embedded

    handles = [model.get_submodule(name).register_forward_hook(listen(name)) for name in modules]
    handles.append(_token_embedding(language).register_forward_hook(instead))
    try:
        with torch.enable_grad():
            loss = num_samples * losses(language, batch, num_samples).sum()
            back = torch.autograd.grad(loss, [seen[name][1] for name in modules], create_graph=create_graph)
    finally:
        for handle in handles:
            handle.remove()
    pairs = zip(modules, back, strict=True)
    taps = {name: Tap(seen[name][0], gradient).grouped(num_samples) for name, gradient in pairs}
    return taps if create_graph else {name: Tap(t.inputs.detach(), t.output_gradients) for name, t in taps.items()}


def losses(language: Language, batch: Batch, num_samples: int = 1) -> Float[Tensor, "n"]:
    """`batches.loss_of` of every `num_samples` sentences that follow one another."""
    model: Any = language.model
    logits: Tensor = model(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
    if language.task == "classification":
        return F.cross_entropy(logits, batch.labels, reduction="none").reshape(-1, num_samples).mean(1)
    following = batch.ids[:, 1:].masked_fill(~batch.mask[:, 1:], IGNORED)
    each = F.cross_entropy(logits[:, :-1].mT, following, ignore_index=IGNORED, reduction="none")
    told = batch.mask[:, 1:].sum(1)
    return each.sum(1).reshape(-1, num_samples).sum(1) / told.reshape(-1, num_samples).sum(1)


def token_counts(language: Language, batch: Batch) -> Float[Tensor, "m 1 1 v"]:
    """How often each token stands in each sentence."""
    table: Tensor = _token_embedding(language).weight
    counts = torch.zeros(len(batch), len(table)).scatter_add_(1, batch.ids, batch.mask.float())
    return counts[:, None, None]


def _token_embedding(language: Language) -> Any:
    model: Any = language.model
    return model.get_input_embeddings()


def _shuffled(count: int, rng: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(count, generator=rng)
