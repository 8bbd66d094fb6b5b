"""The engine on dask.distributed: a local cluster of supervised single-threaded processes, or one that is there.

Dask runs an order once and never again by itself: attempts are the driver's to count. At most as many orders are under
way as workers are alive, so that none waits behind another one at a worker that might die.

Clients, clusters and futures are `Any` here: distributed hardly declares types.
"""

import faulthandler
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import dask.config
import distributed
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT

from benchmark.engines import Deliver, Ended, Lost, Message, Progressed, Started
from benchmark.events import WorkerLoad
from benchmark.worker import MAX_TEXT, Failure, Order, Outcome, failure_of, perform
from bridge_core.errors import BridgeError, UnknownName

CONNECT_SECONDS = 10
START_ATTEMPTS = 3
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 32 << 20}
"""glibc keeps freed tensors, bytes: dask's own setting gives each one back, and a third of a worker's time with it."""
GATHER_SECONDS = 60
QUEUED_PER_THREAD = 2
"""Orders under way per thread of a cluster that is not ours: an adaptive one grows by its queue."""


@dataclass(frozen=True)
class Limits:
    """What a worker process may use."""

    workers: int
    threads: int | None
    """Of torch and OpenMP, in each worker; None leaves the worker's own setting."""
    timeout_seconds: float | None
    """For one attempt at a task."""


@dataclass
class _Dispatch:
    order: Order
    worker: str = ""
    pid: int = 0
    started: float | None = None
    """By this process's clock, when it heard of the start."""


class DaskEngine:
    """Orders on dask workers. Make one by `on_local_cluster` or `on_scheduler`."""

    def __init__(self, client: Any, limits: Limits, cluster: Any = None, logs: Path | None = None) -> None:
        self._client, self._cluster, self._limits, self._logs = client, cluster, limits, logs
        self._life = ExitStack()
        self._inbox: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._topic = f"bridge-{client.id}"
        self._threads: dict[str, int] = dict(client.nthreads())
        self._flying: dict[str, tuple[Any, _Dispatch]] = {}
        self._out_of_memory: set[str] = set()
        self._count = 0
        for topic in self._topics():
            client.subscribe_topic(topic, partial(self._receive, topic))

    def _topics(self) -> tuple[str, str, str]:
        return self._topic, "all", "worker-restart-memory"

    def owns(self, life: ExitStack) -> None:
        """Take over what has to be released at the end."""
        self._life = life

    def free_slots(self) -> int:
        """Threads that are alive and idle; at least one in all, so that an empty cluster is asked for more."""
        alive = sum(self._threads.values())
        wanted = alive if self._cluster is not None else QUEUED_PER_THREAD * alive
        return max(1, wanted) - len(self._flying)

    def submit(self, order: Order) -> None:
        """Send an order to the cluster."""
        self._count += 1
        name = f"{order.task.phase}-{order.task.key[:12]}-{self._client.id}-{self._count}"
        future = self._client.submit(
            _run_order, order, self._topic, name, self._limits.timeout_seconds, self._logs, key=name, pure=False
        )
        self._flying[name] = (future, _Dispatch(order))
        future.add_done_callback(lambda _: self._inbox.put(("done", name)))  # pyright: ignore[reportUnknownLambdaType]

    def pump(self, deliver: Deliver, timeout_seconds: float) -> None:
        """Deliver the messages that are there; wait for the first, up to `timeout_seconds`.

        Raises `BridgeError` where the scheduler is gone.
        """
        if self._client.status != "running":
            raise BridgeError("the dask scheduler is gone", remedy="start it and run the suite again")
        with suppress(Empty):
            topic, told = self._inbox.get(timeout=timeout_seconds)
            while True:
                message = self._understand(topic, told)
                if message is not None:
                    deliver(message)
                topic, told = self._inbox.get_nowait()

    def loads(self) -> dict[str, WorkerLoad]:
        """As the workers have last told the scheduler; empty where it does not answer."""
        try:
            known = self._client.scheduler_info(n_workers=-1)["workers"]
            return {address: _load_of(worker) for address, worker in known.items()}
        except (OSError, KeyError, TypeError, TimeoutError):
            return {}

    def close(self, kill: bool) -> None:
        """Close client and own cluster; with `kill`, kill the own worker processes first."""
        if self._cluster is not None and kill:
            for nanny in self._cluster.workers.values():
                _kill(nanny)
        elif kill:
            self._client.cancel([future for future, _ in self._flying.values()], force=True)
        for topic in self._topics():
            self._client.unsubscribe_topic(topic)
        self._client.close()
        self._life.close()

    def _receive(self, topic: str, event: tuple[float, Any]) -> None:
        self._inbox.put((topic, event[1]))

    def _understand(self, topic: str, told: Any) -> Message | None:
        if topic == "done":
            return self._end(*self._flying.pop(told))
        if topic == "all":
            self._count_threads(told)
        elif topic == "worker-restart-memory":
            self._out_of_memory.add(told["worker"])
        elif told["name"] in self._flying:
            return self._hear(self._flying[told["name"]][1], told)
        return None

    def _hear(self, dispatch: _Dispatch, told: Mapping[str, Any]) -> Message:
        key, attempt = dispatch.order.task.key, dispatch.order.attempt
        if "step" in told:
            return Progressed(key, attempt, told["step"], told["total"], told["metrics"], told["time"])
        dispatch.worker, dispatch.pid, dispatch.started = told["worker"], told["pid"], time.monotonic()
        return Started(key, attempt, dispatch.worker, told["time"])

    def _count_threads(self, told: Mapping[str, Any]) -> None:
        action, worker = told.get("action"), told.get("worker")
        if action == "remove-worker":
            self._threads.pop(str(worker), None)
        elif action == "add-worker":
            self._threads[str(worker)] = 1 if self._cluster is not None else self._client.nthreads().get(worker, 1)

    def _end(self, future: Any, dispatch: _Dispatch) -> Message:
        key, attempt = dispatch.order.task.key, dispatch.order.attempt
        try:
            outcome = future.result(timeout=GATHER_SECONDS)
        except KilledWorker as killed:
            failure = self._post_mortem(dispatch, killed.last_worker.address)
            return Lost(key, attempt, failure, started=dispatch.started is not None or self._cluster is not None)
        except Exception as error:  # what dask itself reports: an order that can not be unpickled, a worker gone
            return Ended(key, attempt, Outcome(0.0, failure=failure_of(error)))
        return Ended(key, attempt, outcome)

    def _post_mortem(self, dispatch: _Dispatch, address: str) -> Failure:
        limit, log = self._limits.timeout_seconds, self._last_words(dispatch)
        ran = time.monotonic() - dispatch.started if dispatch.started is not None else 0.0
        # The start was heard of a moment after it happened, so the limit may seem to be reached a little early.
        if limit is not None and ran >= 0.95 * limit:
            return Failure("Timeout", f"not done after {limit:g} s", log)
        if address in self._out_of_memory:
            return Failure("OutOfMemory", "the worker used up the memory of this machine and was killed", log)
        who = f"worker {dispatch.worker} (process {dispatch.pid})" if dispatch.pid else "the worker"
        return Failure("WorkerLost", f"{who} died at this task: killed, out of memory, or crashed", log)

    def _last_words(self, dispatch: _Dispatch) -> str:
        if self._logs is None or not dispatch.pid:
            return ""
        try:
            return _log_of(self._logs, dispatch.pid).read_text(errors="replace")[-MAX_TEXT:]
        except OSError:
            return ""


