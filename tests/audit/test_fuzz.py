"""Mutated folders: an audit ends with a report or with one line, soon, and with nothing else."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.run import audit_adapter
from bridge_core.errors import InvalidInput
from tests.audit.hostile import CONFIG, entry, plain_data, plain_header, safetensors, write

NUM_FOLDERS = 2500
SLOWEST_SECONDS = 5.0
STRANGE: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    1 << 70,
    "",
    "x" * 5000,
    "\u202e\x1b[2J",
    [],
    [[]],
    {},
    {"a": {}},
    float("inf"),
    "../../etc/passwd",
    ["q_proj"] * 100,
    {"q_proj": -1},
    {"q_proj": "y"},
    {"^(a+)+$": 8},
]
KEYS = (
    *CONFIG,
    "use_rslora",
    "use_dora",
    "alpha_pattern",
    "rank_pattern",
    "modules_to_save",
    "task_type",
    "eva_config",
    "base_model_name_or_path",
    "trainable_token_indices",
    "layer_replication",
    "loftq_config",
    "bias",
)
NAMES = (
    "base_model.model.emb.lora_embedding_A",
    "lora_unet_x.lora_down.weight",
    "lora_unet_x.alpha",
    "classifier.weight",
    "base_model.model.q_proj.lora_magnitude_vector",
    "x.hada_w1_a",
    "",
    "a" * 2000,
    "..",
    "x.lora_A.weight",
)
FILES = ("trainer_state.json", "README.md", "optimizer.pt", "training_args.bin", "a/b/c/d/e/f.bin", "x.csv", "\n.pt")


def test_mutated_folders_end_with_a_report_or_one_line(tmp_path: Path) -> None:
    rng, reports, refused = random.Random(0), 0, 0
    for number in range(NUM_FOLDERS):
        folder = mutated(rng, tmp_path / "folder")
        start = time.perf_counter()
        try:
            report = audit_adapter(folder)
            json.dumps(report.model_dump(mode="json"))
            reports += 1
        except InvalidInput as error:
            text = str(error)
            assert text.isprintable() and len(text) < 1000, number
            refused += 1
        assert time.perf_counter() - start < SLOWEST_SECONDS, number
        shutil.rmtree(folder)
    assert reports > NUM_FOLDERS // 10 and refused > NUM_FOLDERS // 10


def mutated(rng: random.Random, folder: Path) -> Path:
    """A folder with one to three things wrong."""
    parts: dict[str, Any] = {"header": plain_header(), "data": plain_data(), "config": dict(CONFIG), "files": {}}
    for mutate in rng.choices(MUTATIONS, k=rng.randint(1, 3)):
        mutate(rng, parts)
    weights = parts.get("weights") or safetensors(parts["header"], parts["data"], parts.get("claim"))
    if "flips" in parts:
        weights = _flipped(rng, weights)
    write(folder, weights, parts["config"])
    for name, content in parts["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 40])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _config_key(rng: random.Random, parts: dict[str, Any]) -> None:
    if isinstance(parts["config"], dict):
        parts["config"][rng.choice(KEYS)] = rng.choice(STRANGE)


def _config_bytes(rng: random.Random, parts: dict[str, Any]) -> None:
    text = parts["config"] if isinstance(parts["config"], bytes) else json.dumps(parts["config"]).encode()
    parts["config"] = _flipped(rng, text) if rng.random() < 0.7 else text[: rng.randrange(len(text))]


def _header_field(rng: random.Random, parts: dict[str, Any]) -> None:
    name = rng.choice(list(parts["header"]))
    field = rng.choice(["dtype", "shape", "data_offsets"])
    value: Any = rng.choice(
        [*STRANGE, "F16", "BF16", "I64", "BOOL", "F8_E4M3", [8, 2], [16], [0, 8], [4, 2, 2], [0, 64]]
    )
    if isinstance(parts["header"][name], dict):
        parts["header"][name] = parts["header"][name] | {field: value}


def _another_tensor(rng: random.Random, parts: dict[str, Any]) -> None:
    shape = rng.choice([[2, 4], [4, 2], [0], [], [1], [2, 2, 1, 1]])
    found = entry(shape, len(parts["data"]))
    parts["header"][rng.choice(NAMES)] = found
    size = found["data_offsets"][1] - found["data_offsets"][0]
    parts["data"] += rng.choice([rng.randbytes(size), bytes(size)])


def _metadata(rng: random.Random, parts: dict[str, Any]) -> None:
    value = rng.choice([*STRANGE, "[" * 9999, '{"a": {"b": 1}}', json.dumps({"x": 1})])
    key = rng.choice(["ss_tag_frequency", "ss_num_train_images", "lora_adapter_metadata", "format", "\x00"])
    parts["header"]["__metadata__"] = rng.choice([{key: value}, {key: str(value)}, value])


def _values(rng: random.Random, parts: dict[str, Any]) -> None:
    size = len(parts["data"])
    parts["data"] = rng.choice([rng.randbytes(size), bytes(size), b"\x01" + bytes(size - 1), b"\xff" * size])


def _cut(rng: random.Random, parts: dict[str, Any]) -> None:
    parts["data"] = parts["data"][: rng.randrange(len(parts["data"]) + 1)] + rng.choice([b"", b"more"])


def _claim(rng: random.Random, parts: dict[str, Any]) -> None:
    parts["claim"] = rng.choice([0, 1, 5 << 30, (1 << 64) - 1, rng.randrange(1000)])


def _flips(rng: random.Random, parts: dict[str, Any]) -> None:
    parts["flips"] = True


def _noise(rng: random.Random, parts: dict[str, Any]) -> None:
    parts["weights"] = rng.randbytes(rng.randrange(1, 200))


def _stray(rng: random.Random, parts: dict[str, Any]) -> None:
    content = [b"", rng.randbytes(50), b"[" * 99999, b"{}", json.dumps({"max_steps": rng.choice(STRANGE)}).encode()]
    content += [
        b"---\ndatasets:\n- secret\n---\n",
        b'{"max_steps": 1e300, "num_train_epochs": 1e-300, "train_batch_size": 1}',
    ]
    parts["files"][rng.choice(FILES)] = rng.choice(content)


MUTATIONS: list[Callable[[random.Random, dict[str, Any]], None]] = [
    _config_key,
    _config_bytes,
    _header_field,
    _another_tensor,
    _metadata,
    _values,
    _cut,
    _claim,
    _flips,
    _noise,
    _stray,
    _config_key,
    _another_tensor,
    _metadata,
    _stray,
]
