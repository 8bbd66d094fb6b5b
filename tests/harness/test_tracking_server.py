"""A remote tracking server is filled as a file is; one that dies in the midst of it costs nothing."""

import time
from threading import Thread

import pytest
from mlflow import MlflowClient
from PIL import Image

from benchmark.tracking import Tracker
from bridge_core.errors import StoreFault
from tests.harness.mlflow_server import free_port, kill, serving
from tests.harness.test_tracking import runs
from tests.synthetic_store import cells, filled_store

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Database, folder of artefacts, port."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return tmp_path / "server.db", tmp_path / "served", free_port()


def test_a_server_gets_runs_curves_data_and_artefacts(place, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(1,)))
    uri = f"http://127.0.0.1:{place[2]}"
    with serving(*place):
        assert Tracker(uri).fill(filler.store, filler.graph) == 3
        run, client = runs(uri)[0][filler.graph.cells[1].id], MlflowClient(uri)
        assert run.data.params["bridge.kind"] == "ridge"
        assert [point.step for point in client.get_metric_history(run.info.run_id, "attack/matching_loss")] == [
            *range(40)
        ]
        assert run.inputs is not None
        assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"digits", "mnist"}
        picture = client.download_artifacts(run.info.run_id, "gallery.png", str(tmp_path))
        assert Image.open(picture).size == (48, 48)
        adapter = {one.path for one in client.list_artifacts(run.info.run_id, "adapter")}
        assert adapter == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert not (filler.store.root / "mlartifacts").exists()


def test_a_server_killed_while_it_is_filled_is_filled_by_the_next_call(place, tmp_path):
    filler = filled_store(tmp_path / "store", cells())
    uri, faults = f"http://127.0.0.1:{place[2]}", list[StoreFault]()

    def fill() -> None:
        try:
            Tracker(uri).fill(filler.store, filler.graph)
        except StoreFault as fault:
            faults.append(fault)

    with serving(*place) as server:
        filling = Thread(target=fill)
        filling.start()
        await_runs(uri, 3)
        kill(server)
        filling.join(timeout=60)
        assert not filling.is_alive()
    assert len(faults) == 1 and "the next run of the suite fills it" in str(faults[0])
    with serving(*place):
        before = {cell for cell, run in runs(uri)[0].items() if run.info.status == "FINISHED"}
        assert 1 <= len(before) < len(filler.graph.cells)
        assert Tracker(uri).fill(filler.store, filler.graph) == len(filler.graph.cells) - len(before)
        children, everything = runs(uri)
        assert {run.info.status for run in children.values()} == {"FINISHED"}
        assert len(everything) == len(filler.graph.cells) + 1  # and the parent


def await_runs(uri: str, wanted: int) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        experiment = MlflowClient(uri).get_experiment_by_name("synthetic")
        if experiment and len(MlflowClient(uri).search_runs([experiment.experiment_id])) > wanted:
            return
        time.sleep(0.05)
    raise TimeoutError("the server was never filled")
