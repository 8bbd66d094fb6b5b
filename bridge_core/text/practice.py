"""Practice: the victim's recipe on public sentences, to learn what a ranking is worth beside the prior.

A ranking of tokens says something where nothing can be proved, and how much depends on rank, recipe and model. So the
attacker trains adapters of his own from the released A, attacks them, and fits a logistic regression of membership on a
pair's score, standardised over the vocabulary, and on its token's logarithmic frequency: their sum is a log-odds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float64, Int64
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from bridge_core import spec as s
from bridge_core.release import CONFIG_FILE, WEIGHTS_FILE, Release, read_release
from bridge_core.seeding import generator
from bridge_core.text.batches import Batch
from bridge_core.text.models import Language
from bridge_core.text.victim import train_text_victim

NUM_PRACTISED = 8
MOST_STEPS = 20
"""Of a practised recipe; a longer one is cut."""
NUM_STRANGERS = 4096
"""Pairs of each practised release that were not in it."""


@dataclass(frozen=True)
class Practised:
    """An adapter of the attacker's own, with what it was trained on."""

    release: Release
    gradients: dict[str, Tensor]
    """Of the first blocks' weights, for those who are told exact gradients."""
    sentences: list[list[int]]
    """What the first block read of them."""


@dataclass(frozen=True)
class Weights:
    """Coefficients of the log-odds of membership."""

    fit: float
    """Of minus a standardised score."""
    prior: float
    """Of a token's log-probability."""

    def of(self, scores: Float64[Tensor, "v p"], log_prior: Float64[Tensor, "v"]) -> Float64[Tensor, "v p"]:
        """Log-odds up to a constant, negated: smaller is better."""
        return self.fit * standardised(scores) - self.prior * log_prior[:, None]


def practise(
    language: Language, released: Path, recipe: s.Recipe, proxy: Batch, seed: int, number: int = NUM_PRACTISED
) -> Iterable[Practised]:
    """Train `number` adapters by `recipe` on proxy sentences, each from the A of the folder `released` and B = 0."""
    short = recipe.model_copy(update={"steps": min(recipe.steps, MOST_STEPS)})
    order = torch.randperm(len(proxy), generator=generator(seed, "practice"))
    with TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        _blank(released, start)
        for i, index in enumerate(order.split(recipe.num_samples)[:number]):
            end = Path(folder) / str(i)
            gradients, _ = train_text_victim(language, start, proxy[index], short, end)
            read = [ids[:-1] if language.task == "causal" else ids for ids in proxy[index].sentences()]
            yield Practised(read_release(end), gradients, read)


def fit_weights(
    practised: Iterable[Practised],
    scores_of: Callable[[Practised], Float64[Tensor, "v p"]],
    log_prior: Float64[Tensor, "v"],
) -> Weights:
    """What a score is worth beside the prior. A score that says nothing gets a weight of 0."""
    features: list[Tensor] = []
    members: list[Tensor] = []
    for number, one in enumerate(practised):
        standard = standardised(scores_of(one))
        tokens, places = _pairs(one.sentences, standard.shape[1])
        rng = generator(number, "strangers")
        others = torch.randint(len(standard), (NUM_STRANGERS,), generator=rng)
        at = torch.randint(standard.shape[1], (NUM_STRANGERS,), generator=rng)
        tokens, places = torch.cat([tokens, others]), torch.cat([places, at])
        features.append(torch.stack([-standard[tokens, places], log_prior[tokens]], 1))
        members.append(torch.arange(len(tokens)) < len(tokens) - NUM_STRANGERS)
    x, y = torch.cat(features).numpy(), torch.cat(members).numpy().astype(np.int64)
    fit, prior = LogisticRegression(solver="newton-cholesky").fit(x, y).coef_[0].tolist()
    return Weights(max(fit, 0.0), max(prior, 0.0))


def standardised(scores: Float64[Tensor, "v p"]) -> Float64[Tensor, "v p"]:
    """Zero mean and unit deviation over the vocabulary, position by position."""
    return (scores - scores.mean(0)) / scores.std(0).clamp_min(1e-300)


def log_frequency(counts: Int64[Tensor, "v"]) -> Float64[Tensor, "v"]:
    """Log-probability of each token, one added to every count."""
    return ((counts + 1).double() / float((counts + 1).sum())).log()


def _pairs(sentences: Sequence[Sequence[int]], num_positions: int) -> tuple[Tensor, Tensor]:
    """Tokens and positions; all at 0 where there is but one."""
    pairs = [(token, place) for ids in sentences for place, token in enumerate(ids)]
    tokens, places = torch.tensor(pairs).T
    return tokens, places.clamp_max(num_positions - 1)


def _blank(released: Path, folder: Path) -> None:
    """The released adapter with B = 0."""
    folder.mkdir()
    (folder / CONFIG_FILE).write_bytes((released / CONFIG_FILE).read_bytes())
    tensors = load_file(released / WEIGHTS_FILE)
    blank = {name: torch.zeros_like(one) if "lora_B" in name else one for name, one in tensors.items()}
    save_file({name: one.float() for name, one in blank.items()}, folder / WEIGHTS_FILE)
