"""A real store, of real parquet, safetensors and PNG files, whose numbers a formula gives: no phase is run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from benchmark.graph import Graph, PlannedCell, build_graph
from benchmark.manifest import Manifest
from benchmark.store import Store
from benchmark.suite import LabelledCell, label_of
from bridge_core import spec as s
from bridge_core.facts import Fact, write_facts

MODULES = ("layers.0.q_proj", "layers.0.v_proj")
GAIN = {"projection": 0.0, "oracle": 12.0, "ridge": 7.0, "mlp": 5.0, "row_mmse": 3.0, "direct": 1.0}
"""dB over the projection."""
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def psnr(cell: s.Cell, secret: int) -> float:
    """The PSNR that the synthetic store gives a secret, dB."""
    return 10 + GAIN[s.kind_of(cell.bridge)] + np.log2(cell.rank) + 0.5 * cell.seed + 0.25 * secret


def cells(
    bridges: Iterable[s.Bridge] = (s.Projection(), s.Ridge(), s.Oracle()),
    ranks: Iterable[int] = (2, 8),
    seeds: Iterable[int] = (0, 1, 2),
    num_secrets: int = 3,
    recipe: s.Recipe | None = None,
    models: Iterable[s.Model] = (s.ConvNet(),),
) -> list[LabelledCell]:
    """The product of the axes, labelled as a suite labels it."""
    recipe = recipe or s.Recipe()
    made: list[LabelledCell] = []
    seeds, ranks, bridges = tuple(seeds), tuple(ranks), tuple(bridges)
    for model in models:
        for rank in ranks:
            for bridge in bridges:
                for seed in seeds:
                    cell = s.Cell(
                        model=model,
                        rank=rank,
                        dataset=s.Dataset(proxy=s.Digits(), private=s.Mnist(), image_size=16),
                        prior=s.NoPrior(),
                        recipe=recipe,
                        bridge=bridge,
                        inversion=s.Dlg(),
                        knowledge=s.Knowledge(),
                        seed=seed,
                        num_secrets=num_secrets,
                    )
                    axes = {name: getattr(cell, name) for name in s.Cell.model_fields if name != "num_secrets"}
                    made.append(LabelledCell(cell, {axis: label_of(value) for axis, value in axes.items()}))
    return made


@dataclass
class Filler:
    """Commits the artefacts of cells; `psnr_of` may give other scores, NaN too."""

    store: Store
    graph: Graph
    psnr_of: Callable[[s.Cell, int], float] = psnr
    done: set[str] = field(default_factory=set[str])

    def finish(self, planned: PlannedCell) -> None:
        """Put all artefacts of the cell into the store."""
        for stage, key in planned.tasks.items():
            if key not in self.done:
                self._commit(planned.cell, stage, key)
                self.done.add(key)

    def _commit(self, cell: s.Cell, stage: str, key: str) -> None:
        folder, task = self.store.begin(key), self.graph.tasks[key]
        write_facts(facts(cell, stage, self.psnr_of), folder)
        if stage == "score":
            write_images(cell, folder)
        if stage == "publish":
            for number in range(cell.num_secrets):
                release = folder / "release" / f"{number:03d}"
                release.mkdir(parents=True)
                (release / "adapter_config.json").write_text(f'{{"r": {cell.rank}}}')
                save_file({"lora_A": np.full((2, 2), number, np.float32)}, release / "adapter_model.safetensors")
        manifest = Manifest(
            key=key,
            phase=task.phase,
            spec=s.content(task.spec),
            inputs=task.inputs,
            code_version=task.code_version,
            seconds=1.5,
            created=CREATED,
            attempt=1,
            worker="worker-0",
            versions={"python": "3.11.2", "torch": "2.13.0"},
        )
        self.store.commit(folder, manifest)


def facts(cell: s.Cell, stage: str, psnr_of: Callable[[s.Cell, int], float] = psnr) -> list[Fact]:
    """What a phase of the contract leaves behind."""
    kind, secrets = s.kind_of(cell.bridge), range(cell.num_secrets)
    cosines = {"": 0.9 + 0.01 * cell.seed, "_floor": 0.25, "_projection": 0.3, "_mean_gradient": 0.15}
    match stage:
        case "decoder":
            return [
                Fact(f"heldout_cosine{name}", value - 0.1 * number, module=module)
                for name, value in cosines.items()
                for number, module in enumerate(MODULES)
            ] + [Fact("num_heldout", 100.0), *(Fact("loss", 1 / (step + 1), step=step) for step in range(5))]
        case "attack":
            return [Fact("matching_loss", 1 / (step + 1), step=step) for step in range(40)]
        case "victim":
            return [Fact("loss", 1.0 + number, secret=number, step=0) for number in secrets]
        case "score":
            scores = [
                Fact(name, value, secret=number)
                for number in secrets
                for name, value in {
                    "psnr": psnr_of(cell, number),
                    "ssim": 0.5,
                    "psnr_mean_image": 9.0 + 0.1 * cell.seed + 0.01 * number,
                    "ssim_mean_image": 0.1,
                }.items()
            ]
            decoded = (
                []
                if kind == "direct"
                else [
                    Fact(f"gradient_cosine{name}", 1.0 if kind == "oracle" and not name else value, number, module)
                    for name, value in cosines.items()
                    for number in secrets
                    for module in MODULES
                ]
            )
            return scores + decoded
        case _:
            return []


def write_images(cell: s.Cell, folder: Path) -> None:
    """`images.safetensors` and `gallery.png` of a score."""
    draw = np.random.default_rng(zlib.crc32(str(cell.seed).encode()))
    size = cell.dataset.image_size
    y, x = np.mgrid[:size, :size] / size
    truth = np.stack(
        [0.5 + 0.5 * np.sin(6 * (x * np.cos(a) + y * np.sin(a))) for a in draw.uniform(0, 3, cell.num_secrets)]
    )
    noise = 10 ** (-psnr(cell, 0) / 20) * draw.normal(size=truth.shape)
    rows = {"truth": truth, "recovered": truth + noise, "mean_image": np.broadcast_to(truth.mean(0), truth.shape)}
    pixels = {
        name: np.ascontiguousarray((row.clip(0, 1) * 255).round().astype(np.uint8)[:, None, None])
        for name, row in rows.items()
    }
    save_file(pixels, folder / "images.safetensors")
    Image.fromarray(np.concatenate([np.concatenate(list(row[:, 0, 0]), axis=1) for row in pixels.values()])).save(
        folder / "gallery.png"
    )


def filled_store(
    folder: Path, labelled: list[LabelledCell], suite: str = "synthetic", finished: int | None = None
) -> Filler:
    """A store in `folder` with the first `finished` cells of `labelled` done (all where it is None)."""
    filler = Filler(Store.open(folder), build_graph(suite, labelled, version=lambda phase: "0" * 64))
    for planned in filler.graph.cells[:finished]:
        filler.finish(planned)
    return filler
