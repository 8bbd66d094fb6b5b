"""The number of samples that an adapter was trained on, told from a zoo of adapters of known N.

    constant           the size with the smallest mean error over the zoo: the best that knows nothing of the adapter
    frobenius          1-NN on the Frobenius norms of B A, one for each module
    rank               rank(B) above noise, the smallest over the modules; none where every module is full
    dsire              1-NN on singular values, one vote for each module and kind (Salama et al., 2024)
    dsire_log          the same on logarithms of B, B A and M
    ridge, forest, extra_trees, boosting, gaussian_process     on all logarithms and their differences

All answer with a size that the zoo holds, but `rank`, which may answer any number or none (NaN).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never, get_args

import numpy as np

from bridge_core.errors import InvalidInput
from bridge_core.estimate.spectra import PLAIN_KINDS, signal_rank
from bridge_core.estimate.zoo import Array, Zoo, recipe_mismatch
from bridge_core.release import Release

Method = Literal[
    "constant",
    "frobenius",
    "rank",
    "dsire",
    "dsire_log",
    "ridge",
    "forest",
    "extra_trees",
    "boosting",
    "gaussian_process",
]
METHODS: tuple[Method, ...] = get_args(Method)
CONTROLS: tuple[Method, ...] = ("constant", "frobenius", "rank")
DEFAULT: Method = "extra_trees"
FLOOR = 1e-9
"""Singular values below this share of their kind's largest in the zoo are taken for it: float32's rounding."""
NUM_TREES = 200
FAR = 0.01
"""An adapter whose nearest neighbour is farther than those of this share of the zoo's is out of calibration."""

Features = Mapping[str, Array]


@dataclass(frozen=True)
class SizeEstimate:
    """A number of samples, and how far to believe it."""

    num_samples: int
    probabilities: Mapping[int, float]
    """Share of the trees' votes for each size of the zoo."""
    rank: int | None
    """What the rank of B says, where the certificate applies."""
    farther: float
    """Share of the zoo's adapters whose nearest neighbour is at least as far as this one's."""
    warnings: tuple[str, ...]
    """In what the adapter differs from the zoo's."""


def estimate_size(release: Release, zoo: Zoo) -> SizeEstimate:
    """Tell N of one adapter. Raises `NotApplicable` where its modules or ranks are not the zoo's."""
    return estimator_of(zoo)(release)


def estimator_of(zoo: Zoo) -> Callable[[Release], SizeEstimate]:
    """Fit once, and tell N of many adapters."""
    table, trees = _design(zoo.spectra, zoo.spectra), _trees("extra_trees")
    trees.fit(table, zoo.sizes)
    own = _nearest(table, table, zoo.groups)

    def estimate(release: Release) -> SizeEstimate:
        features = zoo.features_of(release)
        row = _design(features, zoo.spectra)
        shares = {int(n): float(p) for n, p in zip(trees.classes_, trees.predict_proba(row)[0], strict=True)}
        farther = float((own >= _nearest(table, row)[0]).mean())
        rank = _ranks(features, zoo)[0]
        warnings = recipe_mismatch(release, zoo.origin)
        if farther < FAR:
            warnings += (f"its nearest neighbour is farther than those of {1 - FAR:.0%} of the zoo's: no calibration",)
        best = max(shares, key=lambda n: shares[n])
        return SizeEstimate(best, shares, None if np.isnan(rank) else int(rank), farther, warnings)

    return estimate


