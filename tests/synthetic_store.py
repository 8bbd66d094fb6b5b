"""A real store, of real parquet, safetensors, PNG and JSON files, whose numbers a formula gives: no phase is run."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
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
TEXT_CONTROLS = {"_frequent": 0.1, "_language_model": 0.2}
"""Scores of text's controls by the suffix of their facts."""
SENTENCES = (
    "The patient in room 12 was given 40 mg of atorvastatin.",
    "Call me at 555-0142 before the board meets on Friday.",
    "Her password is still the name of the street: Elm_Lane#9.",
    "Nobody marked anything in this sentence.",
)
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def psnr(cell: s.AnyCell, secret: int) -> float:
    """The PSNR that the synthetic store gives a secret, dB."""
    return 10 + GAIN[s.kind_of(cell.bridge)] + np.log2(cell.rank) + 0.5 * cell.seed + 0.25 * secret


def token_share(cell: s.AnyCell, secret: int) -> float:
    """The share of tokens that the synthetic store lets a secret of text lose: all of them to the oracle."""
    share = 1.0 if s.kind_of(cell.bridge) == "oracle" else cell.rank / 8 - 0.05 * secret - 0.02 * cell.seed
    return min(1.0, max(0.0, share / cell.recipe.steps))


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
                    made.append(labelled(cell))
    return made


def text_cells(
    bridges: Iterable[s.TextBridge] = (s.Direct(), s.Oracle()),
    ranks: Iterable[int] = (2, 8),
    seeds: Iterable[int] = (0, 1, 2),
    num_secrets: int = 4,
    recipes: Iterable[s.Recipe] = (s.Recipe(),),
) -> list[LabelledCell]:
    """As `cells`, of text."""
    return [
        labelled(
            s.TextCell(
                model=s.TinyText(),
                rank=rank,
                dataset=s.Corpus(proxy=s.Glosses(), private=s.Lines(path="letters.txt")),
                prior=s.NoPrior(),
                recipe=recipe,
                bridge=bridge,
                inversion=s.Span(),
                knowledge=s.Knowledge(),
                seed=seed,
                num_secrets=num_secrets,
            )
        )
        for recipe, rank, bridge, seed in product(tuple(recipes), tuple(ranks), tuple(bridges), tuple(seeds))
    ]


def labelled(cell: s.AnyCell) -> LabelledCell:
    """The cell with the labels that a suite gives it."""
    axes = {name: getattr(cell, name) for name in type(cell).model_fields if name != "num_secrets"}
    return LabelledCell(cell, {axis: label_of(value) for axis, value in axes.items()})


@dataclass
class Filler:
    """Commits the artefacts of cells; `psnr_of` and `share_of` may give other scores, NaN too."""

    store: Store
    graph: Graph
    psnr_of: Callable[[s.AnyCell, int], float] = psnr
    share_of: Callable[[s.AnyCell, int], float] = token_share
    done: set[str] = field(default_factory=set[str])

    def finish(self, planned: PlannedCell) -> None:
        """Put all artefacts of the cell into the store."""
        assert not isinstance(planned.cell, s.ZooCell)
        for stage, key in planned.tasks.items():
            if key not in self.done:
                self._commit(planned.cell, stage, key)
                self.done.add(key)

    def _commit(self, cell: s.AnyCell, stage: str, key: str) -> None:
        folder, task = self.store.begin(key), self.graph.tasks[key]
        if isinstance(cell, s.TextCell):
            write_facts(text_facts(cell, stage, self.share_of), folder)
            if stage == "score":
                write_sentences(cell, folder, self.share_of)
        else:
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


def facts(cell: s.AnyCell, stage: str, psnr_of: Callable[[s.AnyCell, int], float] = psnr) -> list[Fact]:
    """What a phase of the contract leaves behind."""
    kind, secrets = s.kind_of(cell.bridge), range(cell.num_secrets)
    match stage:
        case "decoder":
            return heldout_facts(cell)
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
            return scores + ([] if kind == "direct" else gradient_facts(cell))
        case _:
            return []


