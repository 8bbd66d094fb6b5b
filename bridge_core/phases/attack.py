"""Phase `attack`: from what was published to a reconstruction. The secret is not among its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import assert_never

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.defence.uncertainty import added_error
from bridge_core.errors import NotApplicable
from bridge_core.evidence import Evidence, evidence_of, stacked
from bridge_core.facts import Fact, write_facts
from bridge_core.guess import guessed_recipe
from bridge_core.inversion.consistent import Target, consistent
from bridge_core.inversion.gauss_newton import Begin, Search, Solution, gauss_newton
from bridge_core.inversion.matching import Report, dlg, inverting_gradients
from bridge_core.inversion.patch_span import Spanned, spanned
from bridge_core.inversion.problem import Inverted, Problem
from bridge_core.inversion.simulated import SimulatedMatching
from bridge_core.inversion.variable_projection import Matching
from bridge_core.inversion.verdict import GRADES, Label, Verdict
from bridge_core.models import load_base
from bridge_core.phases import Progress, decoder, publish, start
from bridge_core.phases.prior import read_prior
from bridge_core.release import Release
from bridge_core.seeding import generator

FILE, GRADIENT_FILE = "recovered.safetensors", "decoded.safetensors"
STEP_ERROR = 3e-3
"""Of a measurement's RMS: how far the mean gradient of several steps is taken to lie from one step's gradient."""
MOST_SIMULATED_STEPS = 50
EXACT_RESIDUAL = 3e-3
"""Of the span's equations: float32's own is below 1e-3, where the tokens' part in the target is small."""


@dataclass(frozen=True)
class Known:
    """What the attack works from."""

    spec: s.AttackPhase
    inputs: Mapping[str, Path]
    releases: list[Release]
    recipes: list[s.Recipe]
    """Given, or guessed from each release."""
    evidence: list[Evidence]


