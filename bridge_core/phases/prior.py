"""What a cell's prior does for its attack. No phase of its own: it works on what the attack may see, and proxies."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.data import read_images
from bridge_core.inversion.matching import Target
from bridge_core.inversion.problem import Inverted
from bridge_core.phases import proxy
from bridge_core.phases.diffusion import heldout_pixels
from bridge_core.priors.diffusion import Diffusion, read_diffusion
from bridge_core.priors.restoration import MOST_MEASURED, Restorer, distilled, restorer_of
from bridge_core.seeding import generator


@dataclass(frozen=True)
class Prior:
    """A prior with its model, and proxy images that its restorer is measured on."""

    spec: s.Prior
    model: Diffusion | None
    heldout: Tensor | None
    """n x channels x height x width, in [0, 1]; None for the prior `none`."""
    rng: torch.Generator

    def target(self, draws: int | None = None) -> Target | None:
        """For first-order inversions: where score distillation draws images to; None for other priors."""
        knobs, model = self.spec, self.model
        if not isinstance(knobs, s.Sds) or model is None:
            return None
        chosen = knobs if draws is None else knobs.model_copy(update={"draws": draws})
        return lambda images: _flat(images, lambda flat: distilled(model, chosen, flat, self.rng))

    def cleaned(self, found: Inverted) -> Inverted:
        """The end of a first-order inversion, cleaned once where the prior is `guide`; the loss is of before."""
        knobs = self.spec
        if not isinstance(knobs, s.Guide):
            return found
        restorer = self.restorer()
        assert restorer is not None
        clean = _flat(found.images, lambda flat: restorer.restore(flat, knobs.noise, self.rng))
        return replace(found, images=clean.clamp(0, 1))

    def restorer(self) -> Restorer | None:
        """The prior as a restorer, measured on the held-out images."""
        return None if self.heldout is None else restorer_of(self.spec, self.model, self.heldout, self.rng)


def read_prior(knobs: s.Prior, seed: int, inputs: Mapping[str, Path], channels: int) -> Prior:
    """The prior of an attack; `inputs` hold the proxy part and the embedded model where it needs them."""
    rng = generator(seed, "attack", "prior")
    if isinstance(knobs, s.NoPrior):
        return Prior(knobs, None, None, rng)
    model = None
    if isinstance(knobs, s.Sds | s.Guide):
        folder = str(inputs["diffusion"]) if "diffusion" in inputs else None
        model = read_diffusion(knobs.diffusion, folder, channels)
    heldout = heldout_pixels(read_images(inputs["proxy"] / proxy.FILE), MOST_MEASURED)
    return Prior(knobs, model, heldout, rng)


def _flat(images: Tensor, change: Target) -> Tensor:
    return change(images.flatten(0, 1)).reshape(images.shape)
