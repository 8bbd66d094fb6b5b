"""Phase `base`: the public model that the victim adapts."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_core import spec as s
from bridge_core.augment import moved
from bridge_core.data import Images, is_heldout, read_images
from bridge_core.errors import Diverged
from bridge_core.facts import Fact, write_facts
from bridge_core.models import Shape, build, centred, logits, save_base
from bridge_core.phases import Progress, proxy
from bridge_core.seeding import generator

MOST_HELDOUT = 2000


def run(spec: s.BasePhase, proxy_folder: Path, out: Path, progress: Progress) -> None:
    """Build or load the model; train a built-in one on the proxy's training part; measure it on the held-out part."""
    images = read_images(proxy_folder / proxy.FILE)
    heldout = is_heldout(images)
    shape = Shape(images.pixels.shape[1], images.pixels.shape[2], spec.num_classes or images.num_classes)
    model = build(spec.model, shape)
    centred(model, _scaled(images[~heldout].pixels))
    facts: list[Fact] = []
    if not isinstance(spec.model, s.FolderModel | s.HubModel):
        facts = [
            Fact("loss", x, step=i) for i, x in pretrain(model, images[~heldout], spec.model.pretraining, progress)
        ]
    accuracy = measure(model, images[heldout])
    save_base(model, spec.model, shape, out)
    write_facts([*facts, Fact("heldout_accuracy", accuracy), Fact("num_classes", shape.num_classes)], out)


def pretrain(model: nn.Module, images: Images, knobs: s.Pretraining, progress: Progress) -> list[tuple[int, float]]:
    """AdamW with a one-cycle learning rate on images in random poses, in place.

    Returns about a hundred points (step, loss). Raises `Diverged` when the loss is no longer finite.
    """
    steps = knobs.epochs * -(-len(images) // knobs.batch_size)
    if not steps:
        return []
    optimiser = torch.optim.AdamW(model.parameters(), knobs.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, knobs.learning_rate, total_steps=steps)
    rng, curve = generator(0, "pretraining"), []
    orders = (torch.randperm(len(images), generator=rng) for _ in range(knobs.epochs))
    for step, index in enumerate((part for order in orders for part in order.split(knobs.batch_size)), 1):
        loss = F.cross_entropy(logits(model, moved(_scaled(images.pixels[index]), rng)), images.labels[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % max(1, steps // 100) == 0:
            curve.append((step, float(loss.detach())))
            progress(step, steps, loss=curve[-1][1])
    if curve and not torch.isfinite(torch.tensor(curve[-1][1])):
        raise Diverged(f"the base model's loss became {curve[-1][1]}", "a finite loss", "lower its learning_rate")
    return curve


def measure(model: nn.Module, images: Images) -> float:
    """Share of images that the model classifies as labelled."""
    part = images[torch.arange(min(len(images), MOST_HELDOUT))]
    with torch.no_grad():
        guesses = torch.cat([logits(model, _scaled(pixels)).argmax(1) for pixels in part.pixels.split(256)])
    return float((guesses == part.labels).double().mean())


def _scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 255
