"""A release: the PEFT adapter folder as the world sees it. Read with safetensors only; nothing is unpickled."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bridge_core.errors import UnknownName, UnsafeAdapter
from bridge_core.lora import lora_scale

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES = 1 << 20, 8 << 30


@dataclass(frozen=True)
class Factors:
    """Both factors of one adapted module as matrices (a convolution's kernels are flattened), in float32."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float
    """s of W = W0 + s B A."""


@dataclass(frozen=True)
class Release:
    """What an adapter folder holds, by name of the base model's module."""

    factors: Mapping[str, Factors]
    dtype: torch.dtype
    """Number format in the file."""
    config: Mapping[str, Any]

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the adapted modules."""
        return tuple(self.factors)

    def measurement_matrices(self) -> dict[str, Tensor]:
        """A of every module (rank x in)."""
        return {name: one.a for name, one in self.factors.items()}


def read_release(folder: Path) -> Release:
    """Read a PEFT folder.

    Raises `UnknownName` where its files are missing, `UnsafeAdapter` where it holds only a pickle, a link that leads
    out of the folder, or something else than pairs of LoRA factors.
    """
    config = _config(folder)
    tensors, dtype = _tensors(_inside(folder, WEIGHTS_FILE))
    factors: dict[str, Factors] = {}
    for key in tensors:
        if key.endswith((".lora_A.weight", ".lora_B.weight")):
            name = key.removesuffix(".weight").rpartition(".")[0]
            factors[name.removeprefix("base_model.model.")] = _factors(tensors, name, config)
    if not factors:
        raise UnsafeAdapter(
            f"{WEIGHTS_FILE} holds no lora_A weight", "a LoRA adapter saved by PEFT", "name another folder"
        )
    return Release(dict(sorted(factors.items())), dtype, config)


def _factors(tensors: Mapping[str, Tensor], name: str, config: Mapping[str, Any]) -> Factors:
    a, b = (tensors.get(f"{name}.lora_{part}.weight") for part in "AB")
    if a is None or b is None:
        found = f"{name[:80]} stands with one lora factor"
        raise UnsafeAdapter(found, "lora_A and lora_B of each module", "save the adapter again")
    if a.ndim < 2 or b.ndim < 2 or len(a) != b.flatten(1).shape[1]:
        found = f"{name[:80]} has a lora_A of {tuple(a.shape)} and a lora_B of {tuple(b.shape)}"
        raise UnsafeAdapter(found, "factors of one rank", "save the adapter again")
    return Factors(a.float().flatten(1), b.float().flatten(1), _scale(config, a.shape[0]))


def _scale(config: Mapping[str, Any], rank: int) -> float:
    alpha = config.get("lora_alpha", rank)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise UnsafeAdapter(f"lora_alpha is {str(alpha)[:40]}", "a positive finite number", "save the adapter again")
    return lora_scale(float(alpha), rank, use_rslora=bool(config.get("use_rslora")))


def _config(folder: Path) -> dict[str, Any]:
    path = _inside(folder, CONFIG_FILE)
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UnsafeAdapter(f"{CONFIG_FILE} has {path.stat().st_size} bytes", f"at most {MAX_CONFIG_BYTES}")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsafeAdapter(f"{CONFIG_FILE} is no JSON", "PEFT's adapter configuration", "save it again") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise UnsafeAdapter(f"{CONFIG_FILE} is of type {str(kind)[:40]}", "peft_type LORA")
    return config


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        if pickles := sorted(p.name for p in folder.glob("adapter*") if p.suffix in PICKLES):
            remedy = "have it saved with safe_serialization=True; pickles are never opened"
            raise UnsafeAdapter(f"{folder.name} holds the pickle {pickles[0]} and no {name}", name, remedy)
        raise UnknownName(f"no {name} in {folder}", "a folder written by PEFT's save_pretrained", "correct the path")
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise UnsafeAdapter(f"{name} leads out of {folder.name}", "a file of its own", "copy the file in")
    return path


def _tensors(path: Path) -> tuple[dict[str, Tensor], torch.dtype]:
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise UnsafeAdapter(f"{path.name} has {path.stat().st_size} bytes", f"at most {MAX_WEIGHTS_BYTES}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UnsafeAdapter(
            f"{path.name} is not safetensors ({str(error)[:80]})", "safetensors", "save it again"
        ) from error
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise UnsafeAdapter(f"{key[:80]} holds values that are not finite numbers", "finite floating-point weights")
    dtype = next(iter(tensors.values())).dtype if tensors else torch.float32
    return tensors, dtype
