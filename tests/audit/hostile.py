"""Safetensors files byte by byte, as no library would write them."""

import json
import struct
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "init_lora_weights": True}
A, B = "base_model.model.q_proj.lora_A.weight", "base_model.model.q_proj.lora_B.weight"


def entry(shape: list[int], start: int, dtype: str = "F32", itemsize: int = 4) -> dict[str, Any]:
    size = itemsize
    for each in shape:
        size *= each
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}


def plain_header() -> dict[str, Any]:
    """A of 2 x 8 and B of 6 x 2."""
    return {A: entry([2, 8], 0), B: entry([6, 2], 64)}


def plain_data() -> bytes:
    return struct.pack("<28f", *[0.01 * (i % 7 - 3) + 0.001 for i in range(28)])


def safetensors(header: Any, data: bytes, claim: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claim is None else claim) + text + data


def write(folder: Path, weights: bytes | None = None, config: Any = CONFIG) -> Path:
    """An adapter's folder; the configuration may be raw bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = safetensors(plain_header(), plain_data()) if weights is None else weights
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    return folder
