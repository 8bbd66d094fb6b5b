"""The span certificate: which tokens, at which positions, a release was trained on.

With fixed layer inputs X (rows x), B = 0 at the start and any linear optimiser, rows of B lie in the span of A x over
the training inputs: rows of every B_t do, and A changes by B_tᵀ(…)X alone, so that A_t X stays in the span of A_0 X.
Where q = rank(B) < r, C = (I - V Vᵀ) A annihilates every training input and no other one. With an exact gradient, A is
the identity (DAGER: Petrov et al., 2024).

Rows are divided by their standard errors first, so that AdamW's saturated rows do not hide the exact ones and the rank
is what stands above the largest singular value of pure noise, sqrt(out) + sqrt(r) (Marchenko and Pastur, 1967).

A token is certified by the expected number of strangers that would do as well: for C x whitened over the vocabulary,
|C x|² is taken as chi-squared, and E = (tokens x positions) P(chi² <= |C x|²). In many dimensions the vocabulary is no
Gaussian and E far too small for kindred tokens: a member's |C x|² must also be what noise in the rows explains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from scipy.special import gammainc, gammaln
from torch import Tensor

from bridge_core.errors import NotApplicable
from bridge_core.text.models import FirstInputs

CERTAIN = 1e-3
"""Expected number of false certificates in a release, at most."""
EXPLAINED = 64.0
"""|C x|² of a member over what the rows' own noise explains, a degree of freedom. Measured on MiniLM: members at most
32 (bfloat16), strangers at least 100."""
PASS_ERROR = 2e-7
"""Of |A x|: float32's forward pass, in common to all rows."""
EDGE = 1.5
"""Singular values above so many times the noise's largest one are signal."""
NUM_STRANGERS = 8192
MOST_CANDIDATES = 4096
SMALL, TINY = 1e-6, 1e-300


@dataclass(frozen=True)
class Probe:
    """What a release says of one module that reads the first block's input."""

    name: str
    rows: Float64[Tensor, "out rank"]
    """B, or M, or G, each row divided by its standard error."""
    a: Float64[Tensor, "rank in"] | None
    """None for the identity: an exact gradient."""
    drift: Float64[Tensor, "out rank"] | None = None
    """B times sqrt((T² - 1) / 3) / T after T > 1 steps, by which A has moved: see `order.effective`."""

    def seen(self, inputs: Float64[Tensor, "n in"]) -> Float64[Tensor, "n rank"]:
        """A x."""
        return inputs if self.a is None else inputs @ self.a.T


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a probe's rows, and how many of them stand above noise."""

    values: Float64[Tensor, "k"]
    rank: int
    gap: float
    """The last one that counts over the first that does not."""
    basis: Float64[Tensor, "width rank"]
    """Orthonormal basis of what the rows span."""
    width: int

    @property
    def full(self) -> bool:
        """True where the rows span everything: nothing is annihilated."""
        return self.rank >= self.width


@dataclass(frozen=True)
class Form:
    """A quadratic form |L x|² of the first block's input."""

    matrix: Float64[Tensor, "k d"]

    def of(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "n"]:
        """The form, one input after the other: the slow reference of `over`."""
        return (inputs @ self.matrix.T).square().sum(1)

    def over(self, table: FirstInputs) -> Float64[Tensor, "v p"]:
        """The form for every token at every position, by products of the two tables, to 1e-15 of its parts."""
        e, p, grid = *table.centred_parts, table.grid
        scaled = self.matrix * table.gain
        u, w, c = e @ scaled.T, p @ scaled.T, self.matrix @ table.shift
        found = (u @ w.T).mul_(2).add_(u.square().sum(1)[:, None]).add_(w.square().sum(1)).mul_(grid.inverse)
        cross = ((u @ c)[:, None] + w @ c).mul_(grid.root).mul_(2)
        return found.add_(cross).add_(c.square().sum()).clamp_min_(0)


@dataclass(frozen=True)
class Certificate:
    """Tokens by how surely they are of the training data, best first."""

    ids: Int64[Tensor, "n"]
    positions: Int64[Tensor, "n"]
    """0 throughout where a position is not told by the first block's input."""
    log10_expected: Float64[Tensor, "n"]
    """log10 of E, the number of strangers expected to do as well."""
    residuals: Float64[Tensor, "n"]
    """|C x| / |A x|."""
    excess: Float64[Tensor, "n"]
    """|C x|² over what noise in the rows explains of a member, a degree of freedom: of the order of 1 for members."""
    rank: int
    """q, the number of independent training inputs."""
    gap: float
    stranger: float
    """The smallest residual among those not certified: the best stranger."""

    @property
    def certain(self) -> Tensor:
        """Which of them are certified."""
        return (self.log10_expected < math.log10(CERTAIN)) & (self.excess < EXPLAINED)

    def certified(self) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]]:
        """Ids and positions of the certified ones."""
        return self.ids[self.certain], self.positions[self.certain]


