"""A zoo: adapters of known number of samples, from which that of others is told."""

from typing import Literal

from pydantic import Field, field_validator

from bridge_core.spec.base import Spec
from bridge_core.spec.data import Source
from bridge_core.spec.models import Model
from bridge_core.spec.recipe import Recipe


class ZooCell(Spec):
    """One zoo: adapters of one base model, rank and recipe."""

    model: Model
    rank: int = Field(ge=1, le=4096)
    source: Source
    """Public images: the base model is trained on its proxy part, micro-datasets are of the part held out."""
    image_size: int = Field(default=28, ge=8, le=256)
    """Side of the square images after resizing, pixels."""
    channels: Literal[1, 3] = 1
    recipe: Recipe
    """Its number of samples is that of each adapter."""
    full_batch: bool = True
    """All samples in every step, whatever the recipe's batch size."""
    sizes: tuple[int, ...] = Field(min_length=2)
    """Numbers of samples N, each an adapter of every micro-dataset."""
    micro_datasets: int = Field(ge=2, le=100_000)
    per_task: int = Field(default=10, ge=1)
    """Micro-datasets that one task trains."""
    seed: int = Field(default=0, ge=0)

    @field_validator("sizes")
    @classmethod
    def _counts(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 1 or sorted(set(sizes)) != list(sizes):
            raise ValueError("sizes must be at least 1 and rise")
        return sizes


class ZooMembersPhase(Spec):
    """Some of a zoo's adapters, as PEFT folders."""

    phase: Literal["zoo_members"] = "zoo_members"
    model: Model
    rank: int
    recipe: Recipe
    full_batch: bool
    sizes: tuple[int, ...]
    micro_datasets: int
    first: int
    """Micro-datasets from `first` to `last`, that one excluded."""
    last: int
    seed: int


class ZooPhase(Spec):
    """A zoo's spectra, and how well they tell the number of samples."""

    phase: Literal["zoo"] = "zoo"
    recipe: Recipe
    full_batch: bool
    seed: int
