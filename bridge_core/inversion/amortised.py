"""Amortised inversion: a network from the measurements of all modules to the image, trained on simulated pairs.

One shot, blurred, and a start for Gauss-Newton; its error's covariance on held-out proxy images is the start's prior.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.decoders.linear import unit
from bridge_core.errors import Diverged
from bridge_core.seeding import generator
from bridge_core.simulate import Batch

BATCH = 128


@dataclass(frozen=True)
class Start:
    """A trained network and what it is worth."""

    network: nn.Sequential
    image_shape: tuple[int, int, int]
    covariance: Float[Tensor, "d d"]
    """Second moment of truth - estimate over held-out proxy images."""

    def estimate(self, m: Mapping[str, Float[Tensor, "n out rank"]]) -> Float[Tensor, "n c h w"]:
        """Images from measurements."""
        with torch.no_grad():
            return self.network(inputs(m)).reshape(-1, *self.image_shape)


def inputs(m: Mapping[str, Float[Tensor, "n out rank"]]) -> Float[Tensor, "n d"]:
    """What the network sees: every module's measurement at unit norm, times the root of its size."""
    return torch.cat([unit(one).flatten(1) * one[0].numel() ** 0.5 for one in m.values()], 1)


def network(width: int, hidden: int, pixels: int) -> nn.Sequential:
    """Two hidden layers, GELU."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, pixels)
    )


def examples(batches: Iterable[Batch], a: Mapping[str, Tensor]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n p"]]:
    """Inputs (float16, they are all held) and flat images of a stream of single-sample updates."""
    pairs = [(inputs({n: b.taps[n].measurement(a[n]) for n in a}).half(), b.images.flatten(1)) for b in batches]
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def train(
    x: Tensor, y: Tensor, knobs: s.Amortised, seed: int, report: Callable[[int, int, float], None]
) -> nn.Sequential:
    """Squared error, AdamW, one-cycle learning rate; `report(step, steps, loss)` about a hundred times.

    Raises `Diverged` when the loss is no longer finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(x.shape[1], knobs.hidden, y.shape[1])
    steps = knobs.epochs * -(-len(x) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), knobs.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, knobs.learning_rate, total_steps=steps)
    rng = generator(seed, "amortised")
    order = (i for _ in range(knobs.epochs) for i in torch.randperm(len(x), generator=rng).split(BATCH))
    for step, index in enumerate(order, 1):
        loss = F.mse_loss(net(x[index].float()), y[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % max(1, steps // 100) == 0:
            if not torch.isfinite(loss):
                raise Diverged(f"the start's loss became {float(loss)}", "a finite loss", "lower its learning_rate")
            report(step, steps, float(loss.detach()))
    return net.eval()


def save_start(start: Start, path: Path) -> None:
    """Write as safetensors."""
    tensors = {f"network/{name}": t for name, t in start.network.state_dict().items()}
    save_file({**tensors, "covariance": start.covariance, "image_shape": torch.tensor(start.image_shape)}, path)


def read_start(path: Path) -> Start:
    """Read what `save_start` wrote."""
    tensors = load_file(path)
    state = {name.removeprefix("network/"): t for name, t in tensors.items() if name.startswith("network/")}
    channels, height, width = tensors["image_shape"].tolist()
    hidden, seen = state["0.weight"].shape
    net = network(seen, hidden, channels * height * width)
    net.load_state_dict(state)
    return Start(net.eval(), (channels, height, width), tensors["covariance"])
