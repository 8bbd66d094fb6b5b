"""Phase `text_attack`: from what was published to sentences. The secret is not among its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.evidence import PASS_ERROR, evidence_of
from bridge_core.facts import Fact, write_facts
from bridge_core.guess import guessed_recipe
from bridge_core.phases import Progress, publish
from bridge_core.release import Release
from bridge_core.text.models import Language, first_inputs, read_language
from bridge_core.text.order import drifts_of
from bridge_core.text.recover import Recovered, recover, save_recovered
from bridge_core.text.span import Probe, probes_of, row_errors
from bridge_core.text.victim import SEALED_BLOCKS

FILE = "recovered.json"


@dataclass(frozen=True)
class Heard:
    """What an attack has of one release."""

    probes: dict[int, list[Probe]]
    """By block."""
    errors: dict[str, Tensor]
    """Of each module's rows."""
    doubt: str
    """Why nothing can be certified; empty where it can."""


def run(spec: s.TextAttackPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Undo the optimiser and recover the sentences of every release; write them with the attack's own verdicts."""
    language = read_language(inputs["base"])
    told, releases = publish.read_told(inputs["publish"]), publish.read_releases(inputs["publish"])
    table = first_inputs(language, spec.dataset.max_tokens)
    found: list[Recovered] = []
    for number, release in enumerate(releases):
        heard = _heard(spec, language, release, told, inputs["publish"], number)
        knobs, num_samples = spec.inversion, told.num_samples
        found.append(recover(language, heard.probes, heard.errors, table, num_samples, knobs, heard.doubt))
        progress(number + 1, len(releases), verdict=found[-1].verdict)
    save_recovered(found, out / FILE)
    write_facts([fact for number, one in enumerate(found) for fact in _opinion(number, one)], out)


def _heard(
    spec: s.TextAttackPhase, language: Language, release: Release, told: publish.Told, published: Path, number: int
) -> Heard:
    """What the release, or phase 0's gradient, says of the first blocks' query, key and value."""
    doubt, drifts = "", None
    if isinstance(spec.bridge, s.Oracle):
        targets = {name: one[number] for name, one in publish.read_exact_gradient(published).items()}
        errors = {name: _rounding(one) for name, one in targets.items()}
        matrices = None
    else:
        recipe = told.recipe or guessed_recipe(release, told.num_samples)
        evidence = evidence_of(release, recipe)
        targets, errors, matrices = evidence.m, evidence.error, release.measurement_matrices()
        doubt = _nonlinear(recipe)
        drifts = drifts_of({name: one.b for name, one in release.factors.items()}, recipe.steps)
    blocks = range(min(SEALED_BLOCKS, len(language.blocks)))
    probes = {block: probes_of(targets, errors, matrices, language.readers(block), drifts) for block in blocks}
    return Heard(probes, {name: row_errors(one) for name, one in errors.items()}, doubt)


def _nonlinear(recipe: s.Recipe) -> str:
    """Why a release of `recipe` can prove no token; empty where it can."""
    if not isinstance(recipe.optimiser, s.AdamW) or recipe.steps == 1:
        return ""
    return f"{recipe.steps} AdamW steps, which leave of a gradient its signs: rows of B lie in no span of the inputs"


def _rounding(gradient: Tensor) -> Tensor:
    """Standard error of an exact float32 gradient."""
    return torch.full_like(gradient, PASS_ERROR * float(gradient.square().mean().sqrt()) + 1e-38)


def _opinion(number: int, one: Recovered) -> list[Fact]:
    numbers = {
        "verdict": one.verdict,
        "certified_tokens": len(one.certified),
        "certificate_tests": one.tests,
        "rank": one.rank,
        "rank_gap": one.gap,
        "best_stranger": one.stranger,
    }
    return [Fact(name, float(value), secret=number) for name, value in numbers.items()]
