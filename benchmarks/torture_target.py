"""The program under torture: `bridge bench run` with phases that cost nothing, so that a try takes seconds.

Suite, plan, lock, workers, store, journal, MLflow and DuckDB are the real ones; only what a task computes is replaced,
by files that follow from its key and its inputs' bytes alone.
"""

import hashlib
import os
import random
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmark.console import PlainLog
from benchmark.graph import Task
from benchmark.manifest import payload
from benchmark.run import Request, plan_graph, run_planned
from bridge_core.errors import BridgeError
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import Progress

SIZES_BYTES = {"small.bin": 500, "large.bin": 300_000, "release/000/adapter.bin": 20_000}
LEAST_SECONDS, MOST_SECONDS = 0.02, 0.12


def light(task: Task, inputs: Mapping[str, Path], out: Path, progress: Progress, log: Path) -> None:
    """Note the start in `log`, read every input, write files that depend on nothing else."""
    note(log, f"start {task.key}")
    digest = hashlib.sha256(task.key.encode())
    for role in sorted(inputs):
        for path in payload(inputs[role]):
            digest.update(path.read_bytes())
    draw = random.Random(digest.hexdigest())
    for step in range(3):
        progress(step + 1, 3, loss=draw.random())
        time.sleep(draw.uniform(LEAST_SECONDS, MOST_SECONDS) / 3)
    for name, size in SIZES_BYTES.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(draw.randbytes(size))
    write_facts([Fact("psnr", draw.random(), secret=0), Fact("psnr", draw.random(), secret=1)], out)
    note(log, f"end {task.key}")


def note(log: Path, line: str) -> None:
    """Append a line in one write: a killed process leaves all of it or none."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def main(suite: str, store: str, log: str, workers: str) -> int:
    """Run the suite, or go on with it; the exit code of `bridge bench run`."""
    request = Request(Path(suite), Path(store), workers=int(workers), retries=3)
    try:
        return run_planned(plan_graph(request.suite), request, PlainLog(), partial(light, log=Path(log)))
    except BridgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
