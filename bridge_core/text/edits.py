"""The discrete half of gradient matching: tokens replaced, exchanged and moved, all measured on the real model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bridge_core.spec import text as t
from bridge_core.text.descent import Descended, is_fixed, slopes
from bridge_core.text.objective import Guess, Objective

GAIN = 1e-9
"""An edit must lower the cost by so much."""
WIDER = 3


@dataclass(frozen=True)
class Edited:
    """The end of a search over tokens."""

    guess: Guess
    cost: float


@dataclass(frozen=True)
class Editor:
    """What edits are drawn from."""

    objective: Objective
    scores: Float64[Tensor, "v p"]
    """`span.ranking`."""
    knobs: t.EmbeddingMatching
    num_classes: int
    rng: torch.Generator

    def search(self, start: Guess, near: Mapping[tuple[int, int], list[int]]) -> Edited:
        """Sweeps over all places, each with moves after it; over more tokens where one has made nothing better."""
        best, number = Edited(start, float(self.objective.cost([start]))), self.knobs.candidates
        for _ in range(self.knobs.sweeps):
            before = best.cost
            slope = slopes(self.objective, best.guess)
            for sample, place in self._places(best.guess):
                tokens = self._tokens(best.guess, sample, place, near.get((sample, place), []), slope, number)
                best = self._better(best, [best.guess.with_token(sample, place, token) for token in tokens])
            best = self._better(best, list(self._moves(best.guess)))
            number *= WIDER if best.cost > before - GAIN else 1
        return best

    def rivals(self, guess: Guess, number: int) -> list[Guess]:
        """`guess` with one token replaced by one of the `number` likeliest at its place, or one class by another."""
        slope, found = slopes(self.objective, guess), list(self._relabelled(guess))
        for sample, ids in enumerate(guess.sentences):
            for place in range(len(ids)):
                order = slope[sample, place].abs().topk(number + 1, largest=False).indices.tolist()
                tokens = {*order, *self._ranked(place, number)} - {ids[place]}
                found += [guess.with_token(sample, place, token) for token in sorted(tokens)]
        return found

    def _better(self, best: Edited, guesses: list[Guess]) -> Edited:
        if not guesses:
            return best
        cost, row = self.objective.cost(guesses).min(0)
        return Edited(guesses[int(row)], float(cost)) if float(cost) < best.cost - GAIN else best

    def _places(self, guess: Guess) -> list[tuple[int, int]]:
        language = self.objective.language
        every = [
            (sample, place)
            for sample, ids in enumerate(guess.sentences)
            for place in range(len(ids))
            if not is_fixed(language, ids, place)
        ]
        return [every[i] for i in torch.randperm(len(every), generator=self.rng).tolist()]

    def _tokens(
        self, guess: Guess, sample: int, place: int, near: list[int], slope: Float[Tensor, "n t v"], number: int
    ) -> list[int]:
        """Candidates for one place: near the descent's end, by the ranking, by the slope and by the prior, in turn."""
        ids, number = guess.sentences[sample], min(number, slope.shape[2])
        falling = slope[sample, place].topk(number, largest=False).indices.tolist()
        likely = self.objective.prior.log_next(ids[place - 1] if place else None).topk(number).indices.tolist()
        sources = (near[:number] or falling, self._ranked(place, number), falling, likely)
        mixed = [token for row in zip_longest(*sources) for token in row]
        return [token for token in dict.fromkeys(mixed) if token not in (None, ids[place])][:number]

    def _ranked(self, place: int, number: int) -> list[int]:
        column = self.scores[:, min(place, self.scores.shape[1] - 1)]
        return column.topk(number, largest=False).indices.tolist()

    def _moves(self, guess: Guess) -> Iterator[Guess]:
        """Exchanges within and between sentences, moves of one token, and other classes."""
        yield from self._relabelled(guess)
        places = self._places(guess)
        for _ in range(self.knobs.candidates):
            one, two = (places[int(torch.randint(len(places), (), generator=self.rng))] for _ in range(2))
            (i, p), (j, q) = one, two
            first, second = guess.sentences[i][p], guess.sentences[j][q]
            yield guess.with_token(i, p, second).with_token(j, q, first)
            if i == j:
                rest = [*guess.sentences[i][:p], *guess.sentences[i][p + 1 :]]
                yield guess.with_sentence(i, [*rest[:q], first, *rest[q:]])

    def _relabelled(self, guess: Guess) -> Iterator[Guess]:
        if self.objective.language.task == "classification":
            for sample, label in enumerate(guess.labels):
                yield from (guess.with_label(sample, other) for other in range(self.num_classes) if other != label)


def edited(editor: Editor, ends: list[Descended], starts: list[Guess]) -> list[Edited]:
    """A search from the end of each descent, or from where that began if it costs less."""
    pairs = zip(ends, starts, strict=True)
    chosen = [min((end.guess, start), key=lambda guess: float(editor.objective.cost([guess]))) for end, start in pairs]
    return [editor.search(guess, end.near) for guess, end in zip(chosen, ends, strict=True)]
