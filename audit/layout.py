"""Which tensors of a file belong together: pairs of LoRA factors as PEFT, diffusers and kohya name them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from audit.folder import shown
from audit.tensors import MOST_TENSOR_BYTES, Entry, TensorFile
from bridge_core.errors import UnsafeAdapter
from bridge_core.release import Factors

Format = Literal["peft", "diffusers", "kohya"]
PEFT_PREFIX = "base_model.model."
FACTOR = re.compile(
    r"^(?P<module>.+?)[._](?:(?:processor\.)?(?P<sub>to_(?:q|k|v|out))_)?"
    r"(?P<part>lora_A|lora_B|lora\.down|lora\.up|lora_down|lora_up|lora\.?linear_layer\.down|lora\.?linear_layer\.up)"
    r"(?:\.(?P<adapter>[A-Za-z0-9_-]+))?\.weight$"
)
EMBEDDING = re.compile(r"^(?P<module>.+?)\.lora_embedding_(?P<part>[AB])(?:\.[A-Za-z0-9_-]+)?(?:\.weight)?$")
FIRST = ("lora_A", "lora.down", "lora_down")
OTHER_PARTS: Mapping[str, str] = {
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    "lora_E": "AdaLoRA",
    "ranknum": "AdaLoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "oft_": "OFT",
    "boft_": "BOFT",
    "ia3_": "IA3",
    "vera_lambda": "VeRA",
    "lora_mid": "LoCon with a Tucker core",
    "trainable_tokens": "trainable tokens",
    "token_adapter": "trainable tokens",
    "diff_b": "full differences",
}
"""Parts of names that tell of another method than plain LoRA."""


@dataclass(frozen=True)
class Pair:
    """Both factors of one module, still in the file."""

    module: str
    a: Entry
    b: Entry
    scale: float
    """s of W = W0 + s B A."""

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]

    @property
    def width(self) -> int:
        """Columns of A, a convolution's kernels flattened."""
        return math.prod(self.a.shape[1:])

    @property
    def height(self) -> int:
        """Rows of B."""
        return self.b.shape[0]


@dataclass(frozen=True)
class EmbeddingPair:
    """Factors of an adapted embedding: A (rank x tokens) starts at zero, B (width x rank) at random."""

    module: str
    a: Entry
    b: Entry


@dataclass(frozen=True)
class Layout:
    """An adapter file sorted into what it holds."""

    format: Format
    pairs: Mapping[str, Pair]
    """By the base model's module."""
    embeddings: Mapping[str, EmbeddingPair]
    full: tuple[Entry, ...]
    """Whole weights and biases of the base model, shipped as they are."""
    methods: Mapping[str, int]
    """Methods other than plain LoRA, and how many tensors tell of each."""
    tensors: TensorFile = field(repr=False)

    def factors(self, name: str) -> Factors:
        """Both factors of a module as float32 matrices, read now."""
        pair = self.pairs[name]
        return Factors(self._matrix(pair.a), self._matrix(pair.b), pair.scale)

    def _matrix(self, entry: Entry) -> Tensor:
        return self.tensors.read(entry.name).float().flatten(1)


def read_layout(tensors: TensorFile, config: Mapping[str, Any]) -> Layout:
    """Sort the tensors of a file.

    Raises `UnsafeAdapter` where a factor stands alone or two do not fit each other, or are too large to be read.
    """
    parts: dict[str, dict[str, Entry]] = {}
    embeddings: dict[str, dict[str, Entry]] = {}
    alphas: dict[str, float] = {}
    full: list[Entry] = []
    methods: dict[str, int] = {}
    for name, entry in tensors.entries.items():
        method = next((told for part, told in OTHER_PARTS.items() if part in name), None)
        if method:
            methods[method] = methods.get(method, 0) + 1
        elif match := EMBEDDING.match(name):
            embeddings.setdefault(_module(match["module"]), {})[match["part"]] = entry
        elif match := FACTOR.match(name):
            sub = f".{match['sub']}" if match["sub"] else ""
            first = match["part"] in FIRST or match["part"].endswith(".down")
            parts.setdefault(_module(match["module"] + sub), {})["A" if first else "B"] = entry
        elif name.endswith(".alpha") and math.prod(entry.shape) == 1:
            alphas[_module(name.removesuffix(".alpha"))] = float(tensors.read(name).flatten()[0])
        else:
            full.append(entry)
    pairs = {name: _pair(name, found, config, alphas.get(name)) for name, found in sorted(parts.items())}
    whole = {name: EmbeddingPair(name, *_both(name, found)) for name, found in sorted(embeddings.items())}
    return Layout(_format(tensors), pairs, whole, tuple(full), methods, tensors)


def scale_of(config: Mapping[str, Any], module: str, rank: int, alpha: float | None = None) -> float:
    """The s of one module: its own alpha in the file, PEFT's `alpha_pattern`, or `lora_alpha`, over r or its root.

    Raises `UnsafeAdapter` where it is no positive finite number.
    """
    if alpha is None:
        patterns = config.get("alpha_pattern")
        found = _matched(patterns, module) if isinstance(patterns, Mapping) else None
        alpha = config.get("lora_alpha", rank) if found is None else found
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1e30:
        raise UnsafeAdapter(f"alpha is {shown(str(alpha), 40)}", "a positive finite number", "save the adapter again")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _matched(patterns: Mapping[str, Any], module: str) -> Any:
    """The value of the first pattern that names the module. PEFT matches regular expressions; a hostile one may not
    run here, so that a plain name, a trailing part of one, or `^name` is all that counts.
    """
    for pattern, value in patterns.items():
        plain = str(pattern).replace("\\.", ".")
        if module == plain.removeprefix("^") or (not plain.startswith("^") and module.endswith(f".{plain}")):
            return value
    return None


def _module(name: str) -> str:
    return name.removeprefix(PEFT_PREFIX)


def _format(tensors: TensorFile) -> Format:
    names = list(tensors.entries)
    if any(name.startswith(("lora_unet_", "lora_te", "lora_transformer_", "lycoris_")) for name in names):
        return "kohya"
    if any(name.startswith(("unet.", "text_encoder.", "text_encoder_2.", "transformer.", "prior.")) for name in names):
        return "diffusers"
    return "diffusers" if names and not any(name.startswith(PEFT_PREFIX) for name in names) else "peft"


def _pair(name: str, found: Mapping[str, Entry], config: Mapping[str, Any], alpha: float | None) -> Pair:
    a, b = _both(name, found)
    rank = math.prod(b.shape[1:])
    fits = len(a.shape) >= 2 and len(b.shape) >= 2 and a.shape[:1] == (rank,) and 0 not in a.shape
    if not fits or 0 in b.shape or not a.dtype.is_floating_point or not b.dtype.is_floating_point:
        found_ = f"{shown(name, 80)} has a first factor of {a.shape} and a second one of {b.shape}"
        raise UnsafeAdapter(found_, "floating-point factors of one rank", "save the adapter again")
    return Pair(name, a, b, scale_of(config, name, rank, alpha))


def _both(name: str, found: Mapping[str, Entry]) -> tuple[Entry, Entry]:
    if set(found) != {"A", "B"}:
        raise UnsafeAdapter(f"{shown(name, 80)} stands with one factor", "both factors", "save the adapter again")
    if large := next((one for one in found.values() if one.size > MOST_TENSOR_BYTES), None):
        raise UnsafeAdapter(f"{shown(large.name, 80)} has {large.size} bytes", f"at most {MOST_TENSOR_BYTES}")
    return found["A"], found["B"]
