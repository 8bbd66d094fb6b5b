"""Tables as data: what a YAML file beside a SQL file says of its columns.

A table `reports/tables/<name>.sql` and `<name>.yaml` needs no code. The query reads the views of `views.sql`, and
returns one row a unit (a secret, where it has one) with the columns of `blocks`, `sections`, `rows`, `spread` and
`measures`, and

    role       'control' (above the results: mean image, floor), 'result', or 'bound' (below them: the oracle)
    position   order of rows, blocks, sections and spread: that with the least comes first
    seed       what the interval is over
    finished   false for a cell of the suite without a result: its measures are NULL
    num_units  how many units the row stands for: 1 for a secret
    unit       which unit of its seed the row is, where rows are compared (`better`): pairs are of one seed and unit

A measure that is NULL was not measured; NaN is a result.
"""

from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Measure(BaseModel):
    """A number of the table: its header with unit, decimals, and whether the 95 % interval stands beside it.

    A `median` or `sum` is that of all units of all seeds, and has no interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: str
    decimals: int = Field(ge=0, le=9)
    interval: bool = False
    statistic: Literal["mean", "median", "sum"] = "mean"
    better: Literal["higher", "lower"] | None = None
    """Where given, the best rows are bold: the best and those that are not significantly worse on the same units."""


class Spread(BaseModel):
    """The column of the query whose values become groups of columns; `{}` in `header` is the value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    header: str = "{}"


class Declaration(BaseModel):
    """A table, but for its query. Mappings are column of the query -> header in print."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    position: int
    """Place among the tables."""
    title: str
    caption: str
    blocks: dict[str, str]
    """Columns that split the table into blocks, each under a line of its own."""
    sections: dict[str, str] = {}
    """Columns printed in every row, that group the rows of a block."""
    rows: dict[str, str]
    """Columns that name a row."""
    spread: Spread
    measures: dict[str, Measure]
    units: str = "secrets"
    """What a seed's values are: n = seeds x units."""
    controls: tuple[str, ...] = ()
    """Controls that every such table wants: one that the suite left out is named under the table."""
    legend: tuple[str, ...] = ()
    """Axes whose knobs are told under the table."""
    notes: tuple[str, ...] = ()


class Definition(BaseModel):
    """A declaration with its name and its query."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sql: str
    declaration: Declaration


def load_definitions() -> tuple[Definition, ...]:
    """All tables of the package, in their order."""
    folder = files("reports") / "tables"
    names = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    found = [
        Definition(
            name=name,
            sql=(folder / f"{name}.sql").read_text("utf-8"),
            declaration=Declaration.model_validate(yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8"))),
        )
        for name in names
    ]
    return tuple(sorted(found, key=lambda one: one.declaration.position))
