"""Unordered reconstructions against truth: the nearest one to every training image, and the same for strangers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


@dataclass(frozen=True)
class Nearest:
    """The nearest reconstruction to each of some images."""

    images: Float[Tensor, "n c h w"]
    psnr: Float[Tensor, "n"]
    """DB."""
    ssim: Float[Tensor, "n"]


def nearest(truth: Float[Tensor, "n c h w"], candidates: Float[Tensor, "k c h w"]) -> Nearest:
    """To each image of `truth` the candidate of least squared error, cut to [0, 1]; one may serve several images.

    The more candidates, the nearer one of them: a figure means something beside the same for as many held-out images.
    """
    cut = candidates.nan_to_num(0).clamp(0, 1)
    distance = torch.cdist(truth.flatten(1).double(), cut.flatten(1).double())
    chosen = cut[distance.argmin(1)]
    mse = (truth - chosen).square().flatten(1).mean(1)
    ssim = structural_similarity_index_measure(chosen, truth, data_range=1.0, reduction="none")
    return Nearest(chosen, -10 * mse.log10(), torch.as_tensor(ssim).reshape(-1))
