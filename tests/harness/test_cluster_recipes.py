"""Workers elsewhere: separate processes in folders of their own, and the job script that SLURM would get."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask_jobqueue
import pytest

from benchmark import events as e
from benchmark.scheduler import RunOptions
from tests.harness.synthetic_runs import Bench, chains, key_of

ROOT = Path(__file__).parents[2]
CLUSTERS = (ROOT / "docs" / "clusters.md").read_text()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A scheduler and two workers, each its own process in its own folder."""
    told, processes = tmp_path / "scheduler.log", []
    with told.open("w") as log:
        arguments = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        processes.append(subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=log, stdout=log))
    try:
        found = _wait_for_address(told)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            arguments = ["worker", found, "--nthreads", "1", "--name", name, "--no-dashboard"]
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *arguments],
                    cwd=tmp_path / name,
                    stderr=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            )
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def _wait_for_address(log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text()):
            return found.group()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_workers_in_other_folders_fill_the_shared_store(address: str, tmp_path: Path) -> None:
    bench, graph = Bench(tmp_path), chains(6)
    outcome = bench.run(graph, RunOptions(scheduler=address))
    assert (outcome.exit_code, outcome.finished_tasks) == (0, 13)
    workers = {event.worker for event in bench.of(e.TaskStarted) if isinstance(event, e.TaskStarted)}
    assert len(workers) == 2
    assert bench.store.verify_all() == {} and bench.store.has(key_of(0))


def test_the_slurm_recipe_asks_for_what_the_page_says(tmp_path: Path) -> None:
    """The Python block of the page is run as it stands, up to the job script: that needs no SLURM."""
    assert dask_jobqueue.SLURMCluster  # pyright: ignore[reportPrivateImportUsage]
    (block,) = re.findall(r"```python\n(.*?)```", CLUSTERS, re.DOTALL)
    asked = block.split("cluster.scale", 1)[0] + "print(cluster.job_script())\n"
    path = tmp_path / "slurm.py"
    path.write_text(asked)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (
        "#SBATCH --gres=gpu:1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH -t 08:00:00",
        "export OMP_NUM_THREADS=1",
    ):
        assert line in done.stdout, done.stdout
    assert "distributed.cli.dask_worker" in done.stdout and "--nthreads 1" in done.stdout
