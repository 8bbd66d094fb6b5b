"""Print how planning, dispatch, the store and reports grow from 10^2 to 10^5: seconds, memory, and the sharing factor.

    python -m benchmarks.scale_store [--most 100000] [--dispatched 1000]

Planning and listing are one thread's work and told in seconds of the processor, so that a busy machine does not count;
queries and dispatch are told by the clock. Exit code 1 where a figure is over its limit.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from benchmark.graph import Task
from benchmark.journal import Journal
from benchmark.manifest import MANIFEST_FILE
from benchmark.planning import make_plan
from benchmark.scheduler import RunOptions, run_graph
from benchmark.store import Store
from bridge_core import spec as s
from bridge_core.phases import Progress
from tests.harness.synthetic_runs import cell, graph_of
from tests.harness.test_graph import plan

SIZES = (100, 1_000, 10_000, 100_000)
PLAN_LIMITS = {10_000: 2.0, 100_000: 30.0}
LISTING_LIMITS = {100_000: 2.0}
OVERHEAD_LIMIT_MS, SHARING_LIMIT, QUERY_LIMIT = 10.0, 2.5, 1.0
FACTS = 1_000_000


def no_op(task: Task, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """A task that costs nothing but its dispatch and its commit."""


def main() -> int:
    parser = argparse.ArgumentParser(description="How the harness grows; 1 where a figure is over its limit.")
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--dispatched", type=int, default=10_000, help="no-op tasks at most")
    asked = parser.parse_args()
    print("| what | size | figure | limit |\n|---|--:|--:|--:|")
    sizes = [size for size in SIZES if size <= asked.most]
    found = [_row("plan", size, _planned(size), PLAN_LIMITS.get(size), "s") for size in sizes]
    found += [_row("store listing", size, _listed(size), LISTING_LIMITS.get(size), "s") for size in sizes]
    found.append(_row("query over facts", FACTS, _queried(FACTS), QUERY_LIMIT, "s"))
    sharing, cells = _sharing()
    found.append(_row("sharing factor", cells, sharing, None, "") and sharing >= SHARING_LIMIT)
    for size in (size for size in sizes if size <= asked.dispatched):
        overhead, memory = _dispatched(size)
        found.append(_row("dispatch and commit of a task", size, overhead, OVERHEAD_LIMIT_MS, "ms"))
        found.append(_row("memory of the driver, growth", size, memory, None, "MiB"))
    return int(not all(found))


def _row(what: str, size: int, figure: float, limit: float | None, unit: str) -> bool:
    print(f"| {what} | {size:,} | {figure:.2f} {unit} | {'' if limit is None else f'{limit:g} {unit}'} |", flush=True)
    return limit is None or figure <= limit


def _planned(size: int) -> float:
    models, bridges = (s.ConvNet(), s.Vit()), (s.Ridge(), s.Oracle(), s.Projection(), s.RowMmse(), s.Mlp())
    ranks = (2, 4, 8, 16, 32)
    seeds = range(size // (len(models) * len(bridges) * len(ranks)))
    seeds = seeds or range(2)
    cells = [cell(i, r, b, m) for m in models for b in bridges for r in ranks for i in seeds][:size]
    started = time.process_time()
    assert len(plan(*cells).cells) == size
    return time.process_time() - started


def _sharing() -> tuple[float, int]:
    """How many times more tasks 4 models x 3 ranks x 4 pairs of data x 5 priors x 5 seeds were if cells shared none."""
    models = (s.ConvNet(), s.Vit(), s.Vit(depth=1), s.ResNet18())
    sources = (s.Digits(), s.Mnist(), s.Lfw())
    datasets = [s.Dataset(proxy=proxy, private=private) for proxy, private in product(sources, sources)][:4]
    priors = (s.NoPrior(), s.TotalVariation(), s.TotalVariation(weight=0.5), s.Sds(), s.Guide())
    cells = [
        cell(seed, rank, None, model).model_copy(update={"dataset": dataset, "prior": prior})
        for model, rank, dataset, prior, seed in product(models, (2, 4, 8), datasets, priors, range(5))
    ]
    return make_plan(plan(*cells), None).sharing, len(cells)


def _listed(size: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        for i in range(size):
            place = store.path(f"{(i * 2_654_435_761) % 2**32:08x}{i:056x}")
            place.mkdir(parents=True)
            os.close(os.open(place / MANIFEST_FILE, os.O_CREAT))
        started = time.process_time()
        assert sum(1 for _ in store.keys()) == size  # noqa: SIM118
        return time.process_time() - started


def _queried(facts: int) -> float:
    """Mean, least and most of each name by bridge and rank, as tables ask for them."""
    import duckdb

    with duckdb.connect() as database:
        database.execute(
            f"""CREATE TABLE facts AS SELECT 'k' || (i % 5000) AS key, 'm' || (i % 20) AS name, random() AS value
                FROM range({facts}) t(i);
                CREATE TABLE cells AS SELECT 'k' || i AS key, 'b' || (i % 7) AS bridge, i % 4 AS rank
                FROM range(5000) t(i)"""
        )
        started = time.perf_counter()
        query = """SELECT bridge, rank, name, avg(value), min(value), max(value)
                   FROM facts JOIN cells USING (key) GROUP BY ALL"""
        assert len(database.execute(query).fetchall()) > 100
        return time.perf_counter() - started


def _dispatched(size: int) -> tuple[float, float]:
    """Milliseconds a no-op task on two workers, and MiB that the driver has grown by."""
    graph = graph_of({i: () for i in range(size)}, cells=[[i] for i in range(size)])
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        options = RunOptions(workers=2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times: list[float] = []

        def observe(event: object) -> None:
            times.append(time.perf_counter())

        with store.lock("scale"), Journal.start(store.root) as journal:
            assert run_graph(graph, store, journal, options, observe, no_op).exit_code == 0
        # From the first event after the workers are up: the cluster's start is not a task's.
        return 1000 * (times[-1] - times[1]) / size, (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        ) / 1024


if __name__ == "__main__":
    sys.exit(main())
