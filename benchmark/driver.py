"""The driver's loop: sends ready tasks to an engine, and turns what comes back into standings and events.

A failing task takes along what stands on it and nothing else. What is in the store is never made again; an artefact
that turns out corrupt is quarantined, and made again before the task that needs it.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, assert_never

from benchmark import events as e
from benchmark.engines import Ended, Engine, Lost, Message, Progressed, Started
from benchmark.graph import Graph, PlannedCell
from benchmark.ledger import Ledger
from benchmark.requests import Mailbox, Request
from benchmark.store import Store
from benchmark.worker import Execute, Failure, Order, Outcome
from bridge_core.errors import StoreFault

PUMP_SECONDS = 0.2
LOAD_SECONDS = 5.0
"""Between two looks at what the workers use."""
MAX_SECOND_CHANCES = 5
"""Times in one run that a task is put back through no fault of its own: corrupt input, worker lost before it began."""


@dataclass
class Driver:
    """One run of a graph."""

    graph: Graph
    store: Store
    emit: Callable[[e.AnyEvent], None]
    execute: Execute
    retries: int
    """Further attempts after a worker was lost."""
    threads: int | None
    """Of torch, in each worker."""
    stop: threading.Event
    mailbox: Mailbox | None = None
    """Where requests to this run arrive."""
    paused: bool = field(init=False, default=False)
    """No task is started."""
    cached: set[str] = field(init=False, default_factory=set[str])
    """Keys that the store had."""
    made: set[str] = field(init=False, default_factory=set[str])
    """Keys that this run has made."""

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.graph)
        self._metrics: dict[str, dict[str, float]] = {}
        self._flying: set[str] = set()
        self._begun: set[tuple[str, int]] = set()
        self._losses: Counter[str] = Counter()
        self._second_chances: Counter[str] = Counter()
        self._load_due = 0.0

    def take_cached(self) -> bool:
        """Count what the store has, quarantine what is visibly corrupt there; whether anything is left to run."""
        for key in self.graph.tasks:
            if self.stop.is_set():
                return False
            if self.store.path(key).exists() and not self._quarantine_if_corrupt(key, full=False):
                self.cached.add(key)
                self.emit(e.TaskCached(time=time.time(), key=key))
                self._finish(key, self.store.manifest(key).metrics)
        return len(self.cached) < len(self.graph.tasks)

    def drive(self, engine: Engine) -> None:
        """Run until nothing is left that can be done, or until `stop`. Closes the engine."""
        ended = False
        try:
            while not self.stop.is_set():
                self._obey()
                self._dispatch(engine)
                if not self._flying and not self.paused and not self._obey(now=True):
                    ended = not self.stop.is_set()
                    return
                engine.pump(self._take, PUMP_SECONDS)
                if not self._flying:
                    self.stop.wait(PUMP_SECONDS * self.paused)
                self._tell_loads(engine)
        finally:
            engine.close(kill=not ended)

    # --- what is asked of the run -------------------------------------------------------------------------------------

    def _obey(self, now: bool = False) -> bool:
        """Do what was asked since the last look; whether there was anything."""
        asked = self.mailbox.take(now) if self.mailbox is not None else []
        for one in asked:
            if isinstance(one, str):
                self._log("warning", one)
            else:
                self._do(one)
        return bool(asked)

    def _do(self, asked: Request) -> None:
        match asked.action:
            case "pause" | "resume":
                self._pause(asked.action == "pause", asked.by)
            case "cancel":
                self._cancel(asked)
            case "retry":
                self._retry(asked)
            case "stop":
                self._log("warning", f"stopped on request of {asked.by}")
                self.stop.set()
            case _:
                assert_never(asked.action)

    def _pause(self, pause: bool, by: str) -> None:
        if self.paused != pause:
            self.paused = pause
            kind = e.RunPaused if pause else e.RunResumed
            self.emit(kind(time=time.time(), by=by))

    def _cancel(self, asked: Request) -> None:
        for cell in asked.cells:
            skipped = self.ledger.cancel(cell)
            if skipped is not None:
                self.emit(e.CellCancelled(time=time.time(), cell=cell, by=asked.by))
            for key in skipped or ():
                self.emit(e.TaskSkipped(time=time.time(), key=key, because=""))

    def _retry(self, asked: Request) -> None:
        lost = self.ledger.failed_cells | self.ledger.cancelled_cells
        for cell in asked.cells or sorted(lost):
            tasks = self.ledger.reopen_cell(cell)
            if tasks is None:
                continue
            for key in tasks:
                del self._losses[key], self._second_chances[key]
            self.emit(e.CellReopened(time=time.time(), cell=cell, tasks=tasks, by=asked.by))
            self._tell_finished(self.ledger.settle(cell))

    def _log(self, level: Literal["info", "warning", "error"], message: str) -> None:
        self.emit(e.Logged(time=time.time(), level=level, message=message))

    # --- running ------------------------------------------------------------------------------------------------------

    def _tell_loads(self, engine: Engine) -> None:
        if time.monotonic() >= self._load_due:
            self._load_due = time.monotonic() + LOAD_SECONDS
            if loads := engine.loads():
                self.emit(e.WorkersLoaded(time=time.time(), workers=loads))

    def _dispatch(self, engine: Engine) -> None:
        for _ in range(0 if self.paused else engine.free_slots()):
            key = self.ledger.next_ready()
            if key is None:
                return
            self._flying.add(key)
            order = Order(self.graph.tasks[key], self.store.root, self.ledger.start(key), self.execute, self.threads)
            engine.submit(order)

    def _take(self, message: Message) -> None:
        if self.stop.is_set():
            return  # workers that die with the terminal's Ctrl-C are no losses
        match message:
            case Started():
                self._begin(message)
            case Progressed():
                self._tell_progress(message)
            case Ended():
                self._end(message.key, message.attempt, message.outcome)
            case Lost():
                self._lose(message)

    def _begin(self, message: Started) -> None:
        # A scheduler that is not ours may move an order to another worker by itself: only its first start is told.
        if (message.key, message.attempt) not in self._begun:
            self._begun.add((message.key, message.attempt))
            self.emit(e.TaskStarted(time=message.time, key=message.key, worker=message.worker, attempt=message.attempt))

    def _tell_progress(self, told: Progressed) -> None:
        self.emit(
            e.TaskProgressed(time=told.time, key=told.key, step=told.step, total=told.total, metrics=told.metrics)
        )

    # --- how a task ends ----------------------------------------------------------------------------------------------

    def _end(self, key: str, attempt: int, outcome: Outcome) -> None:
        self._flying.discard(key)
        if outcome.failure is not None and outcome.failure.of_store:
            remedy = "mend it and run the suite again: what is finished stays"
            raise StoreFault(f"stopped at {self.graph.tasks[key].phase}: {outcome.failure.message}", "", remedy)
        if outcome.failure is not None:
            self._fail(key, attempt, outcome.failure, again=self._mend_inputs(key, outcome.failure))
            return
        self.made.add(key)
        self.emit(e.TaskFinished(time=time.time(), key=key, seconds=outcome.seconds, metrics=outcome.metrics))
        self._finish(key, outcome.metrics)

    def _lose(self, lost: Lost) -> None:
        self.store.sweep(lost.key)
        if self.store.has(lost.key):  # the worker died after its commit: nothing is lost
            manifest = self.store.manifest(lost.key)
            self._end(lost.key, lost.attempt, Outcome(manifest.seconds, manifest.metrics))
            return
        self._flying.discard(lost.key)
        self._fail(lost.key, lost.attempt, lost.failure, again=self._may_retry(lost))

    def _finish(self, key: str, metrics: dict[str, float]) -> None:
        self._metrics[key] = metrics
        self._tell_finished(self.ledger.finish(key))

    def _tell_finished(self, cells: tuple[PlannedCell, ...]) -> None:
        for cell in cells:
            self.emit(e.CellFinished(time=time.time(), cell=cell.id, metrics=self._cell_metrics(cell)))

    def _cell_metrics(self, cell: PlannedCell) -> dict[str, float]:
        """Of all its tasks; where two measure the same name, the later stage counts."""
        return {name: value for key in cell.tasks.values() for name, value in self._metrics[key].items()}

    def _fail(self, key: str, attempt: int, failure: Failure, again: bool) -> None:
        self.emit(
            e.TaskFailed(
                time=time.time(),
                key=key,
                attempt=attempt,
                cause=failure.cause,
                message=failure.message,
                traceback=failure.traceback,
                final=not again,
            )
        )
        if again:
            self.ledger.put_back(key)
            return
        fallout = self.ledger.give_up(key)
        for skipped in fallout.skipped:
            self.emit(e.TaskSkipped(time=time.time(), key=skipped, because=key))
        for cell in fallout.failed_cells:
            self.emit(e.CellFailed(time=time.time(), cell=cell.id, key=key, cause=failure.cause))

    def _may_retry(self, lost: Lost) -> bool:
        if lost.failure.cause == "Timeout":
            return False
        if not lost.started:
            return self._second_chance(lost.key)
        self._losses[lost.key] += 1
        return self._losses[lost.key] <= self.retries

    def _mend_inputs(self, key: str, failure: Failure) -> bool:
        """Where an input does not hold, have it made again; whether the task gets another turn after it."""
        inputs = self.graph.tasks[key].inputs.values()
        suspects = {failure.corrupt_input} & set(inputs) | {made for made in inputs if not self.store.has(made)}
        if not suspects or not self._second_chance(key):
            return False
        for made in suspects:
            # Another task may have found it first: then it is quarantined, and on its way or made again already.
            if made in self.cached | self.made and self._quarantine_if_corrupt(made, full=True):
                self.cached.discard(made)
                self.made.discard(made)
                self.ledger.reopen(made)
        return True

    def _second_chance(self, key: str) -> bool:
        self._second_chances[key] += 1
        return self._second_chances[key] <= MAX_SECOND_CHANCES

    def _quarantine_if_corrupt(self, key: str, full: bool) -> bool:
        problem = self.store.verify(key, full) if self.store.path(key).exists() else "it is gone"
        if problem is not None:
            phase = self.graph.tasks[key].phase
            message = f"artefact {key[:12]} of {phase} is corrupt and will be made again: {problem}"
            self._log("warning", message)
        return problem is not None
