"""Scores against scikit-image and NumPy, and the assignment of images to their truth."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from bridge_core.metrics import cosines, matched, scores
from bridge_core.models import features
from tests.core.examples import network, pictures


def pair(side: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(side)
    truth = torch.rand(3, channels, side, side, generator=rng)
    return truth, (truth + 0.2 * torch.randn(truth.shape, generator=rng)).clamp(0, 1)


def ssim_of_scikit_image(one: np.ndarray, other: np.ndarray) -> float:
    """scikit-image cuts the borders off: with mirrored ones added, every pixel counts once."""
    padded = [np.pad(x, ((0, 0), (5, 5), (5, 5)), mode="reflect") for x in (one, other)]
    found: Any = structural_similarity(
        *padded, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(found)


@pytest.mark.parametrize("side", [8, 25, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_are_those_of_scikit_image(side: int, channels: int) -> None:
    truth, guess = pair(side, channels)
    found = scores(truth, guess, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * side * side, 2)))
    for i, (one, other) in enumerate(zip(truth.double().numpy(), guess.double().numpy(), strict=True)):
        assert float(found.psnr[i]) == pytest.approx(peak_signal_noise_ratio(one, other, data_range=1.0), abs=1e-3)
        assert float(found.mse[i]) == pytest.approx(np.mean((one - other) ** 2), rel=1e-4)
        assert float(found.ssim[i]) == pytest.approx(ssim_of_scikit_image(one, other), abs=1e-4)


def test_equal_images_are_told_apart_from_none() -> None:
    truth, _ = pictures("vit", 2)
    found = scores(truth, truth, network("vit"))
    assert found.psnr.tolist() == [math.inf] * 2 and found.mse.tolist() == [0, 0]
    torch.testing.assert_close(found.ssim, torch.ones(2))
    torch.testing.assert_close(found.feature_distance, torch.zeros(2), atol=1e-6, rtol=0)


def test_what_leaves_the_box_is_cut_first() -> None:
    truth = torch.ones(1, 1, 8, 8)
    assert float(scores(truth, 5 * truth, network("vit")).psnr) == math.inf


def test_nan_stays_nan() -> None:
    truth, _ = pictures("vit", 2)
    guess = truth.clone()
    guess[0, 0, 0, 0] = torch.nan
    found = scores(truth, guess, network("vit"))
    assert found.psnr.isnan().tolist() == [True, False]
    assert found.mse.isnan().tolist() == [True, False]


def test_feature_distance_is_one_minus_the_cosine_of_the_heads_inputs() -> None:
    model, (truth, _), (guess, _) = network("vit"), pictures("vit", 3), pictures("vit", 3, seed=9)
    one, other = (features(model, x).double() for x in (truth, guess))
    wanted = 1 - (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    torch.testing.assert_close(scores(truth, guess, model).feature_distance.double(), wanted, rtol=1e-4, atol=1e-6)
    assert float(wanted.min()) > 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_matching_undoes_a_permutation(seed: int) -> None:
    truth, _ = pictures("vit", 6)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(6, generator=rng)
    noise = 0.02 * torch.randn(truth.shape, generator=rng)
    assert torch.equal(matched(truth, (truth + noise)[order]), truth + noise)


def test_matching_minds_the_total_and_not_the_first() -> None:
    truth = torch.tensor([0.5, 0.4]).reshape(2, 1, 1, 1)
    guess = torch.tensor([0.42, 0.9]).reshape(2, 1, 1, 1)
    assert matched(truth, guess).flatten().tolist() == pytest.approx([0.9, 0.42])


def test_cosines_are_those_of_numpy() -> None:
    rng = torch.Generator().manual_seed(0)
    one, other = torch.randn(4, 3, 5, generator=rng), torch.randn(4, 3, 5, generator=rng)

    def by_numpy(a: Tensor, b: Tensor) -> float:
        x, y = a.double().flatten().numpy(), b.double().flatten().numpy()
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert cosines(one, other).tolist() == pytest.approx([by_numpy(a, b) for a, b in zip(one, other, strict=True)])
    assert cosines(one, other[0]).tolist() == pytest.approx([by_numpy(a, other[0]) for a in one])
    assert float(cosines(one[:1], torch.zeros(3, 5))) == 0
