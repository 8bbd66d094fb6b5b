"""What the shell completes: runs of the store, by their ids."""

import os
from pathlib import Path

MAX_RUNS = 50


def complete_run(incomplete: str) -> list[str]:
    """Ids of runs that begin with `incomplete`, the latest first; of the store in `BRIDGE_STORE`, or the usual one."""
    store = Path(os.environ.get("BRIDGE_STORE", ".bridge"))
    runs = sorted((path.parent.name for path in store.glob("runs/*/journal.jsonl")), reverse=True)
    return [run for run in runs if run.startswith(incomplete)][:MAX_RUNS]


def complete_suite(incomplete: str) -> list[str]:
    """YAML files and folders that begin with `incomplete`."""
    start = Path(incomplete)
    folder = start if incomplete.endswith("/") or not incomplete else start.parent
    found = [path for path in folder.glob("*") if path.is_dir() or path.suffix in (".yaml", ".yml")]
    told = [f"{path}/" if path.is_dir() else str(path) for path in sorted(found) if not path.name.startswith(".")]
    return [path for path in told if path.startswith(incomplete)]
