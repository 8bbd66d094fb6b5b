"""Phase `text_attack`: from what was published to sentences. The secret is not among its inputs."""

from collections.abc import Mapping
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
from bridge_core.text.recover import Recovered, recover, save_recovered
from bridge_core.text.span import Probe, probes_of, row_errors
from bridge_core.text.victim import SEALED_BLOCKS

FILE = "recovered.json"


def run(spec: s.TextAttackPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Undo the optimiser and recover the sentences of every release; write them with the attack's own verdicts."""
    language = read_language(inputs["base"])
    told, releases = publish.read_told(inputs["publish"]), publish.read_releases(inputs["publish"])
    table = first_inputs(language, spec.dataset.max_tokens)
    found: list[Recovered] = []
    for number, release in enumerate(releases):
        probes, errors = _probes(spec, language, release, told, inputs["publish"], number)
        found.append(recover(language, probes, errors, table, told.num_samples, spec.inversion))
        progress(number + 1, len(releases), verdict=found[-1].verdict)
    save_recovered(found, out / FILE)
    write_facts([fact for number, one in enumerate(found) for fact in _opinion(number, one)], out)


def _probes(
    spec: s.TextAttackPhase, language: Language, release: Release, told: publish.Told, published: Path, number: int
) -> tuple[dict[int, list[Probe]], dict[str, Tensor]]:
    """What the release, or phase 0's gradient, says of the first blocks' query, key and value, and the rows' errors."""
    if isinstance(spec.bridge, s.Oracle):
        targets = {name: one[number] for name, one in publish.read_exact_gradient(published).items()}
        errors = {name: _rounding(one) for name, one in targets.items()}
        matrices = None
    else:
        recipe = told.recipe or guessed_recipe(release, told.num_samples)
        evidence = evidence_of(release, recipe)
        targets, errors, matrices = evidence.m, evidence.error, release.measurement_matrices()
    blocks = range(min(SEALED_BLOCKS, len(language.blocks)))
    probes = {block: probes_of(targets, errors, matrices, language.readers(block)) for block in blocks}
    return probes, {name: row_errors(one) for name, one in errors.items()}


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
