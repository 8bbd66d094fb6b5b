"""Phase `victim`: adapters trained on secret images, and the sealed truth beside them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.data import Images, read_images
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.models import load_base
from bridge_core.phases import Progress, adapter, private
from bridge_core.seeding import generator
from bridge_core.victim import Secret, train_victim

RELEASE, SECRET = "release", "secret"


def run(spec: s.VictimPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Train `num_secrets` adapters, each on `num_samples` private images that no other one has."""
    model, shape = load_base(spec.model, inputs["base"])
    choice = _choose(read_images(inputs["private"] / private.FILE), spec, shape.num_classes)
    facts: list[Fact] = []
    for number, part in enumerate(choice):
        release = out / RELEASE / f"{number:03d}"
        fresh = inputs["adapter"] / adapter.FOLDER
        secret = train_victim(model, fresh, part.pixels.float() / 255, part.labels, spec.recipe, release)
        _seal(secret, out / SECRET / f"{number:03d}.safetensors")
        facts += [Fact("loss", loss, secret=number, step=i) for i, loss in enumerate(secret.losses)]
        progress(number + 1, spec.num_secrets, loss=secret.losses[-1])
    write_facts(facts, out)


def read_secret(victim: Path, number: int) -> Secret:
    """Open the sealed truth of one secret. Only scoring, and publishing what a suite discloses, may call this."""
    tensors: dict[str, Tensor] = load_file(victim / SECRET / f"{number:03d}.safetensors")
    gradients = {name.removeprefix("gradient/"): t for name, t in tensors.items() if name.startswith("gradient/")}
    return Secret(tensors["images"], tensors["labels"], gradients, tuple(tensors["losses"].tolist()))


def _choose(images: Images, spec: s.VictimPhase, num_classes: int) -> list[Images]:
    wanted = spec.num_secrets * spec.recipe.num_samples
    if wanted > len(images):
        remedy = "lower num_secrets or num_samples, or name a larger source"
        raise InvalidInput(f"{len(images)} private images", f"{wanted} (num_secrets x num_samples)", remedy)
    if int(images.labels.max()) >= num_classes:
        found = f"private label {int(images.labels.max())}, a head of {num_classes} classes"
        raise InvalidInput(found, "every label below the number of classes", "set `num_classes` of the data set")
    order = torch.randperm(len(images), generator=generator(spec.seed, "secret"))[:wanted]
    return [images[index] for index in order.reshape(spec.num_secrets, -1)]


def _seal(secret: Secret, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    losses = torch.tensor(secret.losses, dtype=torch.float64)
    gradients = {f"gradient/{name}": g.contiguous() for name, g in secret.gradients.items()}
    save_file({"images": secret.images, "labels": secret.labels, "losses": losses, **gradients}, path)