def spectrum(probe: Probe, known: Float64[Tensor, "n in"] | None = None, *, at_least: int | None = None) -> Spectrum:
    """Numerical rank and row space of a probe; `known` inputs are members beforehand.

    With `at_least` a rank that would be full is where the largest gap is, from that rank on: in a deeper block several
    steps add to the inputs' own span what the inputs have drifted by.

    A key's rows span differences of inputs only (softmax does not feel what is added to all keys): one known input,
    a classifier's first token, completes them.
    """
    _, values, basis = torch.linalg.svd(probe.rows, full_matrices=False)
    out, width = probe.rows.shape
    edge = EDGE * (math.sqrt(out) + math.sqrt(width))
    rank = int((values > edge).sum())
    if at_least is not None and rank >= width > at_least >= 1:
        rank = at_least + int((values[at_least - 1 : -1] / values[at_least:]).argmax())
    following = float(values[rank]) if rank < len(values) else edge / EDGE
    gap = float(values[rank - 1]) / max(following, edge / EDGE) if rank else 0.0
    kept = basis[:rank].T
    if known is not None and len(known):
        kept = torch.cat([kept, _outside(probe, known, kept, values[:rank])], 1)
    return Spectrum(values, kept.shape[1], gap, kept, width)


def _outside(
    probe: Probe, known: Float64[Tensor, "n in"], kept: Float64[Tensor, "r k"], signal: Float64[Tensor, "k"]
) -> Float64[Tensor, "r m"]:
    """Orthonormal directions of those `known` inputs that noise in the rows does not put outside what they span."""
    seen = probe.seen(known)
    rest = seen - seen @ kept @ kept.T
    noise = ((seen @ kept) / signal).square().sum(1) + (PASS_ERROR * seen.norm(dim=1)).square()
    free = max(len(kept) - kept.shape[1], 1)
    return torch.linalg.qr(rest[rest.square().sum(1) > EXPLAINED * free * noise].T).Q


def annihilators(
    probes: Sequence[Probe], known: Float64[Tensor, "n in"] | None = None, *, at_least: int | None = None
) -> tuple[list[Float64[Tensor, "k in"]], list[Spectrum], list[Probe]]:
    """C of every probe that sees all training inputs and is not full, with its spectrum.

    Probes of less than the largest rank see but a part of the inputs, or their differences: left out. Raises
    `NotApplicable` where every probe is full.
    """
    spectra = [spectrum(probe, known, at_least=at_least) for probe in probes]
    useful = [(one, probe) for one, probe in zip(spectra, probes, strict=True) if not one.full and one.rank]
    if not useful or any(one.full for one in spectra):
        largest = max((one.rank for one in spectra), default=0)
        width = spectra[0].width if spectra else 0
        found = f"rank {largest} of {width}: the release spans everything" if largest else "a release of rank 0"
        raise NotApplicable(found, "fewer independent training tokens than the rank", "rank tokens instead")
    most = max(one.rank for one, _ in useful)
    chosen = [(one, probe) for one, probe in useful if one.rank == most]
    found = [_complement(one, probe) for one, probe in chosen]
    return found, [one for one, _ in chosen], [probe for _, probe in chosen]


def _complement(one: Spectrum, probe: Probe) -> Tensor:
    rest = torch.eye(one.width, dtype=torch.float64) - one.basis @ one.basis.T
    values, vectors = torch.linalg.eigh(rest)
    free = vectors[:, values > 0.5].T
    return free if probe.a is None else free @ probe.a


def certify(probes: Sequence[Probe], table: FirstInputs, known: Float64[Tensor, "n in"] | None = None) -> Certificate:
    """Test the whole vocabulary at all positions of `table`. Raises `NotApplicable` where the span is everything."""
    matrices, spectra, chosen = annihilators(probes, known)
    stacked = torch.cat(matrices)
    white = whitened(stacked, table)
    score = white.over(table)
    order = score.flatten().topk(min(MOST_CANDIDATES, score.numel()), largest=False).indices
    ids, positions = order // score.shape[1], order % score.shape[1]
    inputs = table.at(ids, positions)
    residuals = residual(matrices, chosen, inputs)
    expected = log10_expected(white.of(inputs), len(white.matrix), score.numel())
    best = expected.argsort(stable=True)
    residuals, expected = residuals[best], expected[best]
    unexplained = excess(matrices, spectra, chosen, inputs)[best]
    strange = residuals[(expected >= math.log10(CERTAIN)) | (unexplained >= EXPLAINED)]
    return Certificate(
        ids[best],
        positions[best],
        expected,
        residuals,
        unexplained,
        spectra[0].rank,
        min(one.gap for one in spectra),
        float(strange.min()) if len(strange) else math.nan,
    )


