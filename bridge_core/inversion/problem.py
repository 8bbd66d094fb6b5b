"""One problem for every inversion: find images whose gradients, or measurements, are the given ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from bridge_core.gradients import tap

TINY = 1e-30


@dataclass(frozen=True)
class Problem:
    """Targets of several secrets side by side; a secret is `num_samples` images that made one step together."""

    model: nn.Module
    labels: Int64[Tensor, "secrets num_samples"]
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    targets: Mapping[str, Float[Tensor, "secrets out k"]]
    matrices: Mapping[str, Float[Tensor, "secrets rank in"]] | None = None
    """Measurement matrices A; None where the targets are gradients themselves."""
    errors: Mapping[str, Float[Tensor, "secrets out k"]] | None = None
    """Standard errors of the targets, in their units; None where they are exact."""

    @property
    def num_secrets(self) -> int:
        """Adapters attacked side by side."""
        return len(self.labels)

    @property
    def guess_shape(self) -> tuple[int, ...]:
        """(secrets, num_samples, channels, height, width)."""
        return (*self.labels.shape, *self.image_shape)

    def gradients(self) -> dict[str, Float[Tensor, "secrets out in"]] | None:
        """The full gradients that the targets are; None where they are measurements of lower rank."""
        if self.matrices is None:
            return dict(self.targets)
        if any(one.shape[1] < one.shape[2] for one in self.matrices.values()):
            return None
        return {name: t @ self.matrices[name] for name, t in self.targets.items()}

    def only(self, secrets: Tensor) -> "Problem":
        """The same problem for the chosen secrets; an index may stand several times, for several starts."""
        matrices = None if self.matrices is None else _chosen(self.matrices, secrets)
        errors = None if self.errors is None else _chosen(self.errors, secrets)
        targets = _chosen(self.targets, secrets)
        return replace(self, labels=self.labels[secrets], targets=targets, matrices=matrices, errors=errors)

    def predict(self, guess: Tensor, *, create_graph: bool = True) -> dict[str, Float[Tensor, "secrets out k"]]:
        """What the guessed images would have left in the adapter; differentiable in `guess`."""
        images = guess.flatten(0, 1)
        taps = tap(self.model, images, self.labels.flatten(), tuple(self.targets), create_graph=create_graph)
        grouped = {name: one.grouped(self.labels.shape[1]) for name, one in taps.items()}
        if self.matrices is None:
            return {name: one.gradient() for name, one in grouped.items()}
        return {name: one.measurement(self.matrices[name]) for name, one in grouped.items()}

    def cosine_distance(self, guess: Tensor) -> Float[Tensor, "secrets"]:
        """1 - cosine, mean over the modules: blind to scale, so that decoded directions serve as well as gradients."""
        found = self.predict(guess)
        cosines = [
            torch.cosine_similarity(found[n].flatten(1), t.flatten(1), eps=TINY) for n, t in self.targets.items()
        ]
        return 1 - torch.stack(cosines).mean(0)

    def squared_distance(self, guess: Tensor) -> Float[Tensor, "secrets"]:
        """Squared distance over the target's squared norm, mean over the modules."""
        found = self.predict(guess)
        errors = [
            (found[n] - t).square().sum((1, 2)) / t.square().sum((1, 2)).clamp_min(TINY)
            for n, t in self.targets.items()
        ]
        return torch.stack(errors).mean(0)


@dataclass(frozen=True)
class Inverted:
    """Images that match best, and how well."""

    images: Float[Tensor, "secrets num_samples channels height width"]
    loss: Float[Tensor, "secrets"]
    """Final matching loss of each secret, without the prior."""
    start: Float[Tensor, "secrets num_samples channels height width"] | None = None
    """Where the inversion began, if that was more than noise: a control."""


def best_of(images: Tensor, loss: Tensor, restarts: int) -> Inverted:
    """Of `restarts` blocks of secrets, each secret's image with the lowest loss; a NaN never wins."""
    by_start = loss.reshape(restarts, -1).nan_to_num(torch.inf)
    choice = by_start.argmin(0)
    stacked = images.reshape(restarts, -1, *images.shape[1:])
    every = torch.arange(len(choice))
    return Inverted(stacked[choice, every], by_start[choice, every])


def _chosen(parts: Mapping[str, Tensor], secrets: Tensor) -> dict[str, Tensor]:
    return {name: one[secrets] for name, one in parts.items()}
