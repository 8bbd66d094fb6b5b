"""Phase `text_attack`: from what was published to sentences. The secret is not among its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import assert_never

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.evidence import PASS_ERROR, evidence_of
from bridge_core.facts import Fact, write_facts
from bridge_core.guess import guessed_recipe
from bridge_core.phases import Progress, publish, sealed, text_decoder, text_prior, text_proxy
from bridge_core.release import Release
from bridge_core.seeding import generator
from bridge_core.text.base import check_base
from bridge_core.text.batches import encode
from bridge_core.text.corpus import is_heldout, read_sentences
from bridge_core.text.matched import Unknown, recover_by_keys, recover_by_matching
from bridge_core.text.matching import all_labels
from bridge_core.text.models import Language, first_inputs, read_language
from bridge_core.text.objective import Target
from bridge_core.text.order import drifts_of
from bridge_core.text.practice import Weights, fit_weights, log_frequency, practise
from bridge_core.text.recover import Recovered, recover, save_recovered
from bridge_core.text.span import Probe, probes_of, ranking, row_errors
from bridge_core.text.victim import SEALED_BLOCKS

FILE, GRADIENT_FILE = "recovered.json", "gradient.safetensors"
DECODED = "a decoded gradient spans what the decoder learnt, which proves no token"


@dataclass(frozen=True)
class Heard:
    """What an attack has of one release."""

    probes: dict[int, list[Probe]]
    """By block."""
    errors: dict[str, Tensor]
    """Of each module's rows."""
    doubt: str
    """Why nothing can be certified; empty where it can."""
    target: Target
    """What is known of the update in all adapted modules."""


def run(spec: s.TextAttackPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Undo the optimiser and recover the sentences of every release; write them with the attack's own verdicts."""
    language = read_language(inputs["base"])
    told, releases = publish.read_told(inputs["publish"]), publish.read_releases(inputs["publish"])
    table = first_inputs(language, spec.dataset.max_tokens)
    gradients = publish.read_exact_gradient(inputs["publish"]) if isinstance(spec.bridge, s.Oracle) else {}
    decoding = text_decoder.read_decoding(spec.bridge, inputs["decoder"]) if "decoder" in inputs else None
    prior = text_prior.read(inputs["prior"]).bigram
    log_prior = log_frequency(prior.counts)

    def hear(release: Release, gradients: Mapping[str, Tensor]) -> Heard:
        recipe = told.recipe or guessed_recipe(release, told.num_samples)
        return _heard(spec, language, release, recipe, gradients, decoding)

    @cache
    def practised() -> Weights:
        """Once for all releases: they start from one A."""
        sentences = read_sentences(inputs["proxy"] / text_proxy.FILE)
        # A decoder does too well on the sentences that it was fitted to.
        practised_on = is_heldout(sentences) if decoding else ~is_heldout(sentences)
        proxy = encode(language, sentences[practised_on], spec.dataset)
        recipe = told.recipe or guessed_recipe(releases[0], told.num_samples)
        own = practise(language, sealed.releases(inputs["publish"])[0], recipe, proxy, spec.seed)
        return fit_weights(own, lambda one: ranking(hear(one.release, one.gradients).probes[0], table), log_prior)

    def weigh(scores: Tensor) -> Tensor:
        return practised().of(scores, log_prior)

    found: list[Recovered] = []
    targets: list[Mapping[str, Tensor]] = []
    for number, release in enumerate(releases):
        check_base(release, language)
        heard = hear(release, {name: one[number] for name, one in gradients.items()})
        knobs, num_samples = spec.inversion, told.num_samples
        match knobs:
            case s.Span():
                rng = generator(spec.seed, "keys", str(number))
                by_keys = partial(recover_by_keys, heard.target, table, num_samples, rng) if knobs.keys else None
                doubt, errors = heard.doubt, heard.errors
                one = recover(language, heard.probes, errors, table, num_samples, knobs, doubt, weigh, by_keys)
            case s.EmbeddingMatching():
                unknown = _unknown(spec, language, told, number)
                scores, rng = ranking(heard.probes[0], table), generator(spec.seed, "matching", str(number))
                knobs = knobs.model_copy(update={"keys": False}) if heard.doubt else knobs  # Keys prove tokens.
                one = recover_by_matching(heard.target, table, scores, prior, unknown, knobs, rng, weigh)
            case _:
                assert_never(knobs)
        found.append(one)
        targets.append(heard.target.values)
        progress(number + 1, len(releases), verdict=found[-1].verdict)
    save_recovered(found, out / FILE)
    if decoding:
        save_file({name: torch.stack([one[name] for one in targets]) for name in targets[0]}, out / GRADIENT_FILE)
    write_facts([fact for number, one in enumerate(found) for fact in _opinion(number, one)], out)


def _heard(
    spec: s.TextAttackPhase,
    language: Language,
    release: Release,
    recipe: s.Recipe,
    gradients: Mapping[str, Tensor],
    decoding: text_decoder.Decoding | None,
) -> Heard:
    """What the release, or phase 0's gradient, says of the first blocks' query, key and value."""
    doubt, drifts = "", None
    if isinstance(spec.bridge, s.Oracle):
        targets = dict(gradients)
        errors = {name: _rounding(one) for name, one in targets.items()}
        matrices = None
    elif decoding is not None:
        targets, errors = decoding.of(release, evidence_of(release, recipe).m)
        matrices, doubt = None, DECODED
    else:
        evidence = evidence_of(release, recipe)
        targets, errors, matrices = evidence.m, evidence.error, release.measurement_matrices()
        doubt = _nonlinear(recipe)
        drifts = drifts_of({name: one.b for name, one in release.factors.items()}, recipe.steps)
    blocks = range(min(SEALED_BLOCKS, len(language.blocks)))
    probes = {block: probes_of(targets, errors, matrices, language.readers(block), drifts) for block in blocks}
    target = Target(language, targets, errors, matrices)
    return Heard(probes, {name: row_errors(one) for name, one in errors.items()}, doubt, target)


def read_decoded(folder: Path) -> dict[str, Tensor]:
    """Decoded gradients (secrets x out x in) by module, of a bridge that has a decoder."""
    return load_file(folder / GRADIENT_FILE)


def _unknown(spec: s.TextAttackPhase, language: Language, told: publish.Told, number: int) -> Unknown:
    """What is left to find of the sentences of one release."""
    data, num_samples = spec.dataset, told.num_samples
    every = all_labels(language, num_samples, data.num_classes)
    labels = every if told.labels is None else [tuple(told.labels[number].tolist())]
    return Unknown(num_samples, range(data.min_tokens, data.max_tokens + 1), labels, data.num_classes)


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
