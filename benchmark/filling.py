"""After a run: what the store holds goes into MLflow and DuckDB. Left alone where both hold it already."""

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.graph import Graph
from benchmark.manifest import write_durably
from benchmark.store import Store
from bridge_core.errors import BridgeError

MARKS_FILE = "filled.json"
"""In the store: sink -> suite -> the state of the store that it was filled from."""

Marks = dict[str, dict[str, str]]


def warehouse_path(store: Store) -> Path:
    """The store's DuckDB file."""
    return store.root / "warehouse.duckdb"


def default_tracking_uri(store: Path) -> str:
    """The sqlite file in the store's folder."""
    return f"sqlite:///{store.absolute() / 'mlflow.db'}"


def fill(
    graph: Graph, store: Store, failed: Mapping[str, str], tracking_uri: str | None, warn: Callable[[str], None]
) -> None:
    """Fill tracker and warehouse with what `store` holds of `graph`; `failed`: cell -> cause.

    What can not be filled is told to `warn` and filled by a later run: it never changes a result.
    """
    uri = tracking_uri or default_tracking_uri(store.root)

    def fill_tracker() -> None:
        from benchmark.tracking import Tracker

        Tracker(uri).fill(store, graph)

    def build() -> None:
        from benchmark.warehouse import build_warehouse

        build_warehouse(store, graph, warehouse_path(store), failed)

    state = f"{_state(graph, store)}:{_digest(sorted(failed.items()))}"
    _unless_filled(store, "warehouse", graph.suite, state, build, warn)
    _unless_filled(store, f"tracker {uri}", graph.suite, state, fill_tracker, warn)


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


def _unless_filled(
    store: Store, sink: str, suite: str, state: str, fill_sink: Callable[[], None], warn: Callable[[str], None]
) -> None:
    marks = _marks(store)
    if marks.get(sink, {}).get(suite) == state:
        return
    try:
        fill_sink()
    except BridgeError as error:
        warn(f"{sink} is not filled: {error}; the next run of the suite fills it")
        return
    marks.setdefault(sink, {})[suite] = state
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
