from pathlib import Path
from typing import Literal

import pytest
import torch

from bridge_core.errors import InvalidInput
from bridge_core.spec import text as t
from bridge_core.text.batches import Batch, encode, loss_of, padded
from bridge_core.text.corpus import load_sentences
from bridge_core.text.models import Language, build_language, first_inputs, read_language, save_language

Family = Literal["bert", "gpt2", "llama"]
CORPUS = t.Corpus(proxy=t.Canaries(), private=t.Canaries(), max_tokens=16)
FAMILIES: tuple[Family, ...] = ("bert", "gpt2", "llama")


def tiny(family: Family) -> Language:
    task = "classification" if family == "bert" else "causal"
    knobs = t.TinyText(family=family, width=32, heads=2, vocabulary=400, task=task)
    return build_language(knobs, load_sentences(t.Canaries(), 2).texts, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_is_what_the_first_block_reads(family: Family) -> None:
    language, seen = tiny(family), []
    batch = encode(language, load_sentences(t.Canaries(), 2), CORPUS)[torch.arange(3)]
    module = language.model.get_submodule(language.readers(0)[0])
    handle = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    loss_of(language, language.model, batch)
    handle.remove()
    positions = torch.arange(batch.ids.shape[1]).expand_as(batch.ids)
    found = first_inputs(language, 64).at(batch.ids[batch.mask], positions[batch.mask])
    torch.testing.assert_close(found.float(), seen[0][batch.mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_comes_back_from_its_folder(family: Family, tmp_path: Path) -> None:
    language = tiny(family)
    save_language(language, tmp_path)
    again = read_language(tmp_path)
    sentences = load_sentences(t.Canaries(), 2)
    one, other = encode(language, sentences, CORPUS), encode(again, sentences, CORPUS)
    assert one.sentences() == other.sentences()
    part = torch.arange(4)
    first, second = loss_of(language, language.model, one[part]), loss_of(again, again.model, other[part])
    torch.testing.assert_close(first, second)


def test_a_causal_sentence_ends_with_the_end_and_none_is_too_long() -> None:
    language = tiny("llama")
    sentences = encode(language, load_sentences(t.Canaries(), 2), CORPUS).sentences()
    assert all(one[-1] == language.tokenizer.eos_token_id for one in sentences)
    assert max(map(len, sentences)) == CORPUS.max_tokens


def test_padding_does_not_change_the_loss() -> None:
    language, labels = tiny("bert"), torch.tensor([1])
    alone = padded([[2, 52, 237, 3]], labels, language.pad)
    beside = padded([[2, 52, 237, 3], list(range(5, 15))], torch.tensor([1, 0]), language.pad)
    whole = Batch(beside.ids[:1], beside.mask[:1], labels)
    assert whole.ids.shape[1] == 10
    losses = [loss_of(language, language.model, one) for one in (alone, whole)]
    torch.testing.assert_close(losses[0], losses[1])


def test_a_bert_that_should_be_causal_is_refused() -> None:
    with pytest.raises(InvalidInput, match="causal"):
        build_language(t.TinyText(family="bert", task="causal", vocabulary=400), ["a word", "another"], 2)


def test_a_tiny_model_is_the_same_each_time() -> None:
    texts = load_sentences(t.Canaries(), 2).texts
    one, two = (build_language(t.TinyText(vocabulary=400), texts, 2) for _ in range(2))
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    assert all(
        torch.equal(mine, other) for mine, other in zip(one.model.parameters(), two.model.parameters(), strict=True)
    )
