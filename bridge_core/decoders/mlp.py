"""The thesis's decoder: one network a module, from the measurement to what the row-wise estimate misses."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.decoders.linear import row_mmse, unit
from bridge_core.decoders.training import Training, errors
from bridge_core.seeding import generator
from bridge_core.simulate import Batch

ROW_RIDGE = 1e-5


class GradientDecoder(nn.Module):
    """unit(M) -> direction of G: the row-wise estimate plus two hidden layers' correction, zero at the start."""

    def __init__(self, a: Tensor, moment: Tensor, out: int, hidden: int, rng: torch.Generator) -> None:
        super().__init__()
        rank, width = a.shape
        self.register_buffer("row", row_mmse(torch.eye(rank), a, moment, ROW_RIDGE))
        layers = [nn.Linear(out * rank, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out * width)]
        for layer in layers:
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=rng)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(layers[-1].weight)
        self.net = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self._scale = (out * rank) ** 0.5

    def forward(self, m: Float[Tensor, "n out rank"]) -> Float[Tensor, "n out in"]:
        """Direction of G, not scaled to unit norm."""
        row: Tensor = self.get_buffer("row")
        m = unit(m)
        start = unit(m @ row)
        return start + self.net(m.flatten(1) * self._scale).reshape(start.shape)


class MlpFit:
    """Trains the decoders of all modules on a stream, one optimiser step every `batch_size` pairs."""

    def __init__(
        self, bridge: s.Mlp, a: Mapping[str, Tensor], moment: Mapping[str, Tensor], outs: Mapping[str, int], seed: int
    ) -> None:
        self._a, self._bridge = a, bridge
        self.decoders = {
            name: GradientDecoder(a[name], moment[name], outs[name], bridge.hidden, generator(seed, "mlp", name))
            for name in a
        }
        self._training = Training([p for decoder in self.decoders.values() for p in decoder.parameters()], bridge)

    def add(self, batch: Batch) -> float:
        """One optimiser step a part of `batch_size` pairs; returns the mean loss of the last one.

        Raises `Diverged` where the loss is no longer finite.
        """
        return self._training.over(len(batch), lambda part: self._error(batch, part))

    def tensors(self) -> dict[str, Tensor]:
        """Fitted parameters, by `module/name`."""
        nets = self.decoders.items()
        return {f"{name}/{key}": t.detach() for name, net in nets for key, t in net.state_dict().items()}

    def _error(self, batch: Batch, part: slice) -> Tensor:
        losses: list[Tensor] = []
        for name, decoder in self.decoders.items():
            guess = decoder(batch.taps[name].measurement(self._a[name])[part])
            losses.append(errors(guess, batch.taps[name].gradient()[part], self._bridge.loss))
        return torch.stack(losses).mean()
