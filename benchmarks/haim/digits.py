"""Odd and even digits of 8x8 pixels, with strangers and public images apart from the training sets."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bridge_core import spec as s
from bridge_core.data import Images, load_images, private_part, proxy_part
from bridge_core.seeding import generator

SHAPE = (1, 8, 8)
NUM_PUBLIC = 256


@dataclass(frozen=True)
class Split:
    """What a case works on; no image stands twice."""

    images: Tensor
    labels: Tensor
    """1 for odd digits."""
    strangers: Tensor
    """As many private images that no victim trains on."""
    public: Tensor


def split(count: int, seed: int) -> Split:
    """`count` secret digits, as many strangers, and public ones."""
    whole = load_images(s.Digits(), SHAPE[1], SHAPE[0])
    proxy = proxy_part(whole)
    private = private_part(whole, proxy)
    order = torch.randperm(len(private), generator=generator(seed, "haim"))
    chosen, strange = private[order[:count]], private[order[count : 2 * count]]
    return Split(scaled(chosen), chosen.labels % 2, scaled(strange), scaled(proxy)[:NUM_PUBLIC])


def scaled(images: Images) -> Tensor:
    """Pixels in [0, 1]."""
    return images.pixels.float() / 255


def parity_folder(folder: Path) -> Path:
    """All digits as an image folder of two classes, for cells of the benchmark."""
    whole = load_images(s.Digits(), SHAPE[1], SHAPE[0])
    for number, (pixels, label) in enumerate(zip(whole.pixels, whole.labels, strict=True)):
        place = folder / ("odd" if int(label) % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(place / f"{number:04d}.png")
    return folder