def excess(
    matrices: Sequence[Tensor], spectra: Sequence[Spectrum], probes: Sequence[Probe], inputs: Float64[Tensor, "n in"]
) -> Float64[Tensor, "n"]:
    """|C x|² over the variance that a member's would have, a degree of freedom, summed over probes.

    Noise of unit variance in the rows turns the i-th singular vector by 1 / sigma_i into each direction outside the
    span, so that a member of coefficients c = Vᵀ A x keeps sum_i c_i² / sigma_i² there.
    """
    total, degrees = torch.zeros(len(inputs), dtype=torch.float64), 0
    for c, one, probe in zip(matrices, spectra, probes, strict=True):
        seen, signal = probe.seen(inputs), one.values[: one.basis.shape[1]].clamp_min(1.0)
        variance = ((seen @ one.basis[:, : len(signal)]) / signal).square().sum(1)
        total += (inputs @ c.T).square().sum(1) / (variance + (PASS_ERROR * seen.norm(dim=1)).square())
        degrees += len(c)
    return total / degrees


def residual(
    matrices: Sequence[Tensor], probes: Sequence[Probe], inputs: Float64[Tensor, "n in"]
) -> Float64[Tensor, "n"]:
    """|C x| / |A x| over all probes together."""
    left = sum((inputs @ c.T).square().sum(1) for c in matrices)
    whole = sum(probe.seen(inputs).square().sum(1) for probe in probes)
    return (torch.as_tensor(left) / torch.as_tensor(whole)).sqrt()


def whitened(matrix: Float64[Tensor, "k d"], table: FirstInputs) -> Form:
    """The form whose value over the vocabulary is like chi-squared of as many degrees as its matrix has rows."""
    seen = strangers(table) @ matrix.T
    moment = seen.T @ seen / len(seen)
    values, vectors = torch.linalg.eigh(moment)
    kept = values > values[-1] * SMALL
    return Form((vectors[:, kept] / values[kept].sqrt()).T @ matrix)


def strangers(table: FirstInputs) -> Float64[Tensor, "n d"]:
    """Inputs of random tokens at random positions, always the same."""
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(len(table.tokens), (NUM_STRANGERS,), generator=rng)
    return table.at(ids, torch.randint(len(table.positions), (NUM_STRANGERS,), generator=rng))


def log10_expected(score: Float64[Tensor, "n"], degrees: int, tests: int) -> Float64[Tensor, "n"]:
    """log10 of `tests` times P(chi² of `degrees` <= score); its series where that would underflow."""
    half, x = degrees / 2, score.clamp_min(1e-300) / 2
    series = half * x.log() - x - float(gammaln(half + 1)) - torch.log1p(-x / (half + 1)).clamp_min(-1)
    exact = torch.from_numpy(gammainc(half, x.numpy())).clamp_min(1e-300).log()
    return (torch.where(exact > -600, exact, series) + math.log(tests)) / math.log(10)


def ranking(probes: Sequence[Probe], table: FirstInputs) -> Float64[Tensor, "v p"]:
    """How well each token at each position fits the release, smaller is better; it needs no rank below r.

    Capon's beamformer (1969): for R = rowsᵀ rows, a training input has (A x)ᵀ R⁻¹ (A x) <= 1 / |d|², d its output
    gradient. It is taken relative to the vocabulary's own spread of A x, and summed over probes as logarithms.
    """
    total = torch.zeros(len(table.tokens), len(table.positions), dtype=torch.float64)
    sample = strangers(table)
    for probe in probes:
        out, width = probe.rows.shape
        power = probe.rows.T @ probe.rows + (math.sqrt(out) + math.sqrt(width)) ** 2 * torch.eye(width).double()
        seen = probe.seen(sample)
        moment = seen.T @ seen / len(seen)
        total += (
            (_form(power, probe).over(table) / _form(moment, probe).over(table).clamp_min(SMALL)).clamp_min(TINY).log()
        )
    return total


def _form(moment: Tensor, probe: Probe) -> Form:
    """(A x)ᵀ moment⁻¹ (A x)."""
    values, vectors = torch.linalg.eigh(moment)
    root = (vectors / values.clamp_min(values[-1] * 1e-14).sqrt()).T
    return Form(root if probe.a is None else root @ probe.a)


def by_token(scores: Float64[Tensor, "v p"]) -> Int64[Tensor, "v"]:
    """Tokens by their best position, best first."""
    return scores.min(1).values.argsort(stable=True)


def row_errors(errors: Float[Tensor, "out rank"]) -> Float64[Tensor, "out"]:
    """What a probe's rows are divided by: the root mean square of their entries' standard errors."""
    return errors.double().square().mean(1).sqrt()


def probes_of(
    targets: Mapping[str, Tensor],
    errors: Mapping[str, Tensor],
    matrices: Mapping[str, Tensor] | None,
    names: Sequence[str],
    drifts: Mapping[str, Tensor] | None = None,
) -> list[Probe]:
    """Probes of the modules `names`: measurements with their matrices, or exact gradients (`matrices` None)."""
    found: list[Probe] = []
    for name in names:
        if name in targets:
            rows = targets[name].double() / row_errors(errors[name])[:, None]
            drift = None if drifts is None else drifts[name].double()
            found.append(Probe(name, rows, None if matrices is None else matrices[name].double(), drift))
    return found
