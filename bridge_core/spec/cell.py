"""A cell: one point of a suite, of images or of text; and the values that a suite's axes take."""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field

from bridge_core.spec.attack import Bridge, ImageInversions, Inversion, Knowledge
from bridge_core.spec.base import Spec, kind_alone
from bridge_core.spec.data import Dataset
from bridge_core.spec.defence import Defence, NoDefence, is_undefended
from bridge_core.spec.models import ImageModels, Model
from bridge_core.spec.prior import NoPrior, Prior
from bridge_core.spec.recipe import Recipe
from bridge_core.spec.text import TEXT_SOURCES, Corpus, TextBridge, TextInversion, TextInversions, TextModel, TextModels
from bridge_core.spec.zoo import ZooCell


def _kind_of_data(value: object) -> object:
    """Data without a kind are images, or text where their proxy is."""
    if not isinstance(value, Mapping) or "kind" in value:
        return value
    given = dict(cast(Mapping[str, Any], value))
    proxy = given.get("proxy")
    source: object = cast(Mapping[str, Any], proxy).get("kind") if isinstance(proxy, Mapping) else proxy
    return {"kind": "text" if source in TEXT_SOURCES else "images", **given}


AnyData = Annotated[Annotated[Dataset | Corpus, Field(discriminator="kind")], BeforeValidator(_kind_of_data)]
"""Images or text: the data axis of a suite."""
EveryModel = Annotated[Annotated[ImageModels | TextModels, Field(discriminator="kind")], BeforeValidator(kind_alone)]
EveryInversion = Annotated[
    Annotated[ImageInversions | TextInversions, Field(discriminator="kind")], BeforeValidator(kind_alone)
]


class Cell(Spec):
    """One point of a suite of images: everything that decides its result."""

    model: Model
    rank: int = Field(ge=1, le=4096)
    dataset: Dataset
    prior: Prior
    recipe: Recipe
    defence: Defence = Field(default=NoDefence(), exclude_if=is_undefended)
    bridge: Bridge
    inversion: Inversion
    knowledge: Knowledge
    seed: int = Field(ge=0)
    num_secrets: int = Field(ge=1)
    """Victims of this cell: adapters trained on different secrets, attacked side by side."""


class TextCell(Spec):
    """One point of a suite of text."""

    model: TextModel
    rank: int = Field(ge=1, le=4096)
    dataset: Corpus
    prior: NoPrior
    recipe: Recipe
    defence: NoDefence = Field(default=NoDefence(), exclude_if=is_undefended)
    bridge: TextBridge
    inversion: TextInversion
    knowledge: Knowledge
    seed: int = Field(ge=0)
    num_secrets: int = Field(ge=1)
    """Victims of this cell: adapters trained on different sentences, attacked side by side."""


AnyCell = Cell | TextCell
Plannable = AnyCell | ZooCell
"""What a graph of phases is made of."""
