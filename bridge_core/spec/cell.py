"""A cell: one point of a suite."""

from pydantic import Field

from bridge_core.spec.attack import Bridge, Inversion, Knowledge, Prior
from bridge_core.spec.base import Spec
from bridge_core.spec.data import Dataset
from bridge_core.spec.models import Model
from bridge_core.spec.recipe import Recipe


class Cell(Spec):
    """One point of a suite: everything that decides its result."""

    model: Model
    rank: int = Field(ge=1, le=4096)
    dataset: Dataset
    prior: Prior
    recipe: Recipe
    bridge: Bridge
    inversion: Inversion
    knowledge: Knowledge
    seed: int = Field(ge=0)
    num_secrets: int = Field(ge=1)
    """Victims of this cell: adapters trained on different secrets, attacked side by side."""
