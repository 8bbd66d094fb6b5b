"""What a worker records of a task."""

import math
from pathlib import Path

import pytest

from benchmark.graph import Task
from benchmark.store import Store
from benchmark.worker import Order, execute, mean_metrics, perform
from bridge_core import spec as s
from bridge_core.facts import Fact
from tests.harness.synthetic_runs import Bench, graph_of, key_of


def test_means_leave_curves_out_and_keep_nan():
    facts = [Fact("psnr", 10.0, secret=0), Fact("psnr", 20.0, secret=1), Fact("loss", 1.0, step=0)]
    assert mean_metrics(facts) == {"psnr": 15.0}
    assert math.isnan(mean_metrics([Fact("loss", 1.0), Fact("loss", math.nan)])["loss"])
    assert math.isnan(mean_metrics([Fact("loss", math.inf), Fact("loss", -math.inf)])["loss"])


def test_progress_is_told_at_its_first_step_its_last_and_seldom_between(tmp_path: Path):
    bench, told = Bench(tmp_path), list[int]()
    bench.tell(1, "steps 1001")
    order = Order(graph_of({1: ()}).tasks[key_of(1)], bench.store.root, 1, bench.execute)
    assert perform(order, "w", lambda step, total, metrics: told.append(step)).failure is None
    assert told[0] == 0 and len(told) <= 3


def test_a_task_that_the_store_has_is_not_executed(tmp_path: Path):
    bench = Bench(tmp_path)
    order = Order(graph_of({1: ()}).tasks[key_of(1)], bench.store.root, 1, bench.execute)
    first = perform(order, "w", lambda *told: None)
    bench.tell(1, "bug")
    assert perform(order, "w", lambda *told: None).metrics == first.metrics == {"score": 1.5}


def test_unreadable_facts_fail_the_task(tmp_path: Path):
    def write_garbage(task: Task, inputs: object, out: Path, progress: object) -> None:
        (out / "facts.parquet").write_bytes(b"PAR?")

    store = Store.open(tmp_path / "store")
    order = Order(graph_of({1: ()}).tasks[key_of(1)], store.root, 1, write_garbage)
    outcome = perform(order, "w", lambda *told: None)
    assert outcome.failure is not None and outcome.failure.cause == "ArrowInvalid" and not store.has(key_of(1))


@pytest.mark.parametrize("code", ["0", ""])
def test_code_that_changed_since_the_plan_is_not_run_under_the_old_key(tmp_path: Path, code: str):
    spec = s.ProxyPhase(source=s.Digits(), image_size=8, channels=1)
    store = Store.open(tmp_path / "store")
    order = Order(Task(key_of(1), "proxy", spec, {}, code), store.root, 1, execute)
    outcome = perform(order, "w", lambda *told: None)
    assert outcome.failure is not None and "the code of proxy has changed" in outcome.failure.message
    assert not store.has(key_of(1))
