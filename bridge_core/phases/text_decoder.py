"""Phase `text_decoder`: fit a bridge on simulated steps of proxy sentences and measure it on held-out ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, NotApplicable
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import Progress, publish, text_proxy, text_statistics
from bridge_core.phases.cosines import cosine_columns
from bridge_core.phases.decoder import distinct, expected_errors
from bridge_core.release import Release
from bridge_core.seeding import generator
from bridge_core.simulate import Batch as Pairs
from bridge_core.statistics import Statistics, read_statistics
from bridge_core.text.batches import encode
from bridge_core.text.corpus import is_heldout, read_sentences
from bridge_core.text.decoding import (
    Fitted,
    TextDecoder,
    TextDecoderFit,
    pairs_of,
    read_text_decoder,
    save_text_decoder,
)
from bridge_core.text.models import read_language
from bridge_core.text.stream import stream

MOST_HELDOUT = 1000
LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Decoding:
    """The frozen decoders of an artefact, and how far off they are expected to be."""

    decoders: Sequence[TextDecoder]
    shares: Mapping[str, float]
    """By module, the squared distance between decoded and true direction, both of unit norm, on held-out sentences."""

    def of(self, release: Release, m: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Decoded directions of a release's gradients (out x in) by module, and the standard error of their entries.

        Raises `NotApplicable` where no decoder was fitted for the A of the release.
        """
        matrices = release.measurement_matrices()
        mine = next((one for one in self.decoders if one.serves(only(matrices, tuple(one.a)))), None)
        if mine is None:
            raise NotApplicable("a release's A is no decoder's", "the A it was fitted for", "fit it on this release")
        found = {name: one[0] for name, one in mine.decode({name: m[name][None] for name in mine.a}).items()}
        sizes = {name: (max(self.shares[name], LEAST_SHARE) / one.numel()) ** 0.5 for name, one in found.items()}
        return found, {name: torch.full_like(one, sizes[name]) for name, one in found.items()}


def run(spec: s.TextDecoderPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Fit one decoder for each distinct set of released A, all on one stream, and write them with their cosines."""
    bridge = fitted(spec.bridge)
    language = read_language(inputs["base"])
    sentences = read_sentences(inputs["proxy"] / text_proxy.FILE)
    known = read_statistics(inputs["statistics"] / text_statistics.FILE)
    kept, apart = (encode(language, sentences[part], spec.dataset) for part in _parts(is_heldout(sentences)))
    modules, size = tuple(known.mean_gradient), spec.num_samples
    count = min(MOST_HELDOUT, len(apart) // size)
    if not count:
        found = f"{len(apart)} held-out proxy sentences for steps of {size}"
        raise InvalidInput(found, "one step's sentences at least", "name a larger proxy, or lower num_samples")
    pairs = pairs_of(bridge, len(kept), size)
    matrices = [only(a, modules) for a in distinct(publish.read_releases(inputs["adapter"]))]
    fits = [TextDecoderFit(bridge, a, known, pairs, seed) for seed, a in enumerate(matrices)]
    shown = stream(language, kept, modules, pairs, generator(0, "decoder"), num_samples=size)
    curve = _feed(fits, shown, pairs, progress)
    decoders = [fit.decoder() for fit in fits]
    for number, one in enumerate(decoders):
        save_text_decoder(bridge, one, out / f"{number:03d}.safetensors")
    examples = stream(language, apart, modules, count, generator(0, "heldout"), num_samples=size)
    measured = [_measured(decoders[0], known, batch) for batch in examples]
    write_facts([*curve, Fact("num_pairs", pairs), Fact("num_heldout", count), *_means(measured)], out)


def fitted(bridge: s.TextBridge) -> Fitted:
    """The bridge, which is one with a decoder."""
    assert isinstance(bridge, s.Projection | s.RowMmse | s.Ridge | s.Mlp)
    return bridge


def only(tensors: Mapping[str, Tensor], modules: tuple[str, ...]) -> dict[str, Tensor]:
    """Those of `modules`."""
    return {name: tensors[name] for name in modules}


def read_decoding(bridge: s.TextBridge, folder: Path) -> Decoding:
    """Read what the phase wrote."""
    paths = sorted(folder.glob("*.safetensors"))
    return Decoding([read_text_decoder(fitted(bridge), path) for path in paths], expected_errors(folder))


def _feed(fits: list[TextDecoderFit], shown: Iterable[Pairs], pairs: int, progress: Progress) -> list[Fact]:
    """Show the stream to all decoders; the first one's loss as a curve."""
    curve: list[Fact] = []
    seen = 0
    for batch in shown:
        losses = [loss for fit in fits if (loss := fit.add(batch)) is not None]
        seen += len(batch)
        curve += [Fact("loss", loss, step=seen) for loss in losses[:1]]
        progress(seen, pairs, **({"loss": losses[0]} if losses else {}))
    return curve


def _parts(heldout: Tensor) -> tuple[Tensor, Tensor]:
    return ~heldout, heldout


def _measured(decoder: TextDecoder, known: Statistics, batch: Pairs) -> dict[tuple[str, str], Tensor]:
    """Cosines of every pair, by module and name."""
    decoded = decoder.decode({name: one.measurement(decoder.a[name]) for name, one in batch.taps.items()})
    return {
        (module, name): values
        for module, one in batch.taps.items()
        for name, values in cosine_columns(
            "heldout_cosine", one.gradient(), decoded[module], decoder.a[module], known.mean_gradient[module]
        ).items()
    }


def _means(measured: list[dict[tuple[str, str], Tensor]]) -> list[Fact]:
    every = {key: torch.cat([batch[key] for batch in measured]) for key in measured[0]}
    return [Fact(name, float(values.mean()), module=module) for (module, name), values in every.items()]
