"""Decoders of text gradients: which modules they decode, how they are fitted to a stream, kept, and what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from bridge_core import spec as s
from bridge_core.decoders import Decoder, DecoderFit, num_pairs, read_decoder, save_decoder
from bridge_core.decoders.linear import ridge_bytes
from bridge_core.decoders.stacked import stacked_bytes
from bridge_core.simulate import Batch
from bridge_core.statistics import Statistics
from bridge_core.text.dual import DualRidge, DualRidgeSum, dual_bytes
from bridge_core.text.models import Language
from bridge_core.text.stream import BATCH_SENTENCES
from bridge_core.text.victim import SEALED_BLOCKS

Fitted = s.Projection | s.RowMmse | s.Ridge | s.Mlp
TextDecoder = Decoder | DualRidge
DUAL_PARAMETER = "/coefficients"
GRAPH_COPIES = 8
"""Tensors of the size of a batch of gradients that a network's backward pass holds, a module. A guess."""


def decoded_modules(language: Language, modules: Sequence[str]) -> tuple[str, ...]:
    """Those of the adapted `modules` in the first blocks: attacks read no deeper ones."""
    first = range(min(SEALED_BLOCKS, len(language.blocks)))
    blocks = tuple(f"{language.block_name(block)}." for block in first)
    return tuple(name for name in modules if name.startswith(blocks))


def pairs_of(bridge: Fitted, available: int, num_samples: int) -> int:
    """Simulated pairs a bridge is fitted on: a ridge gains nothing from the same sentence twice."""
    wanted = num_pairs(bridge)
    return min(wanted, available) if isinstance(bridge, s.Ridge) and num_samples == 1 else wanted


class TextDecoderFit:
    """Fits one decoder on `pairs` pairs of a stream; a ridge by its dual where that is the smaller system."""

    def __init__(self, bridge: Fitted, a: Mapping[str, Tensor], known: Statistics, pairs: int, seed: int) -> None:
        entries = min(len(known.mean_gradient[name]) * len(one) for name, one in a.items())
        if isinstance(bridge, s.Ridge) and is_dual(bridge, entries, pairs):
            self._fit = DualRidgeSum(a, bridge.ridge)
        else:
            self._fit = DecoderFit(bridge, a, known, seed)

    def add(self, batch: Batch) -> float | None:
        """Feed a batch; the training loss of a network, None for linear bridges."""
        return self._fit.add(batch)

    def decoder(self) -> TextDecoder:
        """The frozen decoder."""
        return self._fit.decoder()


def is_dual(bridge: s.Ridge, entries: int, pairs: int) -> bool:
    """True where a ridge has fewer pairs than the smallest measurement has entries."""
    return bridge.inputs == "module" and pairs < entries


def fit_bytes(bridge: Fitted, shapes: Mapping[str, tuple[int, int]], rank: int, tokens: int) -> int:
    """Memory of a fit on modules of (out, in) with steps of `tokens` tokens, in bytes; 0 where it is negligible."""
    entries = [out * rank for out, _ in shapes.values()]
    sizes = [out * width for out, width in shapes.values()]
    match bridge:
        case s.Projection() | s.RowMmse():
            return 0
        case s.Ridge(inputs="all"):
            return stacked_bytes(shapes, rank, bridge.components, bridge.num_pairs)
        case s.Ridge():
            dual = is_dual(bridge, min(entries), bridge.num_pairs)
            return dual_bytes(shapes, rank, bridge.num_pairs, tokens) if dual else ridge_bytes(shapes, rank)
        case s.Mlp():
            hidden, batch = bridge.hidden, min(bridge.batch_size, BATCH_SENTENCES)
            weights = sum(hidden * (k + hidden + size) for k, size in zip(entries, sizes, strict=True))
            return 16 * weights + 4 * GRAPH_COPIES * batch * sum(sizes)


def save_text_decoder(bridge: Fitted, decoder: TextDecoder, path: Path) -> None:
    """Write as safetensors."""
    save_decoder(Decoder(bridge, decoder.a, decoder.tensors), path)


def read_text_decoder(bridge: Fitted, path: Path) -> TextDecoder:
    """Read what `save_text_decoder` wrote for the same `bridge`."""
    one = read_decoder(bridge, path)
    return DualRidge(one.a, one.tensors) if any(name.endswith(DUAL_PARAMETER) for name in one.tensors) else one
