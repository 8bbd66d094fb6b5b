"""Where a cell's page in MLflow is: asked of the server over HTTP, since the monitor never imports mlflow."""

import json
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

LOCAL = "http://127.0.0.1:5000"
"""Where `bridge ui` serves."""
TIMEOUT_SECONDS = 3.0


def server_of(tracking_uri: str | None) -> str:
    """The address of the web interface: the tracking server's own, or where `bridge ui` serves the store's file."""
    return tracking_uri.rstrip("/") if tracking_uri and tracking_uri.startswith(("http://", "https://")) else LOCAL


def find_page(server: str, suite: str, cell: str) -> str | None:
    """The address of the cell's page; None where no server answers, or it does not know the cell yet."""
    try:
        experiment = _get(f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(suite)}")
        number = str(experiment["experiment"]["experiment_id"])
        query = {"experiment_ids": [number], "filter": f"tags.\"bridge.cell\" = '{cell}'", "max_results": 1}
        runs = _get(f"{server}/api/2.0/mlflow/runs/search", query)
        return f"{server}/#/experiments/{number}/runs/{runs['runs'][0]['info']['run_id']}"
    except (URLError, OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _get(address: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps(query).encode() if query is not None else None
    request = Request(address, body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.loads(answer.read())
