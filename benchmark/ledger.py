"""Where every task and cell of a run stands: a state machine over the graph, without clocks, disks or processes."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush

from benchmark.graph import Graph, PlannedCell


class State(Enum):
    """Of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Fallout:
    """What a task's final failure takes along."""

    skipped: tuple[str, ...]
    """Tasks that stand on it and were still waiting."""
    failed_cells: tuple[PlannedCell, ...]


@dataclass
class Ledger:
    """The standing of a graph's tasks. Ready tasks come in the graph's order, so that cells are finished one by one."""

    graph: Graph
    state: dict[str, State] = field(init=False)
    starts: dict[str, int] = field(init=False)
    """Key -> how often it was started."""
    finished_cells: set[str] = field(init=False, default_factory=set[str])
    failed_cells: set[str] = field(init=False, default_factory=set[str])
    cancelled_cells: set[str] = field(init=False, default_factory=set[str])

    def __post_init__(self) -> None:
        self.state = dict.fromkeys(self.graph.tasks, State.WAITING)
        self.starts = dict.fromkeys(self.graph.tasks, 0)
        self._position = {key: position for position, key in enumerate(self.graph.tasks)}
        self._keys = tuple(self.graph.tasks)
        self._dependants: dict[str, list[str]] = defaultdict(list)
        self._cells: dict[str, list[PlannedCell]] = defaultdict(list)
        self._cell_of = {cell.id: cell for cell in self.graph.cells}
        self._ready: list[int] = []
        for task in self.graph.tasks.values():
            for key in set(task.inputs.values()):
                self._dependants[key].append(task.key)
            self._offer(task.key)
        for cell in self.graph.cells:
            for key in set(cell.tasks.values()):
                self._cells[key].append(cell)

    def count(self, state: State) -> int:
        """How many tasks stand so."""
        return sum(found is state for found in self.state.values())

    def next_ready(self) -> str | None:
        """Take the first task out that could start now; None where there is none. Start it, or put it back."""
        while self._ready:
            key = self._keys[heappop(self._ready)]
            if self._can_start(key):
                return key
        return None

    def start(self, key: str) -> int:
        """The task runs now; the number of this attempt, from 1."""
        self.state[key] = State.RUNNING
        self.starts[key] += 1
        return self.starts[key]

    def finish(self, key: str) -> tuple[PlannedCell, ...]:
        """The artefact is in the store; the cells that are finished by it."""
        self.state[key] = State.DONE
        for dependant in self._dependants[key]:
            self._offer(dependant)
        finished = tuple(cell for cell in self._undecided(key) if self._is_finished(cell))
        self.finished_cells.update(cell.id for cell in finished)
        return finished

    def put_back(self, key: str) -> None:
        """The attempt came to nothing, another will be made."""
        self.state[key] = State.WAITING
        self._offer(key)

    def reopen(self, key: str) -> None:
        """The artefact was not what it should be: make it again. Cells that are finished stay so."""
        self.put_back(key)

    def give_up(self, key: str) -> Fallout:
        """The task has failed for good."""
        self.state[key] = State.FAILED
        skipped = tuple(self._skip_dependants(key))
        failed: dict[str, PlannedCell] = {}
        for lost in (key, *skipped):
            failed.update((cell.id, cell) for cell in self._undecided(lost))
        self.failed_cells.update(failed)
        return Fallout(skipped, tuple(failed.values()))

    def cancel(self, cell_id: str) -> tuple[str, ...] | None:
        """The cell is not wanted any more; the waiting tasks that nobody else needs. None where it is decided."""
        cell = self._cell_of.get(cell_id)
        if cell is None or self._is_decided(cell):
            return None
        self.cancelled_cells.add(cell_id)
        unwanted = [
            key
            for key in dict.fromkeys(cell.tasks.values())
            if self.state[key] is State.WAITING and not any(self._undecided(key))
        ]
        self.state.update(dict.fromkeys(unwanted, State.SKIPPED))
        return tuple(unwanted)

    def reopen_cell(self, cell_id: str) -> tuple[str, ...] | None:
        """A failed or cancelled cell is wanted again; its tasks that wait again. None where it is neither."""
        if cell_id not in self.failed_cells | self.cancelled_cells:
            return None
        self.failed_cells.discard(cell_id)
        self.cancelled_cells.discard(cell_id)
        tasks = dict.fromkeys(self._cell_of[cell_id].tasks.values())
        again = [key for key in tasks if self.state[key] in (State.FAILED, State.SKIPPED)]
        self.state.update(dict.fromkeys(again, State.WAITING))
        for key in again:
            self._offer(key)
        return tuple(again)

    def settle(self, cell_id: str) -> tuple[PlannedCell, ...]:
        """The cell, if it is undecided and all its tasks are done already: it is finished then."""
        cell = self._cell_of[cell_id]
        finished = (cell,) if not self._is_decided(cell) and self._is_finished(cell) else ()
        self.finished_cells.update(each.id for each in finished)
        return finished

    def _skip_dependants(self, key: str) -> Iterator[str]:
        lost = [key]
        while lost:
            for dependant in self._dependants[lost.pop()]:
                if self.state[dependant] is State.WAITING:
                    self.state[dependant] = State.SKIPPED
                    lost.append(dependant)
                    yield dependant

    def _undecided(self, key: str) -> Iterator[PlannedCell]:
        cells = self._cells.get(key, ())
        return (cell for cell in cells if not self._is_decided(cell))

    def _is_decided(self, cell: PlannedCell) -> bool:
        return cell.id in self.finished_cells or cell.id in self.failed_cells or cell.id in self.cancelled_cells

    def _is_finished(self, cell: PlannedCell) -> bool:
        # The last stages are the last to be done: looked at first, they settle the question for most cells at once.
        return all(self.state[key] is State.DONE for key in reversed(cell.tasks.values()))

    def _can_start(self, key: str) -> bool:
        inputs = self.graph.tasks[key].inputs.values()
        return self.state[key] is State.WAITING and all(self.state[made] is State.DONE for made in inputs)

    def _offer(self, key: str) -> None:
        if self._can_start(key):
            heappush(self._ready, self._position[key])
