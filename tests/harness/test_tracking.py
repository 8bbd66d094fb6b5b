"""MLflow holds a run a cell, once; a tracking store that is dead costs seconds and a warning, never the run."""

import json
import os
import re
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image
from safetensors.numpy import load_file

from benchmark.masking import masked
from benchmark.tracked import CURVE_POINTS, _curve, graph_digest
from benchmark.tracking import Tracker
from bridge_core import spec as s
from bridge_core.errors import BridgeError, StoreFault
from bridge_core.facts import Fact
from tests.synthetic_store import CREATED, cells, filled_store, psnr, text_cells


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A sqlite store with its schema: making that takes seconds."""
    folder = tmp_path_factory.mktemp("schema")
    filler = filled_store(folder / "store", cells(ranks=(2,)), finished=0)
    Tracker(f"sqlite:///{folder / 'mlflow.db'}").fill(filler.store, filler.graph)
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty_database, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def runs(uri, suite="synthetic"):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(suite)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return {run.data.tags["bridge.cell"]: run for run in found if "bridge.cell" in run.data.tags}, found


def test_a_cell_is_a_run_with_every_parameter_its_scores_curves_and_pictures(uri, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(1,)))
    assert Tracker(uri).fill(filler.store, filler.graph) == 3
    children, everything = runs(uri)
    assert len(everything) == 5  # three cells, their parent, and the parent of the fixture
    planned = filler.graph.cells[1]
    run, client = children[planned.id], MlflowClient(uri)
    assert run.data.params["recipe.optimiser.learning_rate"] == "0.1"
    assert run.data.params["bridge.kind"] == "ridge"
    assert run.data.params["rank"] == "2"
    assert json.loads(run.data.params["model.target_modules"]) == ["conv1", "conv2", "conv3", "head"]
    assert not isinstance(planned.cell, s.ZooCell)
    scores = [psnr(planned.cell, secret) for secret in range(3)]
    assert run.data.metrics["psnr"] == pytest.approx(sum(scores) / 3)
    assert run.data.metrics["psnr.min"] == scores[0]
    assert run.data.metrics["psnr.median"] == scores[1]
    assert run.data.metrics["decoder/heldout_cosine.worst"] == pytest.approx(0.81)
    assert run.data.metrics["decoder/heldout_cosine/layers.0.q_proj"] == pytest.approx(0.91)
    assert run.data.metrics["seconds/attack"] == 1.5
    curve = client.get_metric_history(run.info.run_id, "attack/matching_loss")
    assert [(point.step, point.value) for point in curve] == [(step, 1 / (step + 1)) for step in range(40)]
    assert run.data.tags["artefact.score"] == planned.tasks["score"]
    assert run.data.tags["version.torch"] == "2.13.0"
    assert len(run.data.tags["bridge.adapter_sha256"]) == 64
    assert run.info.status == "FINISHED"
    assert run.info.end_time == round(CREATED.timestamp() * 1000)
    picture = client.download_artifacts(run.info.run_id, "gallery.png", str(tmp_path))
    assert Image.open(picture).size == (48, 48)
    adapter = Path(client.download_artifacts(run.info.run_id, "adapter", str(tmp_path)))
    assert json.loads((adapter / "adapter_config.json").read_text()) == {"r": 2}
    assert load_file(adapter / "adapter_model.safetensors").keys() == {"lora_A"}
    assert run.inputs is not None
    inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert {context: dataset.name for context, dataset in inputs.items()} == {"proxy": "digits", "private": "mnist"}
    assert json.loads(inputs["private"].source) == {"kind": "mnist"}


def test_commit_hardware_and_provenance_are_tags(uri, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(1,)), finished=1)
    Tracker(uri).fill(filler.store, filler.graph)
    tags = runs(uri)[0][filler.graph.cells[0].id].data.tags
    assert re.fullmatch("[0-9a-f]{40}", tags["mlflow.source.git.commit"])
    assert f"{os.cpu_count()} cores" in tags["hardware.driver"]
    assert tags["hardware.memory"].endswith("GiB")
    assert tags["bridge.code_version"] == "0" * 64
    assert {f"artefact.{stage}" for stage in filler.graph.cells[0].tasks} <= set(tags)


def test_runs_are_found_by_parameters_metrics_and_data(uri, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2, 8), seeds=(0,)))
    Tracker(uri).fill(filler.store, filler.graph)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment is not None

    def found(wanted):
        return {run.data.params["bridge.kind"] for run in client.search_runs([experiment.experiment_id], wanted)}

    assert found("params.`rank` = '8' and metrics.psnr > 20") == {"ridge", "oracle"}
    assert found("dataset.name = 'mnist' and params.`bridge.kind` = 'ridge'") == {"ridge"}


def test_a_cell_of_text_has_its_sentences_in_mlflow(uri, tmp_path):
    filler = filled_store(tmp_path / "store", text_cells(ranks=(2,), seeds=(0,)), finished=None)
    Tracker(uri).fill(filler.store, filler.graph, {})
    planned = filler.graph.cells[0]
    run = runs(uri)[0][planned.id]
    assert run.data.params["dataset.kind"] == "text"
    assert run.data.metrics["exact_match"] >= 0
    path = MlflowClient(uri).download_artifacts(run.info.run_id, "sentences.json", str(tmp_path))
    assert json.loads(Path(path).read_text())[0].keys() >= {"truth", "recovered", "verdict", "control"}


def test_filling_again_adds_what_is_new_and_nothing_else(uri, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,)), finished=2)
    failed = {filler.graph.cells[2].id: "Diverged"}
    assert Tracker(uri).fill(filler.store, filler.graph, failed) == 3
    before, all_before = runs(uri)
    assert Tracker(uri).fill(filler.store, filler.graph, failed) == 0
    after, all_after = runs(uri)
    assert {run.info.run_id for run in all_before} == {run.info.run_id for run in all_after}
    assert after[filler.graph.cells[2].id].info.status == "FAILED"
    assert after[filler.graph.cells[2].id].data.tags["bridge.cause"] == "Diverged"

    for planned in filler.graph.cells:
        filler.finish(planned)
    assert Tracker(uri).fill(filler.store, filler.graph) == len(filler.graph.cells) - 2
    children, everything = runs(uri)
    assert len(children) == len(filler.graph.cells)
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    assert children[filler.graph.cells[0].id].info.run_id == before[filler.graph.cells[0].id].info.run_id
    parents = [run for run in everything if run.data.tags.get("bridge.graph") == graph_digest(filler.graph)]
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parents[0].info.run_id}


def test_a_run_left_half_written_is_written_again_whole(uri, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(0,)))
    Tracker(uri).fill(filler.store, filler.graph)
    client, (children, _) = MlflowClient(uri), runs(uri)
    torn = children[filler.graph.cells[0].id].info.run_id
    client.update_run(torn, "RUNNING")
    assert Tracker(uri).fill(filler.store, filler.graph) == 1
    again, _ = runs(uri)
    assert len(again) == 3
    assert again[filler.graph.cells[0].id].info.run_id != torn
    assert "psnr" in again[filler.graph.cells[0].id].data.metrics


def test_a_nan_is_a_result_and_foreign_signs_in_names_do_no_harm(uri, tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(0,)), finished=0)
    filler.psnr_of = lambda cell, secret: float("nan") if secret == 1 else 20.0
    filler.finish(filler.graph.cells[0])
    filler.graph.cells[0].labels["bridge"] = "x" * 9000 + "\n<script>é"
    Tracker(uri).fill(filler.store, filler.graph)
    run = runs(uri)[0][filler.graph.cells[0].id]
    assert run.data.metrics["psnr"] != run.data.metrics["psnr"]
    assert run.data.metrics["ssim"] == 0.5
    assert len(run.data.tags["label.bridge"]) == 250


@contextmanager
def silent_server():
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def refusal(uri, tmp_path, **options) -> str:
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(0,)), finished=1)
    start = time.monotonic()
    with pytest.raises(StoreFault) as caught:
        Tracker(uri, **options).fill(filler.store, filler.graph)
    assert time.monotonic() - start < 15
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_is_not_there_is_one_line_without_its_password(tmp_path, capfd):
    message = refusal(f"http://somebody:hunter2@127.0.0.1:{closed_port()}", tmp_path)
    assert "hunter2" not in message and "somebody" not in message
    assert "127.0.0.1" in message
    assert capfd.readouterr() == ("", "")


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as port:
        refusal(f"http://127.0.0.1:{port}", tmp_path)


def test_a_database_that_is_waited_for_too_long_is_given_up(tmp_path, capfd):
    (tmp_path / "file").touch()
    message = refusal(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path, stall_seconds=3)
    assert "--tracking-uri" in message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("uri", ["nonsense://x", "postgresql://u:secret@127.0.0.1:1/x"])
def test_an_address_that_is_not_understood_is_one_line(uri, tmp_path):
    assert "secret" not in refusal(uri, tmp_path)
    assert issubclass(StoreFault, BridgeError)


def test_a_database_that_was_left_half_made_is_made_again(tmp_path):
    """A killed run leaves no half of a database under the name that later runs read."""
    filler = filled_store(tmp_path / "store", cells())
    (tmp_path / ".ml.db.new").write_bytes(b"SQLite format 3" + bytes(50))
    assert Tracker(f"sqlite:///{tmp_path}/ml.db").fill(filler.store, filler.graph) > 0
    assert not (tmp_path / ".ml.db.new").exists()


def test_nothing_is_said_on_the_terminal_while_a_fresh_database_is_made(tmp_path, capfd):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,), seeds=(0,)), finished=1)
    Tracker(f"sqlite:///{tmp_path / 'fresh.db'}").fill(filler.store, filler.graph)
    assert capfd.readouterr() == ("", "")
    assert (filler.store.root / "mlartifacts").is_dir()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://u:p@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg2://u:p@ss@host/db", "postgresql+psycopg2://***@host/db"),
        ("http://host/?token=abc&page=2", "http://host/?token=***&page=2"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("at http://token@a/ and http://b/", "at http://***@a/ and http://b/"),
    ],
)
def test_credentials_are_hidden(address, shown):
    assert masked(address) == shown


def test_a_long_curve_keeps_its_ends():
    points = _curve([Fact("loss", float(step), step=step) for step in range(10_000)])
    assert len(points) == CURVE_POINTS
    assert (points[0], points[-1]) == ((0, 0.0), (9999, 9999.0))
