"""Print how many pairs a second are simulated, against a loop of real single-step PEFT updates; and memory of a stream.

The model is the built-in ViT as `spec/models.py` has it, on 28x28 grey images. Both sides see the same samples; their
measurements must agree to float tolerance.
"""

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.data import Images, load_images, proxy_part
from bridge_core.decoders.linear import RidgeSum
from bridge_core.evidence import measurement_of
from bridge_core.models import Shape, build
from bridge_core.release import read_release
from bridge_core.seeding import generator
from bridge_core.simulate import stream
from bridge_core.victim import fresh_adapter, train_victim

LEAST_RATIO, MOST_RSS_BYTES, MOST_DIFFERENCE = 20.0, 2 << 30, 1e-3
MODULES_OF_THE_RIDGE = 1


@dataclass(frozen=True)
class Bench:
    """What both sides work on."""

    model: nn.Module
    proxy: Images
    adapter: Path
    folder: Path

    @property
    def matrices(self) -> dict[str, Tensor]:
        """A of every module."""
        return read_release(self.adapter).measurement_matrices()


def main() -> int:
    """Measure; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50_000, help="pairs of the stream whose memory is measured")
    parser.add_argument("--real", type=int, default=64, help="real PEFT updates to time")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = _prepare(Path(folder), told.rank)
        seconds_real, seconds_fast, difference = _compare(bench, told.real)
        rate, grown = _stream(bench, told.pairs)
    ratio, rss = seconds_real / seconds_fast, _peak_bytes()
    print(f"model: ViT {s.Vit().depth} x {s.Vit().width}, rank {told.rank}, threads {told.threads}")
    print(f"real single-step PEFT updates: {1 / seconds_real:10.1f} pairs/s ({told.real} updates)")
    print(f"simulated, the same samples:   {1 / seconds_fast:10.1f} pairs/s, median of 5")
    print(f"ratio: {ratio:.0f} (at least {LEAST_RATIO:.0f})")
    print(f"largest difference of the measurements: {difference:.1e} of the largest entry (at most {MOST_DIFFERENCE})")
    print(f"stream of {told.pairs} pairs, augmented, G and M of every module formed: {rate:.0f} pairs/s")
    print(f"peak memory: {rss / 2**20:.0f} MiB (at most {MOST_RSS_BYTES >> 20}), {grown / 2**20:.0f} MiB by the stream")
    return int(ratio < LEAST_RATIO or rss > MOST_RSS_BYTES or difference > MOST_DIFFERENCE)


def _prepare(folder: Path, rank: int) -> Bench:
    model = build(s.Vit(), Shape(1, 28, 10)).requires_grad_(False)
    fresh_adapter(model, s.Vit().target_modules, rank, s.Lora(), 0, folder / "fresh")
    return Bench(model, proxy_part(load_images(s.Digits(), 28, 1)), folder / "fresh", folder)


def _compare(bench: Bench, count: int) -> tuple[float, float, float]:
    """Seconds a pair of the real loop and of the simulation, and the largest relative difference."""
    matrices, recipe = bench.matrices, s.Recipe()
    batches = list(stream(bench.model, bench.proxy, tuple(matrices), count, generator(0)))
    images = torch.cat([batch.images for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    real: list[dict[str, Tensor]] = []
    began = time.perf_counter()
    for i in range(count):
        train_victim(bench.model, bench.adapter, images[i : i + 1], labels[i : i + 1], recipe, bench.folder / "release")
        real.append(measurement_of(read_release(bench.folder / "release"), recipe))
    seconds_real = (time.perf_counter() - began) / count
    differences = [
        float((batch_m - wanted).abs().max() / wanted.abs().max())
        for name, a in matrices.items()
        for batch_m, wanted in zip(
            torch.cat([batch.taps[name].measurement(a) for batch in batches]), [one[name] for one in real], strict=True
        )
    ]
    return seconds_real, _seconds_simulated(bench, matrices, count), max(differences)


def _seconds_simulated(bench: Bench, matrices: dict[str, Tensor], count: int) -> float:
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        for batch in stream(bench.model, bench.proxy, tuple(matrices), count, generator(0)):
            for name, a in matrices.items():
                batch.taps[name].gradient()
                batch.taps[name].measurement(a)
        times.append((time.perf_counter() - began) / count)
    return sorted(times)[2]


def _stream(bench: Bench, pairs: int) -> tuple[float, int]:
    """Pairs a second, and bytes by which the stream lifted the peak; a ridge fit of one module takes them in."""
    before, matrices = _peak_bytes(), bench.matrices
    first = dict(list(matrices.items())[:MODULES_OF_THE_RIDGE])
    total, began = RidgeSum(first, s.Ridge().ridge), time.perf_counter()
    for batch in stream(bench.model, bench.proxy, tuple(matrices), pairs, generator(1)):
        for name, a in matrices.items():
            batch.taps[name].gradient()
            batch.taps[name].measurement(a)
        total.add(batch)
    return pairs / (time.perf_counter() - began), _peak_bytes() - before


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
