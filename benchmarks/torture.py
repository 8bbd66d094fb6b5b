"""Kill the real program at random moments, go on with it, and print what was lost, repeated or torn.

    python -m benchmarks.torture [--tries 100] [--seed 0] [--workers 2] [--minutes M]

A try starts the program on the store as the last fault left it, and strikes at a random moment of an undisturbed run's
length. Every fault strikes in turn; a run that comes to its end is checked and a new store begun. Exit code 1 where
anything does not hold.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import inf
from pathlib import Path

import psutil

from benchmark.graph import Graph
from benchmark.journal import Journal
from benchmark.run import plan_graph
from benchmark.scheduler import RunOptions, run_graph
from benchmark.store import Store
from benchmarks import torture_checks as checks
from benchmarks.torture_target import light

SUITE = """\
name: torture
num_secrets: 2
seeds: [0, 1]
models: [{kind: vit, depth: 1, width: 8, heads: 1, patch: 4}]
ranks: [1, 2]
datasets: [{label: digits, proxy: digits, private: digits, image_size: 8}]
bridges: [ridge, projection, direct]
inversions: [dlg]
"""
MARK = "BRIDGE_TORTURE"
"""Variable that every process of a try inherits: what still carries it afterwards is an orphan."""
RUN_SECONDS, ORPHAN_SECONDS = 180.0, 20.0
INTERRUPTED = 130


def kill_driver(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """SIGKILL the driver alone: its workers must notice and go."""
    process.kill()


def kill_worker(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """SIGKILL one worker process: the driver must replace it."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        if workers := [child for child in children if "spawn_main" in " ".join(child.cmdline())]:
            draw.choice(workers).kill()


