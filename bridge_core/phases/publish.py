"""Phase `publish`: what the world sees of the victims, and what the suite says the attacker is told. Nothing else."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.phases import sealed
from bridge_core.release import Release, read_release

TOLD, GRADIENT = "told.json", "gradient.safetensors"


@dataclass(frozen=True)
class Told:
    """The attacker's knowledge besides the release."""

    recipe: s.Recipe | None
    """None where the attacker has to guess it."""
    num_samples: int
    labels: Tensor | None
    """secrets x num_samples; None where the attacker has to find them."""
    defence: s.AnyDefence
    """Told always: what protects has to protect from those who know it."""


def run(spec: s.PublishPhase, victims: Path, out: Path) -> None:
    """Copy the adapter folders; tell what the suite says, and with `exact_gradient`, phase 0's cheat, the gradients."""
    shutil.copytree(victims / sealed.RELEASE, out / sealed.RELEASE)
    secrets = [sealed.unseal(victims, number) for number in range(len(sealed.releases(out)))]
    given = spec.knowledge.secret_labels == "given"
    told = {
        "recipe": s.content(spec.recipe) if spec.knowledge.optimiser == "given" else None,
        "num_samples": spec.recipe.num_samples,
        "labels": [tensors["labels"].tolist() for tensors, _ in secrets] if given else None,
    }
    if not s.is_undefended(spec.defence):
        told["defence"] = s.content(spec.defence)
    (out / TOLD).write_text(json.dumps(told, indent=1))
    if spec.exact_gradient:
        gradients = [one for _, one in secrets]
        save_file({name: torch.stack([one[name] for one in gradients]) for name in gradients[0]}, out / GRADIENT)


def read_releases(folder: Path) -> list[Release]:
    """All releases of a `publish` or `adapter` artefact."""
    return [read_release(path) for path in sealed.releases(folder)]


def read_told(folder: Path) -> Told:
    """What the attacker is told."""
    told = json.loads((folder / TOLD).read_text())
    recipe = None if told["recipe"] is None else s.Recipe.model_validate_json(json.dumps(told["recipe"]))
    labels = None if told["labels"] is None else torch.tensor(told["labels"])
    defence = TypeAdapter[s.AnyDefence](s.AnyDefence).validate_python(told.get("defence", {"kind": "none"}))
    return Told(recipe, told["num_samples"], labels, defence)


def read_exact_gradient(folder: Path) -> dict[str, Tensor]:
    """The disclosed gradients (secrets x out x in) by module; only the bridge `oracle` asks for them."""
    return load_file(folder / GRADIENT)
