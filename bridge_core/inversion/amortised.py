"""Amortised inversion: a network from the measurements of all modules to the images, trained on simulated pairs.

One shot, blurred, and a start for Gauss-Newton; its errors on held-out proxy images are the start's prior. The images
of a step stand in the order of their labels (`order`), so that each output of the network has a meaning of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.decoders.linear import unit
from bridge_core.errors import Diverged
from bridge_core.inversion.cleaning import Cleaner, CleaningNet
from bridge_core.inversion.spread import Spread
from bridge_core.seeding import generator
from bridge_core.simulate import Batch

BATCH = 128
MOST_COMPONENTS = 1280
"""Inputs of the network, shared evenly by the modules."""
WHITENING_RIDGE = 1e-3
"""Relative to the mean variance of the components that are kept."""


@dataclass(frozen=True)
class Whitening:
    """Per module: mean, and directions of the unit measurement scaled to variance 1.

    Details of an image lie where the measurements vary little; a network sees them only after whitening.
    """

    mean: dict[str, Float[Tensor, "d"]]
    directions: dict[str, Float[Tensor, "d k"]]

    def inputs(self, m: Mapping[str, Float[Tensor, "n out rank"]]) -> Float[Tensor, "n inputs"]:
        """What the network sees of measurements."""
        parts = [(unit(m[name]).flatten(1) - mean) @ self.directions[name] for name, mean in self.mean.items()]
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Start:
    """A trained network and what it is worth."""

    whitening: Whitening
    network: nn.Sequential
    images_shape: tuple[int, int, int, int]
    """Images of a step, channels, height, width."""
    spread: Spread
    """Square root of the second moment of one image's error over held-out proxy images."""
    cleaner: Cleaner | None = None

    def estimate(self, m: Mapping[str, Float[Tensor, "n out rank"]]) -> Float[Tensor, "n num c h w"]:
        """Images from measurements, in the order of their labels."""
        with torch.no_grad():
            return self.network(self.whitening.inputs(m)).reshape(-1, *self.images_shape)


def whiten(m: Mapping[str, Float[Tensor, "n out rank"]]) -> Whitening:
    """Principal components of every module's unit measurements, scaled to variance 1."""
    kept = max(1, MOST_COMPONENTS // len(m))
    mean, directions = {}, {}
    for name, one in m.items():
        flat = unit(one).flatten(1).double()
        mean[name] = flat.mean(0).float()
        values, vectors = torch.linalg.eigh(torch.cov(flat.T))
        values, vectors = values[-kept:].clamp_min(0), vectors[:, -kept:]
        directions[name] = (vectors / (values + WHITENING_RIDGE * values.mean()).clamp_min(1e-30).sqrt()).float()
    return Whitening(mean, directions)


def network(width: int, hidden: int, pixels: int) -> nn.Sequential:
    """Two hidden layers, GELU."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, pixels)
    )


def order(labels: Int64[Tensor, "n num"], images: Float[Tensor, "n num c h w"]) -> Int64[Tensor, "n num"]:
    """Images of a step by label, those of one label by mean intensity."""
    brightness = images.flatten(2).mean(2)
    by_brightness = brightness.argsort(dim=1, stable=True)
    return by_brightness.gather(1, labels.gather(1, by_brightness).argsort(dim=1, stable=True))


def targets(batch: Batch, num_samples: int) -> Float[Tensor, "n p"]:
    """Images of every step in `order`, flat."""
    images = batch.images.reshape(-1, num_samples, *batch.images.shape[1:])
    index = order(batch.labels.reshape(-1, num_samples), images)
    return images[torch.arange(len(images))[:, None], index].flatten(1)


def examples(
    batches: Iterable[tuple[Mapping[str, Tensor], Tensor]], whitening: Whitening
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n p"]]:
    """Inputs (float16: they are all held) and flat images of a stream of (measurements, images)."""
    pairs = [(whitening.inputs(m).half(), y) for m, y in batches]
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
    with torch.no_grad():
        last: nn.Linear = net[-1]  # pyright: ignore[reportAssignmentType]
        last.bias.copy_(y.mean(0))
    steps = knobs.epochs * -(-len(x) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), knobs.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, knobs.learning_rate, total_steps=steps)
    rng = generator(seed, "amortised")
    parts = (i for _ in range(knobs.epochs) for i in torch.randperm(len(x), generator=rng).split(BATCH))
    for step, index in enumerate(parts, 1):
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
    for name, mean in start.whitening.mean.items():
        tensors |= {f"mean/{name}": mean, f"directions/{name}": start.whitening.directions[name].contiguous()}
    tensors |= _spread_tensors("spread/", start.spread)
    if start.cleaner is not None:
        tensors |= {f"cleaner/{name}": t.contiguous() for name, t in start.cleaner.net.state_dict().items()}
        tensors |= _spread_tensors("cleaner_spread/", start.cleaner.spread)
    save_file({**tensors, "images_shape": torch.tensor(start.images_shape)}, path)


def read_start(path: Path) -> Start:
    """Read what `save_start` wrote."""
    tensors = load_file(path)
    state = _below("network/", tensors)
    num, channels, height, width = tensors["images_shape"].tolist()
    hidden, seen = state["0.weight"].shape
    net = network(seen, hidden, num * channels * height * width)
    net.load_state_dict(state)
    whitening = Whitening(_below("mean/", tensors), _below("directions/", tensors))
    cleaner = _cleaner(tensors, channels) if "cleaner_spread/factor" in tensors else None
    return Start(whitening, net.eval(), (num, channels, height, width), _spread("spread/", tensors), cleaner)


def _cleaner(tensors: Mapping[str, Tensor], channels: int) -> Cleaner:
    net = CleaningNet(channels)
    net.load_state_dict(_below("cleaner/", tensors))
    return Cleaner(net.eval(), _spread("cleaner_spread/", tensors))


def _spread_tensors(prefix: str, spread: Spread) -> dict[str, Tensor]:
    return {f"{prefix}factor": spread.factor.contiguous(), f"{prefix}floor": torch.tensor(spread.floor)}


def _spread(prefix: str, tensors: Mapping[str, Tensor]) -> Spread:
    return Spread(tensors[f"{prefix}factor"], float(tensors[f"{prefix}floor"]))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
