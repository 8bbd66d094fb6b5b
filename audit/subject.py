"""The adapter under audit: read once, module by module, and kept as numbers. Weights stay in the file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit.folder import File, Folder, opened, parse_json, read_folder, read_object, shown
from audit.layout import Layout, Pair, read_layout
from audit.report import Gap, ModuleRow, Summary
from audit.tensors import TensorFile, check_finite, read_tensor_file
from audit.variants import Method, method_of
from bridge_core.errors import UnknownName, UnsafeAdapter
from bridge_core.guess import RANK_FLOOR, SAVED
from bridge_core.release import CONFIG_FILE, PICKLES, WEIGHTS_FILE, Factors, Release

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
MOST_WORK = 4e11
"""Multiplications spent on spectra; modules beyond that are not analysed."""
MOST_RANK = 4096
MOST_ALPHA = 1e30
SAMPLE_ENTRIES, SAMPLE_MODULES = 4_000_000, 24
"""Of the factors that the recipe is guessed from."""


@dataclass(frozen=True)
class Subject:
    """An adapter's folder, its configuration, and every module's numbers."""

    folder: Folder
    weights: File
    config: Mapping[str, Any]
    tensors: TensorFile
    layout: Layout
    method: Method
    modules: tuple[ModuleRow, ...]
    gaps: tuple[Gap, ...]

    @cached_property
    def sample(self) -> Release | None:
        """Factors of some modules, evenly spread, that are held at once; None where there are none."""
        names = [row.name for row in self.modules]
        step = max(1, -(-len(names) // SAMPLE_MODULES))
        chosen: dict[str, Factors] = {}
        entries = 0
        for name in names[::step]:
            pair = self.layout.pairs[name]
            entries += pair.rank * (pair.width + pair.height)
            if chosen and entries > SAMPLE_ENTRIES:
                break
            chosen[name] = self.layout.factors(name)
        return Release(chosen, self.dtype, self.plain_config) if chosen else None

    @property
    def release(self) -> Release:
        """All factors, held at once: for an adapter that is attacked."""
        factors = {row.name: self.layout.factors(row.name) for row in self.modules}
        return Release(factors, self.dtype, self.plain_config)

    @property
    def plain_config(self) -> dict[str, Any]:
        """What of the configuration is used, each of its own type."""
        alpha, base = self.config.get("lora_alpha"), self.config.get("base_model_name_or_path")
        init = self.config.get("init_lora_weights", True)
        return {
            "lora_alpha": float(alpha) if isinstance(alpha, int | float) and 0 < alpha < MOST_ALPHA else 16.0,
            "use_rslora": self.config.get("use_rslora") is True,
            "init_lora_weights": init if isinstance(init, bool | str) else str(init),
            "base_model_name_or_path": shown(base) if isinstance(base, str) else None,
        }

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the first factor."""
        pair = next(iter(self.layout.pairs.values()), None)
        return torch.float32 if pair is None else pair.b.dtype

    def summary(self) -> Summary:
        """What was audited, in numbers."""
        entries = self.tensors.entries.values()
        base = self.config.get("base_model_name_or_path")
        return Summary(
            name=shown(self.folder.root.name or self.weights.name),
            digest=_digest(self.weights),
            format=self.layout.format,
            method=self.method.name,
            base_model=shown(base) if isinstance(base, str) else None,
            num_tensors=len(entries),
            num_modules=len(self.layout.pairs) + len(self.layout.embeddings),
            num_parameters=sum(one.size // one.dtype.itemsize for one in entries),
            ranks=tuple(sorted({pair.rank for pair in self.layout.pairs.values()}))[:20],
            dtypes=tuple(sorted({SAVED.get(one.dtype, str(one.dtype).removeprefix("torch.")) for one in entries})),
            weights_bytes=self.weights.size,
        )


def read_subject(path: Path) -> Subject:
    """Read an adapter's folder, or a lone safetensors file.

    Raises `UnknownName` where it holds no adapter, `UnsafeAdapter` where it must not be read.
    """
    try:
        folder = read_folder(path)
        weights = _weights(folder)
        tensors = read_tensor_file(weights)
        config = _config(folder, tensors)
        layout = read_layout(tensors, config)
        check_finite(tensors)
        modules, gaps = _modules(layout)
    except OSError as error:
        found = f"{shown(path.name)} can not be read ({error.strerror})"
        raise UnsafeAdapter(found, "a folder at rest", "try again") from error
    return Subject(folder, weights, config, tensors, layout, method_of(config, layout), modules, gaps)


def module_row(pair: Pair, factors: Factors) -> ModuleRow:
    """The numbers of one module, from its Gram matrices in float64."""
    gram_a, gram_b = _gram(factors.a), _gram(factors.b.T)
    return ModuleRow(
        name=pair.module,
        rank=pair.rank,
        rank_of_b=rank_of_gram(gram_b, pair.b.dtype),
        width=pair.width,
        height=pair.height,
        norm_a=float(gram_a.trace().sqrt()),
        norm_b=float(gram_b.trace().sqrt()),
        row_cosine=_relative_cosine(gram_a, pair.width),
        column_cosine=_relative_cosine(gram_b, pair.height),
        mirrored=_mirrored(gram_a),
    )


def rank_of_gram(gram: Float[Tensor, "rank rank"], dtype: torch.dtype) -> int:
    """Numerical rank of B from Bᵀ B: `guess.numerical_rank` is the slow reference.

    Squaring costs half of float64's digits, which leaves 1e-8 of the largest singular value, below what float32 tells.
    """
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    eps = torch.finfo(dtype).eps if dtype in SAVED else torch.finfo(torch.float32).eps
    return int((values > float(values[-1]) * RANK_FLOOR * eps).sum())


def _gram(rows: Float[Tensor, "rank width"]) -> Float[Tensor, "rank rank"]:
    wide = rows.double()
    return wide @ wide.T


def _relative_cosine(gram: Float[Tensor, "rank rank"], width: int) -> float:
    size = gram.diagonal().sqrt()
    kept = size > 0
    if int(kept.sum()) < 2:
        return 0.0
    cosine = (gram[kept][:, kept] / size[kept] / size[kept][:, None]).fill_diagonal_(0)
    number = len(cosine)
    return float((cosine.square().sum() / (number * (number - 1)) * width).sqrt())


def _mirrored(gram: Float[Tensor, "rank rank"]) -> float:
    half = len(gram) // 2
    if not half or len(gram) % 2:
        return 0.0
    size = gram.diagonal().sqrt().clamp_min(1e-300)
    return float((gram.diagonal(half)[:half] / size[:half] / size[half:]).abs().median())


def _modules(layout: Layout) -> tuple[tuple[ModuleRow, ...], tuple[Gap, ...]]:
    rows: list[ModuleRow] = []
    skipped, work = 0, 0.0
    for name, pair in layout.pairs.items():
        work += pair.rank**2 * (pair.width + pair.height + 10 * pair.rank)
        if pair.rank > MOST_RANK or (work > MOST_WORK and rows):
            skipped += 1
            continue
        rows.append(module_row(pair, layout.factors(name)))
    why = f"ranks above {MOST_RANK}, or more arithmetic than {MOST_WORK:.0g} multiplications"
    gaps = (Gap(what=f"spectra of {skipped} of {len(layout.pairs)} modules", why=why),) if skipped else ()
    return tuple(rows), gaps


def _weights(folder: Folder) -> File:
    for name in (WEIGHTS_FILE, DIFFUSERS_FILE):
        if found := folder.file(name):
            return found
    found = [one for one in folder.ending(".safetensors") if "/" not in one.name]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(shown(one.name, 40) for one in found[:3])
        raise UnknownName(f"{len(found)} safetensors files ({names})", f"one, or {WEIGHTS_FILE}", "name one of them")
    if pickles := [one for one in folder.ending(*PICKLES) if one.name.startswith("adapter")]:
        remedy = "have it saved with safe_serialization=True; pickles are never opened"
        raise UnsafeAdapter(f"the pickle {shown(pickles[0].name)} and no {WEIGHTS_FILE}", WEIGHTS_FILE, remedy)
    wanted = "a folder written by PEFT's save_pretrained, or a safetensors file"
    raise UnknownName(f"no {WEIGHTS_FILE} in {shown(folder.root.name)}", wanted, "correct the path")


def _config(folder: Folder, tensors: TensorFile) -> Mapping[str, Any]:
    """PEFT's configuration; without one, what diffusers keeps in the header."""
    if found := folder.file(CONFIG_FILE):
        return read_object(found)
    try:
        inner = parse_json(tensors.metadata.get("lora_adapter_metadata", "{}").encode())
    except (ValueError, RecursionError):
        return {}
    flat = {key.rpartition(".")[2]: value for key, value in inner.items()} if isinstance(inner, dict) else {}
    return {"peft_type": "LORA", **flat} if flat else {}


def _digest(file: File) -> str:
    digest, piece = hashlib.sha256(), 1 << 20
    with opened(file) as descriptor, open(descriptor.number, "rb", closefd=False) as stream:
        while data := stream.read(piece):
            digest.update(data)
    return digest.hexdigest()
