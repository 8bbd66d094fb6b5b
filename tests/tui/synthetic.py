"""Synthetic runs: a realistic plan, the events of a run of it, and a store with pictures."""

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from benchmark import events as e
from benchmark.journal import Journal, journal_path

RUN = "20260921T141320.000Z-3f2a"
START = 1_790_000_000.0
SECONDS = {"proxy": 2, "private": 1, "base": 41, "statistics": 9, "adapter": 0.3, "victim": 4, "publish": 0.2} | {
    "decoder": 38,
    "attack": 95,
    "score": 1.4,
}
GAIN = {"oracle": 14.0, "ridge": 11.0, "row_mmse": 8.0, "mlp": 9.5, "direct": 3.0, "projection": 1.5}
WHY = {"victim": "code changed", "publish": "input changed: victim", "decoder": "knobs changed: bridge.num_pairs"}
MEMORY = 12 << 30
TRACEBACK = (
    'Traceback (most recent call last):\n  File "bridge_core/inversion/matching.py", line 88, in invert\n'
    '    raise Diverged("the matching loss [bold]became[/bold] NaN")\nbridge_core.errors.Diverged: …'
)


def key_of(*parts: str) -> str:
    """A key as the graph makes them."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Axes of a synthetic suite."""

    bridges: tuple[str, ...] = ("oracle", "projection", "row_mmse", "ridge", "mlp", "direct")
    ranks: tuple[str, ...] = ("2", "4", "8", "16")
    models: tuple[str, ...] = ("vit",)
    datasets: tuple[str, ...] = ("fashion_mnist-mnist",)
    seeds: tuple[str, ...] = ("0", "1", "2")
    cached: tuple[str, ...] = ("proxy", "private")
    suite: str = "vision"
    host: str = "lab1"
    tasks: dict[str, e.TaskInfo] = field(default_factory=dict[str, e.TaskInfo])

    def start(self) -> e.RunStarted:
        """The first event, with the whole plan."""
        axes = itertools.product(self.models, self.datasets, self.bridges, self.ranks, self.seeds)
        cells = [self._cell(*labels) for labels in axes]
        return e.RunStarted(
            time=START,
            run=RUN,
            suite=self.suite,
            pid=4711,
            host=self.host,
            workers=4,
            tasks=tuple(self.tasks.values()),
            cells=tuple(cells),
        )

    def _cell(self, model: str, dataset: str, bridge: str, rank: str, seed: str) -> e.CellInfo:
        stages = {
            "proxy": (dataset,),
            "private": (dataset,),
            "base": (model, dataset),
            "statistics": (model, dataset),
            "adapter": (model, dataset, rank, seed),
            "victim": (model, dataset, rank, seed),
            "publish": (model, dataset, rank, seed),
            "decoder": (model, dataset, rank, seed, bridge),
            "attack": (model, dataset, rank, seed, bridge),
            "score": (model, dataset, rank, seed, bridge),
        }
        if bridge in ("oracle", "direct"):
            del stages["decoder"]
        keys = {stage: key_of(stage, *parts) for stage, parts in stages.items()}
        before = ""
        for stage, key in keys.items():
            inputs = {before: keys[before]} if before else {}
            why = "" if stage in self.cached else WHY.get(stage, "never made")
            self.tasks.setdefault(key, e.TaskInfo(key=key, phase=stage, inputs=inputs, why=why))
            before = stage
        labels = dict(model=model, rank=rank, dataset=dataset, prior="tv", recipe="sgd", bridge=bridge)
        labels |= dict(inversion="inverting_gradients", knowledge="all given", seed=seed)
        return e.CellInfo(id=key_of(*labels.values())[:12], labels=labels, tasks=keys)


def run(plan: Plan, failing: Iterable[tuple[str, str]] = (("mlp", "2"),), num_workers: int = 4) -> Iterator[e.AnyEvent]:
    """All events of a run of `plan`; the attacks of cells with a (bridge, rank) of `failing` diverge."""
    chance = random.Random(4)
    start = plan.start()
    yield start
    now, fails = START + 0.5, set(failing)
    over: dict[str, str] = {}
    phases = {task.key: task.phase for task in start.tasks}
    yield e.Logged(time=now, level="info", message="MLflow store: sqlite, in the run's folder")
    for turn, cell in enumerate(start.cells):
        for stage, key in cell.tasks.items():
            if key in over:
                continue
            if phases[key] in plan.cached:
                over[key] = "done"
                yield e.TaskCached(time=now, key=key)
                continue
            broken = next((k for k in cell.tasks.values() if over.get(k) == "failed"), None)
            if broken:
                over[key] = "skipped"
                yield e.TaskSkipped(time=now, key=key, because=broken)
                continue
            bad = stage == "attack" and (cell.labels["bridge"], cell.labels["rank"]) in fails
            took = SECONDS[stage] * chance.uniform(0.8, 1.2)
            yield from _task(key, stage, f"worker-{turn % num_workers}", now, took, bad, chance)
            now += took / num_workers
            yield _loads(now, num_workers, chance)
            over[key] = "failed" if bad else "done"
        failed = next((k for k in cell.tasks.values() if over[k] == "failed"), None)
        if failed:
            yield e.CellFailed(time=now, cell=cell.id, key=failed, cause="Diverged")
        else:
            yield e.CellFinished(time=now, cell=cell.id, metrics=metrics_of(cell, chance))
    states = [over[cell.tasks["score"]] for cell in start.cells]
    good = states.count("done")
    yield e.RunFinished(
        time=now, exit_code=int(good < len(states)), finished_cells=good, failed_cells=len(states) - good
    )


