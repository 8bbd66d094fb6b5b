"""Phase `diffusion`: train the embedded diffusion model on the proxy part."""

from pathlib import Path

import torch

from bridge_core import spec as s
from bridge_core.data import Images, is_heldout, read_images
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import Progress, proxy
from bridge_core.priors.diffusion import PixelDiffusion
from bridge_core.priors.restoration import LEVELS, guided, measured
from bridge_core.priors.training import save_diffusion, train_diffusion
from bridge_core.seeding import generator

MOST_MEASURED = 32


def run(spec: s.DiffusionPhase, proxy_folder: Path, out: Path, progress: Progress) -> None:
    """Write the model as diffusers lays it out; facts tell what its cleaning leaves of noise on held-out images."""
    images = read_images(proxy_folder / proxy.FILE)
    facts: list[Fact] = []

    def report(step: int, steps: int, loss: float) -> None:
        facts.append(Fact("loss", loss, step=step))
        progress(step, steps, loss=loss)

    training = images[~is_heldout(images)]
    model, scheduler = train_diffusion(training.pixels, spec.diffusion, generator(0, "diffusion"), report)
    save_diffusion(model, scheduler, out)
    write_facts([*facts, *_restored(model, images)], out)


def _restored(model: PixelDiffusion, images: Images) -> list[Fact]:
    seen = heldout_pixels(images, MOST_MEASURED)
    rng = generator(0, "diffusion", "measured")
    errors = measured(guided(model, seen, rng), seen, rng).errors
    return [Fact(f"error_at_noise_{level:.3f}", error) for level, error in zip(LEVELS, errors, strict=True)]


def heldout_pixels(images: Images, most: int) -> torch.Tensor:
    """Held-out proxy images (n x channels x height x width) in [0, 1]."""
    return images[is_heldout(images)].pixels[:most].float() / 255
