"""How well the number of samples is told: cross-validated by micro-dataset, with intervals and shuffled labels."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from bridge_core.estimate.dataset_size import METHODS, Method, predict
from bridge_core.estimate.zoo import Array, Zoo

NUM_FOLDS, NUM_RESAMPLES, COVERAGE = 5, 2000, 0.95


@dataclass(frozen=True)
class Figure:
    """A mean over adapters and its bootstrap interval over micro-datasets."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """What one method tells of a zoo's adapters that it has not seen."""

    method: Method
    shuffled: bool
    """Sizes permuted over all adapters: a control that must give chance."""
    answered: float
    """Share of adapters that it has an answer for; the figures are of these."""
    accuracy: Figure
    mae: Figure
    """Mean absolute error, samples."""
    mape: Figure
    """Mean absolute error over the true size."""
    num_adapters: int
    num_groups: int


def cross_validated(zoo: Zoo, method: Method) -> Array:
    """Sizes told by `method` for every adapter, from the other micro-datasets alone."""
    from sklearn.model_selection import GroupKFold

    told = np.full(len(zoo), np.nan)
    for known, asked in GroupKFold(min(NUM_FOLDS, len(np.unique(zoo.groups)))).split(zoo.sizes, groups=zoo.groups):
        told[asked] = predict(method, zoo.only(known), zoo.only(asked).spectra)
    return told


def evaluate(
    zoo: Zoo, methods: Iterable[Method] = METHODS, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> list[Evaluation]:
    """Every method on true sizes and, to show what chance is, on shuffled ones."""
    shuffled = zoo.relabelled(np.random.default_rng(seed).permutation(zoo.sizes))
    chosen = tuple(methods)
    found: list[Evaluation] = []
    for number, method in enumerate(chosen, 1):
        for one in (zoo, shuffled):
            found.append(measured(one, cross_validated(one, method), method, shuffled=one is shuffled))
        if report is not None:
            report(number, len(chosen))
    return found


def measured(zoo: Zoo, told: Array, method: Method, *, shuffled: bool = False, seed: int = 0) -> Evaluation:
    """Accuracy, mean absolute and mean relative error of `told`, each with a bootstrap over micro-datasets."""
    known = ~np.isnan(told)
    sizes, groups, told = zoo.sizes[known], zoo.groups[known], told[known]
    off = np.abs(told - sizes)
    rng = np.random.default_rng(seed)
    columns = [off == 0, off, off / sizes]
    accuracy, mae, mape = (_bootstrapped(column.astype(float), groups, rng) for column in columns)
    return Evaluation(method, shuffled, float(known.mean()), accuracy, mae, mape, len(zoo), len(np.unique(zoo.groups)))


def record(one: Evaluation) -> dict[str, object]:
    """An evaluation as plain JSON."""
    return asdict(one)


def _bootstrapped(values: Array, groups: Array, rng: np.random.Generator) -> Figure:
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"))
    names = np.unique(groups)
    sums = np.array([values[groups == name].sum() for name in names])
    counts = np.array([(groups == name).sum() for name in names])
    drawn = rng.integers(len(names), size=(NUM_RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Figure(float(values.mean()), float(low), float(high))
