"""Phase `restore`: a prior brought in at the end of Gauss-Newton, where the measurements leave room for it."""

import shutil
from collections.abc import Mapping
from math import nan
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bridge_core import spec as s
from bridge_core.facts import Fact, read_facts, write_facts
from bridge_core.inversion.plug_and_play import expected_noise, restored
from bridge_core.phases import Progress, attack
from bridge_core.phases.prior import read_prior


def run(spec: s.RestorePhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Write what phase `attack` wrote, its images restored; facts tell the noise that each was taken to have."""
    before = load_file(inputs["attack"] / attack.FILE)
    knobs = spec.search.inversion
    assert isinstance(knobs, s.GaussNewton)
    problem, known = attack.prepare(spec.search, inputs)
    prior = read_prior(spec.prior, spec.search.seed, inputs, problem.image_shape[0])
    restorer = prior.restorer()
    assert restorer is not None
    assert not isinstance(spec.prior, s.NoPrior)
    predicted = {f.secret: f.value for f in read_facts(inputs["attack"]) if f.name == "predicted_psnr"}
    facts, images, losses = [], [], []
    for number, found in enumerate(before["images"]):
        matching = attack.matching_of(problem, known, number, before["labels"][number])
        noise = expected_noise(predicted.get(number, nan))
        better = restored(matching, knobs, found, noise, restorer, spec.prior.rounds, prior.rng)
        images.append(better)
        losses.append(matching.at(better).cost())
        facts += [
            Fact("noise", noise, secret=number),
            Fact("restored", float(restorer.helps(noise)), secret=number),
            Fact("final_matching_loss", losses[-1], secret=number),
        ]
        progress(number + 1, len(before["images"]), matching_loss=losses[-1])
    after = before | {"images": torch.stack(images).contiguous(), "loss": torch.tensor(losses)}
    save_file(after, out / attack.FILE)
    if attack.read_decoded(inputs["attack"]) is not None:
        shutil.copy(inputs["attack"] / attack.GRADIENT_FILE, out / attack.GRADIENT_FILE)
    write_facts(facts, out)
