"""Every method that PEFT can save: analysed, or named as not analysed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.folder import shown
from audit.layout import Layout
from audit.report import Gap

ANALYSED = ("LORA",)
NOT_ANALYSED: Mapping[str, str] = {
    "ADALORA": "its first gradient reaches the diagonal E alone, which no attack here reads",
    "ADAMSS": "trains subspaces of the weight's own decomposition",
    "ADAPTION_PROMPT": "trains prompts inside attention",
    "BEFT": "trains biases",
    "BOFT": "multiplies the weight by butterfly rotations",
    "C3A": "trains circulant kernels",
    "CARTRIDGE": "ships key-value caches of a text",
    "CPT": "trains prompt tokens",
    "DEFT": "trains decomposed factors with gates",
    "DELORA": "normalises its factors",
    "FOURIERFT": "trains Fourier coefficients",
    "FROD": "trains in a joint decomposition",
    "GLORA": "adds scaled and shifted paths to its factors",
    "GRALORA": "cuts the weight into blocks",
    "HIRA": "multiplies the weight by its product",
    "HRA": "multiplies the weight by reflections",
    "IA3": "scales activations",
    "LILY": "shares factors among layers",
    "LN_TUNING": "ships whole layer norms",
    "LOHA": "its update is a Hadamard product",
    "LOKR": "its update is a Kronecker product",
    "MISS": "shares shards of one factor",
    "MULTITASK_PROMPT_TUNING": "trains prompts",
    "OFT": "multiplies the weight by rotations",
    "OSF": "trains the weight's small singular directions",
    "PEANUT": "trains a small network a layer",
    "POLY": "routes among several adapters",
    "PREFIX_TUNING": "trains prefixes of keys and values",
    "PROMPT_TUNING": "trains prompt embeddings",
    "PSOFT": "rotates inside a subspace",
    "PVERA": "trains scalings of shared random factors",
    "P_TUNING": "trains a prompt encoder",
    "RANDLORA": "trains scalings of random factors",
    "ROAD": "trains rotations of pairs",
    "SHADOW": "trains a network beside the model",
    "SHIRA": "trains single entries of the weight",
    "SUPERTUNING": "trains parts of the weight",
    "TINYLORA": "trains a handful of numbers",
    "TRAINABLE_TOKENS": "ships rows of the embedding: their ids are reported",
    "UNILORA": "trains one vector that is projected",
    "VBLORA": "composes factors of a vector bank",
    "VERA": "trains scalings of shared random factors",
    "WAVEFT": "trains wavelet coefficients",
    "XLORA": "gates several adapters",
}
OPTIONS: Mapping[str, tuple[str, str]] = {
    "use_dora": ("DoRA", "its magnitudes scale every row of the gradient: measured on no DoRA adapter"),
    "alora_invocation_tokens": ("aLoRA", "it acts behind its invocation tokens alone"),
    "use_qalora": ("QA-LoRA", "its first factor reads pooled inputs"),
    "use_bdlora": ("BD-LoRA", "its factors are block-diagonal"),
    "arrow_config": ("Arrow", "it routes among several adapters"),
    "kasa_config": ("KaSA", "it trains singular values beside the factors"),
    "velora_config": ("VeLoRA", "its backward pass sees projected inputs"),
    "monteclora_config": ("MonteCLoRA", "its factors are sampled"),
    "megatron_config": ("Megatron", "its factors may be one shard of several"),
    "layer_replication": ("layer replication", "one module's factors serve layers that the base model has not"),
    "target_parameters": ("experts' parameters", "factors of several experts lie in one tensor"),
    "loftq_config": ("LoftQ", "its base is quantised, so that a base in full precision is another one"),
}
"""Options of LoRA under which attacks were never measured."""


@dataclass(frozen=True)
class Method:
    """How an adapter was made, as its configuration and its tensors tell."""

    name: str
    analysed: bool
    gaps: tuple[Gap, ...]
    options: tuple[str, ...]
    """Of LoRA, outside of what attacks were measured on."""


def method_of(config: Mapping[str, Any], layout: Layout) -> Method:
    """The method, and what of it is not analysed."""
    kind = str(config.get("peft_type") or "LORA").upper()
    gaps = [_method_gap(kind)] if kind not in ANALYSED else []
    options = [OPTIONS[key] for key in OPTIONS if _is_set(config.get(key))] if kind == "LORA" else []
    named = {name for name, _ in options}
    if kind == "LORA":
        other = {method: count for method, count in layout.methods.items() if method not in named}
        gaps += [Gap(what=f"{one} ({count} tensors)", why="attacks read plain factors") for one, count in other.items()]
        named |= set(other)
    gaps += [Gap(what=name, why=why) for name, why in options]
    name = "LoRA" if kind == "LORA" else shown(kind, 40)
    name = " + ".join([name, *(["rsLoRA"] if config.get("use_rslora") is True else []), *sorted(named)])
    return Method(name, kind in ANALYSED and bool(layout.pairs or layout.embeddings), tuple(gaps), tuple(sorted(named)))


def _method_gap(kind: str) -> Gap:
    why = NOT_ANALYSED.get(kind, "a method that this version does not know")
    return Gap(what=f"PEFT's {shown(kind, 40)}", why=f"{why}; files, metadata and whole weights were looked at")


def _is_set(value: Any) -> bool:
    return value not in (None, False, [], {}, "")
