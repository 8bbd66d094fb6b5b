"""Bridges from measurements to full gradients: fitted on simulated pairs, frozen, saved, reloaded.

A decoder gives directions: of every module, an estimate of G up to scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.decoders.linear import RidgeSum, row_mmse, unit
from bridge_core.decoders.mlp import GradientDecoder, MlpFit
from bridge_core.errors import NotApplicable
from bridge_core.lora import project
from bridge_core.simulate import Batch
from bridge_core.statistics import Statistics

Fitted = s.Projection | s.RowMmse | s.Ridge | s.Mlp | s.Unet


@dataclass(frozen=True)
class Decoder:
    """A frozen bridge for one set of measurement matrices A."""

    bridge: Fitted
    a: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    """Fitted parameters, by `module/name`."""

    def decode(self, m: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Directions of G (n x out x in, unit norm) from measurements (n x out x rank), by module."""
        with torch.no_grad():
            return {name: unit(self._one(name, one)) for name, one in m.items()}

    def _one(self, name: str, m: Tensor) -> Tensor:
        a = self.a[name]
        match self.bridge:
            case s.Projection():
                return project(m, a)
            case s.RowMmse():
                return row_mmse(m, a, self.tensors[f"{name}/row_moment"], self.bridge.ridge)
            case s.Ridge():
                return (unit(m).flatten(1) @ self.tensors[f"{name}/weight"]).reshape(len(m), m.shape[1], a.shape[1])
            case s.Mlp():
                return self._mlp(name, m.shape[1])(m)
            case s.Unet():
                raise NotApplicable("the bridge unet", "`ridge` or `mlp`")
            case _:
                assert_never(self.bridge)

    def _mlp(self, name: str, out: int) -> GradientDecoder:
        assert isinstance(self.bridge, s.Mlp)
        a = self.a[name]
        net = GradientDecoder(a, torch.eye(a.shape[1]), out, self.bridge.hidden, torch.Generator())
        prefix = f"{name}/"
        net.load_state_dict({k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)})
        return net.eval()

    def serves(self, a: Mapping[str, Tensor]) -> bool:
        """True where a release carries the very matrices that the decoder was fitted for."""
        return all(torch.equal(a[name], mine) for name, mine in self.a.items())


class DecoderFit:
    """Fits one decoder, fed with batches of a stream."""

    def __init__(self, bridge: Fitted, a: Mapping[str, Tensor], statistics: Statistics, seed: int) -> None:
        self._bridge, self._a, self._statistics = bridge, a, statistics
        moments = statistics.row_moment
        self._ridge = RidgeSum(a) if isinstance(bridge, s.Ridge) else None
        outs = {name: len(g) for name, g in statistics.mean_gradient.items()}
        self._mlp = MlpFit(bridge, a, moments, outs, seed) if isinstance(bridge, s.Mlp) else None

    def add(self, batch: Batch) -> float | None:
        """Feed a batch; the training loss of a network, None for linear bridges."""
        if self._ridge:
            self._ridge.add(batch)
        return self._mlp.add(batch) if self._mlp else None

    def decoder(self) -> Decoder:
        """The frozen decoder."""
        return Decoder(self._bridge, self._a, self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        match self._bridge:
            case s.Projection():
                return {}
            case s.RowMmse():
                return {f"{name}/row_moment": self._statistics.row_moment[name] for name in self._a}
            case s.Ridge():
                assert self._ridge
                return {f"{name}/weight": w for name, w in self._ridge.solve(self._bridge.ridge).items()}
            case s.Mlp():
                assert self._mlp
                nets = self._mlp.decoders.items()
                return {f"{name}/{key}": t.detach() for name, net in nets for key, t in net.state_dict().items()}
            case s.Unet():
                raise NotApplicable("the bridge unet", "`ridge` or `mlp`")
            case _:
                assert_never(self._bridge)


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
