"""The same suite on 1, 2 and 4 workers gives the same files, bit for bit."""

from pathlib import Path

import pytest

from benchmark.store import Store
from tests.e2e.test_run import SUITE, bridge


@pytest.mark.slow
def test_the_number_of_workers_changes_no_bit_of_any_result(tmp_path: Path) -> None:
    """One after the other in the same place: an adapter's configuration names the base model's folder."""
    (tmp_path / "tiny.yaml").write_text(SUITE)
    found: list[dict[str, dict[str, str]]] = []
    for workers in ("1", "2", "4"):
        bridge(tmp_path, "bench", "run", "tiny.yaml", "--plain", "--store", "store", "--workers", workers)
        store = Store.open(tmp_path / "store", create=False)
        keys = list(store.keys())
        found.append({key: {name: file.sha256 for name, file in store.manifest(key).files.items()} for key in keys})
        store.root.rename(tmp_path / f"store-{workers}")
    assert len(found[0]) > 10
    for other in found[1:]:
        assert other == found[0]
