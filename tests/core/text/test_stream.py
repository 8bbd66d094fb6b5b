"""Taps of many sentences at once against one backward pass a sentence, and the decoders that learn from them."""

from typing import Literal

import pytest
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from bridge_core import spec as s
from bridge_core.decoders import DecoderFit, num_pairs
from bridge_core.errors import InvalidInput
from bridge_core.gradients import weight_matrix
from bridge_core.lora import as_matrix, project
from bridge_core.metrics import cosines
from bridge_core.models import adapted_modules
from bridge_core.seeding import generator
from bridge_core.spec import text as t
from bridge_core.statistics import StatisticsSum
from bridge_core.text.batches import Batch, embeddings, encode, loss_of, padded
from bridge_core.text.corpus import is_heldout, load_sentences
from bridge_core.text.models import Language, build_language, target_endings
from bridge_core.text.stream import losses, stream, tap

Family = Literal["bert", "gpt2", "llama"]
KINDS: tuple[tuple[Family, t.Task], ...] = (
    ("bert", "classification"),
    ("gpt2", "causal"),
    ("gpt2", "classification"),
    ("llama", "causal"),
    ("llama", "classification"),
)
CORPUS = t.Corpus(proxy=t.Canaries(), private=t.Canaries(), max_tokens=14, min_tokens=6)


def tiny(family: Family, task: t.Task) -> Language:
    knobs = t.TinyText(family=family, width=32, heads=2, vocabulary=400, task=task)
    language = build_language(knobs, load_sentences(t.Canaries(), 2).texts, 2)
    language.model.double()
    return language


def sentences(language: Language) -> Batch:
    """Beginnings of sentences, of 6 to 14 tokens in turn."""
    batch = encode(language, load_sentences(t.Canaries(), 2), CORPUS)
    cut = [ids[: 6 + number % 9] for number, ids in enumerate(batch.sentences())]
    return padded(cut, batch.labels, language.pad)


def modules_of(language: Language) -> tuple[str, ...]:
    return adapted_modules(language.model, target_endings(language, None))


def full_gradient(language: Language, name: str, batch: Batch) -> Tensor:
    """The slow reference: autograd on the weight itself."""
    layer = language.model.get_submodule(name)
    weight = layer.get_parameter("weight").requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(language, language.model, batch), weight)
    weight.requires_grad_(False)
    return as_matrix(gradient, transposed=isinstance(layer, Conv1D))


@pytest.mark.parametrize(("family", "task"), KINDS)
@pytest.mark.parametrize("num_samples", [1, 2])
def test_gradients_of_a_batch_are_those_of_one_step_after_the_other(
    family: Family, task: t.Task, num_samples: int
) -> None:
    language = tiny(family, task)
    every = sentences(language)
    batch = every[torch.tensor([0, 7, 1, 5])]
    assert len(set(batch.mask.sum(1).tolist())) > 1
    taps = tap(language, batch, modules_of(language), num_samples=num_samples)
    assert len(taps) == (2 if family == "gpt2" else 4)
    for i, part in enumerate(torch.arange(4).split(num_samples)):
        for name, one in taps.items():
            wanted = full_gradient(language, name, batch[part])
            torch.testing.assert_close(
                one.gradient()[i], wanted, rtol=1e-8, atol=1e-12 + 1e-9 * float(wanted.abs().max())
            )


@pytest.mark.parametrize(("family", "task"), KINDS)
def test_padding_is_given_no_gradient(family: Family, task: t.Task) -> None:
    language = tiny(family, task)
    batch = sentences(language)[torch.tensor([0, 7])]
    for one in tap(language, batch, modules_of(language)).values():
        assert float(one.output_gradients[~batch.mask].abs().max()) == 0
        assert float(one.output_gradients[batch.mask].abs().max()) > 0


@pytest.mark.parametrize(("family", "task"), KINDS)
def test_embeddings_stand_in_for_their_tokens_and_can_be_differentiated(family: Family, task: t.Task) -> None:
    language = tiny(family, task)
    batch, modules = sentences(language)[torch.tensor([0, 7])], modules_of(language)
    plain = tap(language, batch, modules)
    embedded = embeddings(language, batch.ids).requires_grad_()
    found = tap(language, batch, modules, embedded=embedded, create_graph=True)
    norms = torch.stack([one.gradient().square().sum() for one in found.values()])
    (slope,) = torch.autograd.grad(norms.sum(), embedded)
    assert float(slope[batch.mask].abs().max()) > 0
    for name in modules:
        torch.testing.assert_close(found[name].gradient(), plain[name].gradient())


