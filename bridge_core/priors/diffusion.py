"""A frozen diffusion model of images: what it takes a noised image for.

    x_t = sqrt(a_t) x + sqrt(1 - a_t) noise      a_t: the schedule's cumulative product (Ho et al., DDPM, 2020)

Images come and go in [0, 1]; inside they are centred to [-1, 1], or are latents of an autoencoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never, runtime_checkable

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.errors import InvalidInput

LATENT_FACTOR = 8
"""Side of an image over that of its latent, where the autoencoder does not say."""


@runtime_checkable
class Diffusion(Protocol):
    """A diffusion model, of pixels or of latents."""

    @property
    def schedule(self) -> "Schedule":
        """Noise by time."""
        ...

    @property
    def num_times(self) -> int:
        """Times of the schedule, from nearly clean to noise."""
        ...

    def clean(self, images: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"]) -> Float[Tensor, "n c h w"]:
        """The expected clean image, `images` taken to carry the noise of `times` already."""
        ...

    def distil(
        self, images: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """Score distillation: where `images`, noised afresh to `times`, are drawn to.

        images - target is the gradient w(t) (predicted noise - noise) at w(t) = sqrt((1 - a_t) / a_t): DreamFusion's
        w(t) = 1 - a_t is the caller's weight (`weights_of`).
        """
        ...


@dataclass(frozen=True)
class Schedule:
    """Cumulative products a_t, and what the network predicts."""

    products: Float[Tensor, "times"]
    predicts: str
    """`epsilon`, `sample` or `v_prediction`."""

    def noised(self, x: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """`x` at `times`."""
        a = self._at(times, x)
        return a.sqrt() * x + (1 - a).sqrt() * noise

    def scaled(self, x: Tensor, times: Tensor) -> Tensor:
        """`x` that carries its noise already, at the scale of `times`."""
        return self._at(times, x).sqrt() * x

    def clean(self, noised: Tensor, times: Tensor, output: Tensor) -> Tensor:
        """The clean image that a network's `output` at `noised` stands for."""
        a = self._at(times, noised)
        match self.predicts:
            case "epsilon":
                return (noised - (1 - a).sqrt() * output) / a.sqrt()
            case "v_prediction":
                return a.sqrt() * noised - (1 - a).sqrt() * output
            case "sample":
                return output
            case other:
                wanted = "epsilon, sample or v_prediction"
                raise InvalidInput(f"a scheduler with prediction_type {other}", wanted, "use another pipeline")

    def _at(self, times: Tensor, like: Tensor) -> Tensor:
        return self.products[times].to(like).reshape(-1, *[1] * (like.dim() - 1))


def schedule_of(scheduler: SchedulerMixin | None) -> Schedule:
    """The schedule of any scheduler of diffusers that has DDPM's products (DDIM, PNDM, Euler, ...).

    Raises `InvalidInput` where it has none.
    """
    products = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(products, Tensor):
        found = f"a pipeline with {type(scheduler).__name__}, which has no cumulative products"
        raise InvalidInput(found, "a discrete schedule of DDPM's kind", "use a DDPM or Stable Diffusion pipeline")
    config = getattr(scheduler, "config", None)
    return Schedule(products.float(), str(getattr(config, "prediction_type", "epsilon")))


