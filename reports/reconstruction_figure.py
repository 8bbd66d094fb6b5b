"""Originals beside reconstructions: a row a bridge, a column a secret, ranks side by side, PSNR under each picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.figure import TEXT_WIDTH, Figure, paper_style, plain, save
from reports.reading import Reader, Row

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]
    """(secrets, samples, channels, height, width)"""

NAME = "reconstructions"
BLOCK = ("model", "dataset", "recipe", "inversion", "prior", "knowledge")
MOST_COLUMNS, MOST_SECRETS = 16, 8
LABEL_WIDTH, PSNR_HEIGHT, TITLE_HEIGHT, GAP = 0.75, 0.11, 0.2, 0.12
"""Inches."""

PICTURES = """
SELECT chosen.* EXCLUDE (kind), CASE kind WHEN 'projection' THEN 0 WHEN 'oracle' THEN 2 ELSE 1 END AS place,
    any_value(folder) AS folder,
    list(psnr ORDER BY secret) AS psnr, list(psnr_mean_image ORDER BY secret) AS psnr_mean_image
FROM chosen
JOIN cell_tasks ON cell_tasks.cell_id = chosen.cell_id AND suite = getvariable('suite') AND stage = 'score'
JOIN tasks USING (key) LEFT JOIN scores ON scores.cell_id = chosen.cell_id
WHERE finished GROUP BY ALL ORDER BY position
"""


@dataclass(frozen=True)
class Strip:
    """Pictures of one row in one panel: images of the secrets (first sample), and their PSNR in dB."""

    images: Images
    psnr: Sequence[float] | None


@dataclass
class Panel:
    """One rank: row's name -> strip."""

    rank: int
    strips: dict[str, Strip] = field(default_factory=dict[str, Strip])


def draw_reconstructions(reader: Reader, folder: Path) -> Iterator[tuple[Figure, list[Path]]]:
    """A figure for each model, data, recipe, inversion, prior and knowledge; the first seed's pictures."""
    for number, (labels, seed, panels) in enumerate(read_panels(reader), start=1):
        name = NAME if number == 1 else f"{NAME}_{number}"
        caption = f"Originals beside reconstructions, PSNR in dB under each picture ({title(labels, seed)})."
        yield Figure(name, caption), _draw(panels, folder, name)


def read_panels(reader: Reader) -> Iterator[tuple[tuple[str, ...], int, list[Panel]]]:
    """Labels of `BLOCK`, seed and pictures of each block that has any; the first seed's."""
    blocks: dict[tuple[str, ...], list[Row]] = {}
    for row in reader.rows(PICTURES):
        blocks.setdefault(tuple(row[axis] for axis in BLOCK), []).append(row)
    for labels, rows in blocks.items():
        seed = min(row["seed"] for row in rows)
        if panels := _panels(reader, [row for row in rows if row["seed"] == seed]):
            yield labels, seed, panels


def title(labels: Sequence[str], seed: int) -> str:
    """A block in words."""
    told = ", ".join(f"{axis} {label}" for axis, label in zip(BLOCK, labels, strict=True))
    return f"{told}, seed {seed}"


def _panels(reader: Reader, rows: Sequence[Row]) -> list[Panel]:
    panels: dict[int, Panel] = {}
    for row in sorted(rows, key=lambda row: (row["rank"], row["place"], row["position"])):
        images = _load(reader.folder(row["folder"]) / "images.safetensors")
        if images is None:
            continue
        panel = panels.setdefault(row["rank"], Panel(row["rank"]))
        panel.strips.setdefault("original", Strip(images["truth"], None))
        panel.strips.setdefault("mean image", Strip(images["mean_image"], row["psnr_mean_image"]))
        panel.strips[row["bridge"]] = Strip(images["recovered"], row["psnr"])
    return list(panels.values())


def _load(path: Path) -> Mapping[str, Images] | None:
    """The pictures of a score; None where they are gone or damaged: a figure is not worth a report."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    try:
        images: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError):
        return None
    wanted = {"truth", "recovered", "mean_image"}
    return images if wanted <= images.keys() and all(images[name].ndim == 5 for name in wanted) else None


def _draw(panels: Sequence[Panel], folder: Path, name: str) -> list[Path]:
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for panel in panels for name in panel.strips))
    there = min(len(strip.images) for panel in panels for strip in panel.strips.values())
    secrets = max(1, min(there, MOST_SECRETS, MOST_COLUMNS // len(panels)))
    side = min(0.62, (TEXT_WIDTH - LABEL_WIDTH - GAP * (len(panels) - 1)) / (len(panels) * secrets))
    width = LABEL_WIDTH + len(panels) * secrets * side + GAP * (len(panels) - 1)
    height = TITLE_HEIGHT + len(names) * (side + PSNR_HEIGHT)
    with paper_style():
        canvas = pyplot.figure(figsize=(width, height))
        for number, panel in enumerate(panels):
            left = LABEL_WIDTH + number * (secrets * side + GAP)
            centre = (left + secrets * side / 2) / width
            canvas.text(centre, 1 - TITLE_HEIGHT / 2 / height, f"rank {panel.rank}", ha="center", va="center")
            for line, strip in enumerate(names):
                top = TITLE_HEIGHT + line * (side + PSNR_HEIGHT)
                for secret in range(secrets):
                    corner = ((left + secret * side) / width, 1 - (top + side) / height)
                    axis = canvas.add_axes((*corner, side * 0.95 / width, side * 0.95 / height))
                    _picture(axis, panel.strips.get(strip), secret, small=side < 0.5)
        for line, strip in enumerate(names):
            middle = TITLE_HEIGHT + line * (side + PSNR_HEIGHT) + side / 2
            canvas.text(
                (LABEL_WIDTH - 0.06) / width, 1 - middle / height, plain(strip), ha="right", va="center", fontsize=7
            )
        return save(canvas, folder, name)


def _picture(axis: Axes, strip: Strip | None, secret: int, small: bool) -> None:
    axis.set_axis_off()
    if strip is None:
        return
    pixels = strip.images[secret, 0].transpose(1, 2, 0)
    axis.imshow(
        pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="none"
    )
    if strip.psnr is not None and secret < len(strip.psnr):
        text = f"{strip.psnr[secret]:.1f}"
        axis.text(0.5, -0.03, text, transform=axis.transAxes, ha="center", va="top", fontsize=5 if small else 6)
