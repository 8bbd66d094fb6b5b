"""Proxy images made less like themselves, so that what is fitted on them serves secrets the base model never saw.

Every image of a batch is treated apart from the others, and all of them at once. Images in [0, 1] go in and come out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

MAX_TURN, MAX_SHIFT, MAX_ZOOM = 0.26, 0.12, 0.12
"""A pose: radians, share of the side, share of the scale."""
BROAD_TURN, BROAD_SHIFT, BROAD_ZOOM = 0.6, 0.2, 0.35
PLAIN_SHARE, RANDOM_LABELS = 0.25, 0.5
"""Shares of images that `broad` leaves in a plain pose, and that are given any label."""


@dataclass(frozen=True)
class Labelled:
    """A batch of images in [0, 1] with their labels."""

    images: Float[Tensor, "n channels height width"]
    labels: Int64[Tensor, "n"]


def moved(
    images: Float[Tensor, "n c h w"],
    rng: torch.Generator,
    turn: float = MAX_TURN,
    shift: float = MAX_SHIFT,
    zoom: float = MAX_ZOOM,
) -> Float[Tensor, "n c h w"]:
    """Each image turned, shifted and zoomed at random (bilinear, edges continued)."""
    n = len(images)
    angle, size = ((torch.rand(n, generator=rng) * 2 - 1) * most for most in (turn, zoom))
    offset = (torch.rand(n, 2, generator=rng) * 2 - 1) * 2 * shift
    scale = 1 + size
    rows = torch.stack([scale * angle.cos(), -scale * angle.sin(), scale * angle.sin(), scale * angle.cos()], 1)
    affine = torch.cat([rows.reshape(n, 2, 2), offset[:, :, None]], 2)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def mislabelled(batch: Labelled, num_classes: int, rng: torch.Generator) -> Labelled:
    """The images as they are; half of the labels are drawn from all `num_classes`."""
    strange = torch.randint(num_classes, batch.labels.shape, generator=rng)
    return Labelled(batch.images, torch.where(_drawn(batch.images, RANDOM_LABELS, rng), strange, batch.labels))


def broad(batch: Labelled, num_classes: int, rng: torch.Generator) -> Labelled:
    """Mixtures, flips, wide poses, edges, thresholds, blur, gamma and inversion, each of a share of the images.

    A quarter keeps a plain pose. Half of the labels are drawn from all `num_classes`: a secret's need not fit its
    picture.
    """
    images = batch.images
    for share, change in _CHANGES:
        images = _some(images, change(images, rng), _drawn(images, share, rng))
    images = _some(images, moved(batch.images, rng), _drawn(images, PLAIN_SHARE, rng)).clamp(0, 1)
    return mislabelled(Labelled(images, batch.labels), num_classes, rng)


def _drawn(images: Tensor, share: float, rng: torch.Generator) -> Bool[Tensor, "n"]:
    return torch.rand(len(images), generator=rng) < share


def _some(one: Tensor, other: Tensor, chosen: Bool[Tensor, "n"]) -> Tensor:
    return torch.where(chosen[:, None, None, None], other, one)


def _uniform(images: Tensor, low: float, high: float, rng: torch.Generator) -> Float[Tensor, "n 1 1 1"]:
    return (low + (high - low) * torch.rand(len(images), generator=rng))[:, None, None, None]


def _other(images: Tensor, rng: torch.Generator) -> Tensor:
    return images[torch.randperm(len(images), generator=rng)]


def _blended(images: Tensor, rng: torch.Generator) -> Tensor:
    return torch.lerp(images, _other(images, rng), _uniform(images, 0.0, 1.0, rng))


def _pasted(images: Tensor, rng: torch.Generator) -> Tensor:
    """A rectangle of another image, of sides from none to all."""
    inside = torch.ones(())
    for axis, side in ((2, images.shape[2]), (3, images.shape[3])):
        shape = [1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1]
        place = ((torch.arange(side) + 0.5) / side).reshape(shape)
        ends = [_uniform(images, 0.0, 1.0, rng) for _ in range(2)]
        inside = inside * (place > torch.minimum(*ends)) * (place < torch.maximum(*ends))
    return torch.lerp(images, _other(images, rng), inside)


def _flipped(images: Tensor, rng: torch.Generator) -> Tensor:
    return _some(images.flip(2), images.flip(3), _drawn(images, 0.5, rng))


def _far(images: Tensor, rng: torch.Generator) -> Tensor:
    return moved(images, rng, BROAD_TURN, BROAD_SHIFT, BROAD_ZOOM)


def _edges(images: Tensor, _rng: torch.Generator) -> Tensor:
    """Magnitude of the gradient, the strongest edge of an image at 1."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    size = (across.square() + down.square()).sqrt()
    return size / size.flatten(1).amax(1).clamp_min(1e-3)[:, None, None, None]


def _threshold(images: Tensor, rng: torch.Generator) -> Tensor:
    """Two tones, the step between them more or less steep."""
    level, steepness = _uniform(images, 0.15, 0.75, rng), _uniform(images, 10.0, 60.0, rng)
    return torch.sigmoid((images - level) * steepness)


def _blurred(images: Tensor, rng: torch.Generator) -> Tensor:
    soft = images
    for _ in range(2):
        soft = F.avg_pool2d(F.pad(soft, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return torch.lerp(images, soft, _uniform(images, 0.0, 1.0, rng))


def _toned(images: Tensor, rng: torch.Generator) -> Tensor:
    """Another gamma, contrast and brightness."""
    gamma, contrast = _uniform(images, -1.0, 1.0, rng).exp(), _uniform(images, 0.3, 1.0, rng)
    return images.clamp(0, 1).pow(gamma) * contrast + (1 - contrast) * _uniform(images, 0.0, 1.0, rng)


def _inverted(images: Tensor, _rng: torch.Generator) -> Tensor:
    return 1 - images


_CHANGES: tuple[tuple[float, Callable[[Tensor, torch.Generator], Tensor]], ...] = (
    (0.25, _blended),
    (0.25, _pasted),
    (0.25, _flipped),
    (1.0, _far),
    (0.25, _edges),
    (0.2, _threshold),
    (0.25, _blurred),
    (0.4, _toned),
    (0.25, _inverted),
)
"""In this order: the share of the images that are changed, and how."""
