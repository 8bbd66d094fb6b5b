"""Singular values of an adapter's factors: the features that the number of samples is told from.

Kinds, for every module: `A`, `B`, `BA` (DSiRe: Salama et al., 2024), and `M`: the measurement, the optimiser undone,
each row divided by its standard error, so that values of the order of sqrt(out) + sqrt(r) and below are noise.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bridge_core import spec as s
from bridge_core.evidence import evidence_of
from bridge_core.release import Release

PLAIN_KINDS = ("A", "B", "BA")
EDGE = 1.5
"""Singular values above so many times the noise's largest one are signal (as in `text.span`)."""


def product_spectrum(a: Float[Tensor, "rank in"], b: Float[Tensor, "out rank"]) -> Float64[Tensor, "k"]:
    """The min(rank, out, in) largest singular values of B A, all that are not zero, without forming B A.

    B = Q_b R_b and Aᵀ = Q_a R_a: those of B A are those of R_b R_aᵀ, at most rank x rank.
    """
    upper_a = torch.linalg.qr(a.double().mT, mode="r").R
    upper_b = torch.linalg.qr(b.double(), mode="r").R
    return torch.linalg.svdvals(upper_b @ upper_a.mT)


def spectra(release: Release, recipe: s.Recipe | None = None) -> dict[str, Float64[Tensor, "k"]]:
    """Singular values by `<module>/<kind>`, largest first; the kind `M` where a recipe tells how to undo its step."""
    found: dict[str, Tensor] = {}
    for name, one in release.factors.items():
        found[f"{name}/A"] = torch.linalg.svdvals(one.a.double())
        found[f"{name}/B"] = torch.linalg.svdvals(one.b.double())
        found[f"{name}/BA"] = product_spectrum(one.a, one.b)
    return found if recipe is None or not recipe.starts_at_zero else found | _whitened(release, recipe)


def _whitened(release: Release, recipe: s.Recipe) -> dict[str, Float64[Tensor, "k"]]:
    evidence = evidence_of(release, recipe)
    rows: Mapping[str, Tensor] = {
        name: m.double() / evidence.error[name].double().square().mean(1, keepdim=True).sqrt()
        for name, m in evidence.m.items()
    }
    return {f"{name}/M": torch.linalg.svdvals(one) for name, one in rows.items()}


def signal_rank(values: Float64[Tensor, "k"], out: int) -> int:
    """How many singular values of a whitened measurement stand above noise, sqrt(out) + sqrt(r) at most.

    The edge is that of a random matrix with independent entries of variance 1 (Marchenko and Pastur, 1967).
    """
    return int((values > EDGE * (out**0.5 + len(values) ** 0.5)).sum())
