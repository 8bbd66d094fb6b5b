"""Remedies: an adapter written anew with less in it. What remains is told by auditing the result.

    strip      the weights and the configuration alone; no metadata, no local paths, no recipe
    refactor   B A kept, its factors replaced by those of an SVD: no A0, no copy of a start, no measurement matrix
    round      factors in a coarser format

A merge of the adapter into its base gives away what `refactor` leaves: the base is public, so that the difference is
the product. Neither hides the product itself, rows of an adapted embedding, or whole weights.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from audit.checks.metadata import LOCAL
from audit.layout import Pair, scale_of
from audit.report import Report
from audit.run import audit_adapter
from audit.subject import Subject, read_subject
from bridge_core.errors import InvalidInput, NotApplicable
from bridge_core.release import CONFIG_FILE, WEIGHTS_FILE, Factors

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
MOST_BYTES = 4 << 30
DROPPED = ("eva_config", "lora_ga_config", "corda_config", "loftq_config", "revision", "runtime_config")
SINGULAR_FLOOR = 1e-6
"""Of the largest singular value of B A: smaller ones are float32's rounding."""


@dataclass(frozen=True)
class Remedies:
    """What is applied beside stripping."""

    refactor: bool = True
    dtype: str | None = None
    """Coarser format of the factors; None to keep theirs."""


@dataclass(frozen=True)
class Protected:
    """The audits before and after."""

    before: Report
    after: Report

    @property
    def gone(self) -> tuple[str, ...]:
        """Rules that were found before and are found no more."""
        left = {one.rule for one in self.after.findings}
        return tuple(one.rule for one in self.before.findings if one.rule not in left)


def protect_adapter(path: Path, out: Path, remedies: Remedies) -> Protected:
    """Write a protected copy of an adapter into the new folder `out` and audit both.

    Raises `InvalidInput` where `out` exists and is not empty, `NotApplicable` where the method can not be re-factored.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput(f"{out} is there already", "a new folder", "name another one, or remove it")
    subject = read_subject(path)
    if subject.weights.size > MOST_BYTES:
        raise NotApplicable(f"weights of {subject.weights.size} bytes", f"at most {MOST_BYTES}")
    tensors, config = _remedied(subject, remedies)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / WEIGHTS_FILE, metadata={"format": "pt"})
    if config:
        (out / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return Protected(audit_adapter(path), audit_adapter(out))


def refactored(factors: Factors) -> tuple[Float[Tensor, "k in"], Float[Tensor, "out k"]]:
    """A and B of the same product, as an SVD leaves them: s B A = s (U sqrt(S)) (sqrt(S) Vᵀ), by QR of the factors.

    Empty directions are left out, so that what B's rank tells of the number of inputs is the shape's to tell.
    """
    left, right = torch.linalg.qr(factors.b.double()), torch.linalg.qr(factors.a.double().T)
    u, values, v = torch.linalg.svd(left.R @ right.R.T)
    kept = max(1, int((values > values[0] * SINGULAR_FLOOR).sum()))
    root = values[:kept].sqrt()
    return (root[:, None] * v[:kept] @ right.Q.T).float(), (left.Q @ u[:, :kept] * root).float()


def _remedied(subject: Subject, remedies: Remedies) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {name: subject.tensors.read(name) for name in subject.tensors.entries}
    config = stripped(subject.config)
    if remedies.refactor:
        _check_plain(subject)
        ranks = {name: _replace(subject, pair, tensors) for name, pair in subject.layout.pairs.items()}
        config |= _patterns(subject, ranks)
    if remedies.dtype is not None:
        chosen = DTYPES[remedies.dtype]
        tensors = {name: one.to(chosen) if one.is_floating_point() else one for name, one in tensors.items()}
    return {name: one.contiguous().clone() for name, one in tensors.items()}, config


def _check_plain(subject: Subject) -> None:
    plain = subject.method.analysed and not subject.method.options and not subject.layout.methods
    if not plain or subject.layout.format != "peft":
        found = f"{subject.method.name} with {subject.layout.format} keys"
        remedy = "use --keep-factors to strip files and metadata alone"
        raise NotApplicable(found, "plain LoRA as PEFT saves it, to re-factor", remedy)
    if any(len(pair.a.shape) != 2 or len(pair.b.shape) != 2 for pair in subject.layout.pairs.values()):
        raise NotApplicable("factors of convolutions", "matrices, to re-factor", "use --keep-factors")


def _replace(subject: Subject, pair: Pair, tensors: dict[str, Tensor]) -> int:
    """Put new factors in; their alpha is their rank, so that s = 1 is in the factors themselves."""
    factors = subject.layout.factors(pair.module)
    a, b = refactored(Factors(factors.a, factors.b * factors.scale, 1.0))
    tensors[pair.a.name], tensors[pair.b.name] = a.to(pair.a.dtype), b.to(pair.b.dtype)
    return len(a)


def _patterns(subject: Subject, ranks: Mapping[str, int]) -> dict[str, Any]:
    """Configuration of adapters whose ranks may differ, all of scale 1."""
    most = max(ranks.values(), default=1)
    others = {name: rank for name, rank in ranks.items() if rank != most}
    alphas: dict[str, float] = dict(others)
    for name, pair in subject.layout.embeddings.items():
        rank = pair.a.shape[0]
        others[name], alphas[name] = rank, rank * scale_of(subject.config, name, rank)
    scaled = {"r": most, "lora_alpha": most, "use_rslora": False, "init_lora_weights": True}
    return scaled | {"rank_pattern": others, "alpha_pattern": alphas}


def stripped(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without local paths and without what only training needed."""
    kept = {key: value for key, value in config.items() if key not in DROPPED}
    base = kept.get("base_model_name_or_path")
    if isinstance(base, str) and (LOCAL.search(base) or base.startswith("/")):
        kept["base_model_name_or_path"] = None
    if str(kept.get("init_lora_weights", True)).lower() in ("eva", "lora_ga", "corda"):
        kept["init_lora_weights"] = True
    return {key: value for key, value in kept.items() if not (isinstance(value, float) and math.isnan(value))}
