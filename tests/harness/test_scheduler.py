"""Runs on real worker processes: what fails is recorded and alone, what is done is never done again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark import events as e
from benchmark.journal import read
from benchmark.scheduler import RunOptions, num_cores
from benchmark.store import Store
from bridge_core.errors import StoreLocked
from tests.harness.synthetic_runs import Bench, chains, graph_of, key_of, noted

IN_PROCESS = RunOptions(workers=0)
ONE = RunOptions(workers=1)
TWO = RunOptions(workers=2)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("options", [IN_PROCESS, TWO], ids=["in process", "two workers"])
def test_every_task_runs_once_and_a_second_run_runs_none(bench: Bench, options: RunOptions):
    graph = chains(4)
    first = bench.run(graph, options)
    assert (first.exit_code, first.finished_cells, first.finished_tasks, first.cached_tasks) == (0, 4, 9, 0)
    assert sorted(noted(bench.control, "start")) == list(range(9))
    assert isinstance(bench.events[0], e.RunStarted) and len(bench.events[0].tasks) == 9
    second = bench.run(graph, options)
    assert (second.exit_code, second.finished_cells, second.finished_tasks, second.cached_tasks) == (0, 4, 0, 9)
    assert len(noted(bench.control, "start")) == 9


def test_metrics_are_means_over_secrets_and_come_from_the_store_the_second_time(bench: Bench):
    graph = graph_of({5: ()})
    for _ in range(2):
        bench.run(graph, IN_PROCESS)
        (finished,) = bench.of(e.CellFinished)
        assert isinstance(finished, e.CellFinished) and finished.metrics == {"score": 5.5}


def test_the_journal_holds_what_the_observer_saw(bench: Bench):
    bench.tell(1, "diverge")
    bench.tell(2, "steps 3")
    bench.run(graph_of({1: (), 2: ()}), IN_PROCESS)
    (journal,) = bench.store.root.glob("runs/*/journal.jsonl")
    # NaN is not equal to itself, so the events are held against each other as text.
    assert [repr(event) for event in read(journal)] == [repr(event) for event in bench.events]
    (progress,) = bench.of(e.TaskProgressed)
    assert isinstance(progress, e.TaskProgressed) and progress.total == 3 and progress.metrics["loss"] != 0.0


@pytest.mark.parametrize("options", [IN_PROCESS, TWO], ids=["in process", "two workers"])
def test_a_failing_task_takes_its_followers_along_and_a_new_run_makes_only_them(bench: Bench, options: RunOptions):
    graph = chains(3)  # 0 -> 1 -> 2, 0 -> 3 -> 4, 0 -> 5 -> 6
    bench.tell(3, "diverge")
    outcome = bench.run(graph, options)
    assert (outcome.exit_code, outcome.finished_cells, outcome.failed_cells) == (1, 2, 1)
    assert (outcome.finished_tasks, outcome.failed_tasks, outcome.skipped_tasks) == (5, 1, 1)
    (failed,) = bench.of(e.TaskFailed)
    assert isinstance(failed, e.TaskFailed)
    assert (failed.cause, failed.final, failed.attempt) == ("Diverged", True, 1)
    assert failed.message == "the loss is NaN; wanted a finite loss" and "_behave" in failed.traceback
    (skipped,) = bench.of(e.TaskSkipped)
    assert isinstance(skipped, e.TaskSkipped) and (skipped.key, skipped.because) == (key_of(4), key_of(3))
    (lost,) = bench.of(e.CellFailed)
    assert isinstance(lost, e.CellFailed) and (lost.key, lost.cause) == (key_of(3), "Diverged")

    bench.calm()
    before = noted(bench.control, "start")
    assert bench.run(graph, options).exit_code == 0
    assert noted(bench.control, "start")[len(before) :] == [3, 4]


@pytest.mark.parametrize(("behaviour", "cause"), [("bug", "RuntimeError"), ("memory", "OutOfMemory")])
def test_an_exception_is_recorded_by_its_name_and_not_tried_again(bench: Bench, behaviour: str, cause: str):
    bench.tell(1, behaviour)
    assert bench.run(graph_of({1: ()}), RunOptions(workers=0, retries=3)).exit_code == 1
    (failed,) = bench.of(e.TaskFailed)
    assert isinstance(failed, e.TaskFailed) and failed.cause == cause
    assert not list(bench.store.root.glob("temp/*"))


def test_a_killed_worker_is_replaced_and_its_task_done_at_the_second_attempt(bench: Bench):
    bench.tell(1, "kill-once")
    outcome = bench.run(graph_of({1: (), 2: (), 3: ()}), ONE)
    assert outcome.exit_code == 0
    (failed,) = bench.of(e.TaskFailed)
    assert isinstance(failed, e.TaskFailed)
    assert (failed.key, failed.cause, failed.final, failed.attempt) == (key_of(1), "WorkerLost", False, 1)
    assert Counter(noted(bench.control, "start")) == {1: 2, 2: 1, 3: 1}
    assert bench.store.manifest(key_of(1)).attempt == 2
    assert not list(bench.store.root.glob("temp/*"))


@pytest.mark.parametrize("behaviour", ["kill", "exit"])
def test_a_task_that_always_loses_its_worker_is_given_up_and_the_others_finish(bench: Bench, behaviour: str):
    bench.tell(1, behaviour)
    outcome = bench.run(graph_of({1: (), 2: (), 3: ()}), TWO)
    assert (outcome.exit_code, outcome.finished_cells, outcome.failed_cells) == (1, 2, 1)
    failed = [event for event in bench.of(e.TaskFailed) if isinstance(event, e.TaskFailed)]
    assert [(event.cause, event.final) for event in failed] == [("WorkerLost", False), ("WorkerLost", True)]
    assert Counter(noted(bench.control, "start")) == {1: 2, 2: 1, 3: 1}


def test_a_task_over_its_time_is_killed_and_told_where_it_was(bench: Bench):
    bench.tell(1, "sleep 60")
    outcome = bench.run(graph_of({1: (), 2: ()}), RunOptions(workers=1, timeout_seconds=3.0, retries=3))
    assert (outcome.exit_code, outcome.finished_cells) == (1, 1)
    (failed,) = bench.of(e.TaskFailed)
    assert isinstance(failed, e.TaskFailed) and (failed.cause, failed.final) == ("Timeout", True)
    assert "_behave" in failed.traceback
    assert noted(bench.control, "start").count(1) == 1


def test_what_tasks_print_goes_to_a_file_of_the_run_and_threads_are_limited(
    bench: Bench, capfd: pytest.CaptureFixture[str]
):
    bench.tell(1, "print")
    bench.run(graph_of({1: ()}), RunOptions(workers=1, threads=3))
    (log,) = bench.store.root.glob("runs/*/workers/*.log")
    assert "words on the terminal 3\n" in log.read_text() and "and errors" in log.read_text()
    assert capfd.readouterr() == ("", "")


def damage(store: Store, number: int) -> None:
    """Change a byte of a large file: its size stays."""
    path = store.path(key_of(number)) / "payload.bin"
    path.write_bytes(b"?" + path.read_bytes()[1:])


def test_a_corrupt_input_is_quarantined_and_made_again_before_its_use(bench: Bench):
    bench.run(graph_of({1: (), 2: ()}), IN_PROCESS)
    damage(bench.store, 1)
    graph = graph_of({1: (), 2: (), 3: (1, 2)})
    outcome = bench.run(graph, ONE)
    assert outcome.exit_code == 0
    assert Counter(noted(bench.control, "start")) == {1: 2, 2: 1, 3: 1}
    assert bench.store.problem(key_of(1), full=True) is None
    assert (bench.store.root / "quarantine" / f"{key_of(1)}-1" / "manifest.json").is_file()
    assert any("corrupt" in event.message for event in bench.of(e.Logged) if isinstance(event, e.Logged))


def test_an_artefact_that_is_visibly_corrupt_is_made_again_though_nothing_needs_it(bench: Bench):
    graph = graph_of({1: (), 2: (1,)})
    bench.run(graph, IN_PROCESS)
    (bench.store.path(key_of(1)) / "payload.bin").unlink()
    assert bench.run(graph, IN_PROCESS).exit_code == 0
    assert Counter(noted(bench.control, "start")) == {1: 2, 2: 1}


def test_the_number_of_workers_does_not_change_the_threads_that_sums_are_split_into():
    assert {RunOptions(workers=workers).threads_per_worker for workers in (0, 1, num_cores(), 10 * num_cores())} == {1}
    assert RunOptions(workers=1, threads=4).threads_per_worker == 4
    assert RunOptions(scheduler="tcp://there").threads_per_worker is None


def test_what_reads_runs_and_stores_loads_no_engine():
    code = "import sys, benchmark.graph, benchmark.store, benchmark.journal, benchmark.scheduler, benchmark.explain\n"
    heavy = "{'dask', 'distributed', 'torch', 'pyarrow', 'numpy'}"
    subprocess.run([sys.executable, "-c", f"{code}assert not sys.modules.keys() & {heavy}"], check=True)


def test_two_runs_at_once_are_refused_by_name(bench: Bench):
    bench.tell(1, "sleep 20")
    stop = threading.Event()

    def second(event: e.AnyEvent) -> None:
        if isinstance(event, e.TaskStarted):
            with pytest.raises(StoreLocked) as refused, bench.store.lock("other"):
                pass
            assert f"process {os.getpid()} on " in str(refused.value) and "synthetic" in str(refused.value)
            stop.set()

    assert bench.run(graph_of({1: ()}), ONE, second, stop).exit_code == 130


def test_stop_ends_the_run_at_once_and_leaves_no_process(bench: Bench):
    bench.tell(1, "sleep 60")
    stop = threading.Event()
    stopped: list[float] = []

    def observe(event: e.AnyEvent) -> None:
        if isinstance(event, e.TaskStarted):
            stop.set()
            stopped.append(time.monotonic())

    outcome = bench.run(graph_of({1: (), 2: (1,)}), ONE, observe, stop)
    assert time.monotonic() - stopped[0] < 5
    assert outcome.exit_code == 130 and isinstance(bench.events[-1], e.RunFinished)
    assert not workers_of(psutil.Process())


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Child processes that could still be working; the resource tracker of multiprocessing is none."""
    return [child for child in process.children(recursive=True) if "resource_tracker" not in " ".join(child.cmdline())]