def kill_all(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """SIGKILL driver and workers in one stroke, as a machine that loses its power."""
    os.killpg(process.pid, signal.SIGKILL)


def terminate(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """SIGTERM to the driver, as a queueing system sends it."""
    process.terminate()


def press_ctrl_c(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """SIGINT to the whole group, as a terminal sends it."""
    os.killpg(process.pid, signal.SIGINT)


Strike = Callable[[subprocess.Popen[bytes], random.Random], None]
FAULTS: dict[str, tuple[Strike, frozenset[int]]] = {
    "SIGKILL driver": (kill_driver, frozenset({-signal.SIGKILL})),
    "SIGKILL a worker": (kill_worker, frozenset({0})),
    "SIGKILL driver and workers": (kill_all, frozenset({-signal.SIGKILL})),
    "SIGTERM": (terminate, frozenset({INTERRUPTED})),
    "Ctrl-C": (press_ctrl_c, frozenset({INTERRUPTED})),
}
"""Fault -> how it strikes, and the exit codes that are right after it."""


@dataclass
class Row:
    """What became of a fault's tries."""

    tries: int = 0
    lost: int = 0
    repeated: int = 0
    torn: int = 0
    orphans: int = 0
    wrong_exits: int = 0
    problems: list[str] = field(default_factory=list[str])

    @property
    def holds(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.repeated or self.torn or self.orphans or self.wrong_exits or self.problems)


class Torture:
    """A suite, its undisturbed results, and the store that faults strike at present."""

    def __init__(self, folder: Path, workers: int, seed: int, seconds: float | None = None) -> None:
        self.folder, self.workers, self.draw = folder, workers, random.Random(seed)
        self.suite = folder / "torture.yaml"
        self.suite.write_text(SUITE)
        self.graph: Graph = plan_graph(self.suite)
        self.rows = {name: Row() for name in FAULTS}
        self.runs = self.stores = 0
        self.wanted = self._undisturbed()
        self._begin_store()
        self.seconds = seconds or self._measured_run()
        """How long an undisturbed run takes: the time within which faults strike."""

    def strike(self, name: str) -> None:
        """One try of the fault `name`; a run that ended before it was struck is checked and does not count."""
        hit, right_codes = FAULTS[name]
        while True:
            before, offset = checks.present(self.store), self._log_size()
            process, moment = self._start(), self.draw.uniform(0.0, self.seconds)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            struck = process.poll() is None
            if struck:
                hit(process, self.draw)
            code = self._wait(process)
            row = self.rows[name]
            self._judge(row, before, offset)
            # A signal that comes before Python has installed its handlers, or after the end is written, ends as the
            # system has it.
            natural = {0, -signal.SIGTERM, -signal.SIGINT}
            if code not in right_codes | (natural if struck and INTERRUPTED in right_codes else {0}):
                row.wrong_exits += 1
                row.problems.append(f"exit code {code} after {moment:.2f} s: {self._last_line()}")
            if code == 0:
                self._judge_end(row)
                self._begin_store()
            if struck:
                row.tries += 1
                return

    def finish(self, name: str) -> None:
        """Go on with the last store to its end, and check it; told in the row of `name`."""
        before, offset = checks.present(self.store), self._log_size()
        code = self._wait(self._start())
        self._judge(self.rows[name], before, offset)
        if code:
            self.rows[name].problems.append(f"going on ended with {code}: {self._last_line()}")
        else:
            self._judge_end(self.rows[name])

    def _judge(self, row: Row, before: set[str], offset: int) -> None:
        row.orphans += self._orphans()
        row.torn += len(checks.torn(self.store))
        row.lost += len(checks.lost(self.store)) + len(before - checks.present(self.store))
        row.repeated += len(checks.repeated(self.log, offset, before))

    def _judge_end(self, row: Row) -> None:
        row.problems += [
            f"{problem}; {self._warning()}" for problem in checks.disagreements(self.store, self.graph, self.wanted)
        ]

    def _undisturbed(self) -> checks.Digests:
        """What the suite makes in one process that nothing strikes."""
        store = Store.open(self.folder / "undisturbed")
        with store.lock("undisturbed"), Journal.start(store.root) as journal:
            once = partial(light, log=self.folder / "undisturbed.log")
            outcome = run_graph(self.graph, store, journal, RunOptions(workers=0), execute=once)
        assert outcome.exit_code == 0
        return checks.digests(store.root)

    @cached_property
    def empty(self) -> Path:
        """A store with an empty MLflow database: to make one takes longer than a try."""
        from benchmark.filling import tracking_path
        from benchmark.tracking import Tracker

        store = Store.open(self.folder / "empty")
        Tracker(f"sqlite:///{tracking_path(store.root)}").fill(store, Graph("nothing", {}, ()))
        return store.root

    def _measured_run(self) -> float:
        started = time.monotonic()
        assert self._wait(self._start()) == 0, self._last_line()
        seconds = time.monotonic() - started
        self._judge_end(next(iter(self.rows.values())))
        self._begin_store()
        return seconds

    def _begin_store(self) -> None:
        self.stores += 1
        self.store = self.folder / f"store{self.stores}"
        self.log = self.folder / f"log{self.stores}"
        if self.stores > 1:  # the first store has its database made by the program
            shutil.copytree(self.empty, self.store)

    def _start(self) -> subprocess.Popen[bytes]:
        self.runs += 1
        self.token = f"{os.getpid()}-{self.runs}"
        arguments = [str(self.suite), str(self.store), str(self.log), str(self.workers)]
        with open(self.folder / "output", "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.torture_target", *arguments],
                env=os.environ | {MARK: self.token},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 124

    def _orphans(self) -> int:
        """How many processes of the last run are there after all patience; they are killed."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := _carrying(self.token)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(left)

    def _log_size(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0

    def _warning(self) -> str:
        lines = (self.folder / "output").read_text(errors="replace").splitlines()
        return next((line for line in lines if "warning:" in line), "no warning")

    def _last_line(self) -> str:
        lines = (self.folder / "output").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _carrying(token: str) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def torture(
    folder: Path,
    tries: int,
    workers: int = 2,
    seed: int = 0,
    faults: Sequence[str] = tuple(FAULTS),
    seconds: float | None = None,
    minutes: float = inf,
) -> dict[str, Row]:
    """Fault -> what became of it: `tries` in all, in turn, within `seconds` of a start, none begun after `minutes`."""
    deadline = time.monotonic() + 60 * minutes
    bench, names = Torture(folder, workers, seed, seconds), faults
    for number in range(tries):
        bench.strike(names[number % len(names)])
        if number == tries - 1 or time.monotonic() > deadline:
            bench.finish(names[number % len(names)])
            break
    return bench.rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the program at random moments; 1 where anything does not hold.")
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=inf, help="begin no try after so long")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        rows = torture(Path(folder), asked.tries, asked.workers, asked.seed, minutes=asked.minutes)
    print("| fault | tries | lost | repeated | torn | orphans | wrong exit codes |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        print(
            f"| {name} | {row.tries} | {row.lost} | {row.repeated} | {row.torn} | {row.orphans} | {row.wrong_exits} |"
        )
    for name, row in rows.items():
        for problem in dict.fromkeys(row.problems):
            print(f"{name}: {problem}")
    return int(not all(row.holds for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
