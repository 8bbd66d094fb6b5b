"""A tracking server that dies while a suite runs costs a line; the next run of the suite fills it."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.test_run import OPTIONS, SUITE, bridge, command, done_so_far, variables
from tests.harness.mlflow_server import free_port, kill, serving
from tests.harness.test_tracking import runs

pytestmark = pytest.mark.slow


def test_a_server_killed_in_mid_run_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    served, port = tmp_path / "served", free_port()
    uri = f"http://127.0.0.1:{port}"
    arguments = ("bench", "run", "tiny.yaml", *OPTIONS, "--workers", "1", "--tracking-uri", uri)
    with serving(tmp_path / "server.db", served, port) as server:
        running = subprocess.Popen(
            command(*arguments),
            cwd=tmp_path,
            env=variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        limit = time.monotonic() + 300
        while len(done_so_far(tmp_path)) < 3 and running.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        assert running.poll() is None
        kill(server)
        told, _ = running.communicate(timeout=600)
    assert running.returncode == 0, told
    assert "results are safe in the store" in told and "Traceback" not in told
    with serving(tmp_path / "server.db", served, port):
        again = bridge(tmp_path, *arguments)
        assert "results are safe in the store" not in again.stdout + again.stderr
        children, _ = runs(uri, "tiny")
        assert len(children) == 4
        assert {run.info.status for run in children.values()} == {"FINISHED"}
