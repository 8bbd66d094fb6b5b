"""Truth and recovered -> scores. Images in [0, 1]; what leaves the box is cut to it first."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from bridge_core.models import features

TINY = 1e-30


@dataclass(frozen=True)
class Scores:
    """One number an image."""

    psnr: Float[Tensor, "n"]
    """Peak signal-to-noise ratio, dB; infinite where every pixel is equal."""
    ssim: Float[Tensor, "n"]
    """Structural similarity (Wang et al., 2004), Gaussian window of 11 pixels, sigma 1.5, borders mirrored."""
    mse: Float[Tensor, "n"]
    feature_distance: Float[Tensor, "n"]
    """Base-feature distance: 1 - cosine of the base model's features before its head. Not LPIPS: another backbone."""


def scores(truth: Float[Tensor, "n c h w"], recovered: Float[Tensor, "n c h w"], model: nn.Module) -> Scores:
    """PSNR, SSIM, MSE and base-feature distance of each image."""
    recovered = recovered.clamp(0, 1)
    mse = (truth - recovered).square().flatten(1).mean(1)
    ssim = structural_similarity_index_measure(recovered, truth, data_range=1.0, reduction="none")
    with torch.no_grad():
        cosine = torch.cosine_similarity(features(model, truth), features(model, recovered), eps=TINY)
    return Scores(-10 * mse.log10(), torch.as_tensor(ssim).reshape(-1), mse, 1 - cosine)


def matched(truth: Float[Tensor, "n c h w"], recovered: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """`recovered` in the order of `truth` that makes the total squared error least (Hungarian assignment)."""
    cost = torch.cdist(truth.flatten(1).double(), recovered.clamp(0, 1).flatten(1).double()).square()
    return recovered[torch.from_numpy(linear_sum_assignment(cost.numpy())[1])]


def cosines(one: Float[Tensor, "n *rest"], other: Float[Tensor, "*m"]) -> Float[Tensor, "n"]:
    """Cosine of each example of `one` with `other` (one for all, or one each), in float64."""
    other = other.double().expand(one.shape)
    return torch.cosine_similarity(one.double().flatten(1), other.flatten(1), eps=TINY)
