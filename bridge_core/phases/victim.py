"""Phase `victim`: adapters trained on secret images, and the sealed truth beside them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from bridge_core import spec as s
from bridge_core.data import Images, read_images
from bridge_core.defence.private import epsilon
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.models import load_base
from bridge_core.phases import Progress, adapter, private, sealed
from bridge_core.seeding import generator
from bridge_core.utility import LEAST, MOST, adapted, utility
from bridge_core.victim import Secret, train_victim


def run(spec: s.VictimPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Train `num_secrets` adapters, each on `num_samples` private images that no other one has.

    What they are good for is measured on private images that none of them has, beside the base model.
    """
    model, shape = load_base(spec.model, inputs["base"])
    images = read_images(inputs["private"] / private.FILE)
    choice, heldout = _choose(images, spec, shape.num_classes)
    facts = _of_all(spec, model, heldout)
    for number, part in enumerate(choice):
        release = sealed.release_folder(out, number)
        fresh = inputs["adapter"] / adapter.FOLDER
        pixels, seed = part.pixels.float() / 255, spec.seed * 1000 + number
        secret = train_victim(model, fresh, pixels, part.labels, spec.recipe, release, spec.defence, seed)
        tensors = {"images": secret.images, "labels": secret.labels}
        losses = torch.tensor(secret.losses, dtype=torch.float64)
        sealed.seal(tensors | {"losses": losses}, secret.gradients, out, number)
        facts += [Fact("loss", loss, secret=number, step=i) for i, loss in enumerate(secret.losses)]
        facts += _utility(adapted(model, release), heldout, "", number)
        progress(number + 1, spec.num_secrets, loss=secret.losses[-1])
    write_facts(facts, out)


def read_secret(victim: Path, number: int) -> Secret:
    """Open the sealed truth of one secret. Only scoring, and publishing what a suite discloses, may call this."""
    tensors, gradients = sealed.unseal(victim, number)
    return Secret(tensors["images"], tensors["labels"], gradients, tuple(tensors["losses"].tolist()))


def _of_all(spec: s.VictimPhase, model: nn.Module, heldout: Images) -> list[Fact]:
    """The base model's own utility, and epsilon where there is one."""
    facts = _utility(model, heldout, "_base")
    if isinstance(spec.defence, s.DpSgd):
        facts += [Fact("epsilon", epsilon(spec.defence, spec.recipe)), Fact("delta", spec.defence.delta)]
    return facts


def _utility(model: nn.Module, heldout: Images, suffix: str, secret: int | None = None) -> list[Fact]:
    if len(heldout) < LEAST:
        return []
    found = utility(model, heldout)
    return [
        Fact(f"heldout_loss{suffix}", found.loss, secret=secret),
        Fact(f"heldout_accuracy{suffix}", found.accuracy, secret=secret),
    ]


def _choose(images: Images, spec: s.VictimPhase, num_classes: int) -> tuple[list[Images], Images]:
    """Every secret's images, and some of those that are nobody's."""
    wanted = spec.num_secrets * spec.recipe.num_samples
    if wanted > len(images):
        remedy = "lower num_secrets or num_samples, or name a larger source"
        raise InvalidInput(f"{len(images)} private images", f"{wanted} (num_secrets x num_samples)", remedy)
    if int(images.labels.max()) >= num_classes:
        found = f"private label {int(images.labels.max())}, a head of {num_classes} classes"
        raise InvalidInput(found, "every label below the number of classes", "set `num_classes` of the data set")
    order = torch.randperm(len(images), generator=generator(spec.seed, "secret"))
    secrets = order[:wanted].reshape(spec.num_secrets, -1)
    return [images[index] for index in secrets], images[order[wanted : wanted + MOST]]
