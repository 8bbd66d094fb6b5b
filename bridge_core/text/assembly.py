"""From certified tokens to whole sentences.

one sentence, positions in the input     the positions are the order
BERT, several sentences                  `separation`: the second block, convex in a token's context
GPT-2, several sentences                 `growth`: deeper blocks, token by token
Llama, one sentence                      `order`: the first block's query gradients; else as below
Llama, several sentences                 `growth`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from bridge_core.text.contexts import contexts_of
from bridge_core.text.deeper import Deeper, Span, deeper
from bridge_core.text.flow import flow_of
from bridge_core.text.growth import CLEAR, REFUSED, Grown, covering, grow, num_prefixes, typical_residual
from bridge_core.text.models import FirstInputs, Language
from bridge_core.text.order import Order, order_of, queries_of
from bridge_core.text.separation import Separation, Trial, separation_of
from bridge_core.text.span import Certificate, Probe

MIXED_LENGTH = 16
"""Tokens of a random sentence."""
QUERY = "q_proj"
NUM_RIVALS = 8
"""Tokens that are tried at each place, the best but one first."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of the training data, or a guess at it."""

    ids: list[int]
    """Without padding; special tokens included, as the tokenizer's encoding has them."""
    residual: float
    """Root mean square of |C x| / |A x| over its tokens, at the deeper blocks tested; NaN where none could be."""
    sure: bool
    """Every token is certified and its place is beyond doubt."""


@dataclass(frozen=True)
class Findings:
    """What a release says of its sentences."""

    language: Language
    probes: Mapping[int, Sequence[Probe]]
    found: Certificate
    table: FirstInputs
    deep: Deeper

    @property
    def first(self) -> Deeper | None:
        """The first deeper block whose span is not full."""
        spans = self.deep.spans
        return Deeper(self.language, {min(spans): spans[min(spans)]}) if spans else None

    def pairs(self) -> list[tuple[int, int]]:
        """Certified tokens with their positions, the surest first."""
        ids, positions = self.found.certified()
        return list(zip(ids.tolist(), positions.tolist(), strict=True))

    def by_excess(self) -> list[tuple[int, int]]:
        """All tokens tested one by one with their positions, the best explained first."""
        best = self.found.excess.argsort(stable=True)
        return list(zip(self.found.ids[best].tolist(), self.found.positions[best].tolist(), strict=True))

    def sentence(self, ids: Sequence[int], *, sure: bool) -> Sentence:
        """With its residual. A causal model never reads the end-of-text token: it is added here."""
        residual = float(self.deep.residuals([ids]).square().nanmean().sqrt()) if self.deep.spans else torch.nan
        whole = [*ids, self.language.end] if self.language.task == "causal" else ids
        return Sentence([int(token) for token in whole if token is not None], residual, sure)


def assemble(
    language: Language,
    probes: Mapping[int, Sequence[Probe]],
    found: Certificate,
    table: FirstInputs,
    num_samples: int,
    beam: int = 16,
    errors: Mapping[str, Float64[Tensor, "out"]] | None = None,
) -> list[Sentence]:
    """The `num_samples` sentences of a release, those that are sure first.

    `probes` are of the first blocks' query, key and value, by block; `errors` what the rows of each module's probe were
    divided by, without which a Llama's order comes from the deeper blocks alone. Fewer sentences come back where no
    more can be made.
    """
    deep = deeper(language, probes, found.rank)
    findings = Findings(language, probes, found, table, Deeper(language, _whole(deep.spans, found.rank)))
    if table.placed and num_samples == 1 and _one_a_place(findings.pairs()):
        return [_in_place(findings)]
    if not findings.pairs():
        return []
    sentences = _ordered(findings, errors) if num_samples == 1 else []
    if not any(one.sure for one in sentences):
        bert = language.family == "bert"
        sentences += _separated(findings, num_samples) if bert else _grown(findings, num_samples, beam)
    surest = sorted(sentences, key=lambda one: not one.sure)
    return [*surest, *_dealt(findings, num_samples)][:num_samples]


def _whole(spans: Mapping[int, Span], rank: int) -> dict[int, Span]:
    """Those that can hold every token's input: a classifier's last block reads but the first one's output."""
    return {block: span for block, span in spans.items() if span.rank >= rank}


def _one_a_place(pairs: Sequence[tuple[int, int]]) -> bool:
    return len({position for _, position in pairs}) == len(pairs)


