"""After a run: what the store holds goes into MLflow and DuckDB. Left alone where both hold it already."""

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.graph import Graph
from benchmark.manifest import write_durably
from benchmark.store import Store
from bridge_core.errors import BridgeError

MARKS_FILE = "filled.json"
"""In the store: sink -> suite -> the state of the store that it was filled from."""

Marks = dict[str, dict[str, str]]


@dataclass(frozen=True)
class _Sink:
    """Something that is filled from the store."""

    name: str
    fill: Callable[[], object]
    file: Path | None = None
    """Where it is in the store; None where it is elsewhere."""


def warehouse_path(store: Store) -> Path:
    """The store's DuckDB file."""
    return store.root / "warehouse.duckdb"


def tracking_path(store: Path) -> Path:
    """The store's MLflow database."""
    return store.absolute() / "mlflow.db"


def fill(
    graph: Graph, store: Store, failed: Mapping[str, str], tracking_uri: str | None, warn: Callable[[str], None]
) -> None:
    """Fill tracker and warehouse with what `store` holds of `graph`; `failed`: cell -> cause.

    What can not be filled is told to `warn` and filled by a later run: it never changes a result.
    """
    state = f"{_state(graph, store)}:{_digest(sorted(failed.items()))}"
    for sink in (_warehouse(graph, store, failed), _tracker(graph, store, failed, tracking_uri)):
        try:
            _fill_unless_done(sink, store, graph.suite, state)
        except BridgeError as error:
            warn(f"results are safe in the store, but not in the {sink.name}: {error}")


def _warehouse(graph: Graph, store: Store, failed: Mapping[str, str]) -> _Sink:
    path = warehouse_path(store)

    def build() -> None:
        from benchmark.warehouse import build_warehouse

        build_warehouse(store, graph, path, failed)

    return _Sink("warehouse", build, path)


def _tracker(graph: Graph, store: Store, failed: Mapping[str, str], uri: str | None) -> _Sink:
    path = tracking_path(store.root)

    def track() -> None:
        from benchmark.tracking import Tracker

        Tracker(uri or f"sqlite:///{path}").fill(store, graph, failed)

    # An address may hold a password: only its digest is written down.
    return _Sink(f"tracker {_digest(uri)}", track) if uri else _Sink("tracker", track, path)


@contextmanager
def fresh_warehouse(graph: Graph, store: Store) -> Generator[Path]:
    """A DuckDB file of what the store holds of `graph` now: the store's own, or a new one aside where that is older."""
    marked = _marks(store).get("warehouse", {}).get(graph.suite, "")
    if marked.startswith(f"{_state(graph, store)}:") and warehouse_path(store).is_file():
        yield warehouse_path(store)
        return
    from benchmark.warehouse import build_warehouse

    with TemporaryDirectory(prefix="bridge-") as folder:
        path = Path(folder) / "warehouse.duckdb"
        build_warehouse(store, graph, path)
        yield path


def _fill_unless_done(sink: _Sink, store: Store, suite: str, state: str) -> None:
    marks = _marks(store)
    there = sink.file is None or sink.file.is_file()
    if there and marks.get(sink.name, {}).get(suite) == state:
        return
    sink.fill()
    marks.setdefault(sink.name, {})[suite] = state
    write_durably(store.root / MARKS_FILE, json.dumps(marks, indent=1) + "\n")


def _marks(store: Store) -> Marks:
    try:
        return json.loads((store.root / MARKS_FILE).read_bytes())
    except (OSError, ValueError):
        return {}


def _state(graph: Graph, store: Store) -> str:
    """A digest of the graph's cells and of which of its artefacts are there."""
    cells = [(cell.id, cell.labels, cell.tasks) for cell in graph.cells]
    return _digest([cells, [key for key in graph.tasks if store.has(key)]])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
