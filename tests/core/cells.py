"""Cells run phase by phase in folders, without a harness."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_core import phases
from bridge_core import spec as s
from tests.core.examples import no_progress

TINY: dict[str, Any] = {
    "model": {"kind": "vit", "depth": 1, "width": 16, "heads": 2, "patch": 4, "pretraining": {"epochs": 1}},
    "rank": 3,
    "dataset": {"proxy": "digits", "private": "digits", "image_size": 8},
    "prior": "none",
    "recipe": {},
    "bridge": "direct",
    "inversion": {"kind": "inverting_gradients", "iterations": 20, "restarts": 1},
    "knowledge": {},
    "seed": 0,
    "num_secrets": 2,
}


def tiny_cell(**changes: Any) -> s.Cell:
    """A cell that runs in a second."""
    return s.Cell.model_validate_json(json.dumps(TINY | changes))


def inputs_of(stage: phases.Stage, folder: Path) -> dict[str, Path]:
    """Where a stage finds what it reads."""
    return {role: folder / name for role, name in stage.inputs.items()}


def run_cell(cell: s.AnyCell, folder: Path) -> Mapping[str, phases.Stage]:
    """Run the stages of `cell`, each into the folder of its name; a folder that is there is kept."""
    stages = {stage.name: stage for stage in phases.stages(cell)}
    for name, stage in stages.items():
        if not (folder / name).exists():
            run_stage(stage, folder, folder / name)
    return stages


def run_stage(stage: phases.Stage, folder: Path, out: Path) -> None:
    """Run one stage into `out`."""
    out.mkdir(parents=True)
    phases.run(stage.spec, inputs_of(stage, folder), out, no_progress)