def start_driver(bench: Bench, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.harness.synthetic_runs", str(bench.control.parent), str(count)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


def wait_until_noted(bench: Bench, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(noted(bench.control, "end")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_ends_with_130_and_its_workers_with_it(bench: Bench, number: signal.Signals):
    bench.tell(4, "sleep 60")
    driver = start_driver(bench, 3)
    wait_until_noted(bench, 3)
    workers = workers_of(psutil.Process(driver.pid))
    assert workers
    driver.send_signal(number)
    assert driver.wait(10) == 130
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


def test_after_a_sigkill_of_the_driver_nothing_finished_is_repeated(bench: Bench):
    count = 12
    for number in range(1, 2 * count + 1):
        bench.tell(number, "sleep 0.05")
    driver = start_driver(bench, count)
    wait_until_noted(bench, 6)
    workers = workers_of(psutil.Process(driver.pid))
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "workers outlive their driver"

    committed = set(bench.store.keys())
    assert 4 <= len(committed) < 2 * count + 1
    before = len(noted(bench.control, "start"))
    outcome = bench.run(chains(count), TWO)
    assert (outcome.exit_code, outcome.cached_tasks) == (0, len(committed))
    repeated = noted(bench.control, "start")[before:]
    assert sorted(repeated) == [n for n in range(2 * count + 1) if key_of(n) not in committed]
    assert not list(bench.store.root.glob("temp/*"))


def test_a_foreign_scheduler_is_used_and_left_alone(bench: Bench):
    import distributed

    local_cluster: Any = distributed.LocalCluster
    with local_cluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        bench.tell(3, "kill-once")
        outcome = bench.run(chains(3), RunOptions(scheduler=cluster.scheduler_address))
        assert (outcome.exit_code, outcome.finished_tasks) == (0, 7)
        assert Counter(noted(bench.control, "start")) == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1, 6: 1}
        with distributed.Client(cluster, set_as_default=False) as client:
            assert client.submit(sum, [1, 2]).result() == 3
