"""What people see, in a real browser: the HTML report and MLflow's pages."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from benchmark.tracking import Tracker
from benchmark.warehouse import build_warehouse
from reports import write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from tests.harness.mlflow_server import free_port, serving
from tests.harness.test_tracking import runs
from tests.synthetic_store import cells, filled_store

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom"),
)
SORTED = f"&orderByKey={quote('metrics.`psnr`')}&orderByAsc=false"
"""Without it a parent counts among the runs that match."""
pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium is installed")


def opened(address: str, folder: Path, milliseconds: int = 5000) -> tuple[str, list[str]]:
    """The page as it stands after its scripts ran, and what the browser complained of."""
    options = [*OPTIONS, f"--user-data-dir={folder}", f"--virtual-time-budget={milliseconds}"]
    done = subprocess.run([str(BROWSER), *options, address], capture_output=True, timeout=180, check=True)
    complaints = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
    return done.stdout.decode(), complaints


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory):
    return filled_store(tmp_path_factory.mktemp("store") / "store", cells(seeds=(0, 1)))


@pytest.fixture(scope="module")
def page(filler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML report."""
    folder = tmp_path_factory.mktemp("page")
    build_warehouse(filler.store, filler.graph, folder / "w.duckdb")
    return write_report(folder / "w.duckdb", "synthetic", folder, ("html",))[0]


def bridges(text: str) -> list[str]:
    table = text.split('id="bridges_by_rank"')[1].split("</table>")[0]
    return [row.split("</td>")[0] for row in re.findall(r"<tr class=[^>]*><td>(.*?</td>)", table)]


def test_the_report_opens_without_a_complaint(page: Path, tmp_path: Path) -> None:
    text, complaints = opened(page.as_uri(), tmp_path / "profile")
    assert complaints == []
    assert bridges(text) == ["mean image", "projection", "ridge", "oracle"]
    assert "<svg" in text and "data:image/png" in text


def test_a_click_on_a_header_sorts_the_rows(page: Path, tmp_path: Path) -> None:
    """The page's own script, and a second one that clicks, which the page's policy would not run."""
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page.read_text())
    click = 'document.querySelectorAll("#bridges_by_rank thead button")[4].click();'
    for turns, wanted in (
        (1, ["mean image", "projection", "ridge", "oracle"]),
        (2, ["oracle", "ridge", "projection", "mean image"]),
        (3, ["mean image", "projection", "ridge", "oracle"]),
    ):
        copy = tmp_path / f"{turns}.html"
        copy.write_text(text.replace("</body>", f"<script>{click * turns}</script></body>"))
        shown, complaints = opened(copy.as_uri(), tmp_path / f"profile-{turns}")
        assert complaints == []
        assert bridges(shown) == wanted, turns


def test_a_foreign_script_is_refused_by_the_page(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "foreign.html"
    copy.write_text(page.read_text().replace("</body>", "<script>document.title = 'taken'</script></body>"))
    shown, complaints = opened(copy.as_uri(), tmp_path / "profile")
    assert "<title>taken" not in shown
    assert any("Content Security Policy" in line for line in complaints)


@pytest.mark.slow
def test_mlflows_search_and_comparison_show_the_runs(filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(tmp_path / "server.db", tmp_path / "served", port):
        Tracker(address).fill(filler.store, filler.graph)
        found, _ = runs(address)
        experiment = next(iter(found.values())).info.experiment_id
        search = f"{address}/#/experiments/{experiment}/runs?searchFilter={quote('metrics.psnr > 20')}{SORTED}"
        text, _ = opened(search, tmp_path / "profile", 30_000)
        better = [run for run in found.values() if run.data.metrics["psnr"] > 20]
        assert 0 < len(better) < len(found)
        assert re.search(rf"\b{len(better)}\b(<[^>]*>|\s)*matching runs", text)
        chosen = quote(json.dumps([run.info.run_id for run in found.values()]))
        compare = f"{address}/#/compare-runs?runs={chosen}&experiments={quote(json.dumps([experiment]))}"
        text, _ = opened(compare, tmp_path / "other", 30_000)
        assert f"Comparing {len(found)} Runs" in text
        assert "Parallel Coordinates Plot" in text
        assert "bridge.kind" in text and "recipe.optimiser.learning_rate" in text
