"""Phase `start`: train the amortised inversion that Gauss-Newton starts from."""

from collections.abc import Iterator, Mapping
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


def run(spec: s.StartPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """One network for each distinct set of released A; the held-out part tells how far its estimates are off."""
    model, _ = load_base(spec.model, inputs["base"])
    images = read_images(inputs["proxy"] / proxy.FILE)
    training, heldout = images[~is_heldout(images)], images[is_heldout(images)]
    facts: list[Fact] = []
    for number, a in enumerate(decoder.distinct(publish.read_releases(inputs["adapter"]))):

        def report(step: int, steps: int, loss: float) -> None:
            facts.append(Fact("loss", loss, step=step))
            progress(step, steps, loss=loss)

        def pairs(part: Images, count: int, purpose: str, a: dict[str, Tensor] = a) -> Iterator[Pair]:
            return _pairs(spec, model, part, a, count, purpose)

        first = list(islice(pairs(training, WHITENED_PAIRS, "whitening"), WHITENED_PAIRS))
        whitening = whiten({name: torch.cat([m[name] for m, _ in first]) for name in a})
        x, y = examples(pairs(training, spec.start.num_pairs, "start"), whitening)
        net = train(x, y, spec.start, number, report)
        apart = examples(pairs(heldout, HELDOUT_PAIRS, "heldout"), whitening)
        with torch.no_grad():
            error = apart[1] - net(apart[0].float())
        channels, height, width = images.pixels.shape[1:]
        shape = (spec.num_samples, channels, height, width)
        each = error.reshape(len(error) * spec.num_samples, -1)
        cleaner = None
        if spec.start.cleaner_pairs:
            cleaner = _cleaner(
                spec, Estimated(net, shape, x, y), Estimated(net, shape, *apart), _block(model), progress
            )
        save_start(Start(whitening, net, shape, spread_of(each), cleaner), out / f"{number:03d}.safetensors")
        save_file({name: one.contiguous() for name, one in a.items()}, out / f"{number:03d}.a")
        facts.append(Fact("heldout_psnr", float(-10 * each.square().mean(1).log10().mean())))
    write_facts([*facts, Fact("num_pairs", spec.start.num_pairs)], out)


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


def _pairs(
    spec: s.StartPhase, model: nn.Module, images: Images, a: Mapping[str, Tensor], count: int, purpose: str
) -> Iterator[Pair]:
    rng, n = generator(0, "start", purpose), spec.num_samples
    for batch in stream(model, images, tuple(a), count, rng, num_samples=n, augment=spec.start.augment):
        yield {name: batch.taps[name].measurement(a[name]) for name in a}, targets(batch, n)


def serving(folder: Path, release: Release) -> Start:
    """The start that was trained for this release's A, or for one that hardly differs (`alike`).

    Raises `NotApplicable` where there is none.
    """
    wanted = release.measurement_matrices()
    for path in sorted(folder.glob("*.a")):
        if alike(load_file(path), wanted):
            return read_start(path.with_suffix(".safetensors"))
    raise NotApplicable("a release's A is no start's", "the A it was trained for", "train a start on this release")
