"""Phase `decoder`: fit a bridge on simulated pairs and measure it on held-out proxy images."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.data import is_heldout, read_images
from bridge_core.decoders import Decoder, DecoderFit, alike, num_pairs, read_decoder, save_decoder
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, read_facts, write_facts
from bridge_core.gradients import Tap
from bridge_core.lora import cosine_floor, project
from bridge_core.metrics import cosines
from bridge_core.models import load_base
from bridge_core.phases import Progress, proxy, publish, statistics
from bridge_core.release import Release
from bridge_core.seeding import generator
from bridge_core.simulate import stream
from bridge_core.statistics import Statistics, read_statistics

MOST_HELDOUT = 1000


def run(spec: s.DecoderPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Fit one decoder for each distinct set of released A, all on one stream, and write them with their cosines."""
    assert isinstance(spec.bridge, s.Projection | s.RowMmse | s.Ridge | s.Mlp | s.Unet)
    model, _ = load_base(spec.model, inputs["base"])
    images, known = read_images(inputs["proxy"] / proxy.FILE), read_statistics(inputs["statistics"] / statistics.FILE)
    heldout, modules = is_heldout(images), tuple(known.mean_gradient)
    matrices = distinct(publish.read_releases(inputs["adapter"]))
    fits = [DecoderFit(spec.bridge, a, known, seed=number) for number, a in enumerate(matrices)]
    pairs, seen, curve = num_pairs(spec.bridge), 0, []
    rng = generator(0, "decoder")
    augment: s.Augment = spec.bridge.augment if isinstance(spec.bridge, s.Ridge | s.Mlp | s.Unet) else "none"
    for batch in stream(model, images[~heldout], modules, pairs, rng, num_samples=spec.num_samples, augment=augment):
        losses = [loss for fit in fits if (loss := fit.add(batch)) is not None]
        seen += len(batch)
        if losses:
            curve.append(Fact("loss", losses[0], step=seen))
        progress(seen, pairs, **({"loss": losses[0]} if losses else {}))
    decoders = [fit.decoder() for fit in fits]
    for number, one in enumerate(decoders):
        save_decoder(one, out / f"{number:03d}.safetensors")
    count = min(MOST_HELDOUT, int(heldout.sum()) // spec.num_samples)
    if not count:
        found = f"{int(heldout.sum())} held-out proxy images for steps of {spec.num_samples}"
        raise InvalidInput(found, "one step's images at least", "name a larger proxy, or lower num_samples")
    examples = stream(model, images[heldout], modules, count, generator(0, "heldout"), num_samples=spec.num_samples)
    measured = [_cosines(decoders[0], known, batch.taps) for batch in examples]
    write_facts([*curve, Fact("num_pairs", pairs), Fact("num_heldout", count), *_means(measured, decoders[0])], out)


def distinct(releases: list[Release]) -> list[dict[str, Tensor]]:
    """The measurement matrices of the releases, each different set once; sets that are `alike` count as one."""
    kept: list[dict[str, Tensor]] = []
    for release in releases:
        a = release.measurement_matrices()
        if not any(alike(other, a) for other in kept):
            kept.append(a)
    return kept


def read_decoders(bridge: s.Bridge, folder: Path) -> list[Decoder]:
    """The frozen decoders of an artefact."""
    assert isinstance(bridge, s.Projection | s.RowMmse | s.Ridge | s.Mlp | s.Unet)
    return [read_decoder(bridge, path) for path in sorted(folder.glob("*.safetensors"))]


def expected_errors(folder: Path) -> dict[str, float]:
    """By module, the squared distance between decoded and true direction, from the held-out cosines."""
    facts = read_facts(folder)
    return {f.module: 2 * (1 - f.value) for f in facts if f.name == "heldout_cosine" and f.module is not None}


def _cosines(decoder: Decoder, known: Statistics, taps: Mapping[str, Tap]) -> dict[str, dict[str, Tensor]]:
    measured: dict[str, dict[str, Tensor]] = {}
    every = {name: one.measurement(decoder.a[name]) for name, one in taps.items()}
    decoded = decoder.decode(every)
    for name, one in taps.items():
        truth, a, m = one.gradient(), decoder.a[name], every[name]
        measured[name] = {
            "heldout_cosine": cosines(truth, decoded[name]),
            "heldout_cosine_projection": cosines(truth, project(m, a)),
            "heldout_cosine_mean_gradient": cosines(truth, known.mean_gradient[name]),
        }
    return measured


def _means(measured: list[dict[str, dict[str, Tensor]]], decoder: Decoder) -> list[Fact]:
    facts: list[Fact] = []
    for module, a in decoder.a.items():
        for name in measured[0][module]:
            value = float(torch.cat([batch[module][name] for batch in measured]).mean())
            facts.append(Fact(name, value, module=module))
        facts.append(Fact("heldout_cosine_floor", cosine_floor(len(a), a.shape[1]), module=module))
    return facts
