"""A zoo: spectra of adapters whose number of samples is known, as a folder of JSON and safetensors: no pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, NotApplicable, UnknownName
from bridge_core.estimate.spectra import spectra
from bridge_core.guess import guess_recipe
from bridge_core.release import Release

ZOO_FILE, SPECTRA_FILE = "zoo.json", "spectra.safetensors"
MOST_BYTES = 1 << 30

Array = np.ndarray


@dataclass(frozen=True)
class Origin:
    """How a zoo's adapters were trained: what another adapter has to share for the zoo to speak of it."""

    recipe: s.Recipe
    """With the smallest number of samples of the zoo."""
    full_batch: bool
    """All samples in every step."""
    scales: Mapping[str, float]
    """s of W = W0 + s B A, by module."""
    shapes: Mapping[str, tuple[int, int, int]]
    """(out, rank, in) by module."""
    dtype: str


@dataclass(frozen=True)
class Zoo:
    """Adapters in rows: the number of samples, the micro-dataset, and the spectra by `<module>/<kind>`."""

    sizes: Array
    groups: Array
    """Micro-dataset of each adapter: splits never part it."""
    spectra: Mapping[str, Array]
    origin: Origin

    def __len__(self) -> int:
        return len(self.sizes)

    def only(self, index: Array) -> "Zoo":
        """Some of the adapters."""
        return Zoo(self.sizes[index], self.groups[index], {k: v[index] for k, v in self.spectra.items()}, self.origin)

    def relabelled(self, sizes: Array) -> "Zoo":
        """The same adapters under other numbers of samples: shuffled ones must teach nothing."""
        return Zoo(sizes, self.groups, self.spectra, self.origin)

    def features_of(self, release: Release) -> dict[str, Array]:
        """Spectra of another adapter, as a zoo of one row has them.

        Raises `NotApplicable` where its modules or ranks are not the zoo's.
        """
        if differing := shape_mismatch(release, self.origin):
            remedy = "build a zoo of this base model and rank"
            raise NotApplicable(f"the adapter is unlike the zoo's: {differing}", "the same modules and ranks", remedy)
        found = spectra(release, self.origin.recipe)
        return {key: found[key].numpy()[None] for key in self.spectra}


def make_zoo(
    releases: Sequence[Release], sizes: Sequence[int], groups: Sequence[int], recipe: s.Recipe, *, full_batch: bool
) -> Zoo:
    """A zoo from adapters of one base model, rank and recipe."""
    rows = [spectra(one, recipe) for one in releases]
    first = releases[0]
    origin = Origin(
        recipe,
        full_batch,
        {name: one.scale for name, one in first.factors.items()},
        shapes_of(first),
        str(first.dtype).removeprefix("torch."),
    )
    table = {key: np.stack([row[key].numpy() for row in rows]) for key in rows[0]}
    return Zoo(np.array(sizes), np.array(groups), table, origin)


def shapes_of(release: Release) -> dict[str, tuple[int, int, int]]:
    """(out, rank, in) by module."""
    return {name: (len(one.b), len(one.a), one.a.shape[1]) for name, one in release.factors.items()}


def shape_mismatch(release: Release, origin: Origin) -> str:
    """The first module or shape in which a release differs from a zoo; empty where none does."""
    mine = shapes_of(release)
    if unknown := sorted(mine.keys() ^ origin.shapes.keys()):
        return f"module {unknown[0][:80]} stands in one of them alone"
    for name, shape in origin.shapes.items():
        if mine[name] != tuple(shape):
            return f"{name[:80]} is (out, rank, in) = {mine[name]}, the zoo's {tuple(shape)}"
    return ""


def recipe_mismatch(release: Release, origin: Origin) -> tuple[str, ...]:
    """In what a release's recipe, as told from its files alone, differs from the zoo's: each a line to warn with."""
    found: list[str] = []
    scales = {name: one.scale for name, one in release.factors.items()}
    if any(abs(scales[n] / x - 1) > 1e-6 for n, x in origin.scales.items() if n in scales):
        found.append("its scale (lora_alpha, rank, rsLoRA) is another one than the zoo's")
    if (dtype := str(release.dtype).removeprefix("torch.")) != origin.dtype:
        found.append(f"it is stored as {dtype}, the zoo as {origin.dtype}")
    guess, wanted = guess_recipe(release), origin.recipe
    if guess.recipe.optimiser.kind != wanted.optimiser.kind:
        found.append(f"it looks trained by {guess.recipe.optimiser.kind}, the zoo by {wanted.optimiser.kind}")
    elif guess.trusted and isinstance(guess.recipe.optimiser, s.AdamW):
        mine, theirs = guess.recipe.optimiser.learning_rate, wanted.optimiser.learning_rate
        if abs(mine / theirs - 1) > 0.01 or guess.recipe.steps != wanted.steps:
            steps = (guess.recipe.steps, wanted.steps)
            found.append(f"it looks like {steps[0]} AdamW steps at {mine:g}, the zoo has {steps[1]} at {theirs:g}")
    return tuple(found)


def save_zoo(zoo: Zoo, folder: Path) -> None:
    """Write a zoo into `folder`."""
    tensors = {f"spectrum/{key}": torch.from_numpy(value).contiguous() for key, value in zoo.spectra.items()}
    tensors |= {"sizes": torch.from_numpy(zoo.sizes), "groups": torch.from_numpy(zoo.groups)}
    save_file(tensors, folder / SPECTRA_FILE)
    origin = zoo.origin
    record = {
        "recipe": s.content(origin.recipe),
        "full_batch": origin.full_batch,
        "scales": dict(origin.scales),
        "shapes": {name: list(shape) for name, shape in origin.shapes.items()},
        "dtype": origin.dtype,
    }
    (folder / ZOO_FILE).write_text(json.dumps(record, indent=1))


def read_zoo(folder: Path) -> Zoo:
    """Read what `save_zoo` wrote. Raises `UnknownName` where it is not there, `InvalidInput` where it is no zoo."""
    for name in (ZOO_FILE, SPECTRA_FILE):
        if not (folder / name).is_file():
            raise UnknownName(
                f"no {name} in {folder}", "a zoo's folder", "`bridge zoo build SUITE --out DIR` makes one"
            )
        if (folder / name).stat().st_size > MOST_BYTES:
            raise InvalidInput(f"{name} in {folder} has more than {MOST_BYTES >> 20} MiB", "a zoo's file")
    try:
        return _read(folder)
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, ValidationError) as error:
        remedy = "build it again with `bridge zoo build SUITE --out DIR`"
        raise InvalidInput(f"{folder} holds no whole zoo ({type(error).__name__})", "a zoo's folder", remedy) from error


def _read(folder: Path) -> Zoo:
    record = json.loads((folder / ZOO_FILE).read_text())
    tensors = {name: one.numpy() for name, one in load_file(folder / SPECTRA_FILE).items()}
    table = {name.removeprefix("spectrum/"): one for name, one in tensors.items() if name.startswith("spectrum/")}
    sizes, groups = tensors["sizes"], tensors["groups"]
    if not table or len(groups) != len(sizes) or any(one.ndim != 2 or len(one) != len(sizes) for one in table.values()):
        raise ValueError("rows that do not match")
    origin = Origin(
        s.Recipe.model_validate_json(json.dumps(record["recipe"])),
        bool(record["full_batch"]),
        {name: float(x) for name, x in record["scales"].items()},
        {name: (int(out), int(rank), int(width)) for name, (out, rank, width) in record["shapes"].items()},
        str(record["dtype"]),
    )
    return Zoo(sizes, groups, table, origin)
