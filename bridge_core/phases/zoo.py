"""Phase `zoo`: spectra of all members in one folder, and every method cross-validated on them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from bridge_core import spec as s
from bridge_core.estimate.evaluation import Evaluation, evaluate, record
from bridge_core.estimate.members import recipe_for
from bridge_core.estimate.zoo import make_zoo, save_zoo
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import Progress, zoo_members
from bridge_core.release import read_release

EVALUATION_FILE = "evaluation.json"


def run(spec: s.ZooPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Write the zoo, its evaluation, and the evaluation's figures as facts."""
    members = [one for _, folder in sorted(inputs.items()) for one in zoo_members.read_members(folder)]
    releases = [read_release(folder) for folder, _ in members]
    sizes, groups = [one.size for _, one in members], [one.group for _, one in members]
    recipe = recipe_for(spec.recipe, min(sizes), full_batch=spec.full_batch)
    zoo = make_zoo(releases, sizes, groups, recipe, full_batch=spec.full_batch)
    save_zoo(zoo, out)
    found = evaluate(zoo, seed=spec.seed, report=progress)
    (out / EVALUATION_FILE).write_text(json.dumps([record(one) for one in found], indent=1))
    write_facts([fact for one in found for fact in _facts(one)], out)


def _facts(one: Evaluation) -> list[Fact]:
    name = one.method + ("_shuffled" if one.shuffled else "")
    figures = {"accuracy": one.accuracy.value, "mae": one.mae.value, "mape": one.mape.value}
    return [Fact(f"{name}_{figure}", value) for figure, value in figures.items() if not math.isnan(value)]