def on_local_cluster(limits: Limits, logs: Path | None) -> DaskEngine:
    """An engine on worker processes of our own; they are gone when it is closed, or when this process dies.

    What they print goes to files in `logs`.
    """
    thread_limits = {f"{library}_NUM_THREADS": limits.threads or 1 for library in ("OMP", "MKL", "OPENBLAS")}
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-ttl": None,  # a long kernel call may keep a worker silent for minutes
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.nanny.pre-spawn-environ": ALLOCATOR | {"PYTHONHASHSEED": 0},  # sets in one order everywhere
    }
    with ExitStack() as life:
        life.enter_context(dask.config.set(settings))  # as long as the engine: restarted workers read it again
        cluster = _start_cluster(
            n_workers=limits.workers,
            threads_per_worker=1,
            processes=True,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=MEMORY_LIMIT,
            env=thread_limits,
            silence_logs=logging.CRITICAL,
        )
        life.callback(cluster.close)
        client: Any = distributed.Client(cluster, set_as_default=False)
        # The default of 10 ms between messages to the scheduler is most of what a short task costs.
        client.scheduler_comm.interval = 0.001
        engine = DaskEngine(client, limits, cluster, logs)
        engine.owns(life.pop_all())
        return engine


def _start_cluster(**settings: Any) -> Any:
    """A local cluster; where a worker dies as it starts, dask closes all and it is tried again."""
    for _ in range(START_ATTEMPTS):
        with suppress(RuntimeError):
            return distributed.LocalCluster(**settings)
    raise BridgeError("worker processes die as they start", "some that live", "try --workers 1, or look at the memory")


def on_scheduler(address: str, limits: Limits) -> DaskEngine:
    """An engine on the dask scheduler at `address`; its workers must see the store under the same path.

    Raises `UnknownName` where none answers.
    """
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        found = f"no dask scheduler answers at {address}"
        raise UnknownName(found, "an address such as tcp://host:8786", "start it with `dask scheduler`") from error
    return DaskEngine(client, limits)


def _load_of(worker: Mapping[str, Any]) -> WorkerLoad:
    used = worker["metrics"]
    limit = int(worker.get("memory_limit") or 0)
    return WorkerLoad(cpu=round(float(used["cpu"]), 1), memory=int(used["memory"]), memory_limit=limit)


def _kill(nanny: Any) -> None:
    if nanny.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(nanny.pid, signal.SIGKILL)


# --- in the worker process --------------------------------------------------------------------------------------------


def _run_order(order: Order, topic: str, name: str, timeout_seconds: float | None, logs: Path | None) -> Outcome:
    dask_worker: Any = distributed.get_worker()
    worker = str(dask_worker.address)
    if logs is not None:
        _redirect_output(logs)

    def send(**told: Any) -> None:
        dask_worker.log_event(topic, {"name": name, "time": time.time(), **told})

    def tell(step: int, total: int, metrics: dict[str, float]) -> None:
        send(step=step, total=total, metrics=metrics)

    send(worker=worker, pid=os.getpid())
    if timeout_seconds is None:
        return perform(order, worker, tell)
    # A thread of C ends the process: it works even where the task never gives the interpreter back.
    faulthandler.dump_traceback_later(timeout_seconds, exit=True, file=sys.__stderr__ or 2)
    try:
        return perform(order, worker, tell)
    finally:
        faulthandler.cancel_dump_traceback_later()


_redirected: set[Path] = set()


def _redirect_output(logs: Path) -> None:
    """From the first order on, what this process prints goes to a file: the terminal belongs to the monitor."""
    path = _log_of(logs, os.getpid())
    if path in _redirected:
        return
    _redirected.add(path)
    logs.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable(file=2)


def _log_of(logs: Path, pid: int) -> Path:
    return logs / f"{pid}.log"
