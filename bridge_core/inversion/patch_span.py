"""Patches in closed form: what a transformer's first block has read lies in a span that the target shows.

The rows of a gradient G = D^T X of the first block's query, key or value span the block's inputs, and every input is
x = gamma * P (W p + c) / sigma + beta: a patch p, embedded at a known place c, its mean taken off (P) and divided by
its deviation sigma. With N rows that annihilate the span, N x = 0 reads

    N (gamma * P W) p + (N beta) sigma = -N (gamma * P c),

linear in p and sigma: one small least-squares problem a patch, without start, label or prior. The rows of a release's
B span A x instead, for any number of steps of a linear optimiser, and N A takes the place of N: every adapted reader of
the first block gives r - tokens equations, an exact gradient d - tokens in all, for the patch's pixels and sigma. It
takes one image: several fill the span. The certificate of `text.span` tests the entries of a table by the same
annihilator; compare APRIL (Lu et al., CVPR 2022), which reads the gradient of the position embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTForImageClassification

from bridge_core.inversion.problem import Problem

SPARE = 4
"""Equations beyond the unknowns of a patch: without some to spare a residual says nothing."""
WORST_RESIDUAL = 0.05
"""Of a patch's own equations: beyond it the span was another one, and the patch is not what was read."""
READERS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Embedding:
    """How a patch becomes an input of the first block; float64."""

    weight: Float64[Tensor, "d pixels"]
    places: Float64[Tensor, "patches d"]
    """The embedding's bias and the position's."""
    gain: Float64[Tensor, "d"]
    shift: Float64[Tensor, "d"]

    def without_mean(self, rows: Float64[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        """Mean taken off and multiplied by the gain: an input up to 1 / sigma and the shift."""
        return self.gain * (rows - rows.mean(1, keepdim=True))


@dataclass(frozen=True)
class Spanned:
    """An image read off the span."""

    image: Float[Tensor, "c h w"]
    residual: float
    """Of the worst patch's equations, relative: how far it is from what the span allows."""


def spanned(problem: Problem, secret: int) -> Spanned | None:
    """The image of one secret in closed form, in [0, 1]; None where its conditions do not hold.

    They are: a `ViTForImageClassification` whose first query, key or value is adapted, one image, enough rows, and
    targets exact enough that every patch's equations agree within `WORST_RESIDUAL`.
    """
    model = problem.model
    if not isinstance(model, ViTForImageClassification) or problem.labels.shape[1] != 1:
        return None
    side = model.config.patch_size
    if not isinstance(side, int):
        return None
    embedding, annihilator = _embedding(model), _annihilator(problem, secret)
    if annihilator is None or len(annihilator) < embedding.weight.shape[1] + 1 + SPARE:
        return None
    patches, residual = solve(embedding, annihilator)
    if not residual <= WORST_RESIDUAL:
        return None
    _, height, width = problem.image_shape
    image = F.fold(patches.T[None].float(), (height, width), side, stride=side)[0]
    return Spanned((image + 1) / 2, residual)


def solve(embedding: Embedding, annihilator: Float64[Tensor, "k d"]) -> tuple[Float64[Tensor, "patches pixels"], float]:
    """Every patch, in [-1, 1] for pictures, and the largest relative residual."""
    columns = annihilator @ embedding.without_mean(embedding.weight.T).T
    system = torch.cat([columns, (annihilator @ embedding.shift)[:, None]], 1)
    wanted = -(annihilator @ embedding.without_mean(embedding.places).T)
    found = torch.linalg.lstsq(system, wanted, driver="gelsd").solution
    misfit = (system @ found - wanted).norm(dim=0) / wanted.norm(dim=0)
    return found[:-1].T, float(misfit.max())


def _embedding(model: ViTForImageClassification) -> Embedding:
    embeddings = model.vit.embeddings
    projection, norm = embeddings.patch_embeddings.projection, _first_norm(model)
    assert isinstance(projection, nn.Conv2d)
    bias = projection.bias if projection.bias is not None else projection.weight.new_zeros(len(projection.weight))
    places = embeddings.position_embeddings[0, 1:] + bias
    return Embedding(projection.weight.flatten(1).double(), places.double(), norm.weight.double(), norm.bias.double())


def _first_norm(model: ViTForImageClassification) -> nn.LayerNorm:
    return next(norm for name, norm in model.named_modules() if name.endswith("layers.0.layernorm_before"))  # pyright: ignore[reportReturnType]


def _annihilator(problem: Problem, secret: int) -> Float64[Tensor, "k d"] | None:
    """Orthonormal rows that every input of the first block is orthogonal to, unless the target is too narrow."""
    tokens = 1 + int(problem.model.vit.embeddings.patch_embeddings.num_patches)  # pyright: ignore
    readers = {n: t[secret].double() for n, t in problem.targets.items() if _reads_first(n)}
    if not readers:
        return None
    if problem.matrices is None:
        both = torch.cat([one / one.norm() for one in readers.values()])
        return null_rows(both, tokens)
    return _through(readers, {n: problem.matrices[n][secret].double() for n in readers}, tokens)


def _through(
    measured: Mapping[str, Float64[Tensor, "out rank"]], matrices: Mapping[str, Float64[Tensor, "rank d"]], tokens: int
) -> Float64[Tensor, "k d"] | None:
    rows = [null_rows(m, tokens) @ (matrices[name] / matrices[name].norm(dim=1).mean()) for name, m in measured.items()]
    return torch.cat(rows) if any(len(one) for one in rows) else None


def null_rows(rows: Float64[Tensor, "n k"], rank: int) -> Float64[Tensor, "free k"]:
    """Orthonormal rows orthogonal to the `rank` leading directions of `rows`."""
    return torch.linalg.svd(rows, full_matrices=True)[2][rank:]


def _reads_first(name: str) -> bool:
    return "layers.0." in name and name.endswith(READERS)
