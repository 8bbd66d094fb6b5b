"""The cleaner of stalled attempts: what it is trained on, what it takes away, and how it is kept."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bridge_core import spec as s
from bridge_core.augment import Labelled, mislabelled
from bridge_core.data import load_images
from bridge_core.inversion.amortised import Start, Whitening, network, read_start, save_start
from bridge_core.inversion.cleaning import Cleaner, CleaningNet, corrupted, train_cleaner
from bridge_core.inversion.gauss_newton import Begin, gauss_newton
from bridge_core.inversion.spread import Spread, spread_of
from tests.core.test_engine import WIDE, even, near_start, problem


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quiet(_step: int, _steps: int, _loss: object) -> None:
    """No report."""


def blurred(images: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(images, 3, 1, 1)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return load_images(s.Digits(), 8, 1).pixels.float() / 255


@pytest.fixture(scope="module")
def net(digits: Tensor) -> CleaningNet:
    seen = digits[:1500]
    return train_cleaner(lambda i: (seen[i], blurred(seen[i])), 6000, len(seen), 2, rng(), quiet)


@given(side=st.integers(5, 33), channels=st.sampled_from([1, 3]), block=st.integers(1, 8))
def test_every_size_goes_through(side: int, channels: int, block: int) -> None:
    images = torch.rand(2, channels, side, side)
    noisy = corrupted(images, block, rng())
    assert noisy.shape == images.shape
    cleaned = CleaningNet(channels, width=4)(noisy, images)
    assert cleaned.shape == images.shape
    assert torch.isfinite(cleaned).all()


def test_corruption_is_uneven_and_the_same_for_the_same_seed() -> None:
    images = torch.zeros(64, 1, 8, 8)
    noisy = corrupted(images, 4, rng())
    assert torch.equal(noisy, corrupted(images, 4, rng()))
    sizes = noisy.reshape(64, 2, 4, 2, 4).square().mean((2, 4)).sqrt().flatten()
    assert float(sizes.quantile(0.05)) < 0.06
    assert float(sizes.quantile(0.99)) > 0.5


def test_an_unseen_image_is_closer_to_the_truth_than_both_of_its_inputs(digits: Tensor, net: CleaningNet) -> None:
    unseen = digits[1500:]
    noisy, estimate = corrupted(unseen, 2, rng(1)), blurred(unseen)
    cleaned = Cleaner(net, Spread(torch.eye(64, dtype=WIDE), 0.0)).clean(noisy, estimate)

    def error(images: Tensor) -> float:
        return float((images - unseen).square().mean())

    assert error(cleaned) < 0.6 * min(error(noisy), error(estimate))


def test_a_start_brings_its_cleaner_along(tmp_path: Path, net: CleaningNet) -> None:
    whitening = Whitening({"one": torch.zeros(6)}, {"one": torch.eye(6)})
    spreads = [spread_of(torch.randn(100, 64, generator=rng(seed))) for seed in (1, 2)]
    start = Start(whitening, network(6, 8, 64), (1, 1, 8, 8), spreads[0], Cleaner(net, spreads[1]))
    save_start(start, tmp_path / "start.safetensors")
    read = read_start(tmp_path / "start.safetensors")
    assert read.cleaner is not None
    images = torch.rand(3, 1, 8, 8)
    wanted = Cleaner(net, spreads[1]).clean(images, images)
    torch.testing.assert_close(read.cleaner.clean(images, images), wanted, rtol=0, atol=1e-5)
    assert torch.equal(read.cleaner.spread.factor, spreads[1].factor)
    save_start(Start(whitening, network(6, 8, 64), (1, 1, 8, 8), spreads[0]), tmp_path / "bare.safetensors")
    assert read_start(tmp_path / "bare.safetensors").cleaner is None


def test_a_stalled_search_goes_on_from_what_the_cleaner_makes_of_it() -> None:
    one, truth = problem()
    far, close = near_start(truth, 3.0), near_start(truth, 0.05)

    class Knowing(CleaningNet):
        """Moves any image close to the truth: what a good cleaner does."""

        def forward(self, images: Tensor, estimates: Tensor) -> Tensor:
            return close

    begin = Begin(far, even(truth, 0.05), Cleaner(Knowing(truth.shape[1], width=4), even(truth, 0.05)))
    knobs = s.GaussNewton(iterations=12, restarts=1)
    alone = gauss_newton(one, knobs, [begin], quiet)[0]
    found = gauss_newton(one, knobs.model_copy(update={"restarts": 3}), [begin], quiet)[0]
    assert alone.cost > 1e-6
    assert found.cost < 1e-8
    assert float((found.images - truth).square().mean()) < float((close - truth).square().mean())


def test_half_of_the_labels_are_any() -> None:
    batch = Labelled(torch.rand(4000, 1, 2, 2), torch.zeros(4000, dtype=torch.int64))
    changed = mislabelled(batch, 10, rng())
    assert torch.equal(changed.images, batch.images)
    assert float((changed.labels != 0).float().mean()) == pytest.approx(0.45, abs=0.03)
    assert set(changed.labels.tolist()) == set(range(10))
