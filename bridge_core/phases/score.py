"""Phase `score`: reconstruction against truth, with the controls beside it. The only phase that opens the secret."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.facts import Fact, write_facts
from bridge_core.lora import cosine_floor, project
from bridge_core.metrics import cosines, matched, scores
from bridge_core.models import load_base
from bridge_core.phases import attack, publish, statistics
from bridge_core.phases.victim import read_secret
from bridge_core.statistics import Statistics, read_statistics
from bridge_core.victim import Secret

IMAGES_FILE, GALLERY_FILE = "images.safetensors", "gallery.png"
GALLERY_PIXELS, MOST_SHOWN = 96, 12


def run(spec: s.ScorePhase, inputs: Mapping[str, Path], out: Path) -> None:
    """Write scores, controls, the images as bytes, and a picture: a row each of truth, recovered, mean image, start."""
    model, _ = load_base(spec.model, inputs["base"])
    recovered, known = attack.read_recovered(inputs["attack"]), read_statistics(inputs["statistics"] / statistics.FILE)
    secrets = [read_secret(inputs["victim"], number) for number in range(len(recovered["images"]))]
    truth = torch.stack([one.images for one in secrets])
    rows = {"truth": truth, "recovered": _ordered(truth, recovered["images"])}
    rows["mean_image"] = known.mean_image.expand_as(truth)
    if "start" in recovered:
        rows["start"] = _ordered(truth, recovered["start"])
    suffixes = {"recovered": "", "mean_image": "_mean_image", "start": "_start"}
    facts = [fact for row, end in suffixes.items() if row in rows for fact in image_facts(truth, rows[row], model, end)]
    if "labels" in recovered:
        facts += label_facts(secrets, recovered["labels"])
    if (decoded := attack.read_decoded(inputs["attack"])) is not None:
        facts += gradient_facts(
            secrets, decoded, known, publish.read_releases(inputs["victim"])[0].measurement_matrices()
        )
    pixels = {name: to_bytes(row) for name, row in rows.items()}
    save_file({name: row.contiguous() for name, row in pixels.items()}, out / IMAGES_FILE)
    gallery(pixels).save(out / GALLERY_FILE)
    write_facts(facts, out)


def _ordered(truth: Tensor, guess: Tensor) -> Tensor:
    return torch.stack([matched(t, g) for t, g in zip(truth, guess, strict=True)])


def image_facts(truth: Tensor, guess: Tensor, model: nn.Module, suffix: str) -> list[Fact]:
    """PSNR, SSIM, MSE and base-feature distance of every secret, mean over its images."""
    measured = scores(truth.flatten(0, 1), guess.flatten(0, 1), model)
    return [
        Fact(f"{name}{suffix}", float(value), secret=number)
        for name, values in vars(measured).items()
        for number, value in enumerate(values.reshape(truth.shape[:2]).mean(1))
    ]


def label_facts(secrets: list[Secret], found: Tensor) -> list[Fact]:
    """Share of every secret's labels that the inversion found, whatever their order."""
    facts: list[Fact] = []
    for number, (secret, labels) in enumerate(zip(secrets, found, strict=True)):
        missed = (Counter(secret.labels.tolist()) - Counter(labels.tolist())).total()
        facts.append(Fact("labels_found", 1 - missed / len(labels), secret=number))
    return facts


def gradient_facts(
    secrets: list[Secret], decoded: dict[str, Tensor], known: Statistics, matrices: dict[str, Tensor]
) -> list[Fact]:
    """Cosine of the decoded with the victim's own gradient, beside floor, projection and mean proxy gradient."""
    facts: list[Fact] = []
    for module, guess in decoded.items():
        truth, a = torch.stack([one.gradients[module] for one in secrets]), matrices[module]
        columns = {
            "gradient_cosine": cosines(truth, guess),
            "gradient_cosine_projection": cosines(truth, project(truth @ a.T, a)),
            "gradient_cosine_mean_gradient": cosines(truth, known.mean_gradient[module]),
            "gradient_cosine_floor": torch.full((len(secrets),), cosine_floor(len(a), a.shape[1])),
        }
        for name, values in columns.items():
            facts += [Fact(name, float(value), secret=number, module=module) for number, value in enumerate(values)]
    return facts


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8; what leaves the box is cut, what is no number is black."""
    return (images.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)


def gallery(rows: Mapping[str, Tensor]) -> Image.Image:
    """One picture: a row a kind, a column a secret's image, enlarged without smoothing."""
    strips = [row.flatten(0, 1)[:MOST_SHOWN] for row in rows.values()]
    grid = torch.cat([torch.cat(list(strip), dim=2) for strip in strips], dim=1)
    array = grid.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    zoom = max(1, GALLERY_PIXELS // strips[0].shape[-1])
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
