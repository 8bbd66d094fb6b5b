"""Bridges from measurements to full gradients: fitted on simulated pairs, frozen, saved, reloaded.

A decoder gives directions: of every module, an estimate of G up to scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.decoders import stacked
from bridge_core.decoders.linear import RidgeSum, row_mmse, unit
from bridge_core.decoders.mlp import GradientDecoder, MlpFit
from bridge_core.decoders.unet import UnetDecoder, UnetFit, unet_decoder
from bridge_core.lora import project
from bridge_core.seeding import generator
from bridge_core.simulate import Batch
from bridge_core.statistics import Statistics

Fitted = s.Projection | s.RowMmse | s.Ridge | s.Mlp | s.Unet


MOST_MOVED = 0.02
"""Of a measurement matrix, relative to its norm, for a decoder to serve it still."""


@dataclass(frozen=True)
class Decoder:
    """A frozen bridge for one set of measurement matrices A."""

    bridge: Fitted
    a: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    """Fitted parameters, by `module/name`."""

    def decode(self, m: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Directions of G (n x out x in, unit norm) from measurements (n x out x rank) of all modules, by module."""
        with torch.no_grad():
            found = self._estimates(m)
        return {name: unit(g.reshape(len(g), m[name].shape[1], -1)) for name, g in found.items()}

    def _estimates(self, m: Mapping[str, Tensor]) -> dict[str, Tensor]:
        match self.bridge:
            case s.Projection():
                return {name: project(one, self.a[name]) for name, one in m.items()}
            case s.RowMmse():
                moment, ridge = self.tensors, self.bridge.ridge
                return {n: row_mmse(one, self.a[n], moment[f"{n}/row_moment"], ridge) for n, one in m.items()}
            case s.Ridge(inputs="module"):
                return {name: unit(one).flatten(1) @ self.tensors[f"{name}/weight"] for name, one in m.items()}
            case s.Ridge():
                return stacked.decode(m, self.tensors)
            case s.Mlp():
                return {name: self._mlp(name, one.shape[1])(one) for name, one in m.items()}
            case s.Unet():
                return self._unet({name: one.shape[1] for name, one in m.items()})(m)
            case _:
                assert_never(self.bridge)

    def _mlp(self, name: str, out: int) -> GradientDecoder:
        assert isinstance(self.bridge, s.Mlp)
        a = self.a[name]
        net = GradientDecoder(a, torch.eye(a.shape[1]), out, self.bridge.hidden, torch.Generator())
        prefix = f"{name}/"
        net.load_state_dict({k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)})
        return net.eval()

    def _unet(self, outs: Mapping[str, int]) -> UnetDecoder:
        assert isinstance(self.bridge, s.Unet)
        net = unet_decoder(self.bridge, self.a, {n: torch.eye(one.shape[1]) for n, one in self.a.items()}, outs, 0)
        net.load_state_dict(dict(self.tensors))
        return net.eval()

    def serves(self, a: Mapping[str, Tensor]) -> bool:
        """True where a release carries the matrices that the decoder was fitted for, or all but (`alike`)."""
        return alike(self.a, a)


def alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """True where no module's A differs by more than 2 % of its norm (Frobenius).

    A moves by second order in the learning rate over several steps, and by rounding where it is stored in 16 bits.
    """
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and bool((one[name] - other[name]).norm() <= MOST_MOVED * one[name].norm())
        for name in one
    )


@runtime_checkable
class Fit(Protocol):
    """What learns from a stream."""

    def add(self, batch: Batch) -> float | None:
        """Feed a batch; the training loss of a network, None for linear bridges."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Fitted parameters."""
        ...


class DecoderFit:
    """Fits one decoder, fed with batches of a stream."""

    def __init__(self, bridge: Fitted, a: Mapping[str, Tensor], statistics: Statistics, seed: int) -> None:
        self._bridge, self._a = bridge, a
        self._fit = _fit(bridge, a, statistics, seed)

    def add(self, batch: Batch) -> float | None:
        """Feed a batch; the training loss of a network, None for linear bridges."""
        return self._fit.add(batch)

    def decoder(self) -> Decoder:
        """The frozen decoder."""
        return Decoder(self._bridge, self._a, self._fit.tensors())


def _fit(bridge: Fitted, a: Mapping[str, Tensor], known: Statistics, seed: int) -> Fit:
    outs = {name: len(known.mean_gradient[name]) for name in a}
    match bridge:
        case s.Projection():
            return Given({})
        case s.RowMmse():
            return Given({f"{name}/row_moment": known.row_moment[name] for name in a})
        case s.Ridge(inputs="module"):
            return RidgeSum(a, bridge.ridge)
        case s.Ridge():
            return stacked.StackedRidgeSum(a, bridge, generator(seed, "components"))
        case s.Mlp():
            return MlpFit(bridge, a, known.row_moment, outs, seed)
        case s.Unet():
            return UnetFit(bridge, a, known.row_moment, outs, seed)
        case _:
            assert_never(bridge)


@dataclass(frozen=True)
class Given:
    """A bridge that has nothing to learn from a stream."""

    parameters: dict[str, Tensor]

    def add(self, batch: Batch) -> None:
        """Leave the batch."""

    def tensors(self) -> dict[str, Tensor]:
        """The parameters."""
        return self.parameters


def num_pairs(bridge: Fitted) -> int:
    """Simulated pairs the bridge is fitted on; 0 for those that need none of their own."""
    return bridge.num_pairs if isinstance(bridge, s.Ridge | s.Mlp | s.Unet) else 0


def save_decoder(decoder: Decoder, path: Path) -> None:
    """Write as safetensors."""
    tensors = {f"a/{name}": a for name, a in decoder.a.items()} | {f"p/{k}": t for k, t in decoder.tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def read_decoder(bridge: Fitted, path: Path) -> Decoder:
    """Read what `save_decoder` wrote for the same `bridge`."""
    tensors = load_file(path)
    a = {name[2:]: t for name, t in tensors.items() if name.startswith("a/")}
    return Decoder(bridge, a, {name[2:]: t for name, t in tensors.items() if name.startswith("p/")})
