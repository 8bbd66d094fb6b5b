"""Priors of images: what is known of a secret beforehand."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bridge_core.spec.base import Axis, Spec, kind_alone


class NoPrior(Axis):
    """The matching loss alone."""

    kind: Literal["none"] = "none"


class TotalVariation(Axis):
    """Anisotropic total variation of the image."""

    kind: Literal["tv"] = "tv"
    weight: float = Field(default=1e-2, gt=0)
    """What first-order inversions add to their loss, in units of it."""
    rounds: int = Field(default=2, ge=1, le=20)
    """With Gauss-Newton: how often its end is restored."""


class EmbeddedDiffusion(Spec):
    """A small `UNet2DModel` of diffusers, trained on the proxy part: the default, which needs no download."""

    kind: Literal["embedded"] = "embedded"
    num_examples: int = Field(default=60_000, ge=64)
    """Noised proxy images that it is trained on; a proxy image may stand among them many times."""
    width: int = Field(default=48, ge=8, multiple_of=8)
    """Channels at half the image's resolution; doubled at a quarter."""
    learning_rate: float = Field(default=2e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)


class PipelineDiffusion(Spec):
    """A trained pipeline of diffusers: Stable Diffusion (latent), or DDPM (a `UNet2DModel` of pixels)."""

    kind: Literal["pipeline"] = "pipeline"
    source: str = Field(min_length=1)
    """A folder that `save_pretrained` wrote, or a hub id."""
    revision: str | None = None
    prompt: str = ""
    """Of Stable Diffusion: what the image is told to show."""
    guidance: float = Field(default=1.0, ge=0)
    """Classifier-free guidance; 1 for the prompt alone, without guidance."""
    path: Literal["latent", "pixel"] = "latent"
    """Of Stable Diffusion under `sds`: `latent` decodes the clean latent, `pixel` takes the score's gradient back
    through the encoder."""


AnyDiffusion = Annotated[EmbeddedDiffusion | PipelineDiffusion, Field(discriminator="kind")]
Diffusion = Annotated[AnyDiffusion, BeforeValidator(kind_alone)]


class Sds(Axis):
    """Score distillation from a frozen diffusion model (Poole et al., DreamFusion, ICLR 2023)."""

    kind: Literal["sds"] = "sds"
    diffusion: Diffusion = EmbeddedDiffusion()
    weight: float = Field(default=1e-2, gt=0)
    """What first-order inversions add to their loss, in units of it a squared intensity."""
    draws: int = Field(default=8, ge=1, le=256)
    """Times and noises that one gradient is the mean of; first-order inversions draw one an iteration."""
    earliest: float = Field(default=0.02, ge=0, lt=1)
    latest: float = Field(default=0.98, gt=0, le=1)
    """Times are drawn evenly from `earliest` to `latest`; 0 is a clean image, 1 is noise."""
    rounds: int = Field(default=2, ge=1, le=20)
    """With Gauss-Newton and DLG: how often the end is restored."""

    @model_validator(mode="after")
    def _in_order(self) -> "Sds":
        if self.earliest >= self.latest:
            raise ValueError(f"earliest {self.earliest} is not before latest {self.latest}")
        return self


class Guide(Axis):
    """A diffusion model that cleans the finished reconstruction (GUIDE: Carletti et al., 2025)."""

    kind: Literal["guide"] = "guide"
    diffusion: Diffusion = EmbeddedDiffusion()
    noise: float = Field(default=0.1, gt=0, le=1)
    """RMS error that the end of a first-order inversion is taken to have, on the scale of [0, 1]; Gauss-Newton knows
    its own."""
    rounds: int = Field(default=2, ge=1, le=20)
    """With Gauss-Newton: how often its end is restored."""


AnyPrior = Annotated[NoPrior | TotalVariation | Sds | Guide, Field(discriminator="kind")]
Prior = Annotated[AnyPrior, BeforeValidator(kind_alone)]
