"""What happens to one task, in whichever process: check its inputs, run its phase, commit its artefact."""

import errno
import os
import sys
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmark.fingerprint import code_version
from benchmark.graph import Task
from benchmark.manifest import Manifest
from benchmark.provenance import library_versions
from benchmark.store import Store
from bridge_core import phases
from bridge_core import spec as s
from bridge_core.errors import BridgeError, StoreFault, UnknownName
from bridge_core.facts import Fact, read_facts
from bridge_core.phases import Progress

PROGRESS_SECONDS = 0.2
"""A task tells its progress at most this often."""
MAX_WARNINGS = 20
DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
"""What a disk says that no other task could write to either."""
MAX_TEXT = 20_000
"""Characters kept of a traceback or a message, from its end."""

Execute = Callable[[Task, Mapping[str, Path], Path, Progress], None]
Tell = Callable[[int, int, dict[str, float]], None]
"""Takes step, total and metrics to the driver."""


def execute(task: Task, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Run the task's phase: read the folders in `inputs` (role -> folder), write into the folder `out`.

    Raises `BridgeError` where the phase's code is no longer what the task was planned with.
    """
    if code_version(task.phase) != task.code_version:
        found = f"the code of {task.phase} has changed since the run began"
        raise BridgeError(found, "the code that the run was planned with", "run the suite again")
    phases.run(task.spec, inputs, out, progress)


@dataclass(frozen=True)
class Order:
    """One attempt at one task."""

    task: Task
    store: Path
    attempt: int
    execute: Execute
    threads: int | None = None
    """Of torch; None leaves them alone."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt came to nothing."""

    cause: str
    message: str
    traceback: str = ""
    corrupt_input: str | None = None
    """Key of the input whose artefact does not hold."""
    of_store: bool = False
    """The store itself failed: full, read-only, gone. Every other task would fail as well."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with a failure, or with the artefact in the store."""

    seconds: float
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    failure: Failure | None = None


def perform(order: Order, worker: str, tell: Tell) -> Outcome:
    """Make the artefact of `order` unless the store has it. Raises nothing that a task can cause."""
    started = time.perf_counter()
    metrics: dict[str, float] = {}
    failure = None
    try:
        store = _open(order.store)
        if store.has(order.task.key):
            metrics = store.manifest(order.task.key).metrics
        else:
            failure = _find_corrupt_input(order.task, store)
            if failure is None:
                metrics = _make(order, store, worker, tell)
    except Exception as error:  # the boundary of a task: recorded, and the others go on
        failure = failure_of(error)
    return Outcome(time.perf_counter() - started, metrics, failure)


def failure_of(error: BaseException) -> Failure:
    """An exception as a record; failures are clustered by `cause`."""
    text = "".join(traceback.format_exception(error))
    cause = "OutOfMemory" if _is_out_of_memory(error) else type(error).__name__
    message = str(error)[:MAX_TEXT] or type(error).__name__
    return Failure(cause, message, text[-MAX_TEXT:], of_store=_is_of_store(error))


def mean_metrics(facts: list[Fact]) -> dict[str, float]:
    """Means by name of the facts that are no points of a curve. A mean with a NaN is NaN."""
    values: dict[str, list[float]] = defaultdict(list)
    for fact in facts:
        if fact.step is None:
            values[fact.name].append(fact.value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def _open(path: Path) -> Store:
    try:
        return Store.open(path, create=False)
    except UnknownName as error:  # it was there when the run began
        raise StoreFault(f"{path} is gone", "the store that the run began with", "bring it back") from error


def _is_of_store(error: BaseException) -> bool:
    return isinstance(error, StoreFault) or (isinstance(error, OSError) and error.errno in DISK_FAULTS)


def _make(order: Order, store: Store, worker: str, tell: Tell) -> dict[str, float]:
    task, started = order.task, time.perf_counter()
    inputs = {role: store.path(key) for role, key in task.inputs.items()}
    _limit_threads(order.threads)
    temporary = store.begin(task.key)
    try:
        with warnings.catch_warnings(record=True) as caught:
            order.execute(task, inputs, temporary, _Throttled(tell))
        metrics = mean_metrics(read_facts(temporary))
        manifest = Manifest(
            key=task.key,
            phase=task.phase,
            spec=s.content(task.spec),
            inputs=task.inputs,
            code_version=task.code_version,
            seconds=time.perf_counter() - started,
            created=datetime.now(UTC),
            attempt=order.attempt,
            worker=worker,
            versions=library_versions(),
            warnings=_told_once(caught),
            metrics=metrics,
        )
        store.commit(temporary, manifest)
    finally:
        store.discard(temporary)
    return metrics


_sound: set[tuple[Path, int]] = set()
"""Artefacts that this process has checked in full, by folder and the manifest's time of writing."""


def _find_corrupt_input(task: Task, store: Store) -> Failure | None:
    for role, key in task.inputs.items():
        try:
            seen = (store.path(key), (store.path(key) / "manifest.json").stat().st_mtime_ns)
        except OSError:
            seen = (store.path(key), -1)
        full = seen not in _sound
        problem = store.problem(key, full=full)
        if problem is not None:
            return Failure("CorruptArtefact", f"input {role}: {problem}", corrupt_input=key)
        _sound.add(seen)
    return None


def _limit_threads(threads: int | None) -> None:
    """Torch reads OMP_NUM_THREADS when it is imported; where it is loaded already it must be told."""
    torch = sys.modules.get("torch")
    if threads is None:
        return
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    if limit.isdigit() and int(limit) > 0:  # more threads than the limit wait for each other for ever
        threads = min(threads, int(limit))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if torch is not None:
        torch.set_num_threads(threads)


def _told_once(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    told = dict.fromkeys(f"{one.category.__name__}: {one.message}"[:500] for one in caught)
    return tuple(told)[:MAX_WARNINGS]


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))


class _Throttled:
    """Tells the first step, the last, and between them no more than the driver can bear."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._next = 0.0
        self._ended = False

    def __call__(self, step: int, total: int, **metrics: float) -> None:
        now = time.monotonic()
        if now >= self._next or (step == total and not self._ended):
            self._next, self._ended = now + PROGRESS_SECONDS, step == total
            self._tell(int(step), int(total), {name: float(value) for name, value in metrics.items()})