def heldout_facts(cell: s.AnyCell) -> list[Fact]:
    """What a decoder leaves behind, of images or of text."""
    return [
        Fact(f"heldout_cosine{name}", value - 0.1 * number, module=module)
        for name, value in cosines(cell).items()
        for number, module in enumerate(MODULES)
    ] + [Fact("num_heldout", 100.0), *(Fact("loss", 1 / (step + 1), step=step) for step in range(5))]


def gradient_facts(cell: s.AnyCell) -> list[Fact]:
    """Cosines of decoded gradients with the victims' own."""
    exact = isinstance(cell.bridge, s.Oracle)
    return [
        Fact(f"gradient_cosine{name}", 1.0 if exact and not name else value, number, module)
        for name, value in cosines(cell).items()
        for number in range(cell.num_secrets)
        for module in MODULES
    ]


def cosines(cell: s.AnyCell) -> dict[str, float]:
    """Of a decoder and of its controls, by the end of their names."""
    return {"": 0.9 + 0.01 * cell.seed, "_floor": 0.25, "_projection": 0.3, "_mean_gradient": 0.15}


def text_facts(cell: s.TextCell, stage: str, share_of: Callable[[s.AnyCell, int], float] = token_share) -> list[Fact]:
    """What a phase of text leaves behind. The last of `SENTENCES` has no marked span."""
    if stage == "decoder":
        return heldout_facts(cell)
    made = gradient_facts(cell) if stage == "score" and not isinstance(cell.bridge, s.Direct | s.Oracle) else []
    for secret in range(cell.num_secrets):
        share = share_of(cell, secret)
        verdict = 2.0 if share == 1 else float(share > 0)
        certificate = {"certificate_tests": 64_000.0, "rank": 20.0 + secret, "rank_gap": math.nan, "verdict": verdict}
        if stage == "attack":
            made += [Fact(name, value, secret=secret) for name, value in certificate.items()]
        if stage == "score":
            scores = text_scores(share, marked=secret % len(SENTENCES) != len(SENTENCES) - 1)
            made += [Fact(name, value, secret=secret) for name, value in scores.items()]
    return made


def text_scores(share: float, marked: bool) -> dict[str, float]:
    """The scores of a secret of which `share` came back."""
    made: dict[str, float] = {}
    for suffix, part in {"": share, **TEXT_CONTROLS}.items():
        scores = {"exact_match": float(part == 1), "token_accuracy": part, "token_recall": part}
        scores |= {name: part / 2 for name in ("rouge1", "rouge2", "rougeL", "bleu", "edit_similarity")}
        scores["secrets_found"] = part if marked else math.nan
        made |= {f"{name}{suffix}": value for name, value in scores.items()}
    recalled = {"recall_ranked": share, "recall_ranked_unigram": 0.1, "recall_100": share, "recall_100_unigram": 0.3}
    certified = {"certified": share / 2, "false_certificates": 0.0, "certificate_tests": 64_000.0}
    return made | recalled | certified | {"certified_of_another": 0.0}


def write_sentences(cell: s.TextCell, folder: Path, share_of: Callable[[s.AnyCell, int], float] = token_share) -> None:
    """`sentences.json` of a score: the first words of each sentence come back, the others as `xx`."""
    shown: list[dict[str, object]] = []
    for secret in range(cell.num_secrets):
        truth, share = SENTENCES[secret % len(SENTENCES)], share_of(cell, secret)
        words = truth.split()
        kept = round(share * len(words)) if math.isfinite(share) else 0
        recovered = " ".join([*words[:kept], *["xx"] * (len(words) - kept)])
        verdict = 2 if share == 1 else int(share > 0)
        shown.append(
            {
                "secret": secret,
                "truth": [truth],
                "recovered": [recovered],
                "verdict": verdict,
                "control": ["the of the"],
            }
        )
    (folder / "sentences.json").write_text(json.dumps(shown))


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
