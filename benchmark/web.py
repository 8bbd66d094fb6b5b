"""MLflow's web interface, started on the runs of a store."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from benchmark.console import say
from benchmark.filling import tracking_path
from benchmark.masking import masked
from bridge_core.errors import UnknownName


def serve_ui(store: Path, tracking_uri: str | None, port: int) -> NoReturn:
    """Become `mlflow ui`: this process is replaced, so that its end is the server's.

    Raises `UnknownName` where the store has no runs in MLflow yet.
    """
    database = tracking_path(store)
    if tracking_uri is None and not database.is_file():
        raise UnknownName(
            f"no MLflow runs in {store}", "a store with a finished run", "bridge bench run SUITE makes one"
        )
    uri = tracking_uri or f"sqlite:///{database}"
    say(f"http://127.0.0.1:{port} shows {masked(uri)}; Ctrl-C ends it")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    artefacts = ["--serve-artifacts", "--artifacts-destination", (store.absolute() / "mlartifacts").as_uri()]
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *artefacts])
