"""What the attack says of releases that it can not read: nothing, and why."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_core.errors import InvalidInput, UnknownName
from bridge_core.evidence import evidence_of
from bridge_core.phases import publish
from bridge_core.spec import text as t
from bridge_core.text.base import check_base
from bridge_core.text.corpus import load_sentences
from bridge_core.text.models import Language, build_language, first_inputs, read_language, save_language
from bridge_core.text.recover import EXACT, NOTHING, Recovered, read_recovered, recover, save_recovered
from bridge_core.text.span import probes_of, row_errors
from tests.core.cells import run_cell
from tests.core.examples import is_one_line
from tests.core.text.test_cells import text_cell


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cell")
    run_cell(text_cell(), path)
    return path


def attack(folder: Path, language: Language, doubt: str = "") -> Recovered:
    """The released folders alone, under `language` as the base model."""
    told, release = publish.read_told(folder / "publish"), publish.read_releases(folder / "publish")[0]
    assert told.recipe is not None
    evidence, matrices = evidence_of(release, told.recipe), release.measurement_matrices()
    probes = {
        block: probes_of(evidence.m, evidence.error, matrices, language.readers(block))
        for block in range(len(language.blocks))
    }
    errors = {name: row_errors(one) for name, one in evidence.error.items()}
    return recover(language, probes, errors, first_inputs(language, 12), 1, t.Span(), doubt)


def other(language: Language, seed: int) -> Language:
    """The same architecture and tokenizer with other weights."""
    torch.manual_seed(seed)
    for parameter in language.model.parameters():
        parameter.data += parameter.data.std() * torch.randn_like(parameter)
    return language


def test_the_right_base_gives_the_sentence_and_another_one_nothing(folder: Path) -> None:
    right = attack(folder, read_language(folder / "base"))
    assert right.verdict == EXACT
    for seed in range(5):
        wrong = attack(folder, other(read_language(folder / "base"), seed))
        assert wrong.verdict == NOTHING and not wrong.certified and not any(wrong.sure)
        assert "another base model" in wrong.why


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (t.TinyText(width=32, heads=2, depth=3, vocabulary=600), ("for a 64 x 64 matrix", "this base model's 32 x 32")),
        (t.TinyText(width=64, heads=2, depth=1, vocabulary=600), ("layer.1", "this base model has not")),
        (t.TinyText(family="llama", width=64, heads=2, task="causal"), ("attention.self.query", "has not")),
    ],
)
def test_a_base_of_other_shapes_is_refused(folder: Path, model: t.TinyText, words: tuple[str, ...]) -> None:
    (release, *_) = publish.read_releases(folder / "publish")
    check_base(release, read_language(folder / "base"))
    with pytest.raises(InvalidInput) as caught:
        check_base(release, build_language(model, load_sentences(t.Canaries(), 2).texts, 2))
    assert is_one_line(caught.value, *words, "base that the adapter was trained on")


def test_a_doubt_forbids_every_certificate(folder: Path) -> None:
    found = attack(folder, read_language(folder / "base"), doubt="three AdamW steps")
    assert found.verdict == NOTHING and found.why == "three AdamW steps"
    assert not found.certified and found.ranked and found.sentences


def test_what_an_attack_hands_over_comes_back_from_its_file(folder: Path, tmp_path: Path) -> None:
    found = attack(folder, read_language(folder / "base"))
    save_recovered([found], tmp_path / "recovered.json")
    (again,) = read_recovered(tmp_path / "recovered.json")
    assert again.certified == found.certified and again.sentences == found.sentences


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    texts = load_sentences(t.Canaries(), 2).texts
    save_language(build_language(t.TinyText(vocabulary=200), texts, 2), tmp_path)
    larger: Any = build_language(t.TinyText(vocabulary=500), texts, 2).tokenizer
    larger.save_pretrained(str(tmp_path))
    with pytest.raises(InvalidInput) as caught:
        build_language(t.TextFolder(path=str(tmp_path)), (), 2)
    assert is_one_line(caught.value, "500 tokens", "200 embeddings", "tokenizer that fits")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"model_type": "t5"}', ("type t5", "bert, gpt2, llama")),
        ('{"model_type": "bert", "quantization_config": {"quant_method": "bitsandbytes"}}', ("quantised",)),
    ],
)
def test_a_base_of_another_kind_is_refused(config: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InvalidInput) as caught:
        build_language(t.TextFolder(path=str(tmp_path)), (), 2)
    assert is_one_line(caught.value, *words)


def test_a_folder_without_safe_weights_is_refused(tmp_path: Path) -> None:
    texts = load_sentences(t.Canaries(), 2).texts
    save_language(build_language(t.TinyText(vocabulary=200), texts, 2), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UnknownName) as caught:
        build_language(t.TextFolder(path=str(tmp_path)), (), 2)
    assert is_one_line(caught.value, "can not be loaded")


def test_a_base_in_several_files_is_read(tmp_path: Path) -> None:
    texts = load_sentences(t.Canaries(), 2).texts
    language = build_language(t.TinyText(vocabulary=200), texts, 2)
    model: Any = language.model
    save_language(language, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(str(tmp_path), max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = build_language(t.TextFolder(path=str(tmp_path)), (), 2)
    pairs = zip(language.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
