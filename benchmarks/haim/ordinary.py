"""Ordinary adapters: pretrained base, PEFT's default start, SGD; the bridge and Haim et al. on the same folders."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.haim.best_case import attacked
from benchmarks.haim.digits import NUM_PUBLIC, SHAPE, Split, scaled
from benchmarks.haim.rows import Row
from bridge_core import phases
from bridge_core import spec as s
from bridge_core.baselines.haim.gate import oracle_gate
from bridge_core.baselines.haim.stationarity import Stationarity, imbalance, of_release, of_start
from bridge_core.data import read_images
from bridge_core.facts import read_facts
from bridge_core.models import load_base
from bridge_core.phases import private, proxy, publish, sealed, victim

Folders = dict[str, Path]


@dataclass(frozen=True)
class Case:
    """A kind of ordinary adapter."""

    name: str
    model: dict[str, Any]
    optimiser: dict[str, Any]
    num_samples: int
    num_secrets: int
    equations: tuple[str, ...]


VIT = {"kind": "vit", "depth": 2, "width": 48, "heads": 4, "patch": 2, "pretraining": {"epochs": 10}}
PERCEPTRON = {"kind": "perceptron", "depth": 2, "width": 48, "bias": True, "pretraining": {"epochs": 10}}
CASES = (
    Case("ordinary adapter of a ViT", VIT, {"kind": "sgd", "learning_rate": 0.1}, 1, 3, ("decayed", "kernel")),
    Case(
        "adapter of a perceptron, L2 decay",
        PERCEPTRON,
        {"kind": "sgd", "learning_rate": 0.1, "weight_decay": 0.02},
        4,
        1,
        ("decayed", "kernel"),
    ),
)
START = {"num_pairs": 6000, "hidden": 256}
INVERSION = {"kind": "gauss_newton", "iterations": 25, "restarts": 2, "start": START}


def rows_of(case: Case, steps: tuple[int, ...], knobs: s.Haim, images: Path, work: Path, seed: int) -> Iterator[Row]:
    """A row an equation and number of steps; Haim et al. are run where the oracle gate opens."""
    for step in steps:
        cell = _cell(case, step, images, seed)
        folders = run_cell(cell, work)
        facts = read_facts(folders["score"])
        bridge, start, mean_image = (
            [fact.value for fact in facts if fact.name == name] for name in ("psnr", "psnr_start", "psnr_mean_image")
        )
        for equation in case.equations:
            row = Row(case.name, equation, step, [], [], psnr_bridge=bridge, psnr_bridge_start=start)
            for number in range(case.num_secrets):
                _judge(row, cell, folders, number, knobs)
            if not row.psnr_mean_image:
                row.psnr_mean_image.extend(mean_image)
            yield row


def _judge(row: Row, cell: s.Cell, folders: Folders, number: int, knobs: s.Haim) -> None:
    """Add one release to `row`: the gate, and the attack where it opens."""
    problem, public_sign = _problem(row.equation, cell, folders, number)
    data = _opened(folders, number)
    gate = oracle_gate(problem, data.images, data.labels, data.strangers)
    row.residuals.append(gate.residual)
    row.residuals_strangers.append(gate.residual_strangers)
    row.imbalances.append(public_sign)
    if gate.applicable:
        attacked(row, problem, data, knobs, cell.seed)


def run_cell(cell: s.Cell, work: Path) -> Folders:
    """Every stage of `cell` in a folder named by its content: equal stages run once. Folders by stage."""
    folders: Folders = {}
    for stage in phases.stages(cell):
        inputs = {role: folders[name] for role, name in stage.inputs.items()}
        content = [stage.name, s.content(stage.spec), {role: path.name for role, path in inputs.items()}]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        out = work / f"{stage.name}-{digest}"
        done = out.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            phases.run(stage.spec, inputs, out, _quiet)
            done.touch()
        folders[stage.name] = out
    return folders


def _cell(case: Case, steps: int, images: Path, seed: int) -> s.Cell:
    source = {"kind": "image_folder", "path": str(images)}
    recipe = {"optimiser": case.optimiser, "steps": steps}
    told = {
        "model": case.model,
        "rank": 8,
        "dataset": {"proxy": source, "private": source, "image_size": SHAPE[1]},
        "prior": "none",
        "recipe": recipe | {"num_samples": case.num_samples, "batch_size": case.num_samples},
        "bridge": "direct",
        "inversion": INVERSION,
        "knowledge": {},
        "seed": seed,
        "num_secrets": case.num_secrets,
    }
    return s.Cell.model_validate_json(json.dumps(told))


def _problem(equation: str, cell: s.Cell, folders: Folders, number: int) -> tuple[Stationarity, float]:
    """The equation for one release, and its public sign of rest. `kernel` is told PEFT's start."""
    model, _ = load_base(cell.model, folders["base"])
    release = publish.read_releases(folders["publish"])[number]
    if equation == "kernel":
        start = publish.read_releases(folders["adapter"])[0]
        return of_start(model, start, release), imbalance(release)
    return of_release(model, release), imbalance(release)


def _opened(folders: Folders, number: int) -> Split:
    """The secret, opened to score; strangers of the private part that no victim of these cells has trained on."""
    secret = victim.read_secret(folders["victim"], number)
    others = scaled(read_images(folders["private"] / private.FILE))
    seen = torch.cat([victim.read_secret(folders["victim"], n).images for n in range(_num_secrets(folders))])
    strange = others[(torch.cdist(others.flatten(1), seen.flatten(1)) > 0).all(1)]
    public = scaled(read_images(folders["proxy"] / proxy.FILE))
    return Split(secret.images, secret.labels, strange[: len(secret.images)], public[:NUM_PUBLIC])


def _num_secrets(folders: Folders) -> int:
    return len(sealed.releases(folders["victim"]))


def _quiet(step: int, total: int, **metrics: float) -> None:
    """No report."""