def test_losses_of_groups_are_the_loss_of_their_step() -> None:
    language = tiny("gpt2", "causal")
    batch = sentences(language)[torch.tensor([0, 7, 1])]
    wanted = [loss_of(language, language.model, batch[i]) for i in torch.arange(3).split(1)]
    torch.testing.assert_close(losses(language, batch), torch.stack(wanted))
    torch.testing.assert_close(losses(language, batch, 3), loss_of(language, language.model, batch)[None])


def test_every_sentence_is_used_once_before_any_is_used_again() -> None:
    language = tiny("bert", "classification")
    proxy = sentences(language)[torch.arange(50)]
    batches = list(stream(language, proxy, modules_of(language)[:1], 100, generator(0)))
    used = [ids for batch in batches for ids in batch.images.flatten(1)]
    assert sum(map(len, batches)) == 100
    counts = torch.stack(used).reshape(2, 50, -1).sum(1)
    assert torch.equal(counts[0], counts[1])
    assert torch.equal(counts[0].long(), torch.bincount(proxy.ids[proxy.mask], minlength=counts.shape[1]))


def test_a_stream_without_sentences_is_refused() -> None:
    language = tiny("bert", "classification")
    nothing = sentences(language)[torch.tensor([0])]
    nothing = Batch(nothing.ids[:0], nothing.mask[:0], nothing.labels[:0])
    with pytest.raises(InvalidInput, match="no sentence"):
        next(stream(language, nothing, modules_of(language), 4, generator(0)))


@pytest.mark.parametrize("bridge", [s.RowMmse(), s.Ridge(num_pairs=2000), s.Mlp(num_pairs=2000, hidden=64)])
def test_decoders_learn_from_a_stream_of_text(bridge: s.RowMmse | s.Ridge | s.Mlp) -> None:
    language = tiny("bert", "classification")
    language.model.float()
    batch = sentences(language)
    fitted, heldout = batch[torch.arange(40, len(batch))], batch[torch.arange(40)]
    found = heldout_cosines(language, fitted, heldout, bridge, modules_of(language), 4)
    for decoded, projected in found.values():
        assert decoded > projected + 0.05


def test_statistics_of_text_hold_its_unigram() -> None:
    language = tiny("bert", "classification")
    proxy, total = sentences(language), StatisticsSum()
    for pairs in stream(language, proxy, modules_of(language), len(proxy), generator(0)):
        total.add(pairs)
    counts = torch.bincount(proxy.ids[proxy.mask], minlength=len(language.tokenizer))
    torch.testing.assert_close(total.mean().mean_image.flatten(), counts / len(proxy))


@pytest.mark.slow
def test_a_row_wise_bridge_beats_the_projection_on_minilm() -> None:
    language = build_language(t.MiniLm(), (), 2)
    corpus = t.Corpus(proxy=t.PythonReference(), private=t.Canaries(), max_tokens=24, longer="drop")
    manual = load_sentences(t.PythonReference(), 2)
    fitted, heldout = (encode(language, manual[part], corpus) for part in (~is_heldout(manual), is_heldout(manual)))
    modules = tuple(name for name in modules_of(language) if name.endswith("value"))
    found = heldout_cosines(language, fitted, heldout, s.RowMmse(), modules, 8)
    for decoded, projected in found.values():
        assert decoded > 0.5 > 2 * projected


def heldout_cosines(
    language: Language,
    fitted: Batch,
    heldout: Batch,
    bridge: s.RowMmse | s.Ridge | s.Mlp,
    modules: tuple[str, ...],
    rank: int,
) -> dict[str, tuple[float, float]]:
    """Mean cosine of the decoder and of the projection, by module, of a bridge fitted on 2,000 pairs."""
    width = weight_matrix(language.model.get_submodule(modules[0]))[1]
    a = {name: torch.randn(rank, width, generator=generator(0, name)) for name in modules}
    total = StatisticsSum()
    for pairs in stream(language, fitted, modules, 2000, generator(0)):
        total.add(pairs)
    fit = DecoderFit(bridge, a, total.mean(), seed=0)
    for pairs in stream(language, fitted, modules, num_pairs(bridge), generator(1)):
        fit.add(pairs)
    taps = tap(language, heldout, modules)
    m = {name: one.measurement(a[name]) for name, one in taps.items()}
    decoded = fit.decoder().decode(m)
    found: dict[str, tuple[float, float]] = {}
    for name, one in taps.items():
        truth = one.gradient()
        found[name] = (
            float(cosines(truth, decoded[name]).mean()),
            float(cosines(truth, project(m[name], a[name])).mean()),
        )
    return found
