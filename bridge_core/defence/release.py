"""Defences at release: what is done to a saved adapter folder before the world sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.lora import as_matrix
from bridge_core.release import WEIGHTS_FILE, read_release

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LEVELS = 127
"""Steps of a signed byte on either side of zero."""
Pair = tuple[Tensor, Tensor]
"""A (rank x in) and B (out x rank)."""


def defend_release(folder: Path, base: nn.Module, defence: s.AnyDefence) -> None:
    """Rewrite the factors of the adapter in `folder` as `defence` says; others leave the files as they are."""
    match defence:
        case s.Pruning():
            _rewrite(folder, lambda _, a, b: (a, pruned(b, defence.share)))
        case s.Refactored():
            _rewrite(folder, lambda _, a, b: refactored(b @ a, len(a)))
        case s.Merged():
            scale = {name: one.scale for name, one in read_release(folder).factors.items()}
            dtype = DTYPES[defence.save_dtype]

            def extract(name: str, a: Tensor, b: Tensor) -> Pair:
                weight = as_matrix(base.get_submodule(name).get_parameter("weight").detach())
                return refactored(merged_difference(weight, scale[name] * (b @ a), dtype) / scale[name], len(a))

            _rewrite(folder, extract)
        case s.Int8():
            _rewrite(folder, lambda _, a, b: (int8(a), int8(b)))
        case s.NoDefence() | s.DpSgd() | s.GradientNoise() | s.Clipping() | s.LoraDropout() | s.Augmentation():
            return
        case _:
            assert_never(defence)


def pruned(b: Float[Tensor, "out rank"], share: float) -> Float[Tensor, "out rank"]:
    """`b` with the smallest `share` of its entries at zero."""
    count = int(share * b.numel())
    if not count:
        return b
    return torch.where(b.abs() > b.abs().flatten().kthvalue(count).values, b, 0.0)


def refactored(product: Float[Tensor, "out in"], rank: int) -> Pair:
    """`product` = B A as (V^T, U S): orthonormal rows in the first factor, all sizes in the second."""
    u, sizes, v = torch.linalg.svd(product.double(), full_matrices=False)
    return v[:rank].float(), (u[:, :rank] * sizes[:rank]).float()


def merged_difference(
    weight: Float[Tensor, "out in"], change: Float[Tensor, "out in"], dtype: torch.dtype
) -> Float[Tensor, "out in"]:
    """What is left of `change` once it was added to `weight`, rounded to `dtype`, and `weight` taken off again."""
    return (weight + change).to(dtype).double() - weight.double()


def int8(factor: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """`factor` as a signed byte an entry and a scale a row keep it."""
    step = (factor.abs().amax(1, keepdim=True) / LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
    return (factor / step).round() * step


def _rewrite(folder: Path, change: Callable[[str, Tensor, Tensor], Pair]) -> None:
    """Replace both factors of every module; shapes and number format stay as they were."""
    tensors = load_file(folder / WEIGHTS_FILE)
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        other = key.replace(".lora_A.", ".lora_B.")
        name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a, b = tensors[key], tensors[other]
        found = change(name, a.float().flatten(1), b.float().flatten(1))
        for place, old, new in ((key, a, found[0]), (other, b, found[1])):
            tensors[place] = new.reshape(old.shape).to(old.dtype).contiguous()
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
