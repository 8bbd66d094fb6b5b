"""Graphs of small tasks whose behaviour a file decides, for tests that run them on real worker processes.

A task is known by its number. What it does when executed is in `<control>/<number>`; each start and end is a line of
`<control>/log`.
"""

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from benchmark import events as e
from benchmark.graph import Graph, PlannedCell, Task
from benchmark.journal import Journal
from benchmark.scheduler import RunOptions, RunOutcome, run_graph
from benchmark.store import Store
from benchmark.worker import Execute
from bridge_core import spec as s
from bridge_core.errors import Diverged
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import Progress

DATASET = s.Dataset(proxy=s.Digits(), private=s.Mnist())


def cell(seed: int = 0, rank: int = 4, bridge: s.Bridge | None = None, model: s.Model | None = None) -> s.Cell:
    """A small cell."""
    return s.Cell(
        model=model or s.ConvNet(),
        rank=rank,
        dataset=DATASET,
        prior=s.NoPrior(),
        recipe=s.Recipe(),
        bridge=bridge or s.Ridge(),
        inversion=s.Dlg(),
        knowledge=s.Knowledge(),
        seed=seed,
        num_secrets=1,
    )


def key_of(number: int) -> str:
    """The key of the task `number`."""
    return hashlib.sha256(f"task {number}".encode()).hexdigest()


def graph_of(tasks: Mapping[int, Iterable[int]], cells: Iterable[Iterable[int]] | None = None) -> Graph:
    """A graph of `tasks` (number -> numbers of its inputs), with a cell for each chain in `cells`.

    Tasks come in topological order. Without `cells`, every task that no other needs makes a cell with all its inputs.
    """
    made = {
        key_of(number): Task(
            key=key_of(number),
            phase="proxy",
            spec=s.ProxyPhase(source=s.Digits(), image_size=number, channels=1),
            inputs={f"input{i}": key_of(i) for i in inputs},
            code_version="0",
        )
        for number, inputs in tasks.items()
    }
    needed = {i for inputs in tasks.values() for i in inputs}
    chains = cells if cells is not None else [_upstream(n, tasks) for n in tasks if n not in needed]
    planned = tuple(
        PlannedCell(f"cell{i}", cell(), {"seed": str(i)}, {f"stage{n}": key_of(n) for n in chain})
        for i, chain in enumerate(chains)
    )
    return Graph("synthetic", made, planned)


def _upstream(number: int, tasks: Mapping[int, Iterable[int]]) -> list[int]:
    found = {number}
    for task in sorted(tasks, reverse=True):
        if task in found:
            found.update(tasks[task])
    return sorted(found)


def act(task: Task, inputs: Mapping[str, Path], out: Path, progress: Progress, control: Path) -> None:
    """What a worker executes: log, read every input, behave as told, write a payload and facts."""
    assert isinstance(task.spec, s.ProxyPhase)
    number = task.spec.image_size
    _note(control, f"start {number}")
    for folder in inputs.values():
        assert (folder / "payload.bin").read_bytes()
    behaviour = control / str(number)
    if behaviour.exists():
        _behave(behaviour, progress)
    (out / "payload.bin").write_bytes(number.to_bytes(4, "big") * 50_000)
    write_facts([Fact("score", float(number), secret=0), Fact("score", float(number + 1), secret=1)], out)
    _note(control, f"end {number}")


def _behave(behaviour: Path, progress: Progress) -> None:
    match behaviour.read_text().split():
        case ["diverge"]:
            raise Diverged("the loss is NaN", "a finite loss")
        case ["bug"]:
            raise RuntimeError("no such thing")
        case ["memory"]:
            raise MemoryError("can not have 1 TB")
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["kill-once"]:
            behaviour.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]:
            os._exit(3)
        case ["print"]:
            print("words on the terminal", os.environ.get("OMP_NUM_THREADS"))
            sys.stderr.write("and errors\n")
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["steps", count]:
            for step in range(int(count)):
                progress(step, int(count), loss=float("nan"))
        case other:
            raise AssertionError(other)


def _note(control: Path, line: str) -> None:
    descriptor = os.open(control / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def noted(control: Path, word: str) -> list[int]:
    """Numbers of the tasks that noted `word` (start or end), in order."""
    lines = (control / "log").read_text().splitlines() if (control / "log").exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith(word)]


class Bench:
    """A store, a control folder, and runs on them."""

    def __init__(self, folder: Path) -> None:
        self.control = folder / "control"
        self.control.mkdir(parents=True, exist_ok=True)
        self.store = Store.open(folder / "store")
        self.events: list[e.AnyEvent] = []

    @property
    def execute(self) -> Execute:
        """What workers run."""
        return partial(act, control=self.control)

    def tell(self, number: int, behaviour: str) -> None:
        """Decide what the task does from now on."""
        (self.control / str(number)).write_text(behaviour)

    def calm(self) -> None:
        """From now on, all tasks do their work."""
        for path in self.control.glob("[0-9]*"):
            path.unlink()

    def run(
        self,
        graph: Graph,
        options: RunOptions,
        on_event: Callable[[e.AnyEvent], None] = lambda event: None,
        stop: threading.Event | None = None,
    ) -> RunOutcome:
        """One run; its events are in `events`."""
        self.events = []

        def observe(event: e.AnyEvent) -> None:
            self.events.append(event)
            on_event(event)

        with self.store.lock("synthetic"), Journal.start(self.store.root) as journal:
            return run_graph(graph, self.store, journal, options, observe, self.execute, stop)

    def of(self, kind: type[e.Event]) -> list[e.AnyEvent]:
        """The last run's events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def main(folder: str, count: str) -> None:
    """A driver to be killed: chains of two tasks on two workers."""
    bench = Bench(Path(folder))
    sys.exit(bench.run(chains(int(count)), RunOptions(workers=2)).exit_code)


def chains(count: int) -> Graph:
    """`count` cells of a task and its follower, with one task that all share."""
    tasks: dict[int, tuple[int, ...]] = {0: ()}
    for i in range(count):
        tasks[2 * i + 1] = (0,)
        tasks[2 * i + 2] = (2 * i + 1,)
    return graph_of(tasks)


if __name__ == "__main__":
    main(*sys.argv[1:])
