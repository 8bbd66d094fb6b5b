"""The keys of a suite file, the labels of its values, and the points they span. Imports no torch."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from benchmark.yaml_reading import is_mapping, is_sequence
from bridge_core import spec as s
from bridge_core.spec import Spec

AXES = {
    "model": "models",
    "rank": "ranks",
    "dataset": "datasets",
    "prior": "priors",
    "recipe": "recipes",
    "defence": "defences",
    "bridge": "bridges",
    "inversion": "inversions",
    "knowledge": "knowledge",
    "seed": "seeds",
}
"""Axis name in labels, `include` and `exclude` -> key of the suite."""

AxisValue = s.Axis | int
T = TypeVar("T")


def _counted(value: Any) -> Any:
    count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000
    return tuple(range(value)) if count else value


def _listed(value: Any) -> Any:
    return value if is_sequence(value) else (value,)


def _label_list(value: Any) -> Any:
    listed: tuple[Any, ...] = tuple(_listed(value))
    return tuple(str(each) if type(each) is int else each for each in listed)


Rank = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seeds = Annotated[
    tuple[Seed, ...],
    Field(min_length=1),
    BeforeValidator(_counted, json_schema_input_type=Annotated[int, Field(ge=1, le=1000)] | tuple[Seed, ...]),
]
Values = Annotated[tuple[T, ...], Field(min_length=1)]
Some = Annotated[
    tuple[T, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=T | str | tuple[T | str, ...]),
]
Labels = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_label_list, json_schema_input_type=str | int | tuple[str | int, ...]),
]


class Inclusion(Spec):
    """Cells to add: on each axis labels, new values or a list of them; an axis left out stands for all its values."""

    model: Some[s.EveryModel] = ()
    rank: Some[Rank] = ()
    dataset: Some[s.AnyData] = ()
    prior: Some[s.Prior] = ()
    recipe: Some[s.Recipe] = ()
    defence: Some[s.Defence] = ()
    bridge: Some[s.Bridge] = ()
    inversion: Some[s.EveryInversion] = ()
    knowledge: Some[s.Knowledge] = ()
    seed: Some[Seed] = ()


class Exclusion(Spec):
    """Cells to leave out: those that match on every axis named here, by label or list of labels."""

    model: Labels = ()
    rank: Labels = ()
    dataset: Labels = ()
    prior: Labels = ()
    recipe: Labels = ()
    defence: Labels = ()
    bridge: Labels = ()
    inversion: Labels = ()
    knowledge: Labels = ()
    seed: Labels = ()


class Suite(Spec):
    """The axes of an experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")
    """Short name: small letters, digits, - and _."""
    description: str = ""
    """What the suite is for."""
    seeds: Seeds = (0,)
    """A list of seeds, or how many: 3 stands for [0, 1, 2]."""
    num_secrets: int = Field(default=4, ge=1, le=1000)
    """Victims of each cell: adapters trained on different secrets, attacked side by side."""
    models: Values[s.EveryModel]
    """Base models."""
    ranks: Values[Rank]
    """Ranks r of the adapters."""
    datasets: Values[s.AnyData]
    """Pairs of public proxy data and private data, images or text."""
    priors: Values[s.Prior] = (s.NoPrior(),)
    """What is known of images beforehand."""
    recipes: Values[s.Recipe] = (s.Recipe(),)
    """How victims train their adapters."""
    defences: Values[s.Defence] = (s.NoDefence(),)
    """What victims do so that the adapter tells less, images alone."""
    bridges: Values[s.Bridge]
    """From the released adapter to the gradient."""
    inversions: Values[s.EveryInversion]
    """From the gradient to the image or sentence."""
    knowledge: Values[s.Knowledge] = (s.Knowledge(),)
    """What the attacker is told."""
    include: tuple[Inclusion, ...] = ()
    """Cells added to the product, after `exclude`."""
    exclude: tuple[Exclusion, ...] = ()
    """Cells left out of the product."""

    @field_validator("include", mode="before")
    @classmethod
    def _labels_stand_for_values(cls, entries: Any, info: ValidationInfo) -> Any:
        if not is_sequence(entries):
            return entries
        labelled = {axis: {label_of(v): v for v in info.data.get(key, ())} for axis, key in AXES.items()}
        return tuple(_resolved(entry, labelled) if is_mapping(entry) else entry for entry in entries)


def _resolved(entry: Mapping[str, Any], labelled: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An entry of `include`, its labels replaced by the values they stand for."""

    def value_of(axis: str, given: Any) -> Any:
        if is_sequence(given):
            return tuple(value_of(axis, each) for each in given)
        return labelled.get(axis, {}).get(given, given) if isinstance(given, str) else given

    return {axis: value_of(axis, given) for axis, given in entry.items()}


def label_of(value: AxisValue) -> str:
    """The label of an axis value: its own, or one made from what it is."""
    match value:
        case int():
            return str(value)
        case s.Axis(label=label) if label:
            return label
        case s.Dataset() | s.Corpus():
            return value.default_label
        case s.Recipe():
            return _recipe_label(value)
        case s.Knowledge():
            return "all given"
        case _:
            return s.kind_of(value)


def _recipe_label(recipe: s.Recipe) -> str:
    label = f"{recipe.optimiser.kind}-{recipe.steps}"
    if recipe.num_samples > 1:
        label += f"-n{recipe.num_samples}"
    if recipe.batch_size > 1:
        label += f"-b{recipe.batch_size}"
    return label if recipe.save_dtype == "float32" else f"{label}-{recipe.save_dtype}"


def points(suite: Suite) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Labels and values of every cell, by axis, each cell once."""
    axes = {axis: getattr(suite, key) for axis, key in AXES.items()}
    spanned = {labels: values for labels, values in _product(axes) if not _excluded(labels, suite)}
    for entry in suite.include:
        spanned |= dict(_product({axis: getattr(entry, axis) or values for axis, values in axes.items()}))
    return [(_by_axis(labels), _by_axis(values)) for labels, values in spanned.items()]


def _by_axis(values: tuple[T, ...]) -> dict[str, T]:
    return dict(zip(AXES, values, strict=True))


def _product(axes: dict[str, tuple[AxisValue, ...]]) -> Iterator[tuple[tuple[str, ...], tuple[AxisValue, ...]]]:
    labels = product(*([label_of(value) for value in values] for values in axes.values()))
    return zip(labels, product(*axes.values()), strict=True)


def _excluded(labels: tuple[str, ...], suite: Suite) -> bool:
    named = _by_axis(labels)
    return any(all(named[axis] in getattr(entry, axis) for axis in entry.model_fields_set) for entry in suite.exclude)
