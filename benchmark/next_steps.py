"""What `bridge` alone says of where it was typed: suites at hand, and how the last run ended. Imports nothing heavy."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STORE = Path(".bridge")
MAX_LAST_BYTES = 1 << 16
MAX_SUITES = 3
ENDINGS = {0: "finished", 1: "finished with failures", 130: "was interrupted"}


def here() -> Iterator[str]:
    """Lines on the suites and the last run of this folder; none where there is neither."""
    suites = sorted([*Path().glob("*.yaml"), *Path("suites").glob("*.yaml")])
    named = [path for path in suites if _is_suite(path)]
    last = max((Path(os.environ.get("BRIDGE_STORE", STORE)) / "runs").glob("*/journal.jsonl"), default=None)
    if named or last:
        yield "\nhere:"
    if named:
        more = f" and {len(named) - MAX_SUITES} more" if len(named) > MAX_SUITES else ""
        yield f"  suites: {', '.join(map(str, named[:MAX_SUITES]))}{more}"
    if last is not None:
        yield from _told(last)


def _told(journal: Path) -> Iterator[str]:
    end = _last_event(journal)
    run = journal.parent.name
    if end.get("event") != "run_finished":
        yield f"  run {run} has not ended: bridge bench watch"
        return
    code = int(end.get("exit_code", 0))
    yield f"  run {run} {ENDINGS.get(code, f'ended with exit code {code}')}: bridge bench status"
    if code == 1:
        yield "  bridge bench retry tries again what failed in it, bridge bench logs tells why"


def _is_suite(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return any(line.startswith("name:") for line in file)
    except (OSError, UnicodeDecodeError):
        return False


def _last_event(journal: Path) -> dict[str, Any]:
    """The last whole line of a journal that may be large."""
    try:
        with journal.open("rb") as file:
            file.seek(max(0, journal.stat().st_size - MAX_LAST_BYTES))
            lines = [line for line in file.read().split(b"\n") if line.strip()]
        return json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
