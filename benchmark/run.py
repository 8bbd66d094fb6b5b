"""A suite's way from file to results: plan, check, lock, run, then fill the tracker and the warehouse.

Nothing is written before the suite has passed every check. What is done already is neither checked nor done again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.events import AnyEvent, CellFailed, CellReopened, Logged, RunFinished
from benchmark.graph import Graph, PlannedCell, build_graph
from benchmark.masking import masked
from benchmark.store import Store
from benchmark.suite import expand, load_suite
from benchmark.worker import Execute, execute
from bridge_core.errors import InvalidInput

Observer = Callable[[AnyEvent], None]


@dataclass(frozen=True)
class Request:
    """What `bridge bench run` is asked for."""

    suite: Path
    store: Path
    workers: int | None = None
    """None: one a core."""
    scheduler: str | None = None
    tracking_uri: str | None = None
    retries: int = 1
    timeout_seconds: float | None = None
    threads: int | None = None
    """Of torch, in each worker; None: one."""
    limit: int | None = None
    """Cells, from the first."""
    run_id: str | None = None
    only: frozenset[str] | None = None
    """Ids of the cells to run; None for all."""


def plan_graph(suite_path: Path, limit: int | None = None) -> Graph:
    """The graph of a suite file, or of its first `limit` cells. Raises `InvalidInput`."""
    suite = load_suite(suite_path)
    return build_graph(suite.name, expand(suite)[:limit])


def check(suite_path: Path, graph: Graph) -> None:
    """Refuse what can be known to fail. Imports torch. Raises `InvalidInput`."""
    from bridge_core import phases

    try:
        phases.check(tuple(planned.cell for planned in graph.cells))
    except InvalidInput as error:
        raise type(error)(f"{suite_path}: {error.found}", error.wanted, error.remedy) from error


def open_if_there(store_path: Path) -> Store | None:
    """The store, or None where there is none yet: a look must not make one."""
    return Store.open(store_path, create=False) if store_path.exists() else None


def run_suite(request: Request, observe: Observer) -> int:
    """Run a suite, or go on with it; the exit code: 0, 1 where cells failed, 130 where it was interrupted.

    Raises `InvalidInput` before anything is written, `StoreLocked`, `StoreFault`.
    """
    graph = plan_graph(request.suite, request.limit)
    if request.only is not None:
        graph = graph.only(cell for cell in graph.cells if cell.id in request.only)
    if open_cells := unfinished(graph, open_if_there(request.store)):
        check(request.suite, graph.only(open_cells))
    return run_planned(graph, request, observe)


def run_planned(graph: Graph, request: Request, observe: Observer, execute: Execute = execute) -> int:
    """Run a graph that has been checked; its tasks by `execute`. Returns and raises as `run_suite`."""
    store = Store.open(request.store)
    with store.lock(graph.suite):
        return _run(graph, store, request, observe, execute)


def unfinished(graph: Graph, store: Store | None) -> tuple[PlannedCell, ...]:
    """The cells with a task whose artefact is not in the store."""
    present = {key for key in graph.tasks if store is not None and store.has(key)}
    return tuple(cell for cell in graph.cells if not present.issuperset(cell.tasks.values()))


def _run(graph: Graph, store: Store, request: Request, observe: Observer, execute: Execute) -> int:
    from benchmark.filling import fill
    from benchmark.journal import Journal
    from benchmark.scheduler import INTERRUPTED, RunOptions, num_cores, run_graph

    options = RunOptions(
        workers=num_cores() if request.workers is None else request.workers,
        scheduler=request.scheduler,
        retries=request.retries,
        timeout_seconds=request.timeout_seconds,
        threads=request.threads,
        tracking_uri=masked(request.tracking_uri) if request.tracking_uri else None,
        suite_file=str(request.suite.absolute()),
    )
    reasons = _reasons(graph, store)
    listener = _Listener(observe)
    with Journal.start(store.root, request.run_id) as journal:

        def warn(message: str) -> None:
            warning = Logged(time=time.time(), level="warning", message=message)
            journal.write(warning)
            observe(warning)

        outcome = run_graph(graph, store, journal, options, listener, execute, reasons=reasons)
        if outcome.exit_code != INTERRUPTED:
            fill(graph, store, listener.failed, request.tracking_uri, warn)
    listener.let_go()
    return outcome.exit_code


def _reasons(graph: Graph, store: Store) -> dict[str, str]:
    """Key -> why the task has to run, of those that the store lacks."""
    from benchmark.planning import make_plan

    return {planned.task.key: planned.reason for planned in make_plan(graph, store).tasks if not planned.cached}


@dataclass
class _Listener:
    """Hands events on, the last one only when the results are filled; remembers why cells failed."""

    observe: Observer
    failed: dict[str, str] = field(default_factory=dict[str, str])
    """Cell -> cause."""
    last: RunFinished | None = None

    def __call__(self, event: AnyEvent) -> None:
        if isinstance(event, RunFinished):
            self.last = event
            return
        if isinstance(event, CellFailed):
            self.failed[event.cell] = event.cause
        if isinstance(event, CellReopened):
            self.failed.pop(event.cell, None)
        self.observe(event)

    def let_go(self) -> None:
        """Hand on the end of the run."""
        if self.last is not None:
            self.observe(self.last)
