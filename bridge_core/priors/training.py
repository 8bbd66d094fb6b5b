"""The embedded diffusion model: a small `UNet2DModel` of diffusers, trained on proxy images in minutes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import EMAModel
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.errors import Diverged
from bridge_core.priors.diffusion import PixelDiffusion, schedule_of

FOLD = 2
"""Pixels a side that stand in the channels of one: four times faster, and local detail costs no depth."""
GROUPS, DECAY = 8, 0.995
EARLY = 2.5
"""Times are drawn as u^EARLY, u even: reconstructions that need cleaning are nearly clean."""


def fresh_net(width: int, channels: int, seed: int) -> UNet2DModel:
    """Two levels of two residual blocks, no attention."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(
            in_channels=channels * FOLD**2,
            out_channels=channels * FOLD**2,
            block_out_channels=(width, 2 * width),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=GROUPS,
            add_attention=False,
        )


def train_diffusion(
    pixels: UInt8[Tensor, "n c h w"],
    knobs: s.EmbeddedDiffusion,
    rng: torch.Generator,
    report: Callable[[int, int, float], None],
) -> tuple[PixelDiffusion, DDPMScheduler]:
    """Squared error of v = sqrt(a) noise - sqrt(1 - a) x (Salimans and Ho, 2022), AdamW, one cycle, averaged weights.

    bfloat16 products where the processor has them. Raises `Diverged` when the loss is no longer finite.
    """
    scheduler = DDPMScheduler(prediction_type="v_prediction", clip_sample=False)
    seed = int(torch.randint(2**31, (), generator=rng))
    model = PixelDiffusion(fresh_net(knobs.width, pixels.shape[1], seed), schedule_of(scheduler), FOLD)
    average = EMAModel(model.net.parameters(), decay=DECAY)
    steps = -(-knobs.num_examples // knobs.batch_size)
    optimiser = torch.optim.AdamW(model.net.parameters(), knobs.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, knobs.learning_rate, total_steps=steps + 1)
    for step, index in zip(range(1, steps + 1), _drawn(len(pixels), knobs.batch_size, rng), strict=False):
        loss = _loss(model, 2 * (pixels[index].float() / 255) - 1, rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.step(model.net.parameters())
        if step % max(1, steps // 50) == 0:
            if not torch.isfinite(loss):
                raise Diverged(f"the diffusion model's loss became {float(loss)}", "a finite loss", "lower its rate")
            report(step, steps, float(loss.detach()))
    average.copy_to(model.net.parameters())
    return model, scheduler


def _loss(model: PixelDiffusion, x: Tensor, rng: torch.Generator) -> Tensor:
    times = (torch.rand(len(x), generator=rng) ** EARLY * model.num_times).long().clamp_max(model.num_times - 1)
    noise = torch.randn(x.shape, generator=rng)
    noised = model.schedule.noised(x, times, noise)
    a = model.schedule.products[times].reshape(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
        found = model.predict(noised, times)
    return F.mse_loss(found.float(), a.sqrt() * noise - (1 - a).sqrt() * x)


def has_bfloat16() -> bool:
    """True where the processor multiplies bfloat16 by itself: emulation is slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # pyright: ignore[reportPrivateUsage]


def save_diffusion(model: PixelDiffusion, scheduler: DDPMScheduler, folder: Path) -> None:
    """As diffusers lays a pipeline out: `unet` and `scheduler`, safetensors and JSON."""
    model.net.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")


def _drawn(count: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(count, generator=rng).split(batch)
