"""Print how long Gauss-Newton takes for a secret image, and Inverting Gradients on the same released adapter.

The cell is the first of a suite whose store holds its start: `bridge bench run suites/exact.yaml --limit 1` before.
Both see the same measurements; PSNR is against the secret, which neither sees. All cores; nothing else should run.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from benchmark.commands.options import DEFAULT_STORE
from benchmark.graph import build_graph
from benchmark.store import Store
from benchmark.suite import expand, load_suite
from bridge_core import spec as s
from bridge_core.inversion.gauss_newton import gauss_newton
from bridge_core.inversion.matching import inverting_gradients
from bridge_core.inversion.problem import Problem
from bridge_core.phases import attack, victim
from bridge_core.seeding import generator

MOST_SECONDS, LEAST_RATIO, MOST_RSS_BYTES = 20.0, 10.0, 4 << 30


@dataclass(frozen=True)
class Measured:
    """One inversion of one secret."""

    seconds: float
    psnr: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.psnr:.1f} dB"


def main() -> int:
    """Measure; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, default=Path("suites/exact.yaml"))
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    parser.add_argument("--secret", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=24_000, help="of Inverting Gradients")
    told = parser.parse_args()
    spec, inputs = _attack(told.suite, Store.open(told.store, create=False))
    problem, known = attack.prepare(spec, inputs)
    one = problem.only(torch.tensor([told.secret]))
    truth = victim.read_secret(inputs["victim"], told.secret).images
    knobs = spec.inversion
    assert isinstance(knobs, s.GaussNewton)
    newton = _timed(lambda: _newton(one, known, knobs, told.secret), truth)
    first_order = _timed(lambda: _first_order(one, told.iterations), truth)
    ratio, rss = first_order.seconds / newton.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"secret {told.secret}, {truth[0].numel()} unknowns, threads {torch.get_num_threads()}")
    print(f"Gauss-Newton, its start included: {newton} (at most {MOST_SECONDS:.0f} s)")
    print(f"Inverting Gradients, {told.iterations} iterations: {first_order}")
    print(f"ratio: {ratio:.1f} (at least {LEAST_RATIO:.0f})")
    print(f"peak memory: {rss / 2**20:.0f} MiB (at most {MOST_RSS_BYTES >> 20})")
    slow = newton.seconds > MOST_SECONDS or ratio < LEAST_RATIO or newton.psnr <= first_order.psnr
    return int(slow or rss > MOST_RSS_BYTES)


def _attack(suite: Path, store: Store) -> tuple[s.AttackPhase, dict[str, Path]]:
    """Spec and input folders of the first cell's attack, and under `victim` the secret's."""
    loaded = load_suite(suite)
    graph = build_graph(loaded.name, expand(loaded))
    keys = graph.cells[0].tasks
    task = graph.tasks[keys["attack"]]
    folders = {role: store.path(key) for role, key in task.inputs.items()}
    if not all(store.has(key) for key in [*task.inputs.values(), keys["victim"]]):
        raise SystemExit(f"the store has no start for the first cell; run it: bridge bench run {suite} --limit 1")
    return cast("s.AttackPhase", task.spec), folders | {"victim": store.path(keys["victim"])}


def _newton(one: Problem, known: attack.Known, knobs: s.GaussNewton, secret: int) -> Tensor:
    begin = attack.begins_of(known)[secret]
    return gauss_newton(one, knobs, [begin], _quiet)[0].images


def _first_order(one: Problem, iterations: int) -> Tensor:
    knobs = s.InvertingGradients(iterations=iterations, restarts=1)
    return inverting_gradients(one, knobs, s.NoPrior(), generator(0, "benchmark"), _quiet).images[0]


def _timed(run: Callable[[], Tensor], truth: Tensor) -> Measured:
    start = time.perf_counter()
    images = run()
    seconds = time.perf_counter() - start
    return Measured(seconds, float(peak_signal_noise_ratio(images.clamp(0, 1), truth, data_range=1.0)))


def _quiet(iteration: int, iterations: int, loss: Tensor) -> None:
    """No report."""


if __name__ == "__main__":
    raise SystemExit(main())
