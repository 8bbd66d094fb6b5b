"""A bigram language model of the proxy's token ids: what is known of sentences before any release.

Interpolated absolute discounting (Kneser and Ney, 1995; Ney, Essen and Kneser, 1994): every count gives up a discount,
which the lower order shares out. A pair falls back on how many different tokens a token follows, that on all tokens
alike. Contexts are the v tokens and, as number v, the beginning of a sentence.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor

BEAM = 32


@dataclass(frozen=True)
class Bigram:
    """Counts of tokens and of their pairs, and the probabilities that follow from them."""

    counts: Int64[Tensor, "v"]
    """Of each token: the unigram control."""
    pairs: Int64[Tensor, "k 2"]
    """Context and token, sorted; the context is v where the token begins a sentence."""
    numbers: Int64[Tensor, "k"]
    """How often each pair stands in the sentences."""
    discount: float
    lower: Float[Tensor, "v"]
    """Probabilities of the lower order."""
    totals: Int64[Tensor, "contexts"]
    """Tokens that follow each context."""
    kinds: Int64[Tensor, "contexts"]
    """Different tokens that follow each context."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens, v."""
        return len(self.counts)

    def log_next(self, token: int | None) -> Float[Tensor, "v"]:
        """Log-probability of every token after `token`, or at the beginning if None."""
        context = torch.tensor(self.vocabulary if token is None else token)
        found = self._spared(context) * self.lower
        here = slice(*torch.searchsorted(self.pairs[:, 0].contiguous(), context + torch.arange(2)).tolist())
        share = (self.numbers[here] - self.discount) / self.totals[context]
        return found.index_add(0, self.pairs[here, 1], share.float()).log()

    def log_pairs(self, contexts: Int64[Tensor, "*n"], tokens: Int64[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Log-probability of each token in its context."""
        keys = self.pairs[:, 0] * self.vocabulary + self.pairs[:, 1]
        wanted = contexts * self.vocabulary + tokens
        place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        counted = torch.where(keys[place] == wanted, self.numbers[place] - self.discount, 0.0)
        return (counted / self.totals[contexts].clamp_min(1) + self._spared(contexts) * self.lower[tokens]).log()

    def log_probability(self, ids: Int64[Tensor, "n t"], mask: Bool[Tensor, "n t"] | None = None) -> Float[Tensor, "n"]:
        """Log-probability of sentences, their first token included; what is not in `mask` is left out."""
        first = torch.full_like(ids[:, :1], self.vocabulary)
        each = self.log_pairs(torch.cat([first, ids[:, :-1]], 1), ids)
        return (each if mask is None else each * mask).sum(1)

    def alone(self, length: int, end: int | None = None) -> list[int]:
        """The likeliest sentence of `length` tokens that says no pair of tokens twice, by beam search.

        With `end` it ends with that token, which stands nowhere before. What an attacker says without a release.
        """
        beams: list[tuple[float, list[int]]] = [(0.0, [])]
        for place in range(length):
            last = end if place == length - 1 else None
            longer = [one for beam in beams for one in self._longer(*beam, last, end)]
            beams = sorted(longer, reverse=True)[:BEAM]
        return beams[0][1]

    def _longer(
        self, score: float, ids: list[int], wanted: int | None, end: int | None
    ) -> list[tuple[float, list[int]]]:
        following = self.log_next(ids[-1] if ids else None)
        if wanted is not None:
            return [(score + float(following[wanted]), [*ids, wanted])]
        said = {other for token, other in pairwise(ids) if token == ids[-1]}
        best = following.topk(min(BEAM + len(said) + 1, self.vocabulary))
        found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [(score + value, [*ids, token]) for value, token in found if token not in said and token != end]

    def _spared(self, contexts: Int64[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """What the discounts of a context leave to the lower order; everything where the context was never seen."""
        totals = self.totals[contexts]
        return torch.where(totals > 0, self.discount * self.kinds[contexts] / totals.clamp_min(1), 1.0)


def fit_bigram(sentences: Sequence[Sequence[int]], vocabulary: int) -> Bigram:
    """Count tokens and pairs of `sentences`, of which there is one at least."""
    counted = Counter(pair for one in sentences for pair in pairwise([vocabulary, *one]))
    rows = sorted((*pair, number) for pair, number in counted.items())
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
    return bigram_of(table[:, :2].contiguous(), table[:, 2].contiguous(), vocabulary)


def bigram_of(pairs: Int64[Tensor, "k 2"], numbers: Int64[Tensor, "k"], vocabulary: int) -> Bigram:
    """The model of these counts of sorted pairs."""
    contexts = vocabulary + 1
    counts = torch.zeros(vocabulary, dtype=torch.int64).index_add(0, pairs[:, 1], numbers)
    totals = torch.zeros(contexts, dtype=torch.int64).index_add(0, pairs[:, 0], numbers)
    kinds = torch.bincount(pairs[:, 0], minlength=contexts)
    follows = torch.bincount(pairs[:, 1], minlength=vocabulary)
    lower = _discounted(follows, _discount(follows))
    return Bigram(counts, pairs, numbers, _discount(numbers), lower.float(), totals, kinds)


def save_bigram(prior: Bigram, path: Path) -> None:
    """Write its counts as safetensors."""
    vocabulary = torch.tensor([prior.vocabulary])
    save_file({"pairs": prior.pairs, "numbers": prior.numbers, "vocabulary": vocabulary}, path)


def read_bigram(path: Path) -> Bigram:
    """Read what `save_bigram` wrote."""
    tensors = load_file(path)
    return bigram_of(tensors["pairs"], tensors["numbers"], int(tensors["vocabulary"]))


def _discount(numbers: Int64[Tensor, "k"]) -> float:
    """n1 / (n1 + 2 n2), of the numbers seen once and twice (Ney, Essen and Kneser, 1994); within [0.1, 0.9]."""
    once, twice = int((numbers == 1).sum()), int((numbers == 2).sum())
    return min(max(once / (once + 2 * twice), 0.1), 0.9) if once else 0.5


def _discounted(follows: Int64[Tensor, "v"], discount: float) -> Tensor:
    """Shares of `follows` with a discount that all tokens share alike."""
    total = int(follows.sum())
    spared = discount * int((follows > 0).sum()) / total
    return (follows.double() - discount).clamp_min(0) / total + spared / len(follows)
