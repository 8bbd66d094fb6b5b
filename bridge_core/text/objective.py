"""How well sentences explain an update: the distance of the updates they would make, and a prior's surprise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge_core.text.batches import Batch, padded
from bridge_core.text.models import Language
from bridge_core.text.prior import Bigram
from bridge_core.text.stream import tap

BATCH = 64
"""Sentences of one forward and backward pass."""
RELIABLE = 0.1
"""Entries whose error is far below so much of their module's rms count in full."""
TELLING = 1e4
"""Mean squared value over its squared error, at least, of a target that a misfit can say something of."""
TINY = 1e-30


@dataclass(frozen=True)
class Guess:
    """Sentences that made a step together, and their classes."""

    sentences: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]

    def with_token(self, sample: int, place: int, token: int) -> "Guess":
        """With another token at one place."""
        ids = self.sentences[sample]
        return self.with_sentence(sample, (*ids[:place], token, *ids[place + 1 :]))

    def with_sentence(self, sample: int, ids: Sequence[int]) -> "Guess":
        """With another sentence."""
        return Guess((*self.sentences[:sample], tuple(ids), *self.sentences[sample + 1 :]), self.labels)

    def with_label(self, sample: int, label: int) -> "Guess":
        """With another class."""
        return Guess(self.sentences, (*self.labels[:sample], label, *self.labels[sample + 1 :]))


@dataclass(frozen=True)
class Target:
    """What is known of an update, by module."""

    language: Language
    values: Mapping[str, Float[Tensor, "out k"]]
    """Measurements, or gradients."""
    errors: Mapping[str, Float[Tensor, "out k"]]
    """Standard errors, in the units of `values`."""
    matrices: Mapping[str, Float[Tensor, "k in"]] | None
    """Measurement matrices A; None where `values` are gradients."""

    @property
    def telling(self) -> bool:
        """True where the values are so many times their errors that a misfit can prove something."""
        each = [(self.values[name].double() / self.errors[name].double()).square().flatten() for name in self.values]
        return float(torch.cat(each).mean()) > TELLING

    def distance(
        self, batch: Batch, num_samples: int, embedded: Float[Tensor, "m t d"] | None = None
    ) -> Float[Tensor, "n"]:
        """1 - cosine, mean over the modules, of `num_samples` sentences each; differentiable in `embedded`."""
        found = self._predict(batch, num_samples, embedded)
        each = [F.cosine_similarity(self._sure(n, m), self._sure(n, self.values[n][None]), eps=TINY) for n, m in found]
        return 1 - torch.stack(each).mean(0)

    def misfit(self, batch: Batch, num_samples: int) -> Float[Tensor, "n"]:
        """Squared differences over the errors' squares, mean over all entries: of the order of 1 for the truth."""
        found = self._predict(batch, num_samples, None)
        each = [((m - self.values[n]).double() / self.errors[n].double()).square().flatten(1) for n, m in found]
        return torch.cat(each, 1).mean(1).float()

    def _predict(self, batch: Batch, num_samples: int, embedded: Tensor | None) -> list[tuple[str, Tensor]]:
        differentiable, modules = embedded is not None, tuple(self.values)
        taps = tap(
            self.language, batch, modules, num_samples=num_samples, embedded=embedded, create_graph=differentiable
        )
        if self.matrices is None:
            return [(name, one.gradient()) for name, one in taps.items()]
        return [(name, one.measurement(self.matrices[name])) for name, one in taps.items()]

    def _sure(self, name: str, values: Float[Tensor, "n out k"]) -> Float[Tensor, "n entries"]:
        """Entries, weighted by how reliable their target is."""
        limit = RELIABLE * self.values[name].square().mean().sqrt().clamp_min(TINY)
        return (values / (1 + (self.errors[name] / limit).square())).flatten(1)


@dataclass(frozen=True)
class Objective:
    """What a search minimises."""

    target: Target
    prior: Bigram
    prior_weight: float

    @property
    def language(self) -> Language:
        """The model that made the update."""
        return self.target.language

    def cost(self, guesses: Sequence[Guess]) -> Float[Tensor, "n"]:
        """Distance, plus the weight times the prior's surprise."""
        return self._over(guesses, self.target.distance) + self.prior_weight * self.surprise(guesses)

    def misfit(self, guesses: Sequence[Guess]) -> Float[Tensor, "n"]:
        """`Target.misfit` of each."""
        return self._over(guesses, self.target.misfit)

    def surprise(self, guesses: Sequence[Guess]) -> Float[Tensor, "n"]:
        """-log p of the prior, a token."""
        batch = self.batch(guesses)
        each = -self.prior.log_probability(batch.ids, batch.mask).reshape(len(guesses), -1).sum(1)
        return each / batch.mask.reshape(len(guesses), -1).sum(1)

    def batch(self, guesses: Sequence[Guess]) -> Batch:
        """As the model reads them, the sentences of a guess one after the other."""
        labels = torch.tensor([label for guess in guesses for label in guess.labels])
        return padded([list(ids) for guess in guesses for ids in guess.sentences], labels, self.language.pad)

    def _over(self, guesses: Sequence[Guess], measure: Callable[[Batch, int], Tensor]) -> Float[Tensor, "n"]:
        num_samples = len(guesses[0].labels)
        rows = max(1, BATCH // num_samples)
        parts = (guesses[i : i + rows] for i in range(0, len(guesses), rows))
        return torch.cat([measure(self.batch(part), num_samples) for part in parts])
