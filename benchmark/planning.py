"""What a run would do: tasks by phase, what the store holds already, why the rest would run."""

from collections import Counter
from dataclasses import dataclass, field

from benchmark.explain import Standing, explain
from benchmark.graph import Graph, Task
from benchmark.store import Store


@dataclass(frozen=True)
class PlannedTask:
    """A task of the plan."""

    task: Task
    num_cells: int
    """Cells that stand on it."""
    standing: Standing

    @property
    def cached(self) -> bool:
        """Whether the store holds its artefact."""
        return self.standing.state == "cached"

    @property
    def reason(self) -> str:
        """`cached`, or why it would run."""
        differs = f": {', '.join(self.standing.differs[:3])}" if self.standing.differs else ""
        return self.standing.state + differs


@dataclass
class PhasePlan:
    """All tasks of a phase."""

    phase: str
    num_tasks: int = 0
    num_cached: int = 0
    num_uses: int = 0
    """Sum over tasks of the cells that stand on each."""
    reasons: Counter[str] = field(default_factory=Counter[str])
    """Why those that are not cached would run."""


@dataclass(frozen=True)
class Plan:
    """A graph held against a store."""

    graph: Graph
    tasks: tuple[PlannedTask, ...]

    @property
    def num_to_run(self) -> int:
        """Tasks whose artefact the store lacks."""
        return sum(not task.cached for task in self.tasks)

    @property
    def sharing(self) -> float:
        """How many times more tasks there were if cells shared none."""
        return sum(task.num_cells for task in self.tasks) / max(1, len(self.tasks))

    def phases(self) -> list[PhasePlan]:
        """Counts by phase, in the graph's order."""
        found: dict[str, PhasePlan] = {}
        for planned in self.tasks:
            phase = found.setdefault(planned.task.phase, PhasePlan(planned.task.phase))
            phase.num_tasks += 1
            phase.num_cached += planned.cached
            phase.num_uses += planned.num_cells
            phase.reasons.update(() if planned.cached else (planned.reason,))
        return list(found.values())


def make_plan(graph: Graph, store: Store | None) -> Plan:
    """Hold `graph` against `store`; None stands for a store that does not exist yet."""
    uses = Counter(key for cell in graph.cells for key in set(cell.tasks.values()))
    standings = explain(graph, store) if store else dict.fromkeys(graph.tasks, Standing("never made"))
    return Plan(graph, tuple(PlannedTask(task, uses[key], standings[key]) for key, task in graph.tasks.items()))
