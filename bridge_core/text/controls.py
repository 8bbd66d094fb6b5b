"""What an attacker without a release would say: the proxy's frequent tokens, and its likeliest sequence of tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core.text.prior import Bigram, fit_bigram, read_bigram, save_bigram

BIGRAM, PLACES = "bigram.safetensors", "places.safetensors"


@dataclass(frozen=True)
class Controls:
    """The proxy's sentences, counted."""

    bigram: Bigram
    at: Int64[Tensor, "p"]
    """The most frequent token at each position."""
    last: int
    """The most frequent last token."""

    @property
    def counts(self) -> Int64[Tensor, "v"]:
        """Of each token."""
        return self.bigram.counts

    def frequent(self, length: int) -> list[int]:
        """The most frequent token at each position; the last one ends the sentence."""
        return [*self.at[: length - 1].tolist(), self.last]

    def alone(self, length: int) -> list[int]:
        """What the proxy's language model says by itself."""
        return self.bigram.alone(length, self.last)


def fit_controls(sentences: Sequence[Sequence[int]], vocabulary: int) -> Controls:
    """Count tokens, positions and pairs of `sentences`, of which there is one at least."""
    longest = max(map(len, sentences))
    places = [Counter(one[p] for one in sentences if p < len(one)) for p in range(longest)]
    last = _commonest(Counter(one[-1] for one in sentences))
    return Controls(fit_bigram(sentences, vocabulary), torch.tensor([_commonest(place) for place in places]), last)


def save_controls(controls: Controls, folder: Path) -> None:
    """Write as safetensors."""
    save_bigram(controls.bigram, folder / BIGRAM)
    save_file({"at": controls.at, "last": torch.tensor([controls.last])}, folder / PLACES)


def read_controls(folder: Path) -> Controls:
    """Read what `save_controls` wrote."""
    tensors = load_file(folder / PLACES)
    return Controls(read_bigram(folder / BIGRAM), tensors["at"], int(tensors["last"]))


def _commonest(counter: Counter[int]) -> int:
    return min(counter, key=lambda token: (-counter[token], token))
