"""Galleries of the HTML page: the pictures of `reconstruction_figure`, each as a PNG of its own pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.reading import Reader
from reports.reconstruction_figure import MOST_SECRETS, Panel, Strip, read_panels, title

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Picture:
    """One picture; `data` is its PNG in base64, empty where the bridge was not run at that rank."""

    data: str
    psnr: str
    secret: int
    first: bool
    """Of its panel."""


@dataclass(frozen=True)
class Head:
    """A panel's rank, and how many pictures wide it is."""

    rank: int
    width: int


@dataclass(frozen=True)
class Gallery:
    """One block: rows are original, mean image and bridges; columns the secrets of each rank."""

    title: str
    panels: tuple[Head, ...]
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]


def galleries(reader: Reader) -> Iterator[Gallery]:
    """One for each model, data, recipe, inversion, prior and knowledge; the first seed's pictures."""
    for labels, seed, panels in read_panels(reader):
        names = list(dict.fromkeys(name for panel in panels for name in panel.strips))
        widths = [_width(panel) for panel in panels]
        rows = tuple((name, tuple(_row(name, panels, widths))) for name in names)
        heads = tuple(Head(panel.rank, width) for panel, width in zip(panels, widths, strict=True))
        yield Gallery(title(labels, seed), heads, rows)


def _width(panel: Panel) -> int:
    return min(MOST_SECRETS, *(len(strip.images) for strip in panel.strips.values()))


def _row(name: str, panels: Sequence[Panel], widths: Sequence[int]) -> Iterator[Picture]:
    for panel, width in zip(panels, widths, strict=True):
        strip = panel.strips.get(name)
        for secret in range(width):
            if strip is None:
                yield Picture("", "", secret, secret == 0)
            else:
                yield Picture(_png(strip.images[secret, 0]), _psnr(strip, secret), secret, secret == 0)


def _psnr(strip: Strip, secret: int) -> str:
    return f"{strip.psnr[secret]:.1f}" if strip.psnr is not None and secret < len(strip.psnr) else ""


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    rows = pixels.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(rows if rows.shape[-1] == 3 else rows[..., 0]).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
