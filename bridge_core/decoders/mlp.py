"""The thesis's decoder: one network a module, from the measurement to what the row-wise estimate misses."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.decoders.linear import row_mmse, unit
from bridge_core.errors import Diverged
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
        self._a, self._loss = a, bridge.loss
        self.decoders = {
            name: GradientDecoder(a[name], moment[name], outs[name], bridge.hidden, generator(seed, "mlp", name))
            for name in a
        }
        parameters = [p for decoder in self.decoders.values() for p in decoder.parameters()]
        self._optimiser = torch.optim.Adam(parameters, bridge.learning_rate)
        steps = -(-bridge.num_pairs // bridge.batch_size) + 1
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimiser, bridge.learning_rate, total_steps=steps)
        self._batch_size = bridge.batch_size

    def add(self, batch: Batch) -> float:
        """One optimiser step a part of `batch_size` pairs; returns the mean loss of the last one.

        Raises `Diverged` where the loss is no longer finite.
        """
        last = 0.0
        for start in range(0, len(batch), self._batch_size):
            last = self._step(batch, slice(start, start + self._batch_size))
        return last

    def _step(self, batch: Batch, part: slice) -> float:
        losses: list[Tensor] = []
        for name, decoder in self.decoders.items():
            g = unit(batch.taps[name].gradient()[part]).flatten(1)
            guess = decoder(batch.taps[name].measurement(self._a[name])[part]).flatten(1)
            error = 1 - (unit(guess) * g).sum(1) if self._loss == "cosine" else (guess - g).square().sum(1)
            losses.append(error.mean())
        loss = torch.stack(losses).mean()
        if not torch.isfinite(loss):
            raise Diverged(
                f"the decoder's loss became {float(loss.detach())}", "a finite loss", "lower its learning_rate"
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())
