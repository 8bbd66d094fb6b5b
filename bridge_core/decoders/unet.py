"""A U-Net over the row-wise estimates: the modules of one shape are the channels of one picture of out x in pixels."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.decoders.linear import row_mmse, unit
from bridge_core.decoders.training import Training, errors
from bridge_core.seeding import generator
from bridge_core.simulate import Batch

ROW_RIDGE = 1e-5
GROUPS, PLACES = 4, 4


class Level(nn.Module):
    """Two 3x3 convolutions, each with group normalisation and GELU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        groups = GROUPS if width % GROUPS == 0 else 1
        self.first, self.second = (
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.norms = nn.ModuleList([nn.GroupNorm(groups, width) for _ in range(2)])

    def forward(self, x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n features height width"]:
        """Features of every pixel's neighbourhood."""
        return F.gelu(self.norms[1](self.second(F.gelu(self.norms[0](self.first(x))))))


class GradientUnet(nn.Module):
    """Estimates of the modules of one shape -> their directions of G: three levels, zero correction at the start.

    Rows and columns of a gradient are no neighbours by nature: learnt channels, the same for every example, tell the
    convolutions where they are.
    """

    def __init__(self, modules: int, shape: tuple[int, int], width: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(PLACES, *shape))
        self.down = nn.ModuleList(
            [Level(modules + PLACES, width), Level(width, 2 * width), Level(2 * width, 4 * width)]
        )
        self.up = nn.ModuleList([Level(6 * width, 2 * width), Level(3 * width, width)])
        self.last = nn.Conv2d(width, modules, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, start: Float[Tensor, "n modules out in"]) -> Float[Tensor, "n modules out in"]:
        """Directions, not scaled to unit norm; every module of `start` has norm 1."""
        scale = (start.shape[2] * start.shape[3]) ** 0.5
        places = self.places.expand(len(start), *self.places.shape)
        fine = self.down[0](torch.cat([start * scale, places], 1))
        middle = self.down[1](F.avg_pool2d(fine, 2, ceil_mode=True))
        coarse = self.down[2](F.avg_pool2d(middle, 2, ceil_mode=True))
        middle = self.up[0](torch.cat([F.interpolate(coarse, size=middle.shape[2:]), middle], 1))
        fine = self.up[1](torch.cat([F.interpolate(middle, size=fine.shape[2:]), fine], 1))
        return start + self.last(fine) / scale


class UnetDecoder(nn.Module):
    """The U-Nets of all shapes, and the matrices of the row-wise estimates that they clean."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], rows: Mapping[str, Tensor], width: int) -> None:
        super().__init__()
        self._groups: list[list[str]] = []
        for shape in sorted(set(shapes.values())):
            self._groups.append(sorted(name for name in shapes if shapes[name] == shape))
        self.nets = nn.ModuleList([GradientUnet(len(group), shapes[group[0]], width) for group in self._groups])
        self._names = sorted(rows)
        for number, name in enumerate(self._names):
            self.register_buffer(f"row{number}", rows[name])

    def forward(self, m: Mapping[str, Float[Tensor, "n _out _rank"]]) -> dict[str, Tensor]:
        """Directions of G (n x out x in) by module."""
        found: dict[str, Tensor] = {}
        for group, net in zip(self._groups, self.nets, strict=True):
            starts = [unit(unit(m[name]) @ self.get_buffer(f"row{self._names.index(name)}")) for name in group]
            found |= dict(zip(group, net(torch.stack(starts, 1)).unbind(1), strict=True))
        return {name: found[name] for name in m}


def unet_decoder(
    bridge: s.Unet, a: Mapping[str, Tensor], moments: Mapping[str, Tensor], outs: Mapping[str, int], seed: int
) -> UnetDecoder:
    """A fresh decoder for matrices `a`; weights from `seed` alone."""
    rows = {name: row_mmse(torch.eye(len(one)), one, moments[name], ROW_RIDGE) for name, one in a.items()}
    shapes = {name: (outs[name], one.shape[1]) for name, one in a.items()}
    decoder = UnetDecoder(shapes, rows, bridge.width)
    rng = generator(seed, "unet")
    for layer in decoder.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            bound = (layer.in_channels * 9) ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=rng)
        if isinstance(layer, GradientUnet):
            nn.init.normal_(layer.places, generator=rng)
    return decoder


class UnetFit:
    """Trains the U-Nets on a stream, one optimiser step every `batch_size` pairs."""

    def __init__(
        self, bridge: s.Unet, a: Mapping[str, Tensor], moments: Mapping[str, Tensor], outs: Mapping[str, int], seed: int
    ) -> None:
        self._a, self._bridge = a, bridge
        self.decoder = unet_decoder(bridge, a, moments, outs, seed)
        self._training = Training(list(self.decoder.parameters()), bridge)

    def add(self, batch: Batch) -> float:
        """One optimiser step a part of `batch_size` pairs; returns the mean loss of the last one.

        Raises `Diverged` where the loss is no longer finite.
        """
        return self._training.over(len(batch), lambda part: self._error(batch, part))

    def tensors(self) -> dict[str, Tensor]:
        """Fitted parameters."""
        return {key: t.detach() for key, t in self.decoder.state_dict().items()}

    def _error(self, batch: Batch, part: slice) -> Tensor:
        guess = self.decoder({name: batch.taps[name].measurement(a)[part] for name, a in self._a.items()})
        truth = {name: batch.taps[name].gradient()[part] for name in self._a}
        return torch.stack([errors(guess[name], truth[name], self._bridge.loss) for name in self._a]).mean()
