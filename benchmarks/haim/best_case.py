"""Where Haim et al. should work: perceptrons without bias on odd and even digits, as weights and as adapters."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.haim.digits import SHAPE, Split, split
from benchmarks.haim.rows import Row
from bridge_core import spec as s
from bridge_core.baselines.haim.gate import oracle_gate
from bridge_core.baselines.haim.search import reconstruct
from bridge_core.baselines.haim.stationarity import Stationarity, imbalance, of_release, of_weights
from bridge_core.baselines.haim.training import descend, log_loss, shrunk, train_adapter
from bridge_core.baselines.nearest import nearest
from bridge_core.models import Shape, build, centred
from bridge_core.release import read_release
from bridge_core.seeding import generator
from bridge_core.victim import fresh_adapter

NUM_SAMPLES, WIDTH, RANK = 6, 100, 32
UNTRAINED = s.Pretraining(epochs=0)
PUBLISHED, HOMOGENEOUS = "weights of a perceptron, no LoRA", "adapter, W0 = 0, no bias"
NO_BRIDGE = "not applicable: B ≠ 0 at the start"


def published(steps: tuple[int, ...], knobs: s.Haim, seed: int) -> Iterator[Row]:
    """All weights released, no LoRA: a check that the implementation does what the paper's does."""
    data = split(NUM_SAMPLES, seed)
    model = build(s.Perceptron(width=WIDTH, pretraining=UNTRAINED), _shape(), seed)
    centred(model, data.public)
    weights = list(model.parameters())
    with torch.no_grad():
        for weight in weights:
            weight *= 0.05
    problems: dict[int, Stationarity] = {}

    def kept(step: int, _loss: float) -> None:
        problems[step] = of_weights(model)

    descend(weights, lambda: log_loss(model, data.images, data.labels), steps, kept, rate=0.03)
    for step, problem in problems.items():
        row = Row(PUBLISHED, "homogeneous", step, *_gated(problem, data), bridge="no LoRA")
        yield attacked(row, problem, data, knobs, seed)


def homogeneous_adapter(steps: tuple[int, ...], knobs: s.Haim, seed: int, folder: Path) -> Iterator[Row]:
    """W = s B A with W0 = 0, no bias, a small random start: real PEFT adapters, read back from their folders."""
    data = split(NUM_SAMPLES, seed)
    model = build(s.Perceptron(width=WIDTH, hidden="zero", pretraining=UNTRAINED), _shape(), seed)
    centred(model, data.public)
    lora = s.Lora(init_lora_weights="random", alpha=float(RANK))
    fresh_adapter(model, ("linear",), RANK, lora, seed, folder / "start")
    small = shrunk(folder / "start", folder / "small", model, 0.1)
    train_adapter(model, small, data.images, data.labels, steps, lambda step: folder / str(step), rate=0.02)
    for step in steps:
        release = read_release(folder / str(step))
        problem = of_release(model, release)
        gate = _gated(problem, data)
        row = Row(HOMOGENEOUS, "homogeneous", step, *gate, [imbalance(release)], bridge=NO_BRIDGE)
        yield attacked(row, problem, data, knobs, seed)


def attacked(row: Row, problem: Stationarity, data: Split, knobs: s.Haim, seed: int) -> Row:
    """`row` with the attack's figures; the gate's verdict stands beside them, it does not choose."""
    found = reconstruct(problem, knobs, len(data.images), data.public, generator(seed, "haim", row.steps))
    return scored(row, data, found.images.flatten(0, 1))


def scored(row: Row, data: Split, candidates: Tensor) -> Row:
    """`row` with the nearest of `candidates` to each training image and to each stranger added."""
    near, null = nearest(data.images, candidates), nearest(data.strangers, candidates)
    mean_image = nearest(data.images, data.public.mean(0, keepdim=True))
    row.psnr.extend(_floats(near.psnr))
    row.psnr_null.extend(_floats(null.psnr))
    row.ssim.extend(_floats(near.ssim))
    row.ssim_null.extend(_floats(null.ssim))
    row.psnr_mean_image.extend(_floats(mean_image.psnr))
    return row


def _floats(values: Tensor) -> list[float]:
    return [float(value) for value in values]


def _gated(problem: Stationarity, data: Split) -> tuple[list[float], list[float]]:
    gate = oracle_gate(problem, data.images, data.labels, data.strangers)
    return [gate.residual], [gate.residual_strangers]


def _shape() -> Shape:
    return Shape(SHAPE[0], SHAPE[1], 2)
