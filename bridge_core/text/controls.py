"""What an attacker without a release would say: the proxy's frequent tokens, and its likeliest sequence of tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Controls:
    """Counts over the proxy's sentences."""

    counts: Int64[Tensor, "v"]
    """Of each token."""
    at: Int64[Tensor, "p"]
    """The most frequent token at each position."""
    first: int
    """The most frequent first token."""
    last: int
    """The most frequent last token."""
    pairs: Int64[Tensor, "k 3"]
    """Token, next token, count; sorted by token and falling count."""

    def frequent(self, length: int) -> list[int]:
        """The most frequent token at each position; the last one ends the sentence."""
        return [*self.at[: length - 1].tolist(), self.last]

    def alone(self, length: int) -> list[int]:
        """The likeliest chain of pairs, no token twice: what the proxy's bigram model says by itself."""
        chain = [self.first]
        while len(chain) < length - 1:
            following = self.pairs[self.pairs[:, 0] == chain[-1], 1].tolist()
            fresh = (token for token in (*following, *self.counts.argsort(descending=True).tolist()))
            chain.append(next(token for token in fresh if token not in chain and token != self.last))
        return [*chain, self.last][:length]


def fit_controls(sentences: Sequence[Sequence[int]], vocabulary: int) -> Controls:
    """Count tokens, positions and pairs of `sentences`, of which there is one at least."""
    counts = torch.bincount(torch.tensor([token for one in sentences for token in one]), minlength=vocabulary)
    longest = max(map(len, sentences))
    places = [Counter(one[p] for one in sentences if p < len(one)) for p in range(longest)]
    pairs = Counter(pair for one in sentences for pair in pairwise(one))
    rows = [(one, other, count) for (one, other), count in pairs.items()]
    table = torch.tensor(sorted(rows, key=lambda row: (row[0], -row[2], row[1])), dtype=torch.int64).reshape(-1, 3)
    last = _commonest(Counter(one[-1] for one in sentences))
    return Controls(counts, torch.tensor([_commonest(place) for place in places]), _commonest(places[0]), last, table)


def save_controls(controls: Controls, path: Path) -> None:
    """Write as safetensors."""
    ends = torch.tensor([controls.first, controls.last])
    save_file({"counts": controls.counts, "at": controls.at, "ends": ends, "pairs": controls.pairs}, path)


def read_controls(path: Path) -> Controls:
    """Read what `save_controls` wrote."""
    tensors = load_file(path)
    first, last = tensors["ends"].tolist()
    return Controls(tensors["counts"], tensors["at"], first, last, tensors["pairs"])


def _commonest(counter: Counter[int]) -> int:
    return min(counter, key=lambda token: (-counter[token], token))
