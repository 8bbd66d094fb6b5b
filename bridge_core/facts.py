"""Facts: the numbers a phase leaves behind, one row each, in `facts.parquet` of its artefact."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FACTS_FILE = "facts.parquet"


@dataclass(frozen=True)
class Fact:
    """One number. NaN is a result; a fact that was not measured has no row."""

    name: str
    value: float
    secret: int | None = None
    """Which of the cell's secrets, from 0; None where the number is of all."""
    module: str | None = None
    """Name of the adapted module; None where the number is of all."""
    step: int | None = None
    """Point of a curve; None for a final number."""


def write_facts(facts: Iterable[Fact], folder: Path) -> None:
    """Write `facts` as parquet with a fixed schema (name, value, secret, module, step)."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("value", pa.float64(), nullable=False),
            pa.field("secret", pa.int32()),
            pa.field("module", pa.string()),
            pa.field("step", pa.int32()),
        ]
    )
    parquet.write_table(pa.Table.from_pylist([asdict(fact) for fact in facts], schema=schema), folder / FACTS_FILE)


def read_facts(folder: Path) -> list[Fact]:
    """The facts of an artefact; empty where it has none."""
    from pyarrow import parquet

    path = folder / FACTS_FILE
    return [Fact(**row) for row in parquet.read_table(path).to_pylist()] if path.is_file() else []
