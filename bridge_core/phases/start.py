"""Phase `start`: train the amortised inversion that Gauss-Newton starts from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.data import is_heldout, read_images
from bridge_core.errors import NotApplicable
from bridge_core.facts import Fact, write_facts
from bridge_core.inversion.amortised import Start, examples, read_start, save_start, train
from bridge_core.models import load_base
from bridge_core.phases import Progress, decoder, proxy, publish
from bridge_core.release import Release
from bridge_core.seeding import generator
from bridge_core.simulate import stream

HELDOUT_PAIRS = 4096


def run(spec: s.StartPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """One network for each distinct set of released A; the held-out part gives the covariance of its errors."""
    model, _ = load_base(spec.model, inputs["base"])
    images = read_images(inputs["proxy"] / proxy.FILE)
    training, heldout = images[~is_heldout(images)], images[is_heldout(images)]
    facts: list[Fact] = []
    for number, a in enumerate(decoder.distinct(publish.read_releases(inputs["adapter"]))):
        batches = stream(model, training, tuple(a), spec.start.num_pairs, generator(number, "start"))
        x, y = examples(batches, a)

        def report(step: int, steps: int, loss: float) -> None:
            facts.append(Fact("loss", loss, step=step))
            progress(step, steps, loss=loss)

        net = train(x, y, spec.start, number, report)
        batches = stream(model, heldout, tuple(a), HELDOUT_PAIRS, generator(number, "start", "heldout"))
        x, y = examples(batches, a)
        with torch.no_grad():
            error = y - net(x.float())
        shape = (images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3])
        save_start(Start(net, shape, error.T @ error / len(error)), out / f"{number:03d}.safetensors")
        (out / f"{number:03d}.a.json").write_text(_identity(a))
        facts.append(Fact("heldout_psnr", float(-10 * error.square().mean(1).log10().mean())))
    write_facts([*facts, Fact("num_pairs", spec.start.num_pairs)], out)


def serving(folder: Path, release: Release) -> Start:
    """The start that was trained for this release's A.

    Raises `NotApplicable` where there is none.
    """
    wanted = _identity(release.measurement_matrices())
    for path in sorted(folder.glob("*.a.json")):
        if path.read_text() == wanted:
            return read_start(folder / path.name.replace(".a.json", ".safetensors"))
    raise NotApplicable("a release's A is no start's", "the A it was trained for", "train a start on this release")


def _identity(a: Mapping[str, Tensor]) -> str:
    return json.dumps({name: hashlib.sha256(one.contiguous().numpy().tobytes()).hexdigest() for name, one in a.items()})