def weights_of(schedule_products: Float[Tensor, "times"], times: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    """sqrt(a_t (1 - a_t)): what w(t) = 1 - a_t leaves of image - target."""
    a = schedule_products[times]
    return (a * (1 - a)).sqrt()


@dataclass(frozen=True)
class PixelDiffusion:
    """A `UNet2DModel` of pixels; `fold` x `fold` pixels may stand in the channels of one (pixel unshuffle)."""

    net: UNet2DModel
    schedule: Schedule
    fold: int = 1

    @property
    def num_times(self) -> int:
        """Times of the schedule."""
        return len(self.schedule.products)

    def predict(self, noised: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"]) -> Float[Tensor, "n c h w"]:
        """The network's output, of whatever the schedule says it predicts; centred images."""
        height, width = noised.shape[-2:]
        side = self.fold * 2 ** (len(self.net.config["block_out_channels"]) - 1)
        padded = F.pad(noised, (0, -width % side, 0, -height % side), mode="replicate")
        output = self.net(F.pixel_unshuffle(padded, self.fold), times).sample
        return F.pixel_shuffle(output, self.fold)[..., :height, :width]

    def clean(self, images: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"]) -> Float[Tensor, "n c h w"]:
        """As `Diffusion.clean`."""
        return self._cleaned(self.schedule.scaled(2 * images - 1, times), times)

    def distil(
        self, images: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """As `Diffusion.distil`."""
        noise = torch.randn(images.shape, generator=rng)
        return self._cleaned(self.schedule.noised(2 * images - 1, times, noise), times)

    @torch.no_grad()
    def _cleaned(self, noised: Tensor, times: Tensor) -> Tensor:
        return (self.schedule.clean(noised, times, self.predict(noised, times)) + 1) / 2


@dataclass(frozen=True)
class LatentDiffusion:
    """Stable Diffusion: an autoencoder, a UNet that sees a prompt, classifier-free guidance."""

    autoencoder: AutoencoderKL
    net: UNet2DConditionModel
    schedule: Schedule
    told: Float[Tensor, "1 words d"]
    """The prompt's embedding."""
    untold: Float[Tensor, "1 words d"]
    """The empty prompt's embedding."""
    guidance: float
    path: str
    """`latent` or `pixel`: see `PipelineDiffusion`."""

    @property
    def num_times(self) -> int:
        """Times of the schedule."""
        return len(self.schedule.products)

    def clean(self, images: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"]) -> Float[Tensor, "n c h w"]:
        """As `Diffusion.clean`; the latent of a noisy image is taken for the noised latent."""
        with torch.no_grad():
            latent = self._encode(images)
            return self._moved(images, latent, self._cleaned(self.schedule.scaled(latent, times), times))

    def distil(
        self, images: Float[Tensor, "n c h w"], times: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """As `Diffusion.distil`, decoded, or through the encoder's transposed Jacobian."""
        pixels = images.detach().requires_grad_(self.path == "pixel")
        with torch.set_grad_enabled(self.path == "pixel"):
            latent = self._encode(pixels)
        fixed = latent.detach()
        noised = self.schedule.noised(fixed, times, torch.randn(fixed.shape, generator=rng))
        with torch.no_grad():
            clean = self._cleaned(noised, times)
            if self.path == "latent":
                return self._moved(images, fixed, clean)
        return images - torch.autograd.grad(latent, pixels, fixed - clean)[0]

    def _moved(self, images: Tensor, latent: Tensor, clean: Tensor) -> Tensor:
        """What changes between two latents, decoded: the autoencoder's own loss stays out."""
        return images + self._decode(clean, images) - self._decode(latent, images)

    def _cleaned(self, noised: Tensor, times: Tensor) -> Tensor:
        output = self.net(noised, times, self.told.expand(len(noised), -1, -1)).sample
        if self.guidance != 1.0:
            without = self.net(noised, times, self.untold.expand(len(noised), -1, -1)).sample
            output = without + self.guidance * (output - without)
        return self.schedule.clean(noised, times, output)

    def _encode(self, images: Tensor) -> Tensor:
        side = int(self.net.config["sample_size"]) * self._factor()
        colour = images.expand(-1, self.autoencoder.config["in_channels"], -1, -1)
        large = F.interpolate(2 * colour - 1, (side, side), mode="bicubic", antialias=True)
        return self.autoencoder.encode(large).latent_dist.mode() * self.autoencoder.config["scaling_factor"]  # pyright: ignore[reportAttributeAccessIssue]

    def _decode(self, latent: Tensor, like: Tensor) -> Tensor:
        large = self.autoencoder.decode(latent / self.autoencoder.config["scaling_factor"]).sample  # pyright: ignore[reportAttributeAccessIssue]
        small = F.interpolate((large + 1) / 2, like.shape[-2:], mode="bicubic", antialias=True)
        return small.mean(1, keepdim=True) if like.shape[1] == 1 else small

    def _factor(self) -> int:
        blocks = self.autoencoder.config.get("block_out_channels")
        return 2 ** (len(blocks) - 1) if blocks else LATENT_FACTOR


def read_embedded(folder: str, channels: int) -> PixelDiffusion:
    """What phase `diffusion` wrote."""
    net = UNet2DModel.from_pretrained(folder, subfolder="unet", use_safetensors=True, local_files_only=True)
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    return _pixels(net, schedule_of(scheduler), channels)  # pyright: ignore[reportArgumentType]


def read_pipeline(knobs: s.PipelineDiffusion, channels: int) -> Diffusion:
    """Stable Diffusion or DDPM from a folder or the hub: safetensors alone, none of its code is run.

    Raises `InvalidInput` where there is none, or it is of another kind.
    """
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    try:
        pipeline: object = DiffusionPipeline.from_pretrained(
            knobs.source, revision=knobs.revision, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        why = str(error).strip().splitlines()
        remedy = "give a folder that `save_pretrained` wrote, or a hub id that can be reached"
        raise InvalidInput(f"{knobs.source}: {why[0] if why else error!r}", "a pipeline of diffusers", remedy) from None
    if isinstance(pipeline, StableDiffusionPipeline):
        return _latents(pipeline, knobs)
    if isinstance(pipeline, DDPMPipeline) and isinstance(pipeline.unet, UNet2DModel):
        return _pixels(pipeline.unet, schedule_of(pipeline.scheduler), channels)
    remedy = "use StableDiffusionPipeline or DDPMPipeline"
    raise InvalidInput(f"{knobs.source} is a {type(pipeline).__name__}", "Stable Diffusion or DDPM", remedy)


def _pixels(net: UNet2DModel, schedule: Schedule, channels: int) -> PixelDiffusion:
    fold = round((net.config["in_channels"] / channels) ** 0.5)
    if fold * fold * channels != net.config["in_channels"]:
        found = f"a diffusion model of {net.config['in_channels']} channels"
        raise InvalidInput(found, f"{channels}, as the images have", "use another pipeline, or the embedded one")
    _freeze(net)
    return PixelDiffusion(net, schedule, max(1, fold))


def _latents(pipeline: object, knobs: s.PipelineDiffusion) -> LatentDiffusion:
    encode: Callable[..., tuple[Tensor, Tensor]] = pipeline.encode_prompt  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        told, untold = encode(knobs.prompt, torch.device("cpu"), 1, True, negative_prompt="")
    parts = (pipeline.vae, pipeline.unet)  # pyright: ignore[reportAttributeAccessIssue]
    autoencoder, net = parts
    _freeze(autoencoder)
    _freeze(net)
    schedule = schedule_of(pipeline.scheduler)  # pyright: ignore[reportAttributeAccessIssue]
    return LatentDiffusion(autoencoder, net, schedule, told, untold, knobs.guidance, knobs.path)  # pyright: ignore[reportArgumentType]


def _freeze(net: nn.Module) -> None:
    net.eval().requires_grad_(False)


def read_diffusion(knobs: s.Diffusion, folder: str | None, channels: int) -> Diffusion:
    """The model of a prior; `folder` is what phase `diffusion` wrote, where it is the embedded one."""
    match knobs:
        case s.EmbeddedDiffusion():
            assert folder is not None
            return read_embedded(folder, channels)
        case s.PipelineDiffusion():
            return read_pipeline(knobs, channels)
        case _:
            assert_never(knobs)
