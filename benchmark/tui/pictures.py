"""Truth and reconstruction out of the store, and images as half-block characters; numpy is imported when asked for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    """(height, width, 3)"""

KEY = re.compile(r"[0-9a-f]{64}")
PARTS = {"truth": "truth", "recovered": "recovered", "mean_image": "mean image"}
"""Tensor -> caption, in the order of drawing."""


@dataclass(frozen=True)
class Gallery:
    """Pictures of one cell: caption -> secrets -> images of that secret; `scores` are PSNR in dB, by secret."""

    images: "dict[str, list[list[Image]]]"
    scores: dict[int, float]

    @property
    def num_secrets(self) -> int:
        """Number of secrets of the cell."""
        return len(next(iter(self.images.values())))


def artefact_folder(store: Path, key: str) -> Path | None:
    """Folder of an artefact; None for a key that is no key."""
    return store / "artefacts" / key[:2] / key if KEY.fullmatch(key) else None


def load_gallery(store: Path, key: str) -> Gallery | str:
    """The pictures of the score artefact `key`, or why there are none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    folder = artefact_folder(store, key)
    path = folder / "images.safetensors" if folder else None
    if folder is None or path is None or not path.is_file():
        return "no pictures in the store yet"
    try:
        tensors = load_file(path)
        images = {caption: _unpack(tensors[name]) for name, caption in PARTS.items() if name in tensors}
    except (OSError, SafetensorError, ValueError) as fault:
        return f"the pictures can not be read: {fault}"
    return Gallery(images, _scores(folder)) if images else "the artefact holds no pictures"


def _scores(folder: Path) -> dict[int, float]:
    """PSNR in dB by secret, where the facts tell it."""
    from bridge_core.facts import read_facts

    try:
        return {
            fact.secret: fact.value for fact in read_facts(folder) if fact.name == "psnr" and fact.secret is not None
        }
    except (OSError, ValueError, TypeError):
        return {}


def _unpack(tensor: "NDArray[np.uint8]") -> "list[list[Image]]":
    """(secrets, samples, channels, height, width) -> images with three channels."""
    import numpy as np

    if tensor.ndim != 5 or tensor.dtype != np.uint8 or tensor.shape[2] not in (1, 3):
        raise ValueError(f"tensor of shape {tensor.shape} and type {tensor.dtype}")
    coloured = np.broadcast_to(tensor, (*tensor.shape[:2], 3, *tensor.shape[3:])) if tensor.shape[2] == 1 else tensor
    return [[np.moveaxis(image, 0, -1) for image in secret] for secret in coloured]


def resize(image: "Image", columns: int, lines: int) -> "Image":
    """Enlarge or reduce (mean over blocks) by a whole factor, as large as `lines` of half-blocks hold."""
    import numpy as np

    height, width = image.shape[:2]
    grow = min(columns // width, 2 * lines // height)
    if grow >= 1:
        return np.repeat(np.repeat(image, grow, axis=0), grow, axis=1)
    shrink = max(-(-width // max(1, columns)), -(-height // max(1, 2 * lines)))
    height, width = height // shrink * shrink, width // shrink * shrink
    if not height or not width:
        return image[:1, :1]
    blocks = image[:height, :width].reshape(height // shrink, shrink, width // shrink, shrink, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def half_blocks(image: "Image") -> list[list[Segment]]:
    """One line of segments for two rows of pixels: `▀` in the upper pixel's colour, on the lower one's."""
    import numpy as np

    if image.shape[0] % 2:
        image = np.concatenate([image, image[-1:]])
    pixels: list[list[tuple[int, int, int]]] = image.tolist()
    return [_line(upper, lower) for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)]


def _line(upper: Sequence[tuple[int, int, int]], lower: Sequence[tuple[int, int, int]]) -> list[Segment]:
    pairs = zip(upper, lower, strict=True)
    return [Segment("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*low))) for top, low in pairs]