def run(spec: s.AttackPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Undo the optimiser, cross the bridge, invert; write images, their matching loss, and the decoded gradients."""
    problem, known = prepare(spec, inputs)
    curve: list[Fact] = []
    inverted, found_labels, facts = invert(problem, known, reporter(progress, curve))
    tensors = {"images": inverted.images.contiguous(), "loss": inverted.loss}
    if found_labels is not None:
        tensors["labels"] = found_labels
    if inverted.start is not None:
        tensors["start"] = inverted.start.contiguous()
    save_file(tensors, out / FILE)
    if (decoded := problem.gradients()) is not None:
        save_file({name: t.contiguous() for name, t in decoded.items()}, out / GRADIENT_FILE)
    final = [Fact("final_matching_loss", float(x), secret=i) for i, x in enumerate(inverted.loss)]
    write_facts([*curve, *final, *facts], out)


def prepare(spec: s.AttackPhase, inputs: Mapping[str, Path]) -> tuple[Problem, Known]:
    """What is to be inverted, from what was published alone."""
    model, shape = load_base(spec.model, inputs["base"])
    told, releases = publish.read_told(inputs["publish"]), publish.read_releases(inputs["publish"])
    recipes = [told.recipe or guessed_recipe(release, told.num_samples) for release in releases]
    pairs = zip(releases, recipes, strict=True)
    evidence = [_defended(*one, told.defence) for one in pairs] if _measures(spec) else []
    known = Known(spec, inputs, releases, recipes, evidence)
    labels = told.labels if told.labels is not None else torch.zeros(len(releases), told.num_samples, dtype=torch.int64)
    image_shape = (shape.channels, shape.image_size, shape.image_size)
    targets, matrices, errors = _target(known, told.num_samples * shape.channels * shape.image_size**2)
    return Problem(model, labels, image_shape, targets, matrices, errors), known


def _defended(release: Release, recipe: s.Recipe, defence: s.AnyDefence) -> Evidence:
    """What the release says, with the standard errors that the defence adds."""
    found = evidence_of(release, recipe)
    if s.is_undefended(defence):
        return found
    added = {name: added_error(defence, recipe, m, release.factors[name]) for name, m in found.m.items()}
    return Evidence(found.m, {name: (error**2 + added[name] ** 2).sqrt() for name, error in found.error.items()})


def _measures(spec: s.AttackPhase) -> bool:
    return not isinstance(spec.bridge, s.Oracle) or isinstance(spec.inversion, s.GaussNewton)


def _target(known: Known, pixels: int) -> tuple[dict[str, Tensor], dict[str, Tensor] | None, dict[str, Tensor] | None]:
    """What the inversion matches, the matrices where that is measurements, and its standard errors.

    A decoder's errors are not independent: they count as if there were no more of them than the secret has `pixels`.
    """
    bridge, inputs = known.spec.bridge, known.inputs
    measured = [one.m for one in known.evidence]
    match bridge:
        case s.Oracle():
            return publish.read_exact_gradient(inputs["publish"]), None, None
        case s.Direct():
            errors = stacked([_with_steps(*one) for one in zip(known.evidence, known.recipes, strict=True)])
            return stacked(measured), stacked([one.measurement_matrices() for one in known.releases]), errors
        case _:
            targets = decode(bridge, inputs["decoder"], known.releases, measured)
            shares = decoder.expected_errors(inputs["decoder"])
            entries = sum(t[0].numel() for t in targets.values())
            room = max(1.0, entries / pixels)
            if isinstance(known.spec.inversion, s.GaussNewton) and known.spec.inversion.decoded == "consistent":
                return _consistent(known, targets, {name: room * share for name, share in shares.items()})
            return targets, None, {n: torch.full_like(t, _even(room * shares[n], t[0])) for n, t in targets.items()}


def _consistent(
    known: Known, decoded: dict[str, Tensor], shares: dict[str, float]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Decoded gradients, in the row space of A replaced by what was measured there."""
    made: list[dict[str, Target]] = []
    for number, (release, evidence, recipe) in enumerate(
        zip(known.releases, known.evidence, known.recipes, strict=True)
    ):
        a, error = release.measurement_matrices(), _with_steps(evidence, recipe)
        made.append({n: consistent(d[number], evidence.m[n], error[n], a[n], shares[n]) for n, d in decoded.items()})
    return (
        stacked([{n: one.target for n, one in each.items()} for each in made]),
        stacked([{n: one.matrix for n, one in each.items()} for each in made]),
        stacked([{n: one.error for n, one in each.items()} for each in made]),
    )


def _with_steps(evidence: Evidence, recipe: s.Recipe) -> dict[str, Tensor]:
    if recipe.steps == 1:
        return evidence.error
    rms = {name: float(m.square().mean().sqrt()) for name, m in evidence.m.items()}
    return {name: (error.square() + (STEP_ERROR * rms[name]) ** 2).sqrt() for name, error in evidence.error.items()}


def _even(share: float, target: Tensor) -> float:
    return (share / target.numel()) ** 0.5


def decode(
    bridge: s.Bridge, folder: Path, releases: list[Release], measured: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Directions of every secret's gradient (secrets x out x in), each by the decoder of its release's A."""
    decoders, decoded = decoder.read_decoders(bridge, folder), []
    for release, m in zip(releases, measured, strict=True):
        mine = next((one for one in decoders if one.serves(release.measurement_matrices())), None)
        if mine is None:
            raise NotApplicable("a release's A is no decoder's", "the A it was fitted for", "fit it on this release")
        decoded.append({name: one[0] for name, one in mine.decode({n: x[None] for n, x in m.items()}).items()})
    return stacked(decoded)


def invert(problem: Problem, known: Known, report: Report) -> tuple[Inverted, Tensor | None, list[Fact]]:
    """Run the spec's inversion; labels (secrets x num_samples) where it finds them, facts: what it thinks of it."""
    spec = known.spec
    rng, channels = generator(spec.seed, "attack"), problem.image_shape[0]
    match spec.inversion:
        case s.Dlg():
            prior = read_prior(spec.prior, spec.seed, known.inputs, channels)
            found = dlg(problem, spec.inversion, spec.prior, rng, report, prior.target())
            return prior.cleaned(found), None, []
        case s.InvertingGradients():
            prior = read_prior(spec.prior, spec.seed, known.inputs, channels)
            found = inverting_gradients(problem, spec.inversion, spec.prior, rng, report, prior.target(draws=1))
            return prior.cleaned(found), None, []
        case s.GaussNewton():
            return _gauss_newton(problem, known, spec.inversion, report)
        case _:
            assert_never(spec.inversion)


def _gauss_newton(
    problem: Problem, known: Known, knobs: s.GaussNewton, report: Report
) -> tuple[Inverted, Tensor, list[Fact]]:
    begins = begins_of(known)
    spans = [spanned(problem, number) for number in range(problem.num_secrets)]
    starts = [_from_span(begin, span) for begin, span in zip(begins, spans, strict=True)]
    several = all(span is not None for span in spans) and min(recipe.steps for recipe in known.recipes) > 1
    tries = knobs.model_copy(update={"restarts": 1, "iterations": 1}) if several else knobs
    found = gauss_newton(problem, tries, starts, report)
    for number, (one, span) in enumerate(zip(found, spans, strict=True)):
        if span is not None and known.recipes[number].steps > 1:
            found[number] = _off_the_span(one, span)
        else:
            found[number] = _carried_on(matching_of(problem, known, number, one.labels), knobs, one, begins[number])
    inverted = Inverted(
        torch.stack([one.images for one in found]),
        torch.tensor([one.cost for one in found]),
        torch.stack([one.estimate for one in begins]),
    )
    labels = torch.stack([one.labels for one in found])
    facts = [fact for number, one in enumerate(found) for fact in _opinion(number, one)]
    told = [Fact("span_residual", span.residual, secret=i) for i, span in enumerate(spans) if span is not None]
    return inverted, labels, [*facts, *told]


def _from_span(begin: Begin, span: Spanned | None) -> Begin:
    """Where an image was read off the span, the search polishes it: nothing is to be cleaned."""
    return begin if span is None else Begin(span.image[None], begin.spread)


def _off_the_span(found: Solution, span: Spanned) -> Solution:
    """One step's misfit means little after several steps; the span is that of any number of them."""
    label = Label.EXACT if span.residual <= EXACT_RESIDUAL else Label.APPROXIMATE
    return replace(found, images=span.image[None], verdict=Verdict(label, found.cost, nan))


def begins_of(known: Known) -> list[Begin]:
    """The amortised estimate of every release."""
    begins: list[Begin] = []
    for release, evidence in zip(known.releases, known.evidence, strict=True):
        serving = start.serving(known.inputs["start"], release)
        estimate = serving.estimate({name: m[None] for name, m in evidence.m.items()})[0]
        begins.append(Begin(estimate, serving.spread, serving.cleaner))
    return begins


def matching_of(problem: Problem, known: Known, number: int, labels: Tensor) -> Matching:
    """The misfit of one secret: of the whole simulated recipe, where it has several steps on the same images."""
    recipe, release = known.recipes[number], known.releases[number]
    one = problem.only(torch.tensor([number]))
    whole = recipe.batch_size == recipe.num_samples and 1 < recipe.steps <= MOST_SIMULATED_STEPS
    if not (whole and isinstance(known.spec.bridge, s.Direct) and isinstance(recipe.optimiser, s.Sgd)):
        return Matching(one)
    b = {name: one.b.float() for name, one in release.factors.items()}
    scale = {name: one.scale for name, one in release.factors.items()}
    return SimulatedMatching(one, b, labels, recipe, scale)


def _carried_on(matching: Matching, knobs: s.GaussNewton, found: Solution, begin: Begin) -> Solution:
    """The solution of one step's gradient carried on in the misfit of the simulated recipe."""
    if not isinstance(matching, SimulatedMatching):
        return found
    dense = knobs.model_copy(update={"solver": "dense", "restarts": 1, "cooling": knobs.cooling / 4})
    better = Search(matching, dense, found.images, begin.spread).best(0)
    return replace(better, delta=found.delta)


def _opinion(number: int, found: Solution) -> list[Fact]:
    facts = [Fact("verdict", GRADES[found.verdict.label], secret=number)]
    if found.verdict.predicted_psnr == found.verdict.predicted_psnr:
        facts.append(Fact("predicted_psnr", found.verdict.predicted_psnr, secret=number))
    return facts


def reporter(progress: Progress, curve: list[Fact]) -> Report:
    """A report that tells `progress` and keeps the mean loss as a curve."""

    def report(iteration: int, iterations: int, loss: Tensor) -> None:
        mean = float(loss.mean())
        curve.append(Fact("matching_loss", mean, step=iteration))
        progress(iteration, iterations, matching_loss=mean)

    return report


def read_recovered(folder: Path) -> dict[str, Tensor]:
    """`images`; where the inversion had them also `start`, of the same shape, and `labels` (secrets x num_samples)."""
    tensors = load_file(folder / FILE)
    return {name: tensors[name] for name in ("images", "start", "labels") if name in tensors}


def read_decoded(folder: Path) -> dict[str, Tensor] | None:
    """Decoded gradients by module, or None where the attack matched measurements."""
    return load_file(folder / GRADIENT_FILE) if (folder / GRADIENT_FILE).is_file() else None