def _loads(now: float, num_workers: int, chance: random.Random) -> e.WorkersLoaded:
    loads = {
        f"worker-{n}": e.WorkerLoad(
            cpu=round(chance.uniform(40, 99), 1), memory=int(chance.uniform(0.1, 0.9) * MEMORY), memory_limit=MEMORY
        )
        for n in range(num_workers)
    }
    return e.WorkersLoaded(time=now, workers=loads)


def metrics_of(cell: e.CellInfo, chance: random.Random) -> dict[str, float]:
    """Plausible metrics of a finished cell."""
    rank = float(cell.labels["rank"])
    psnr = 10.5 + GAIN.get(cell.labels["bridge"], 2.0) * (0.4 + 0.2 * np.log2(rank)) + chance.uniform(-0.9, 0.9)
    cosine = min(0.99, 0.4 + 0.03 * rank)
    metrics = {"psnr": psnr, "ssim": psnr / 45, "mse": 10 ** (-psnr / 10), "feature_distance": 12 / psnr}
    controls = {"psnr_mean_image": 10.9, "ssim_mean_image": 0.21, "mse_mean_image": 0.081}
    return metrics | controls | {"gradient_cosine": cosine, "gradient_cosine_floor": (rank / 96) ** 0.5}


def _task(
    key: str, stage: str, worker: str, now: float, took: float, bad: bool, chance: random.Random
) -> Iterator[e.AnyEvent]:
    for attempt in (1, 2) if bad else (1,):
        yield e.TaskStarted(time=now, key=key, worker=worker, attempt=attempt)
        steps = 12 if stage in ("base", "victim", "decoder", "attack") else 0
        for step in range(steps):
            loss = 2.0 * 0.7**step * chance.uniform(0.9, 1.1)
            metrics = {"matching_loss" if stage == "attack" else "loss": loss}
            share = step / steps
            yield e.TaskProgressed(
                time=now + took * share, key=key, step=round(1000 * share), total=1000, metrics=metrics
            )
        if bad:
            message = "the matching loss [bold]became[/bold] NaN at step 412; wanted a finite loss; lower learning_rate"
            yield e.TaskFailed(
                time=now + took,
                key=key,
                attempt=attempt,
                cause="Diverged",
                message=message,
                traceback=TRACEBACK,
                final=attempt == 2,
            )
        else:
            yield e.TaskFinished(time=now + took, key=key, seconds=took, metrics={})


def write(journal: Path, events: Iterable[e.AnyEvent]) -> list[e.AnyEvent]:
    """Append `events` to `journal`; the events as a list."""
    written = list(events)
    with Journal(journal) as file:
        for event in written:
            file.write(event)
    return written


def journal_in(store: Path) -> Path:
    """Where a run's journal lies in `store`."""
    return journal_path(store, RUN)


def write_pictures(store: Path, key: str, secrets: int = 3, side: int = 28, channels: int = 1) -> None:
    """A score artefact's pictures: a disc as truth, a noisy disc as reconstruction, a grey mean image."""
    folder = store / "artefacts" / key[:2] / key
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    discs = [255 * ((x + 0.1 * n) ** 2 + y**2 < 0.08 + 0.02 * n) for n in range(secrets)]
    truth = np.stack([np.stack([disc * (1 - 0.3 * c) for c in range(channels)]) for disc in discs])[:, None]
    noisy = np.clip(truth + chance.normal(0, 40, truth.shape), 0, 255)
    mean = np.broadcast_to(truth.mean(axis=0, keepdims=True), truth.shape)
    parts = {"truth": truth, "recovered": noisy, "mean_image": mean}
    tensors = {name: np.ascontiguousarray(part.astype(np.uint8)) for name, part in parts.items()}
    save_file(tensors, folder / "images.safetensors")