def predict(method: Method, zoo: Zoo, features: Features) -> Array:
    """Sizes of the adapters in `features`, told from `zoo` by one method. Raises `InvalidInput` for an empty zoo."""
    if not len(zoo):
        raise InvalidInput("a zoo without adapters", "at least one")
    match method:
        case "constant":
            return np.full(_count(features), _best_constant(zoo.sizes))
        case "frobenius":
            norms = [{"all": _norms(each)} for each in (zoo.spectra, features)]
            return _vote(zoo.sizes, norms[0], norms[1])
        case "rank":
            return _ranks(features, zoo)
        case "dsire":
            keys = [key for key in zoo.spectra if key.rpartition("/")[2] in PLAIN_KINDS]
            return _vote(zoo.sizes, {k: zoo.spectra[k] for k in keys}, {k: features[k] for k in keys})
        case "dsire_log":
            return _vote(zoo.sizes, _logarithms(zoo.spectra, zoo.spectra), _logarithms(features, zoo.spectra))
        case "forest" | "extra_trees":
            trees = _trees(method).fit(_design(zoo.spectra, zoo.spectra), zoo.sizes)
            return trees.predict(_design(features, zoo.spectra))
        case "ridge" | "boosting" | "gaussian_process":
            model = _regressor(method).fit(_design(zoo.spectra, zoo.spectra), np.log(zoo.sizes))
            return _rounded(model.predict(_design(features, zoo.spectra)), np.unique(zoo.sizes))
        case _:
            assert_never(method)


def _count(features: Features) -> int:
    return len(next(iter(features.values())))


def _best_constant(sizes: Array) -> int:
    known = np.unique(sizes)
    return int(known[np.argmin([np.abs(sizes - n).mean() for n in known])])


def _norms(features: Features) -> Array:
    return np.stack([np.linalg.norm(v, axis=1) for k, v in features.items() if k.endswith("/BA")], 1)


def _vote(sizes: Array, known: Features, asked: Features) -> Array:
    """1-NN on each key apart; the size with most votes, the smallest of several."""
    from sklearn.neighbors import KNeighborsClassifier

    votes = [KNeighborsClassifier(1).fit(known[key], sizes).predict(asked[key]) for key in known]
    return np.array([np.bincount(column).argmax() for column in np.stack(votes, 1).astype(int)])


def _ranks(features: Features, zoo: Zoo) -> Array:
    """The smallest rank above noise over the modules that are not full: of queries that one token reads, N itself."""
    keys = [key for key in features if key.endswith("/M")]
    outs = {key: zoo.origin.shapes[key.removesuffix("/M")][0] for key in keys}
    found = np.full((_count(features), len(keys) + 1), np.nan)
    for column, key in enumerate(keys):
        for row, values in enumerate(features[key]):
            rank = signal_rank(_tensor(values), outs[key])
            found[row, column] = rank if 0 < rank < len(values) else np.nan
    return np.fmin.reduce(found, axis=1)


def _tensor(values: Array) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values))


def _logarithms(features: Features, known: Features) -> dict[str, Array]:
    floors = {key: max(FLOOR * float(known[key].max()), 1e-300) for key in known if not key.endswith("/A")}
    return {key: np.log(np.maximum(features[key], floor)) for key, floor in floors.items()}


def _design(features: Features, known: Features) -> Array:
    """Logarithms of B, B A and M, the steps between them, and A's largest value, which tells how far A has moved."""
    logs = _logarithms(features, known).values()
    parts = [part for one in logs for part in (one, np.diff(one, axis=1))]
    return np.concatenate([*parts, *(v[:, :1] for k, v in features.items() if k.endswith("/A"))], 1)


def _nearest(table: Array, rows: Array, groups: Array | None = None) -> Array:
    """Distance to the nearest adapter, columns scaled by the table's; with `groups`, to one of another group."""
    scale = np.maximum(table.std(0), 1e-9)
    distances = np.linalg.norm((rows[:, None] - table) / scale, axis=2)
    if groups is not None:
        distances[groups[:, None] == groups] = np.inf
    return distances.min(1)


def _trees(method: Literal["forest", "extra_trees"]) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    made = ExtraTreesClassifier if method == "extra_trees" else RandomForestClassifier
    return made(NUM_TREES, random_state=0)


def _regressor(method: Literal["ridge", "boosting", "gaussian_process"]) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    match method:
        case "ridge":
            return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
        case "boosting":
            return HistGradientBoostingRegressor(max_iter=150, random_state=0)
        case "gaussian_process":
            kernel = RBF(10.0, (1e-1, 1e3)) + WhiteKernel(0.1)
            return make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
        case _:
            assert_never(method)


def _rounded(logs: Array, known: Array) -> Array:
    return known[np.abs(logs[:, None] - np.log(known)).argmin(1)]
