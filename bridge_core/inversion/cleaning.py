"""A learnt cleaner between attempts of Gauss-Newton: plug-and-play regularisation (Venkatakrishnan et al., 2013).

An attempt that stalls leaves a picture that is right but for noise and some wrong blocks, and a misfit too small to
tell which. A U-Net that has seen proxy images so corrupted, each beside its amortised estimate, takes most of that
away; the next attempt starts from there, in the metric of the U-Net's own errors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core.errors import Diverged
from bridge_core.inversion.spread import Spread

BATCH, LEARNING_RATE, WIDTH = 128, 2e-3, 24
LEAST_NOISE, MOST_NOISE = -3.2, -1.1
"""Logarithms of an image's noise, on the scale of [0, 1]."""
UNEVEN, MOST_WRONG = 0.7, 0.15
"""Spread of the logarithm of a block's noise; largest share of blocks that are wrong altogether."""


class CleaningNet(nn.Module):
    """Corrupted images and their estimates -> images: three levels, residual convolutions, the estimate at first."""

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__()
        w = width
        self.first = _same(2 * channels, w)
        self.fine, self.middle, self.coarse = _residuals(w, 2), _residuals(2 * w, 2), _residuals(4 * w, 3)
        self.down = nn.ModuleList([nn.Conv2d(w, 2 * w, 2, 2), nn.Conv2d(2 * w, 4 * w, 2, 2)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, 2), nn.ConvTranspose2d(4 * w, 2 * w, 2, 2)])
        self.merge = nn.ModuleList([_same(2 * w, w), _same(4 * w, 2 * w)])
        self.last_fine, self.last_middle = _residuals(w, 1), _residuals(2 * w, 1)
        self.last = _same(w, channels)
        nn.init.zeros_(self.last.weight)

    def forward(
        self, images: Float[Tensor, "n c h w"], estimates: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Clean images, not held within [0, 1]."""
        height, width = images.shape[-2:]
        both = F.pad(torch.cat([images, estimates], 1), (0, -width % 4, 0, -height % 4), mode="replicate")
        fine = self.fine(F.gelu(self.first(both)))
        middle = self.middle(self.down[0](fine))
        coarse = self.coarse(self.down[1](middle))
        middle = self.last_middle(F.gelu(self.merge[1](torch.cat([self.up[1](coarse), middle], 1))))
        fine = self.last_fine(F.gelu(self.merge[0](torch.cat([self.up[0](middle), fine], 1))))
        return estimates + self.last(fine)[..., :height, :width]


@dataclass(frozen=True)
class Cleaner:
    """A trained net and what it is worth."""

    net: CleaningNet
    spread: Spread
    """Square root of the second moment of its errors over corrupted held-out images."""

    def clean(self, images: Float[Tensor, "n c h w"], estimates: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """`images` without what a stalled search has put in."""
        with torch.no_grad():
            return self.net(images, estimates)


def corrupted(images: Float[Tensor, "n c h w"], block: int, rng: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Images with noise of a strength of each image's and block's own, some blocks far worse than the rest."""
    n, _, height, width = images.shape
    rows, columns = -(-height // block), -(-width // block)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng)

    noise = torch.exp(LEAST_NOISE + (MOST_NOISE - LEAST_NOISE) * uniform(n, 1, 1, 1))
    each = noise * torch.exp(UNEVEN * torch.randn(n, 1, rows, columns, generator=rng)).clamp(0.15, 4)
    wrong = uniform(n, 1, rows, columns) < MOST_WRONG * uniform(n, 1, 1, 1)
    each = each + wrong * 1.5 * uniform(n, 1, rows, columns)
    strength = each.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width]
    return images + strength * torch.randn(images.shape, generator=rng)


def train_cleaner(
    pairs: Callable[[Tensor], tuple[Tensor, Tensor]],
    num_examples: int,
    seen: int,
    block: int,
    rng: torch.Generator,
    report: Callable[[int, int, float], None],
) -> CleaningNet:
    """Squared error over `num_examples` of `seen`, each once before any again; `pairs(index)`: images and estimates.

    Raises `Diverged` when the loss is no longer finite.
    """
    images, _ = pairs(torch.tensor([0]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        net = CleaningNet(images.shape[1]).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    steps = -(-num_examples // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1)
    for step, index in zip(range(1, steps + 1), _drawn(seen, rng), strict=False):
        images, estimates = pairs(index)
        loss = F.mse_loss(net(corrupted(images, block, rng), estimates), images)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % max(1, steps // 50) == 0:
            if not torch.isfinite(loss):
                raise Diverged(f"the cleaner's loss became {float(loss)}", "a finite loss", "set `cleaner_pairs` to 0")
            report(step, steps, float(loss.detach()))
    return net.eval()


def _drawn(seen: int, rng: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(seen, generator=rng).split(BATCH)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = _same(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.convolution(x))


def _residuals(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[_Residual(width) for _ in range(count)])


def _same(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1)
