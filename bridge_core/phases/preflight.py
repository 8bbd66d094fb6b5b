"""What can be known to fail before anything is written: modules that do not match, ranks too large, a fit too big."""

from collections.abc import Iterable
from pathlib import Path
from typing import assert_never

import torch

from bridge_core import spec as s
from bridge_core.data import count_classes
from bridge_core.decoders.linear import ridge_bytes
from bridge_core.decoders.stacked import stacked_bytes
from bridge_core.errors import InvalidInput, UnknownName
from bridge_core.gradients import weight_matrix
from bridge_core.models import Shape, adapted_modules, build
from bridge_core.victim import check_rank

MOST_RIDGE_BYTES = 8 << 30


def run(cells: Iterable[s.Cell]) -> None:
    """Raise `InvalidInput` for the first cell that can not work."""
    seen: set[tuple[s.Model, int, s.Dataset, s.Recipe, s.Bridge]] = set()
    heads: dict[s.Dataset, int] = {}
    for cell in cells:
        if cell.dataset not in heads:
            heads[cell.dataset] = _num_classes(cell.dataset)
        _check_inversion(cell.recipe, cell.inversion, cell.knowledge)
        _check_prior(cell.prior)
        point = (cell.model, cell.rank, cell.dataset, cell.recipe, cell.bridge)
        if point not in seen:
            seen.add(point)
            _check(*point, heads[cell.dataset])


def _check(model: s.Model, rank: int, dataset: s.Dataset, recipe: s.Recipe, bridge: s.Bridge, num_classes: int) -> None:
    if not recipe.starts_at_zero and not isinstance(bridge, s.Oracle):
        found = (
            f"bridge {bridge.kind} on init_lora_weights {recipe.lora.init_lora_weights}, where B does not start at zero"
        )
        raise InvalidInput(found, "`default` or `gaussian`", "exclude the cell, or use the bridge `oracle`")
    shape = Shape(dataset.channels, dataset.image_size, num_classes)
    with torch.device("meta") if _built_in(model) else torch.device("cpu"):
        built = build(model, shape)
    modules = adapted_modules(built, recipe.lora.target_modules or model.target_modules)
    check_rank(built, modules, rank)
    if isinstance(bridge, s.Ridge):
        shapes = {name: weight_matrix(built.get_submodule(name)) for name in modules}
        if (size := _fit_bytes(bridge, shapes, rank)) > MOST_RIDGE_BYTES:
            found = f"ridge at rank {rank} on {model.kind} needs {size / 2**30:.0f} GiB"
            remedy = "use `row_mmse`, fewer target_modules, or `inputs: all` with few components"
            raise InvalidInput(found, f"at most {MOST_RIDGE_BYTES >> 30} GiB", remedy)


def _fit_bytes(bridge: s.Ridge, shapes: dict[str, tuple[int, int]], rank: int) -> int:
    match bridge.inputs:
        case "module":
            return ridge_bytes(shapes, rank)
        case "all":
            return stacked_bytes(shapes, rank, bridge.components, bridge.num_pairs)
        case _:
            assert_never(bridge.inputs)


def _num_classes(dataset: s.Dataset) -> int:
    num_classes = dataset.num_classes or count_classes(dataset.proxy)
    if (labels := count_classes(dataset.private)) > num_classes:
        found = f"{labels} classes in the private source, a head of {num_classes}"
        raise InvalidInput(found, "a head for every private label", "set `num_classes` of the data set")
    return num_classes


def _check_prior(prior: s.Prior) -> None:
    """A pipeline's source that looks like a path has to be a folder; a hub id is told by its use alone."""
    if not isinstance(prior, s.Sds | s.Guide) or not isinstance(prior.diffusion, s.PipelineDiffusion):
        return
    source = prior.diffusion.source
    if source.startswith((".", "/", "~")) and not (Path(source).expanduser() / "model_index.json").is_file():
        remedy = "give a folder that diffusers' `save_pretrained` wrote, or a hub id"
        raise UnknownName(f"the prior's pipeline {source} has no model_index.json", "a pipeline's folder", remedy)


def _check_inversion(recipe: s.Recipe, inversion: s.Inversion, knowledge: s.Knowledge) -> None:
    if not isinstance(inversion, s.GaussNewton):
        if knowledge.secret_labels == "searched":
            remedy = "use `gauss_newton`, which needs no label, or give the labels"
            raise InvalidInput(f"inversion {inversion.kind} with labels to be searched", "labels", remedy)
        return
    if not recipe.starts_at_zero:
        found = f"gauss_newton on init_lora_weights {recipe.lora.init_lora_weights}, where it has no start"
        raise InvalidInput(found, "`default` or `gaussian`", "use `dlg` or `inverting_gradients`")


def _built_in(model: s.Model) -> bool:
    return not isinstance(model, s.FolderModel | s.HubModel)
