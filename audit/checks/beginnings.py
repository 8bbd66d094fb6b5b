"""What the factors started from: an initialisation out of the training data, and starts that are shipped along.

Random rows of A have cosines of 1/sqrt(in) with each other; singular vectors have none. A conversion by
`path_initial_model_for_weight_conversion` ships [A; A0] and [B, -B0]: each row of A stands beside its own start.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import median

from audit.checks.files import MOST_SHOWN
from audit.folder import shown
from audit.report import Finding, ModuleRow, Severity
from audit.subject import Subject

ORTHOGONAL = 0.3
"""Root mean square cosine of rows, relative to random ones, below which they did not start at random."""
FEWEST_COSINES = 20
MIRRORED = 0.6
FEWEST_MIRRORED = 0.9
"""Share of the modules whose halves agree."""
FROM_DATA = {
    "lora_ga": (
        Severity.HIGH,
        "A and B started as singular vectors of a gradient of training batches: gradient directions themselves",
    ),
    "eva": (Severity.HIGH, "A started as principal components of the layer's inputs on training data"),
    "corda": (Severity.MEDIUM, "A and B started from a covariance of layer inputs on calibration data"),
}
FROM_BASE = ("pissa", "olora", "loftq", "mica", "orthogonal", "gaussian")
REFACTOR = "`bridge protect` re-factors the product by SVD, after which no start is left in the factors"


def findings(subject: Subject) -> Iterator[Finding]:
    """Data-dependent starts, by the configuration or by geometry, and starts that are shipped."""
    if not subject.modules:
        return
    init = str(subject.config.get("init_lora_weights", True)).lower()
    mirrored = [row for row in subject.modules if row.mirrored > MIRRORED]
    if len(mirrored) >= FEWEST_MIRRORED * len(subject.modules):
        yield _converted(mirrored)
    elif init in FROM_DATA:
        yield _from_data(subject, init)
    elif not init.startswith(FROM_BASE) and _orthogonal(subject.modules):
        yield _geometry(subject.modules, init) if not balanced(subject.modules) else _factored(subject.modules)


def balanced(rows: Sequence[ModuleRow]) -> bool:
    """True where both factors are orthogonal, as an SVD of the product leaves them."""
    return _orthogonal(rows) and _pooled([row.column_cosine for row in rows if row.rank > 1]) < ORTHOGONAL / 10


def _orthogonal(rows: Sequence[ModuleRow]) -> bool:
    wide = [row for row in rows if row.rank > 1]
    cosines = sum(row.rank * (row.rank - 1) // 2 for row in wide)
    return cosines >= FEWEST_COSINES and _pooled([row.row_cosine for row in wide]) < ORTHOGONAL


def _pooled(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values)) if values else math.inf


def _places(rows: Sequence[ModuleRow]) -> tuple[str, ...]:
    return tuple(shown(row.name) for row in rows[:MOST_SHOWN])


def _converted(rows: Sequence[ModuleRow]) -> Finding:
    agreement = median(row.mirrored for row in rows)
    return Finding(
        rule="converted-start",
        title="The adapter ships its own start beside itself",
        severity=Severity.HIGH,
        reveals="A0 and B0 exactly, hence how both factors moved; after LoRA-GA or CorDA the start is made of data",
        evidence=(
            f"each row of A's first half has a fellow in the second half: median |cosine| {agreement:.3f}",
            "as PEFT's path_initial_model_for_weight_conversion writes [A; A0] and [B, -B0] with doubled rank",
        ),
        where=_places(rows),
        num_places=len(rows),
        numbers={"median_cosine": agreement},
        remedy=REFACTOR,
    )


def _from_data(subject: Subject, init: str) -> Finding:
    severity, reveals = FROM_DATA[init]
    cosine = _pooled([row.row_cosine for row in subject.modules if row.rank > 1])
    seen = f"rows of A have {cosine:.2g} of the cosines that random rows have" if math.isfinite(cosine) else ""
    return Finding(
        rule=f"data-start-{init.replace('_', '-')}",
        title=f"Started from training data: init_lora_weights is {init}",
        severity=severity,
        reveals=reveals,
        evidence=tuple(one for one in (f"init_lora_weights is {init}", seen) if one),
        where=_places(subject.modules),
        num_places=len(subject.modules),
        remedy=REFACTOR,
    )


def _geometry(rows: Sequence[ModuleRow], init: str) -> Finding:
    cosine = _pooled([row.row_cosine for row in rows if row.rank > 1])
    return Finding(
        rule="orthogonal-start",
        title="A did not start at random, whatever the configuration says",
        severity=Severity.MEDIUM,
        reveals="if it was EVA, LoRA-GA or CorDA: directions of the training data; if OLoRA or PiSSA: nothing of them",
        evidence=(
            f"rows of A have {cosine:.2g} of the cosines that random rows have",
            f"init_lora_weights is {shown(init, 40)}",
        ),
        where=_places(rows),
        num_places=len(rows),
        numbers={"row_cosine": cosine},
        remedy=REFACTOR,
    )


def _factored(rows: Sequence[ModuleRow]) -> Finding:
    return Finding(
        rule="factored-product",
        title="The factors are an SVD of their product: their start is not in them",
        severity=Severity.INFO,
        reveals="the product B A alone, which holds all that training changed in the model",
        evidence=("rows of A and columns of B are orthogonal",),
        where=_places(rows),
        num_places=len(rows),
        remedy="none needed",
    )
