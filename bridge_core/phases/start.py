"""Phase `start`: train the amortised inversion that Gauss-Newton starts from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.data import Images, is_heldout, read_images
from bridge_core.decoders import alike
from bridge_core.errors import NotApplicable
from bridge_core.evidence import through_adamw
from bridge_core.facts import Fact, write_facts
from bridge_core.inversion.amortised import Start, examples, read_start, save_start, targets, train, whiten
from bridge_core.inversion.cleaning import BATCH, Cleaner, corrupted, train_cleaner
from bridge_core.inversion.spread import spread_of
from bridge_core.models import load_base
from bridge_core.phases import Progress, decoder, proxy, publish
from bridge_core.release import Release
from bridge_core.seeding import generator
from bridge_core.simulate import stream

HELDOUT_PAIRS, WHITENED_PAIRS = 4096, 4096
Pair = tuple[dict[str, Tensor], Tensor]
"""Measurements by module, and flat images."""


@dataclass(frozen=True)
class Simulation:
    """Pairs for one set of released A."""

    spec: s.StartPhase
    model: nn.Module
    a: Mapping[str, Tensor]
    scale: float
    """LoRA's s."""

    def pairs(self, images: Images, count: int, purpose: str) -> Iterator[Pair]:
        """A stream of measurements, as the release would tell them, and the images of each step."""
        rng, n, optimiser = generator(0, "start", purpose), self.spec.num_samples, self.spec.optimiser
        augment = self.spec.start.augment
        for batch in stream(self.model, images, tuple(self.a), count, rng, num_samples=n, augment=augment):
            m = {name: batch.taps[name].measurement(one) for name, one in self.a.items()}
            if optimiser is not None:
                m = {name: through_adamw(one, optimiser, self.scale) for name, one in m.items()}
            yield m, targets(batch, n)


def run(spec: s.StartPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """One network for each distinct set of released A; the held-out part tells how far its estimates are off."""
    model, _ = load_base(spec.model, inputs["base"])
    images = read_images(inputs["proxy"] / proxy.FILE)
    facts: list[Fact] = []

    def report(step: int, steps: int, loss: float) -> None:
        facts.append(Fact("loss", loss, step=step))
        progress(step, steps, loss=loss)

    releases = publish.read_releases(inputs["adapter"])
    scale = next(iter(releases[0].factors.values())).scale
    for number, a in enumerate(decoder.distinct(releases)):
        simulation = Simulation(spec, model, a, scale)
        start, heldout_psnr = _trained(simulation, images, number, report, progress)
        save_start(start, out / f"{number:03d}.safetensors")
        save_file({name: one.contiguous() for name, one in a.items()}, out / f"{number:03d}.a")
        facts.append(Fact("heldout_psnr", heldout_psnr))
    write_facts([*facts, Fact("num_pairs", spec.start.num_pairs)], out)


def _trained(
    simulation: Simulation, images: Images, seed: int, report: Callable[[int, int, float], None], progress: Progress
) -> tuple[Start, float]:
    spec, training, heldout = simulation.spec, images[~is_heldout(images)], images[is_heldout(images)]
    first = list(islice(simulation.pairs(training, WHITENED_PAIRS, "whitening"), WHITENED_PAIRS))
    whitening = whiten({name: torch.cat([m[name] for m, _ in first]) for name in simulation.a})
    seen = examples(simulation.pairs(training, spec.start.num_pairs, "start"), whitening)
    net = train(*seen, spec.start, seed, report)
    channels, height, width = images.pixels.shape[1:]
    shape = (spec.num_samples, channels, height, width)
    apart = Estimated(net, shape, *examples(simulation.pairs(heldout, HELDOUT_PAIRS, "heldout"), whitening))
    with torch.no_grad():
        error = apart.y - net(apart.x.float())
    each = error.reshape(len(error) * spec.num_samples, -1)
    cleaner = None
    if spec.start.cleaner_pairs:
        cleaner = _cleaner(spec, Estimated(net, shape, *seen), apart, _block(simulation.model), progress)
    start = Start(whitening, net, shape, spread_of(each), cleaner)
    return start, float(-10 * each.square().mean(1).log10().mean())


@dataclass(frozen=True)
class Estimated:
    """Images beside what the network makes of their measurements."""

    net: nn.Module
    shape: tuple[int, int, int, int]
    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x) * self.shape[0]

    def __call__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images and estimates (n x c x h x w each)."""
        num, *image = self.shape
        step, which = index // num, index % num
        with torch.no_grad():
            found = self.net(self.x[step].float())
        return _one_of(self.y[step], which, num, image), _one_of(found, which, num, image)


def _one_of(flat: Tensor, which: Tensor, num: int, image: list[int]) -> Tensor:
    return flat.reshape(len(flat), num, *image)[torch.arange(len(flat)), which]


def _cleaner(spec: s.StartPhase, training: Estimated, apart: Estimated, block: int, progress: Progress) -> Cleaner:
    rng = generator(0, "start", "cleaner")

    def report(step: int, steps: int, loss: float) -> None:
        progress(step, steps, loss=loss)

    net = train_cleaner(training, spec.start.cleaner_pairs, len(training), block, rng, report)
    errors: list[Tensor] = []
    for index in torch.arange(len(apart)).split(BATCH):
        images, estimates = apart(index)
        with torch.no_grad():
            errors.append((images - net(corrupted(images, block, rng), estimates)).flatten(1))
    return Cleaner(net, spread_of(torch.cat(errors)))


def _block(model: nn.Module) -> int:
    """Side of the blocks that go wrong together: a transformer's patch."""
    return getattr(getattr(model, "config", None), "patch_size", 4)


def serving(folder: Path, release: Release) -> Start:
    """The start that was trained for this release's A, or for one that hardly differs (`alike`).

    Raises `NotApplicable` where there is none.
    """
    wanted = release.measurement_matrices()
    for path in sorted(folder.glob("*.a")):
        if alike(load_file(path), wanted):
            return read_start(path.with_suffix(".safetensors"))
    raise NotApplicable("a release's A is no start's", "the A it was trained for", "train a start on this release")