def _in_place(findings: Findings) -> Sentence:
    """One token a position: the certified one, or the best there. As many positions as the inputs have dimensions.

    The end stands at the last of them, or behind it where a classifier's inputs are dependent.
    """
    placed = {place: token for token, place in findings.pairs()}
    end = None if findings.language.task == "causal" else findings.language.end
    others = findings.by_excess()
    length = max([min(findings.found.rank, len(findings.table.positions)), *(place + 1 for place in placed)])
    if end is not None and end not in placed.values():
        behind = [place for token, place in others if token == end and place >= length - 1]
        length = max([length, *(place + 1 for place in behind[:1])])
        placed |= dict.fromkeys(behind[:1], end)
    by_place = {place: [token for token, at in others if at == place] for place in range(length)}
    ids = [placed.get(place, guesses[0] if guesses else None) for place, guesses in by_place.items()]
    known = [token for token in ids if token is not None]
    ended = len(known) == findings.found.rank == length and end in (None, known[-1])
    certified = len(findings.pairs()) == length
    return findings.sentence(known, sure=ended and (certified or _unmatched(findings, known, by_place)))


def _unmatched(findings: Findings, ids: Sequence[int], by_place: Mapping[int, Sequence[int]]) -> bool:
    """True where no sentence with another token at one place comes near, in the deeper blocks, to `ids`."""
    rivals = [
        [*ids[:place], token, *ids[place + 1 :]]
        for place, tokens in by_place.items()
        for token in [one for one in tokens if one != ids[place]][:NUM_RIVALS]
    ]
    if not findings.deep.spans or len(rivals) < len(ids):
        return False
    left = findings.deep.residuals([ids, *rivals]).nan_to_num(0).amax(1)
    return bool(left[0] < CLEAR * left[1:].min())


def _separated(findings: Findings, num_samples: int) -> list[Sentence]:
    """A BERT's sentences, from the second block."""
    span, end = findings.deep.spans.get(1), findings.language.end
    ids, positions = findings.found.certified()
    if span is None or end is None or not (ids == end).any():
        return []
    contexts = contexts_of(findings.language, findings.table, ids, positions, span.matrices)
    crowded = int(torch.bincount(positions).max()) > num_samples
    flow = flow_of(findings.probes[0], findings.table, ids, positions) if crowded else None
    search = separation_of(contexts, end, flow, num_samples)
    trials = search.sentences(num_samples, span.rank)
    return [findings.sentence(ids[list(one.pairs)].tolist(), sure=_unrivalled(search, one)) for one in trials]


def _unrivalled(search: Separation, trial: Trial) -> bool:
    """True where every other certified pair would leave far more of its input than the token in its place does."""
    rivals, places = search.rivals(trial)
    least = torch.full((len(trial.pairs),), search.typical).scatter_reduce(0, places, rivals, "amin")
    return bool((trial.squares.sqrt() < CLEAR * least).all())


def _ordered(findings: Findings, errors: Mapping[str, Float64[Tensor, "out"]] | None) -> list[Sentence]:
    """A Llama's sentence, from the gradients of the first block's query."""
    query = [one for one in findings.probes[0] if one.name.endswith(QUERY) and errors and one.name in errors]
    if not query or errors is None or findings.table.placed:
        return []
    ids = findings.found.certified()[0]
    queries = queries_of(findings.language, query[0], errors[query[0].name].double(), findings.table, ids)
    order: Order | None = None if queries is None else order_of(queries)
    if order is None:
        return []
    return [findings.sentence(order.ids, sure=order.sure and findings.found.rank == len(ids))]


def _grown(findings: Findings, num_samples: int, beam: int) -> list[Sentence]:
    """A causal model's sentences, from the deeper blocks."""
    pairs, placed, first = findings.pairs(), findings.table.placed, findings.first
    if first is None:
        return []

    def candidates(place: int) -> list[int]:
        return [token for token, position in pairs if position == place or not placed]

    rank = next(iter(first.spans.values())).rank
    longest = len(findings.table.positions) if placed else rank
    typical = typical_residual(first, candidates, min(longest, MIXED_LENGTH))
    chosen = covering(
        grow(first, candidates, max(beam, 2 * num_samples), longest, typical), set(pairs), num_samples, placed=placed
    )
    counted = num_prefixes(chosen) == rank and len(chosen) == num_samples

    def sure(one: Grown) -> bool:
        clear = one.rivalry < CLEAR and max(one.residuals) < CLEAR * typical
        return clear and (counted or one.refused > REFUSED)

    return [findings.sentence(one.ids, sure=sure(one)) for one in chosen]


def _dealt(findings: Findings, num_samples: int) -> list[Sentence]:
    """Guesses where nothing else is found: the n-th certified token of each position, or all tokens in no order."""
    if not findings.table.placed:
        ids = [token for token, _ in findings.pairs()]
        return [findings.sentence(ids[row::num_samples], sure=False) for row in range(num_samples) if ids[row:]]
    places: dict[int, list[int]] = {}
    for token, place in findings.pairs():
        places.setdefault(place, []).append(token)
    rows = [[places[place][row % len(places[place])] for place in sorted(places)] for row in range(num_samples)]
    return [findings.sentence(_until(row, findings.language.end), sure=False) for row in rows]


def _until(ids: list[int], end: int | None) -> list[int]:
    """Up to the first `end`."""
    return ids[: ids.index(end) + 1] if end in ids else ids
