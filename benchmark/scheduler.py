"""Run a graph: choose the engine, write the journal, listen to signals, sum up."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, MappingProxyType

from benchmark import events as e
from benchmark.driver import Driver
from benchmark.engines import Engine, InProcess
from benchmark.graph import Graph
from benchmark.journal import Journal
from benchmark.ledger import State
from benchmark.requests import Mailbox, requests_folder
from benchmark.store import Store
from benchmark.worker import Execute, execute

__all__ = ["RunOptions", "RunOutcome", "execute", "num_cores", "run_graph"]

INTERRUPTED = 130
NO_REASONS: Mapping[str, str] = MappingProxyType({})


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class RunOptions:
    """How to run a graph."""

    workers: int = field(default_factory=num_cores)
    """Worker processes; 0 runs tasks in the driver's own process."""
    scheduler: str | None = None
    """Address of a dask scheduler; None starts a local cluster."""
    retries: int = 1
    """Further attempts after a worker was lost. A task that raises is not tried again in the same run."""
    timeout_seconds: float | None = None
    """For one attempt at a task; not kept with 0 workers."""
    threads: int | None = None
    """Of torch, in each worker; None is one, however many workers: sums depend on it in their last digits."""
    tracking_uri: str | None = None
    """Told in the journal, for the monitor."""
    suite_file: str | None = None
    """Told in the journal, for who runs it again."""

    @property
    def in_process(self) -> bool:
        """Whether tasks run in the driver's own process."""
        return self.workers == 0 and self.scheduler is None

    @property
    def threads_per_worker(self) -> int | None:
        """Threads of torch in a worker; None leaves a foreign cluster's own setting."""
        if self.threads is not None or self.scheduler is not None:
            return self.threads
        return 1


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended."""

    exit_code: int
    """0 all good, 1 some cells failed or were cancelled, 130 interrupted."""
    finished_cells: int
    failed_cells: int
    cancelled_cells: int
    cached_tasks: int
    finished_tasks: int
    failed_tasks: int
    skipped_tasks: int


def run_graph(
    graph: Graph,
    store: Store,
    journal: Journal,
    options: RunOptions,
    on_event: Callable[[e.AnyEvent], None] = lambda event: None,
    execute: Execute = execute,
    stop: threading.Event | None = None,
    reasons: Mapping[str, str] = NO_REASONS,
) -> RunOutcome:
    """Make every artefact of `graph` that `store` lacks. The caller holds the store's lock.

    Every event goes to `journal` and `on_event`, in the caller's thread. Ctrl-C, SIGTERM and `stop` end the run with
    exit code 130 and leave no process behind; so does a request to stop. `reasons` (key -> why a task has to run) are
    told in the journal. Raises `StoreFault` where store or journal fail, `UnknownName` for a scheduler that does not
    answer.
    """

    def emit(event: e.AnyEvent) -> None:
        journal.write(event)
        on_event(event)

    stop = stop or threading.Event()
    mailbox = Mailbox(requests_folder(journal.path))
    driver = Driver(graph, store, emit, execute, options.retries, options.threads_per_worker, stop, mailbox)
    with _signals(stop, raising=options.in_process):
        try:
            emit(_start_event(graph, journal.run, options, reasons))
            if driver.take_cached():
                driver.drive(_start_engine(options, journal))
        except KeyboardInterrupt:
            stop.set()
        outcome = _sum_up(driver)
        emit(_end_event(outcome))
    return outcome


def _start_engine(options: RunOptions, journal: Journal) -> Engine:
    if options.in_process:
        return InProcess()
    from benchmark.cluster import Limits, on_local_cluster, on_scheduler  # dask takes half a second to import

    limits = Limits(max(1, options.workers), options.threads_per_worker, options.timeout_seconds)
    if options.scheduler is not None:
        return on_scheduler(options.scheduler, limits)
    return on_local_cluster(limits, journal.path.parent / "workers")


def _start_event(graph: Graph, run: str, options: RunOptions, reasons: Mapping[str, str]) -> e.RunStarted:
    return e.RunStarted(
        time=time.time(),
        run=run,
        suite=graph.suite,
        pid=os.getpid(),
        host=socket.gethostname(),
        workers=options.workers if options.scheduler is None else max(1, options.workers),
        tasks=tuple(
            e.TaskInfo(key=task.key, phase=task.phase, inputs=task.inputs, why=reasons.get(task.key, ""))
            for task in graph.tasks.values()
        ),
        cells=tuple(e.CellInfo(id=cell.id, labels=cell.labels, tasks=cell.tasks) for cell in graph.cells),
        tracking_uri=options.tracking_uri,
        suite_file=options.suite_file,
    )


def _end_event(outcome: RunOutcome) -> e.RunFinished:
    return e.RunFinished(
        time=time.time(),
        exit_code=outcome.exit_code,
        finished_cells=outcome.finished_cells,
        failed_cells=outcome.failed_cells,
        cancelled_cells=outcome.cancelled_cells,
    )


def _sum_up(driver: Driver) -> RunOutcome:
    ledger = driver.ledger
    finished = len(ledger.finished_cells)
    unfinished = len(driver.graph.cells) - finished
    return RunOutcome(
        exit_code=INTERRUPTED if driver.stop.is_set() else int(unfinished > 0),
        finished_cells=finished,
        failed_cells=len(ledger.failed_cells),
        cancelled_cells=len(ledger.cancelled_cells),
        cached_tasks=len(driver.cached),
        finished_tasks=len(driver.made),
        failed_tasks=ledger.count(State.FAILED),
        skipped_tasks=ledger.count(State.SKIPPED),
    )


@contextmanager
def _signals(stop: threading.Event, raising: bool) -> Generator[None, None, None]:
    """Turn SIGINT and SIGTERM into `stop`; `raising` breaks a task off that runs in this process.

    Only the main thread can listen to signals: elsewhere `stop` is the caller's to set.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        repeated = stop.is_set()
        stop.set()
        if raising and not repeated:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
